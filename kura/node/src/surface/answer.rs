//! Answers that are no artifacts.

use axum::{body::Body, response::Response};
use http::{HeaderValue, Method, header};

use super::{artifacts::METHODS, outcome::Failure};
use crate::config::SurfaceConfig;

/// The answer to a request that was not carried out, as the table of outcomes has it, with the
/// reason as text: what happened, and the numbers.
pub(crate) fn failure(failure: &Failure, config: &SurfaceConfig, method: &Method) -> Response {
    let rule = failure.outcome().rule();
    let is_write = [Method::PUT, Method::DELETE].contains(method);
    let mut response = text(format!("{}: {}\n{failure}\n", rule.name, rule.meaning));
    *response.status_mut() = rule.status(is_write);
    let headers = response.headers_mut();
    if rule.retry_after && is_write {
        // Rounded up: a client that comes back too early is refused again.
        let seconds = config.retry_after.as_millis().div_ceil(1000);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    match failure {
        Failure::Method => {
            headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
        }
        Failure::Address(_)
        | Failure::Query(_)
        | Failure::Frame(_)
        | Failure::NoLength
        | Failure::Stalled { .. }
        | Failure::BrokenBody(_)
        | Failure::SlowRead { .. }
        | Failure::Refused(_) => {}
    }
    response
}

/// Plain text.
pub(crate) fn text(text: impl Into<Body>) -> Response {
    with_type("text/plain; charset=utf-8", text)
}

/// JSON.
pub(crate) fn json(value: &serde_json::Value) -> Response {
    with_type("application/json", format!("{value}\n"))
}

/// A body of some type.
pub(crate) fn with_type(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
