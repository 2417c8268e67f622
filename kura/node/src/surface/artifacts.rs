//! `GET`, `HEAD` and `PUT` of artifacts, what is missing of many, and the delete of all in a namespace, from
//! bytes to calls of the service and back.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use kura_core::{
    address::{Address, Space},
    digest::Digest,
    limits::READ_THROUGH_WAIT_MAX,
};
use kura_env::{Elapsed, timeout};

use super::{
    Surface,
    activity::Activity,
    answer, body,
    outcome::{Failure, Outcome},
    pace::{Pace, paced},
};
use crate::{
    metrics::SurfaceLabel,
    service::{Meta, Published, Refusal},
};

/// What a stored body is answered with: its place in the order of this node's changes.
const SEQUENCE: &str = "x-kura-sequence";

/// How long a read may take to begin; then it is a miss, and the client goes on without.
const READ_PATIENCE: Duration = Duration::from_secs(20);
const _: () = assert!(READ_THROUGH_WAIT_MAX.as_secs() * 2 <= READ_PATIENCE.as_secs());

/// A request for what is missing of many is no longer: 16,000 digests.
const VOUCH_BYTES_MAX: usize = 65 * 16_000;

/// `DELETE` of this path deletes a namespace.
const CLEAN: &str = "/api/cache/clean";

/// The methods that are offered on artifacts.
pub(crate) const METHODS: &str = "GET, HEAD, PUT";

/// Answers every request whose path is not one of the node's own pages.
pub(crate) async fn artifact(State(surface): State<Arc<Surface>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let activity = head
        .extensions
        .get::<Arc<Activity>>()
        .expect("every connection gives its activity to its requests")
        .clone();
    let mut incoming = body::Incoming::new(
        body,
        head.version,
        surface.env.clock.clone(),
        surface.config.idle_timeout,
    );
    let address = Address::from_path(head.uri.path());
    let label = address.as_ref().map_or(SurfaceLabel::None, |address| match address.space() {
        Space::Cas => SurfaceLabel::Cas,
        Space::Ac => SurfaceLabel::Ac,
        Space::Plain => SurfaceLabel::Plain,
    });
    let exchange = Exchange { surface: &surface, activity, head: &head };
    let mut response = match exchange.carry_out(address.map_err(Failure::from), &mut incoming).await
    {
        Ok(response) => response,
        Err(failure) => exchange.refuse(&failure, incoming).await,
    };
    response.extensions_mut().insert(label);
    response
}

/// One request while it is being answered.
struct Exchange<'a> {
    surface: &'a Arc<Surface>,
    activity: Arc<Activity>,
    head: &'a http::request::Parts,
}

