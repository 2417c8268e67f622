//! Who reads the feed of this node, and how far each of them has come: what a node that stops waits for, so that nothing that
//! it took is on its disk alone.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use kura_core::limits::{AUDIENCE_MAX, AUDIENCE_STANDS_FOR};
use kura_env::{Clock, Instant, timeout};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::metrics::ReplicationMetrics;

/// How often it is looked who is gone. Longer: a drain waits for longer for one that dies meanwhile. Shorter: more looks.
const LOOK: Duration = Duration::from_millis(500);

/// The nodes that read the feed of this one.
pub(crate) struct Audience {
    clock: Arc<dyn Clock>,
    listeners: Mutex<BTreeMap<u64, Listener>>,
    changed: Notify,
}

/// A node that reads the feed, as it said itself when it asked last.
#[derive(Clone)]
struct Listener {
    /// It has dealt with everything below.
    from: u64,
    region: String,
    asked_at: Instant,
}

impl Audience {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, listeners: Mutex::default(), changed: Notify::new() }
    }

    /// `node` asks for the feed from `from` on: it has dealt with everything below.
    pub(crate) fn asks(&self, node: u64, region: &str, from: u64) {
        let now = self.clock.now();
        let mut listeners = self.listeners.lock();
        listeners.insert(node, Listener { from, region: region.to_owned(), asked_at: now });
        if listeners.len() > AUDIENCE_MAX
            && let Some(silent) = listeners.iter().min_by_key(|it| it.1.asked_at).map(|it| *it.0)
        {
            listeners.remove(&silent);
        }
        drop(listeners);
        self.changed.notify_waiters();
    }

    /// What `node` asked for is not in the feed any more: it compares all that it has, and is at no place of the feed.
    pub(crate) fn is_lost(&self, node: u64) {
        self.listeners.lock().remove(&node);
        self.changed.notify_waiters();
    }

    /// Waits for at most `limit` until all have dealt with everything below `head`: those of `region`, or where there is none of it
    /// the others. Those that `is_gone` says so of are not waited for.
    pub(crate) async fn reads_to(
        &self,
        head: u64,
        (region, limit): (&str, Duration),
        is_gone: impl Fn(u64) -> bool + Send,
        counters: &ReplicationMetrics,
    ) {
        let all_are_there = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                // Before the look, so that nothing is missed between the two.
                changed.as_mut().enable();
                if self.behind(head, region, &is_gone).is_empty() {
                    return;
                }
                // One that dies meanwhile says nothing.
                timeout(&*self.clock, LOOK, changed).await.ok();
            }
        };
        if timeout(&*self.clock, limit, all_are_there).await.is_ok() {
            return;
        }
        let behind = self.behind(head, region, &is_gone);
        for (node, from) in &behind {
            let node = format!("{node:016x}");
            tracing::warn!(node, from, head, ?limit, "a peer has not read the feed to its end");
        }
        counters.audience_left_behind.inc_by(behind.len() as u64);
    }

    /// Who of those that count has something to read below `head`, and from where on.
    fn behind(&self, head: u64, region: &str, is_gone: impl Fn(u64) -> bool) -> Vec<(u64, u64)> {
        let now = self.clock.now();
        let listeners = self.listeners.lock();
        let there = || {
            let there = listeners.iter();
            there.filter(|(node, it)| {
                now.since(it.asked_at) < AUDIENCE_STANDS_FOR && !is_gone(**node)
            })
        };
        let has_near = there().any(|(_, it)| it.region == region);
        let counts = there().filter(|(_, it)| !has_near || it.region == region);
        counts.filter(|(_, it)| it.from < head).map(|(node, it)| (*node, it.from)).collect()
    }

    /// As JSON.
    pub(crate) fn status(&self) -> serde_json::Value {
        let now = self.clock.now();
        let listeners = self.listeners.lock();
        let each = listeners.iter().map(|(node, it)| {
            serde_json::json!({
                "node": format!("{node:016x}"),
                "region": it.region,
                "from": it.from,
                "asked_seconds": now.since(it.asked_at).as_secs(),
            })
        });
        each.collect()
    }
}
