//! What peers are answered.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Query, State},
    response::Response,
    routing,
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kura_core::{
    feed::{Cursor, FeedRow, Follow},
    limits::{COMPARE_BYTES_MAX, FEED_WAIT, PeerLimits},
};
use kura_env::timeout;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    compare,
    mesh::Mesh,
    wire::{
        Ask, BODIES, BODY_MISSING, BODY_UNREADABLE, COMPARE, CompareQuery, DELETES, DELETES_PRINT,
        DeletesKnown, FEED, FeedPage, FeedQuery, HELLO, Hello, Life, PULSE, Row, announcement,
    },
};
use crate::{
    metrics::{Metrics, ReplicationMetrics},
    service::Refusal,
    store::{Reading, Store},
    surface::{Surface, activity::Activity, answer},
};

/// Why a node that is not there yet cannot answer.
const RECOVERING: &str = "the node reads its data back";

/// What the routes share.
#[derive(Clone)]
struct Plane {
    surface: Arc<Surface>,
    mesh: Arc<Mesh>,
}

/// The routes of the peer plane.
pub(crate) fn router(surface: Arc<Surface>, mesh: Arc<Mesh>) -> Router {
    Router::new()
        .route(HELLO, routing::get(hello))
        .route(PULSE, routing::get(pulse))
        .route(FEED, routing::get(feed))
        .route(DELETES, routing::get(deletes))
        .route(COMPARE, routing::post(compare))
        .route(BODIES, routing::post(bodies))
        .with_state(Plane { surface, mesh })
}

impl Plane {
    /// The store, once it is open.
    fn store(&self) -> Option<Store> {
        self.surface.service.store()
    }

