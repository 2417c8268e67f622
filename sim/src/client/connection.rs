//! One HTTP/1 connection of an actor: hyper over the network of its place, which is the simulated one, or a real one in
//! tests of real processes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use kura_env::{Clock, Env, Net, TaskHandle, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::upload::Upload;
use crate::body::Body;

/// What an actor's host gives it.
#[derive(Clone)]
pub struct Place {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The network.
    pub net: Arc<dyn Net>,
    /// Where its connections run.
    pub tasks: Arc<dyn Tasks>,
}

impl From<&Env> for Place {
    fn from(env: &Env) -> Self {
        Self { clock: env.clock.clone(), net: env.net.clone(), tasks: env.tasks.clone() }
    }
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection came about.
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection broke before the answer was there.
    #[error("broken off: {0}")]
    Broken(String),
    /// The time was up.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// The head of an answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// `x-kura-sequence`.
    pub sequence: Option<u64>,
    /// `content-length`.
    pub len_bytes: Option<u64>,
    /// `retry-after`.
    pub retry_after: Option<Duration>,
    /// What follows.
    pub body: Incoming,
}

/// A connection that can carry one request after the other.
pub struct Connection {
    sender: http1::SendRequest<Upload>,
    addr: SocketAddr,
    _driver: TaskHandle,
}

/// The most that is read of an answer that is kept in memory.
const TEXT_BYTES_MAX: usize = 1 << 20;

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Failure::Connect`] if nobody answers there.
    pub async fn open(place: &Place, addr: SocketAddr) -> Result<Self, Failure> {
        let failed = |cause: String| Failure::Connect(cause);
        let stream = place.net.connect(addr).await.map_err(|error| failed(error.to_string()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let drive = Box::pin(async move {
            // How the connection ended is told to whoever waits for an answer on it.
            drop(connection.await);
        });
        let driver = place.tasks.spawn("http connection", drive);
        Ok(Self { sender, addr, _driver: driver })
    }

    /// Where it leads.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it can carry another request.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if the connection ends before.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Upload,
    ) -> Result<Answer, Failure> {
        let broken = |error: hyper::Error| Failure::Broken(error.to_string());
        self.sender.ready().await.map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "kura")
            .body(body)
            .map_err(|error| Failure::Broken(error.to_string()))?;
        let response = self.sender.send_request(request).await.map_err(broken)?;
        Ok(Answer::of(response))
    }

    /// A GET whose answer is small, as text.
    ///
    /// # Errors
    ///
    /// As [`Connection::request`], and if the answer is cut or too long.
    pub async fn text(&mut self, path: &str) -> Result<(u16, String), Failure> {
        let mut answer = self.request(Method::GET, path, Upload::empty()).await?;
        let mut text = Vec::new();
        while let Some(frame) = answer.body.frame().await {
            let frame = frame.map_err(|error| Failure::Broken(error.to_string()))?;
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if text.len() > TEXT_BYTES_MAX {
                return Err(Failure::Broken("an endless answer".to_owned()));
            }
        }
        Ok((answer.status, String::from_utf8_lossy(&text).into_owned()))
    }
}

impl Answer {
    fn of(response: Response<Incoming>) -> Self {
        let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
        Self {
            status: response.status().as_u16(),
            sequence: number("x-kura-sequence"),
            len_bytes: number("content-length"),
            retry_after: number("retry-after").map(Duration::from_secs),
            body: response.into_body(),
        }
    }
}

/// Declares the whole of `body`, sends `sent_bytes` of it and ends its side in good order, which
/// hyper never would. Returns the status, if an answer comes.
///
/// # Errors
///
/// [`Failure`] if there is no connection or no answer.
pub async fn put_short(
    place: &Place,
    addr: SocketAddr,
    path: &str,
    body: &Body,
    sent_bytes: u64,
) -> Result<u16, Failure> {
    let broken = |error: std::io::Error| Failure::Broken(error.to_string());
    let connected = place.net.connect(addr).await;
    let mut stream = connected.map_err(|error| Failure::Connect(error.to_string()))?;
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: kura\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len_bytes
    );
    stream.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut offset = 0;
    while offset < sent_bytes {
        let mut part = body.part(offset);
        part.truncate(usize::try_from(sent_bytes - offset).unwrap_or(usize::MAX));
        stream.write_all(&part).await.map_err(broken)?;
        offset += u64::try_from(part.len()).unwrap_or(u64::MAX);
    }
    stream.shutdown().await.map_err(broken)?;
    let mut answer = Vec::new();
    let limit = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut answer).await.map_err(broken)?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Failure::Broken("closed without an answer".to_owned()))
}
