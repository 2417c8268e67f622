//! A proxy in front of a node that remembers what the node has acknowledged.
//!
//! A write is noted when the whole answer of the node is here, before the client sees it. So what is
//! noted is exactly what the node has promised to keep, whenever the node dies.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::client::{Answer, Client};

/// A write that the node has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The path.
    pub path: String,
    /// The body.
    pub body: Bytes,
    /// Its place in the order of the node's changes, as the node says.
    pub sequence: u64,
}

/// The proxy. Ends when it is dropped.
pub struct Proxy {
    addr: SocketAddr,
    notes: Arc<Notes>,
    acceptor: JoinHandle<()>,
}

struct Notes {
    target: watch::Sender<SocketAddr>,
    acknowledged: watch::Sender<Vec<Acknowledged>>,
    /// Requests that the node did not answer.
    unanswered: watch::Sender<usize>,
}

impl Proxy {
    /// Listens on loopback and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let addr = listener.local_addr().expect("it is bound");
        let notes = Arc::new(Notes {
            target: watch::Sender::new(target),
            acknowledged: watch::Sender::new(Vec::new()),
            unanswered: watch::Sender::new(0),
        });
        let acceptor = tokio::spawn(accept(listener, notes.clone()));
        Self { addr, notes, acceptor }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Forwards to another address from now on.
    pub fn retarget(&self, target: SocketAddr) {
        self.notes.target.send_replace(target);
    }

    /// Waits until so many writes are acknowledged.
    pub async fn acknowledged_at_least(&self, count: usize) {
        let mut acknowledged = self.notes.acknowledged.subscribe();
        acknowledged.wait_for(|so_far| so_far.len() >= count).await.expect("the notes live");
    }

    /// All writes that are acknowledged so far, in the order of their answers.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.notes.acknowledged.borrow().clone()
    }

    /// How many requests the node did not answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        *self.notes.unanswered.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, notes: Arc<Notes>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let notes = notes.clone();
        connections.spawn(async move {
            stream.set_nodelay(true).ok();
            let service = service_fn(|request| forward(&notes, request));
            // A client that breaks off is none of the proxy's business.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    notes: &Notes,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(bad_gateway()) };
    let (path, body) = (head.uri.path().to_owned(), body.to_bytes());
    let Some(answer) = ask(notes, &head.method, &path, body.clone()).await else {
        notes.unanswered.send_modify(|count| *count += 1);
        return Ok(bad_gateway());
    };
    if head.method == Method::PUT && (200..300).contains(&answer.status) {
        let sequence = answer.header("x-kura-sequence").parse();
        let sequence = sequence.expect("an acknowledgement has a place in the order of changes");
        let noted = Acknowledged { path, body, sequence };
        notes.acknowledged.send_modify(|acknowledged| acknowledged.push(noted));
    }
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("hyper has read it");
    Ok(response)
}

async fn ask(notes: &Notes, method: &Method, path: &str, body: Bytes) -> Option<Answer> {
    let target = *notes.target.borrow();
    let mut client = Client::try_connect(target).await.ok()?;
    client.try_send(method.clone(), path, body).await.ok()
}

fn bad_gateway() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
