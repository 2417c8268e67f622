//! The pages of the node itself. None of them waits for anything, but the one about the disk, which
//! has to ask it.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::StatusCode;

use super::{Surface, answer};

/// The process answers. Touches no lock, no disk, no store: an orchestrator restarts what does not
/// answer here, and a busy node must not be restarted.
pub(crate) async fn up() -> Response {
    answer::text("up\n")
}

/// Whether to send work here, and if not, why not.
pub(crate) async fn ready(State(surface): State<Arc<Surface>>) -> Response {
    let readiness = surface.service.readiness();
    let page = serde_json::json!({
        "state": readiness.state,
        "ready": readiness.ready,
        "reasons": readiness.reasons,
    });
    verdict(readiness.ready, &page)
}

/// Whether this is the node of its region that public traffic should go to, for the health check of a load balancer.
pub(crate) async fn primary(State(surface): State<Arc<Surface>>) -> Response {
    let primacy = surface.service.primacy();
    verdict(primacy.is_primary, &serde_json::json!({ "primary": primacy }))
}

/// Whether this node is ready, and another one is primary.
pub(crate) async fn replica(State(surface): State<Arc<Surface>>) -> Response {
    let (primacy, readiness) = (surface.service.primacy(), surface.service.readiness());
    let page = serde_json::json!({
        "primary": primacy,
        "ready": readiness.ready,
        "reasons": readiness.reasons,
    });
    verdict(readiness.ready && !primacy.is_primary, &page)
}

fn verdict(is_yes: bool, page: &serde_json::Value) -> Response {
    let mut response = answer::json(page);
    if !is_yes {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// What the node counts, as OpenMetrics text.
pub(crate) async fn metrics(State(surface): State<Arc<Surface>>) -> Response {
    answer::with_type(
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        surface.metrics.render(),
    )
}

/// What this node knows of its mesh.
pub(crate) async fn cluster(State(surface): State<Arc<Surface>>) -> Response {
    answer::json(&surface.service.cluster())
}

/// How much room the file system of the data directory has. Waits for as long as the disk does.
pub(crate) async fn disk(State(surface): State<Arc<Surface>>) -> Response {
    match surface.env.disk.space().await {
        Ok(space) => answer::json(&serde_json::json!({
            "total_bytes": space.total_bytes,
            "available_bytes": space.available_bytes,
        })),
        Err(error) => unavailable(&error.to_string()),
    }
}

/// What an operator or a checker wants to know.
pub(crate) async fn status(State(surface): State<Arc<Surface>>) -> Response {
    answer::json(&surface.service.status())
}

/// How the scrub stands.
pub(crate) async fn scrub(State(surface): State<Arc<Surface>>) -> Response {
    match surface.service.store() {
        Some(store) => answer::json(&serde_json::json!(store.scrub_status())),
        None => unavailable("the node reads its data back, or is closing"),
    }
}

/// Has a pass of the scrub begin. It takes no more than the rate that is set, however often somebody
/// asks.
pub(crate) async fn begin_scrub(State(surface): State<Arc<Surface>>) -> Response {
    let Some(store) = surface.service.store() else {
        return unavailable("the node reads its data back, or is closing");
    };
    store.ask_for_scrub();
    let mut response = answer::json(&serde_json::json!(store.scrub_status()));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn unavailable(why: &str) -> Response {
    let mut response = answer::json(&serde_json::json!({ "error": why }));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