    fn not_now(&self, why: &str) -> Response {
        self.count().not_now_told.inc();
        let mut response = answer::text(format!("{why}; come back\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let seconds = self.surface.config.retry_after.as_secs().max(1);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        response
    }

    fn failed(&self, refusal: &Refusal) -> Response {
        tracing::warn!(%refusal, "a peer could not be answered");
        self.count().failures_told.inc();
        let mut response = answer::text("the store does not answer\n");
        // Not 503: nobody should wait for this as for a node that is about to be there.
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }

    fn limits(&self) -> PeerLimits {
        self.mesh.limits()
    }

    fn count(&self) -> &ReplicationMetrics {
        &self.surface.metrics.replication
    }
}

/// Answered from the first moment, so that whoever waits knows what it waits for.
async fn hello(State(plane): State<Plane>) -> Response {
    let store = plane.store();
    json(&Hello {
        life: store.as_ref().map(Life::of),
        region: plane.mesh.region().to_owned(),
        state: Some(plane.surface.service.readiness().state),
        deletes: store.map_or(0, |store| store.deletes_print()),
        limits: plane.limits().into(),
    })
}

/// Answered from the first moment as well.
async fn pulse(State(plane): State<Plane>) -> Response {
    json(&plane.mesh.primacy.pulse(&plane.surface.service, plane.store().as_ref()))
}

async fn feed(
    State(plane): State<Plane>,
    Extension(activity): Extension<Arc<Activity>>,
    Query(query): Query<FeedQuery>,
) -> Response {
    let Some(store) = plane.store() else { return plane.not_now(RECOVERING) };
    // The peer waits for us, and not the other way round.
    let _turn = activity.turn();
    let FeedQuery { incarnation, from, rows, wait_ms, deletes, node, region } = query;
    let cursor = Cursor { incarnation, sequence: from };
    if let Some(node) = node {
        match store.extent().follow(cursor) {
            Follow::Gone => plane.mesh.audience.is_lost(node),
            Follow::Wait | Follow::Rows { .. } => plane.mesh.audience.asks(node, &region, from),
        }
    }
    let page_rows = plane.limits().page_rows.max(1);
    if store.extent().follow(cursor) == Follow::Wait {
        let wait = Duration::from_millis(wait_ms).min(FEED_WAIT);
        // Time that ran out is an answer as well: nothing new.
        timeout(&*plane.surface.env.clock, wait, something_new(&store, from, deletes)).await.ok();
    }
    let page = match store.extent().follow(cursor) {
        Follow::Gone => return gone(),
        Follow::Wait => page_of(&store, &[], from),
        Follow::Rows { from } => match store.feed(from, rows.clamp(1, page_rows)).await {
            // Rows that were dropped while it was read are not in it.
            Ok(_) if store.extent().follow(cursor) == Follow::Gone => return gone(),
            Ok(page) => page_of(&store, &page.rows, page.next),
            Err(refusal) => return plane.failed(&refusal),
        },
    };
    json(&page)
}

fn page_of(store: &Store, rows: &[FeedRow], next: u64) -> FeedPage {
    let rows = rows.iter().map(Row::from).collect();
    let (head, deletes) = (store.extent().head, store.deletes_print());
    FeedPage { rows, next, head, deletes, start: Some(store.start()) }
}

/// Waits for a row at `from` or above, or for other deletes than those that the peer has heard of.
async fn something_new(store: &Store, from: u64, deletes: Option<u64>) {
    let grown = store.grown_to(from);
    match deletes {
        None => grown.await,
        Some(print) => tokio::select! {
            biased;
            () = grown => (),
            () = store.deletes_other_than(print) => (),
        },
    }
}

async fn deletes(State(plane): State<Plane>) -> Response {
    match plane.store() {
        Some(store) => json(&DeletesKnown::from(&*store.deletes())),
        None => plane.not_now(RECOVERING),
    }
}

fn gone() -> Response {
    let mut response = answer::text("the feed does not reach back to there\n");
    *response.status_mut() = StatusCode::GONE;
    response
}

/// A list of at most `rows_max` of something; `None` if the body is none.
async fn read_list<T: DeserializeOwned>(
    body: Body,
    (rows_max, bytes_max): (usize, usize),
) -> Option<Vec<T>> {
    let asked = Limited::new(body, bytes_max).collect().await.ok()?;
    let rows: Vec<T> = serde_json::from_slice(&asked.to_bytes()).ok()?;
    (rows.len() <= rows_max).then_some(rows)
}

fn no_list(rows_max: usize, what: &str) -> Response {
    let mut response = answer::text(format!("not a list of at most {rows_max} {what}\n"));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

async fn compare(
    State(plane): State<Plane>,
    Extension(activity): Extension<Arc<Activity>>,
    Query(query): Query<CompareQuery>,
    body: Body,
) -> Response {
    let Some(store) = plane.store() else { return plane.not_now(RECOVERING) };
    let limits = plane.limits();
    let PeerLimits { spans, items_known, message_bytes, .. } = limits;
    let is_right = |ask: &Ask| {
        ask.known.as_ref().map_or(ask.sum.is_some(), |known| known.len() <= items_known)
    };
    let asks = read_list(body, (spans, message_bytes.min(COMPARE_BYTES_MAX))).await;
    let Some(asks) = asks.filter(|asks: &Vec<Ask>| asks.iter().all(is_right)) else {
        return no_list(spans, "ranges");
    };
    // The peer waits for us, and not the other way round.
    let _turn = activity.turn();
    match compare::tell(&store, &asks, told_at_most(limits, query)).await {
        Ok(told) => json(&told),
        Err(refusal) => plane.failed(&refusal),
    }
}

/// How much of a comparison is told: what this node tells at the most, and what was asked for. Less than the least is
/// not asked for by anybody who wants to come to an end.
fn told_at_most(ours: PeerLimits, query: CompareQuery) -> PeerLimits {
    let CompareQuery { rows, parts } = query;
    let page_rows = rows.unwrap_or(PeerLimits::FIRST.page_rows);
    let parts = parts.unwrap_or(PeerLimits::FIRST.parts);
    ours.towards(PeerLimits { page_rows, parts, ..ours }).0
}

async fn bodies(
    State(plane): State<Plane>,
    Extension(activity): Extension<Arc<Activity>>,
    body: Body,
) -> Response {
    let Some(store) = plane.store() else { return plane.not_now(RECOVERING) };
    let PeerLimits { batch_rows, message_bytes, .. } = plane.limits();
    let Some(rows) = read_list::<Row>(body, (batch_rows, message_bytes)).await else {
        return no_list(batch_rows, "rows");
    };
    // A row of a kind that is unknown here cannot be held here.
    let rows: Vec<Option<(FeedRow, u64)>> =
        rows.iter().map(|row| row.read().map(|it| (it, row.from))).collect();
    let metrics = plane.surface.metrics.clone();
    let print = store.deletes_print();
    let (mesh, rows, rest) = (plane.mesh.clone(), rows.into_iter(), Bytes::new());
    let sending = Sending { store, rows, reading: None, rest, activity, mesh, metrics };
    let frames = stream::try_unfold(sending, |mut sending| async move {
        let frame = sending.piece().await.inspect_err(|refusal| {
            tracing::warn!(%refusal, "a body for a peer broke off");
        })?;
        Ok::<_, Refusal>(frame.map(|frame| (frame, sending)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    if print != 0 {
        response.headers_mut().insert(DELETES_PRINT, HeaderValue::from(print));
    }
    response
}

/// Bodies on their way to a peer, one after the other.
struct Sending {
    store: Store,
    /// And from where on of the body.
    rows: std::vec::IntoIter<Option<(FeedRow, u64)>>,
    reading: Option<Reading>,
    /// Read, and not sent yet.
    rest: Bytes,
    activity: Arc<Activity>,
    mesh: Arc<Mesh>,
    metrics: Arc<Metrics>,
}

impl Sending {
    /// The next bytes, once the ceiling lets them pass.
    async fn piece(&mut self) -> Result<Option<Bytes>, Refusal> {
        // The peer waits for us, and not the other way round.
        let activity = self.activity.clone();
        let _turn = activity.turn();
        if self.rest.is_empty() {
            let Some(next) = self.next().await? else { return Ok(None) };
            self.rest = next;
        }
        let ceiling = &self.mesh.ceilings.serving;
        let piece = self.rest.split_to(self.rest.len().min(ceiling.piece_bytes()));
        ceiling.pass(piece.len()).await;
        Ok(Some(piece))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        if let Some(reading) = &mut self.reading {
            if let Some(chunk) = reading.next().await? {
                return Ok(Some(chunk));
            }
            self.reading = None;
        }
        let Some(row) = self.rows.next() else { return Ok(None) };
        let count = &self.metrics.replication;
        let opened = match row {
            Some((row, from)) => open(&self.store, &row, from).await,
            None => Ok(None),
        };
        // The first bytes are read before the body is announced, so that what cannot be read costs
        // this artifact and not the answer.
        let first = match opened {
            Ok(Some((mut reading, from))) => {
                reading.next().await.map(|first| Some((reading, from, first)))
            }
            Ok(None) => Ok(None),
            Err(refusal) => Err(refusal),
        };
        let (reading, from, first) = match first {
            Ok(Some(begun)) => begun,
            Ok(None) | Err(Refusal::Damaged { .. }) => {
                count.served_missing.inc();
                return Ok(Some(Bytes::from_static(&[BODY_MISSING])));
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "an artifact could not be read for a peer");
                count.served_unreadable.inc();
                return Ok(Some(Bytes::from_static(&[BODY_UNREADABLE])));
            }
        };
        count.served.inc();
        let mut frame = announcement(reading.meta().len_bytes, from);
        frame.extend_from_slice(&first.unwrap_or_default());
        self.reading = Some(reading);
        Ok(Some(frame.into()))
    }
}

/// Opens the body of `row`, behind `from` bytes of it if they are not all of it; and how many these are.
async fn open(store: &Store, row: &FeedRow, from: u64) -> Result<Option<(Reading, u64)>, Refusal> {
    let Some(mut reading) = store.open_version(row).await? else { return Ok(None) };
    if from == 0 || from >= reading.meta().len_bytes {
        return Ok(Some((reading, 0)));
    }
    reading.begin_at(from);
    Ok(Some((reading, from)))
}

fn json<T: Serialize>(value: &T) -> Response {
    let text = serde_json::to_vec(value).expect("what peers say has names for keys");
    answer::with_type("application/json", text)
}