impl Exchange<'_> {
    async fn carry_out(
        &self,
        address: Result<Address, Failure>,
        incoming: &mut body::Incoming,
    ) -> Result<Response, Failure> {
        match self.head.method {
            Method::GET => self.get(&address?).await,
            Method::HEAD => self.look(&address?).await,
            Method::PUT => self.put(address?, incoming).await,
            Method::POST => match Address::content_of(self.head.uri.path()) {
                Some(namespace) => self.missing(&namespace, incoming).await,
                None => Err(Failure::Method),
            },
            Method::DELETE if self.head.uri.path() == CLEAN => self.clean(incoming).await,
            _ => Err(Failure::Method),
        }
    }

    /// Deletes a namespace. A body says nothing here: a little of one is read, so that the connection can be used
    /// again.
    async fn clean(&self, incoming: &mut body::Incoming) -> Result<Response, Failure> {
        let namespace = Address::namespace_of_query(self.head.uri.query().unwrap_or_default())?;
        let (discarded, _) = incoming.discard(self.surface.config.drain_body_bytes_max).await;
        self.surface.count().http.drained_bytes.inc_by(discarded);
        let _turn = self.activity.turn();
        self.surface.service.delete(namespace).await?;
        Ok(empty(Outcome::Deleted, true))
    }

    async fn get(&self, address: &Address) -> Result<Response, Failure> {
        let begun = async {
            let _turn = self.activity.turn();
            let Some(mut reading) = self.surface.service.open(address).await? else {
                return Ok(None);
            };
            // With the first bytes, so that damage there is still a miss.
            let first = reading.next().await?;
            Ok(Some((reading, first)))
        };
        let Some((reading, first)) = self.in_time(begun).await? else {
            return Ok(empty(Outcome::Miss, false));
        };
        let headers = found(reading.meta());
        let len_bytes = reading.meta().len_bytes;
        let mut body = body::outgoing(reading, first, self.surface.metrics.clone());
        if let Some(pace) = self.head.extensions.get::<Arc<Pace>>() {
            body = paced(body, len_bytes, pace.clone());
        }
        let mut response = empty(Outcome::Found, false);
        *response.headers_mut() = headers;
        *response.body_mut() = body;
        Ok(response)
    }

    async fn look(&self, address: &Address) -> Result<Response, Failure> {
        let looked = async {
            let _turn = self.activity.turn();
            self.surface.service.head(address).await
        };
        let Some(meta) = self.in_time(looked).await? else {
            return Ok(empty(Outcome::Miss, false));
        };
        let mut response = empty(Outcome::Found, false);
        *response.headers_mut() = found(&meta);
        Ok(response)
    }

    /// Of the digests in the body, a line each, those that are not here. All others stay for as long
    /// as is promised.
    async fn missing(
        &self,
        namespace: &str,
        incoming: &mut body::Incoming,
    ) -> Result<Response, Failure> {
        let mut asked = BytesMut::new();
        while let Some(data) = incoming.next().await? {
            if asked.len() + data.len() > VOUCH_BYTES_MAX {
                let limit_bytes = VOUCH_BYTES_MAX as u64;
                let declared_bytes = incoming.declared_bytes();
                return Err(Refusal::TooLarge { limit_bytes, declared_bytes }.into());
            }
            asked.extend_from_slice(&data);
        }
        let asked = String::from_utf8_lossy(&asked);
        let mut addresses = Vec::new();
        for digest in asked.lines().filter(|line| !line.is_empty()) {
            addresses.push(Address::new(namespace, Space::Cas, digest).map_err(Failure::from)?);
        }
        let held = self.in_time(self.surface.service.vouch(&addresses)).await?;
        let pairs = addresses.iter().zip(held);
        let missing: Vec<&str> =
            pairs.filter(|(_, held)| !held).map(|(address, _)| address.key()).collect();
        let mut text = missing.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        Ok(answer::text(text))
    }

    /// What a read begins with. A disk that hangs must not hang its readers.
    async fn in_time<T>(
        &self,
        read: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Failure> {
        match timeout(&*self.surface.env.clock, READ_PATIENCE, read).await {
            Ok(read) => Ok(read?),
            Err(Elapsed { limit }) => Err(Failure::SlowRead { limit }),
        }
    }

    async fn put(
        &self,
        address: Address,
        incoming: &mut body::Incoming,
    ) -> Result<Response, Failure> {
        if self.head.version < Version::HTTP_2 && !says_how_long(&self.head.headers) {
            return Err(Failure::NoLength);
        }
        let mut upload = {
            let _turn = self.activity.turn();
            self.surface.service.begin(address, incoming.declared_bytes()).await?
        };
        while let Some(data) = incoming.next().await? {
            let _turn = self.activity.turn();
            upload.write(data).await?;
        }
        let _turn = self.activity.turn();
        Ok(stored(&upload.publish().await?))
    }

    /// Answers a failure. What is left of the body is read first, so that the client sees the
    /// answer and keeps its connection; if that is too much, the connection ends with the answer.
    async fn refuse(&self, failure: &Failure, mut incoming: body::Incoming) -> Response {
        let rule = failure.outcome().rule();
        let waits_to_send =
            self.head.headers.contains_key(header::EXPECT) && !incoming.is_touched();
        let mut ends_here = rule.closes;
        if !ends_here {
            if waits_to_send {
                ends_here = true;
            } else {
                let bytes_max = self.surface.config.drain_body_bytes_max;
                let (discarded, all) = incoming.discard(bytes_max).await;
                self.surface.count().http.drained_bytes.inc_by(discarded);
                ends_here = !all;
            }
        }
        let mut response = answer::failure(failure, &self.surface.config, &self.head.method);
        if ends_here && self.head.version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.surface.note_failure(failure, self.head);
        response
    }
}

/// Whether a request over HTTP/1 frames its body. hyper has checked that the two go not together.
fn says_how_long(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING)
}

fn empty(outcome: Outcome, is_write: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = outcome.rule().status(is_write);
    response
}

fn found(meta: &Meta) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(meta.len_bytes));
    headers.insert(header::ETAG, etag(meta.digest));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers
}

fn stored(published: &Published) -> Response {
    let mut response = empty(Outcome::Stored, true);
    let headers = response.headers_mut();
    headers.insert(SEQUENCE, HeaderValue::from(published.sequence));
    headers.insert(header::ETAG, etag(published.digest));
    response
}

fn etag(digest: Digest) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{digest}\""))
        .expect("quotes and hexadecimal digits are legal in a header")
}
