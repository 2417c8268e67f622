//! A client that sends whatever bytes it is told to, and tells exactly what came back.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::wait::{A_MOMENT, within};

/// A connection.
pub struct Raw {
    stream: TcpStream,
    /// Read and not yet looked at.
    ahead: Vec<u8>,
}

/// How the other end left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It closed its half.
    Closed,
    /// It threw the connection away.
    Reset,
}

/// An answer of HTTP/1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// A header; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the node listens");
        stream.set_nodelay(true).expect("a connected socket takes the option");
        Self { stream, ahead: Vec::new() }
    }

    /// Sends bytes, all of them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the other end reads");
    }

    /// Sends bytes, if the other end still takes them.
    ///
    /// # Errors
    ///
    /// What the system says when it does not.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("the other end reads", A_MOMENT, self.stream.write_all(bytes.as_ref())).await
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.expect("the connection is open");
    }

    /// Whether a byte arrives within `limit`. Nothing is consumed.
    pub async fn hears_within(&mut self, limit: Duration) -> bool {
        let mut byte = [0];
        !self.ahead.is_empty()
            || tokio::time::timeout(limit, self.stream.peek(&mut byte)).await.is_ok()
    }

    /// The next answer, its body included. Answers of kind 1xx are answers of their own.
    pub async fn answer(&mut self) -> RawAnswer {
        match within("an answer", A_MOMENT, self.try_answer()).await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error}; so far {:?}", self.seen()),
        }
    }

    async fn try_answer(&mut self) -> io::Result<RawAnswer> {
        let head_end = loop {
            if let Some(at) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head: Vec<u8> = self.ahead.drain(..head_end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let (first, lines) = head.split_once("\r\n").unwrap_or((&head, ""));
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{first:?} is no status line"));
        let headers: Vec<(String, String)> = lines
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = RawAnswer { status, headers, body: Vec::new() };
        let body_bytes: usize = answer.header("content-length").parse().unwrap_or(0);
        while self.ahead.len() < body_bytes {
            self.read_more().await?;
        }
        answer.body = self.ahead.drain(..body_bytes).collect();
        Ok(answer)
    }

    /// Waits, for `limit` at the most, until the other end leaves; what it still says is dropped.
    pub async fn left(&mut self, limit: Duration) -> Left {
        let leaving = async {
            let mut scratch = vec![0; 64 * 1024];
            loop {
                match self.stream.read(&mut scratch).await {
                    Ok(0) => return Left::Closed,
                    Ok(_) => {}
                    Err(_) => return Left::Reset,
                }
            }
        };
        within("the other end leaves", limit, leaving).await
    }

    async fn read_more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.ahead).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.ahead).into_owned()
    }
}
