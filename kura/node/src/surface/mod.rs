//! The public surface: HTTP/1 and HTTP/2 without TLS on one port, translated into calls of the
//! service.
//!
//! ```text
//! listener -> connection -> hyper over guard -> router -> artifacts -> service
//!                 |            |                   |
//!             activity <- framing (core)         pages
//! ```
//!
//! - `connection` runs one connection and ends it; `activity` knows until when it may stand still.
//! - `guard` is its byte stream; `body` the bodies on it; `artifacts` what is asked of artifacts;
//!   `pace` watches each stream of HTTP/2.
//! - `outcome` is the one table from what happened to what is answered.

pub(crate) mod activity;
pub(crate) mod answer;
mod artifacts;
mod body;
mod connection;
mod guard;
mod outcome;
mod pace;
mod pages;
pub(crate) mod runtime;

use std::{error::Error, fmt::Write as _, pin::pin, sync::Arc, time::Duration};

use axum::{Router, response::Response, routing};
use http::{Method, request::Parts};
use kura_env::{Env, Listener, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::{
    outcome::Failure,
    runtime::{Latch, TaskSet},
};
use crate::{
    config::SurfaceConfig,
    metrics::{
        CloseLabels, CloseReason, MethodLabel, Metrics, Port, PortMetrics, RefusalLabels,
        RequestLabels, SurfaceLabel,
    },
    replicate::Ceilings,
    service::Service,
};

/// How long accepting rests after it failed, as it does without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The public surface of one node.
pub struct Surface {
    /// What it asks.
    pub service: Service,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// At which port it is.
    pub port: Port,
    /// Its settings.
    pub config: SurfaceConfig,
    /// The world.
    pub env: Env,
}

impl Surface {
    /// Serves what `listener` accepts until `drain` turns true or its sender is gone; then takes no
    /// more connections, lets requests in flight end, and returns when the last one has.
    ///
    /// Dropping the future cuts everything, which is how a deadline for the drain is kept.
    pub async fn serve(self, listener: Box<dyn Listener>, drain: watch::Receiver<bool>) {
        let surface = Arc::new(self);
        let router = router(&surface);
        surface.serve_router(router, listener, drain).await;
    }

    /// As [`Surface::serve`], with other pages: the peer plane has the same manners.
    pub(crate) async fn serve_router(
        self: Arc<Self>,
        router: Router,
        listener: Box<dyn Listener>,
        mut drain: watch::Receiver<bool>,
    ) {
        let surface = self;
        let connections = TaskSet::new(surface.env.tasks.clone());
        let draining = Latch::new();
        let places = Arc::new(Semaphore::new(surface.config.connections_max));
        {
            let mut drained = pin!(drain.wait_for(|is_draining| *is_draining));
            loop {
                let (stream, place) = tokio::select! {
                    biased;
                    // An error is the end of the sender: nobody is left to ask for a drain later.
                    _ = &mut drained => break,
                    next = surface.accept(&*listener, &places) => next,
                };
                let (surface, router) = (surface.clone(), router.clone());
                let draining = draining.clone();
                connections.spawn("connection", async move {
                    connection::serve(surface, router, stream, draining).await;
                    drop(place);
                });
            }
        }
        drop(listener);
        draining.release();
        connections.join().await;
    }

    /// The next connection, once there is a place for it.
    async fn accept(
        &self,
        listener: &dyn Listener,
        places: &Arc<Semaphore>,
    ) -> (Box<dyn Stream>, OwnedSemaphorePermit) {
        if places.available_permits() == 0 {
            self.count().connections.cap_waits.inc();
            tracing::warn!(limit = self.config.connections_max, "all connections are taken");
        }
        let place = places.clone().acquire_owned().await;
        let place = place.expect("the places are never closed");
        loop {
            match listener.accept().await {
                Ok(stream) => return (stream, place),
                Err(error) => {
                    self.count().connections.accept_failures.inc();
                    tracing::warn!(cause = %chain(&error), "a connection could not be accepted");
                    self.env.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Counts and logs a request that was not carried out. To be called once for each.
    fn note_failure(&self, failure: &Failure, head: &Parts) {
        let rule = failure.outcome().rule();
        self.count().http.refusals.get_or_create(&RefusalLabels { reason: rule.name }).inc();
        let (method, path, cause) = (&head.method, head.uri.path(), chain(failure));
        if rule.ours {
            tracing::warn!(%method, path, reason = rule.name, cause, "a request failed");
        } else {
            tracing::debug!(%method, path, reason = rule.name, cause, "a request was refused");
        }
    }

    /// What gives way to the bytes of this port.
    fn gives_way(&self) -> Option<Arc<Ceilings>> {
        match self.port {
            Port::Public => self.service.ceilings(),
            Port::Peers => None,
        }
    }

    /// What is counted at this port.
    fn count(&self) -> &PortMetrics {
        self.metrics.port(self.port)
    }

    fn count_request(&self, method: &Method, response: &Response) {
        let method = match *method {
            Method::GET => MethodLabel::Get,
            Method::HEAD => MethodLabel::Head,
            Method::PUT => MethodLabel::Put,
            Method::DELETE => MethodLabel::Delete,
            _ => MethodLabel::Other,
        };
        let surface = response.extensions().get().copied().unwrap_or(SurfaceLabel::None);
        let status = response.status().as_u16();
        let labels = RequestLabels { method, surface, status };
        self.count().http.requests.get_or_create(&labels).inc();
    }

    fn count_close(&self, reason: CloseReason) {
        self.count().connections.closes.get_or_create(&CloseLabels { reason }).inc();
    }
}

fn router(surface: &Arc<Surface>) -> Router {
    let pages = Router::new()
        .route("/up", routing::get(pages::up))
        .route("/ready", routing::get(pages::ready))
        .route("/primary", routing::get(pages::primary))
        .route("/replica", routing::get(pages::replica))
        .route("/metrics", routing::get(pages::metrics))
        .route("/status", routing::get(pages::status))
        .route("/status/cluster", routing::get(pages::cluster))
        .route("/status/disk", routing::get(pages::disk))
        .route("/status/scrub", routing::get(pages::scrub).post(pages::begin_scrub))
        .layer(axum::middleware::map_response(async |mut response: Response| {
            response.extensions_mut().insert(SurfaceLabel::Pages);
            response
        }));
    pages.fallback(artifacts::artifact).with_state(surface.clone())
}

/// An error and what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(line, ": {error}").expect("writing to a string does not fail");
        cause = error.source();
    }
    line
}
