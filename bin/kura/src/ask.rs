//! Asking a node for one of its pages, over a connection that is closed afterwards.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// No page of a node is longer, in bytes. Keeps another server from filling the memory.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeUrl {
    host: String,
    port: u16,
}

/// What a node said.
#[derive(Debug)]
pub(crate) struct Page {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Bytes,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer to read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

impl NodeUrl {
    /// A node on this machine.
    pub(crate) fn loopback(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port }
    }

    /// Asks for `path`, and waits for `limit` at the most.
    pub(crate) async fn get(&self, path: &str, limit: Duration) -> Result<Page, AskError> {
        self.within(limit, Method::GET, path).await
    }

    /// Has the node do what `path` says, and waits for its answer for `limit` at the most.
    pub(crate) async fn post(&self, path: &str, limit: Duration) -> Result<Page, AskError> {
        self.within(limit, Method::POST, path).await
    }

    async fn within(&self, limit: Duration, method: Method, path: &str) -> Result<Page, AskError> {
        let asked = tokio::time::timeout(limit, self.ask(method, path)).await;
        asked.unwrap_or(Err(AskError::Late(limit)))
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Page, AskError> {
        let host = self.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.port)).await.map_err(AskError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| AskError::Body(error.into()))?;
        let answer = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body =
                Limited::new(body, PAGE_BYTES_MAX).collect().await.map_err(AskError::Body)?;
            Ok(Page { status: head.status.as_u16(), body: body.to_bytes() })
        };
        // Here rather than in a task of its own, so that nothing is left when nobody waits.
        tokio::pin!(answer, connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // What broke the connection is told by the answer as well.
            _ = &mut connection => answer.await,
        }
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// Why something is not the URL of a node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("nodes speak plain HTTP: write http://")]
    Tls,
    #[error("not a URL of a node, such as http://127.0.0.1:4000")]
    Other,
}

impl FromStr for NodeUrl {
    type Err = UrlError;

    /// Reads `http://host:port` or `host:port`; without a port, it is that of HTTP.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = match text.split_once("://") {
            Some(("http", _)) => text.parse(),
            Some(("https", _)) => return Err(UrlError::Tls),
            Some(_) => return Err(UrlError::Other),
            None => format!("http://{text}").parse(),
        }
        .map_err(|_| UrlError::Other)?;
        let authority = uri.authority().filter(|it| !it.as_str().contains('@'));
        let authority = authority.filter(|_| uri.path() == "/" && uri.query().is_none());
        let authority = authority.ok_or(UrlError::Other)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 80,
            Some(_) | None => authority.port_u16().ok_or(UrlError::Other)?,
        };
        Ok(Self { host: authority.host().to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_nodes_are_read_with_and_without_their_scheme() {
        for (text, url) in [
            ("http://127.0.0.1:4000", Ok("http://127.0.0.1:4000")),
            ("http://127.0.0.1:4000/", Ok("http://127.0.0.1:4000")),
            ("kura-0.kura:4000", Ok("http://kura-0.kura:4000")),
            ("kura", Ok("http://kura:80")),
            ("[::1]:4000", Ok("http://[::1]:4000")),
            ("https://kura:4000", Err(UrlError::Tls)),
            ("http://kura:4000/ready", Err(UrlError::Other)),
            ("http://a@kura:4000", Err(UrlError::Other)),
            ("ftp://kura", Err(UrlError::Other)),
            ("kura:http", Err(UrlError::Other)),
            ("kura:99999", Err(UrlError::Other)),
            ("", Err(UrlError::Other)),
        ] {
            let read = text.parse::<NodeUrl>().map(|url| url.to_string());
            assert_eq!(read, url.map(str::to_owned), "{text:?}");
        }
    }
}
