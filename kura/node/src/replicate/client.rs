//! Requests to one peer, over connections that are kept.
//!
//! Deadlines follow progress: a connection must come about in [`CONNECT_TIMEOUT`], and then some
//! byte must come every [`IDLE_TIMEOUT`], and a thousand a minute. Nothing limits how long a body
//! takes while it moves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use kura_core::{
    limits::{CONNECT_TIMEOUT, FETCHES_MAX, IDLE_TIMEOUT, MESSAGE_BYTES_MAX},
    pace::Pace,
};
use kura_env::{Elapsed, Env, timeout};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use super::{error::PeerError, wire::DELETES_PRINT};
use crate::{metrics::Metrics, surface::runtime::TaskSet};

/// Connections that are kept while nobody uses them: as many as are ever used at once.
const IDLE_CONNECTIONS_MAX: usize = FETCHES_MAX + 1;

type Sender = SendRequest<Full<Bytes>>;

/// Connections that nobody uses.
#[derive(Default)]
struct Kept(Mutex<Vec<Sender>>);

impl Kept {
    fn take(&self) -> Option<Sender> {
        self.0.lock().pop()
    }

    fn keep(&self, sender: Sender) {
        let mut kept = self.0.lock();
        if kept.len() < IDLE_CONNECTIONS_MAX {
            kept.push(sender);
        }
    }

    /// One of the connections stood still. Whatever forgot it, a firewall or a host that went away, has forgotten those that
    /// nobody used as well: each of them would cost another time-out and a longer pause.
    fn give_up(&self) {
        self.0.lock().clear();
    }
}

/// Requests to one peer.
pub(crate) struct Client {
    env: Env,
    /// `host:port`.
    authority: String,
    idle: Arc<Kept>,
    connections: Arc<TaskSet>,
    metrics: Arc<Metrics>,
}

/// The body of an answer, and the connection it comes on.
pub(crate) struct Answer {
    env: Env,
    body: Incoming,
    sender: Sender,
    pace: Pace,
    metrics: Arc<Metrics>,
    idle: Arc<Kept>,
    deletes: u64,
}

impl Client {
    /// To a peer as it was configured.
    pub(crate) fn to(name: &str, env: Env, metrics: Arc<Metrics>) -> Self {
        let authority = name.strip_prefix("http://").unwrap_or(name).trim_end_matches('/');
        Self::new(env, authority.to_owned(), metrics)
    }

    fn new(env: Env, authority: String, metrics: Arc<Metrics>) -> Self {
        let connections = TaskSet::new(env.tasks.clone());
        Self { env, authority, idle: Arc::default(), connections, metrics }
    }

    /// Asks, and reads the whole answer as JSON.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, PeerError> {
        self.read(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    /// The same, of a question that is longer.
    pub(crate) async fn ask_with<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<T, PeerError> {
        self.read(self.send(Method::POST, path, body).await?).await
    }

    async fn read<T: DeserializeOwned>(&self, mut answer: Answer) -> Result<T, PeerError> {
        let mut text = Vec::new();
        while let Some(data) = answer.next().await? {
            text.extend_from_slice(&data);
            if text.len() > MESSAGE_BYTES_MAX {
                let told = format!("longer than {MESSAGE_BYTES_MAX} bytes");
                return Err(PeerError::Answer(told));
            }
        }
        self.keep(answer).await;
        serde_json::from_slice(&text).map_err(|error| PeerError::Answer(error.to_string()))
    }

    /// Asks, and gives the answer's body to be read. A kept connection that turns out to be closed
    /// is replaced by a new one.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, PeerError> {
        loop {
            let (mut sender, is_kept) = match self.idle.take() {
                Some(sender) if sender.is_closed() => continue,
                Some(sender) => (sender, true),
                None => (self.connect().await?, false),
            };
            let request = Request::builder()
                .method(method.clone())
                .uri(path)
                .header(header::HOST, &self.authority)
                .body(Full::new(body.clone()))
                .map_err(|error| PeerError::Answer(error.to_string()))?;
            let sending = async {
                sender.ready().await?;
                sender.send_request(request).await
            };
            let sent = timeout(&*self.env.clock, IDLE_TIMEOUT, sending);
            match sent.await.map_err(|elapsed| idle(&self.metrics, &self.idle, elapsed))? {
                Ok(response) => {
                    let told = response.headers().get(DELETES_PRINT);
                    let deletes = told.and_then(|told| told.to_str().ok()?.parse().ok());
                    let deletes = deletes.unwrap_or_default();
                    let body = checked(response)?;
                    let (env, metrics) = (self.env.clone(), self.metrics.clone());
                    let (pace, idle) = (Pace::default(), self.idle.clone());
                    return Ok(Answer { env, body, sender, pace, metrics, idle, deletes });
                }
                // The peer closed it while nobody looked. Everything asked here can be asked again.
                Err(_) if is_kept => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Keeps the connection of an answer of which nothing more should come. Its end is read first:
    /// a connection with bytes on it is of no use to the next request.
    pub(crate) async fn keep(&self, mut answer: Answer) {
        if !matches!(answer.next().await, Ok(None)) {
            return;
        }
        self.idle.keep(answer.sender);
    }

    async fn connect(&self) -> Result<Sender, PeerError> {
        let connecting = async {
            let addr = self.resolve().await?;
            let stream = self.env.net.connect(addr).await?;
            Ok::<_, PeerError>(http1::handshake(TokioIo::new(stream)).await?)
        };
        let connected = timeout(&*self.env.clock, CONNECT_TIMEOUT, connecting).await;
        let (sender, connection) = connected.map_err(PeerError::Connect)??;
        self.connections.spawn("peer connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a peer broke");
            }
        });
        Ok(sender)
    }

    async fn resolve(&self) -> Result<SocketAddr, PeerError> {
        let wrong = || PeerError::Answer(format!("{} is not host:port", self.authority));
        let (host, port) = self.authority.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let found = self.env.net.resolve(host.trim_matches(['[', ']']), port).await?;
        found.first().copied().ok_or_else(wrong)
    }
}

impl Answer {
    /// The fingerprint of the deletes that the peer knows, where it says so; else 0.
    pub(crate) fn deletes(&self) -> u64 {
        self.deletes
    }

    /// The next bytes; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        loop {
            let began = self.env.clock.now();
            let frame = timeout(&*self.env.clock, IDLE_TIMEOUT, self.body.frame());
            let frame = frame.await.map_err(|elapsed| idle(&self.metrics, &self.idle, elapsed))?;
            let Some(frame) = frame else { return Ok(None) };
            let Ok(data) = frame?.into_data() else { continue };
            let waited = self.env.clock.now().since(began);
            if self.pace.is_too_slow(waited, data.len() as u64) {
                return Err(PeerError::Slow);
            }
            return Ok(Some(data));
        }
    }
}

/// The body of an answer that has one.
fn checked(response: Response<Incoming>) -> Result<Incoming, PeerError> {
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        StatusCode::GONE => Err(PeerError::Gone),
        status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
            let told = response.headers().get(header::RETRY_AFTER);
            let seconds = told.and_then(|told| told.to_str().ok()?.parse().ok());
            Err(PeerError::Busy { status, retry_after: seconds.map(Duration::from_secs) })
        }
        status if status.is_server_error() => Err(PeerError::Failed { status }),
        status => Err(PeerError::Answer(format!("status {status}"))),
    }
}

fn idle(metrics: &Metrics, kept: &Kept, elapsed: Elapsed) -> PeerError {
    metrics.replication.idle_timeouts.inc();
    kept.give_up();
    PeerError::Idle(elapsed)
}
