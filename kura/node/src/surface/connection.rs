//! One connection: hyper over a guarded stream, watched by its activity, until it ends, stands still
//! for too long, or the node drains.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use http::{HeaderValue, Request, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use kura_core::framing::HEADERS_MAX;
use kura_env::Stream;
use tower::ServiceExt as _;

use super::{
    Surface,
    activity::{Activity, Expired},
    answer, chain,
    guard::Guarded,
    outcome::Failure,
    pace::{NextStream, Pace},
    runtime::{HyperExecutor, Latch, TaskSet},
};
use crate::metrics::CloseReason;

/// How long a connection that stood still has to say so before it is dropped: a stalled upload is
/// answered 408, an HTTP/2 client is told to go away.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Requests at once on one HTTP/2 connection. Each holds a task and at most one window of its body.
const STREAMS_MAX: u32 = 256;

/// Flow-control windows of HTTP/2. Fixed: adaptive ones halved the speed of uploads over a WAN.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The longest list of headers over HTTP/2, in bytes as HTTP/2 counts them.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;

/// Serves `stream` until its end.
pub(crate) async fn serve(
    surface: Arc<Surface>,
    router: Router,
    stream: Box<dyn Stream>,
    drain: Arc<Latch>,
) {
    let _open = Open::new(&surface);
    let peer = stream.peer_addr();
    let activity = Activity::new(surface.env.clock.clone());
    let guarded = Guarded::new(
        stream,
        activity.clone(),
        surface.count().connections.byte_counters(),
        surface.gives_way(),
        surface.config.drain_body_bytes_max,
    );
    let streams = TaskSet::new(surface.env.tasks.clone());
    let next = NextStream::default();
    let service = service_fn(|request| enter(&surface, &router, (&activity, &next), request));
    let builder = builder(&surface, &streams, next.clone());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(guarded), service));
    let mut expired = pin!(activity.expired(&surface.config));
    let mut drained = pin!(drain.released());
    let mut is_draining = false;
    let expired = loop {
        tokio::select! {
            biased;
            end = &mut connection => {
                if let Err(error) = end {
                    tracing::debug!(%peer, cause = %chain(&*error), "a connection broke");
                }
                return;
            }
            expired = &mut expired => break expired,
            () = &mut drained, if !is_draining => {
                is_draining = true;
                surface.count_close(CloseReason::Drain);
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    tracing::debug!(%peer, ?expired, "closing a connection");
    match expired {
        Expired::Closed(CloseReason::Idle) => {
            surface.count_close(CloseReason::Idle);
            connection.as_mut().graceful_shutdown();
            // However this ends, the connection is dropped behind it.
            kura_env::timeout(&*surface.env.clock, ANSWER_GRACE, connection).await.ok();
        }
        Expired::Closed(reason) => surface.count_close(reason),
        Expired::Lingered => {}
    }
}

fn builder(
    surface: &Surface,
    streams: &Arc<TaskSet>,
    next: NextStream,
) -> auto::Builder<HyperExecutor> {
    let executor = HyperExecutor::new(streams, next, surface.config.idle_timeout);
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        .auto_date_header(surface.config.date_header)
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .auto_date_header(surface.config.date_header)
        .max_concurrent_streams(STREAMS_MAX)
        .adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX);
    builder
}

/// Where hyper hands over a request. Not async itself: requests are counted in the order in which
/// hyper reads them, whenever their answers are made.
fn enter(
    surface: &Arc<Surface>,
    router: &Router,
    (activity, next): (&Arc<Activity>, &NextStream),
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + Send + 'static {
    let violation =
        if request.version() < Version::HTTP_2 { activity.next_request() } else { None };
    let pace = (request.version() == Version::HTTP_2).then(|| {
        let pace = Pace::new(surface.env.clock.clone());
        next.put(pace.clone());
        pace
    });
    let (surface, router, activity) = (surface.clone(), router.clone(), activity.clone());
    async move {
        let (mut head, body) = request.into_parts();
        let method = head.method.clone();
        let response = if let Some(violation) = violation {
            surface.count_close(CloseReason::Guard);
            let failure = Failure::Frame(violation);
            surface.note_failure(&failure, &head);
            let mut response = answer::failure(&failure, &surface.config, &method);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        } else {
            head.extensions.insert(activity);
            if let Some(pace) = pace {
                head.extensions.insert(pace);
            }
            router.oneshot(Request::from_parts(head, Body::new(body))).await?
        };
        surface.count_request(&method, &response);
        Ok(response)
    }
}

/// Counts an open connection for as long as it lives.
struct Open(Arc<Surface>);

impl Open {
    fn new(surface: &Arc<Surface>) -> Self {
        surface.count().connections.accepted.inc();
        surface.count().connections.open.inc();
        Self(surface.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count().connections.open.dec();
    }
}
