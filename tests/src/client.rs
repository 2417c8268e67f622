//! A well-behaved HTTP/1.1 client: one connection, one request after the other.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

/// One connection, kept alive.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    connection: JoinHandle<()>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).await.unwrap_or_else(|error| panic!("connect {addr}: {error}"))
    }

    /// Connects, if somebody listens there.
    ///
    /// # Errors
    ///
    /// What the system or the first bytes of the connection say.
    pub async fn try_connect(
        addr: SocketAddr,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // Whoever waits for an answer sees the error as well.
            connection.await.ok();
        });
        Ok(Self { sender, host: addr.to_string(), connection })
    }

    /// Asks for a path.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Stores a body.
    pub async fn put(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::PUT, path, body.into()).await
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Answer {
        let sent = self.try_send(method.clone(), path, body).await;
        sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a request and reads the whole answer, if there is one.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn try_send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, hyper::Error> {
        let mut request =
            Request::builder().method(&method).uri(path).header(header::HOST, &self.host);
        if method == Method::PUT {
            // hyper leaves it out where it is 0.
            request = request.header(header::CONTENT_LENGTH, body.len());
        }
        let request = request.body(Full::new(body)).expect("tests send legal requests");
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
