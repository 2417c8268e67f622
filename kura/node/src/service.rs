//! What every surface may ask of a node: begin a body, open one, look at one, and how the node is.
//!
//! Surfaces translate, the service decides. Here it is decided what a node answers while its store
//! is not there yet, or no longer.

use std::sync::Arc;

use kura_core::{
    address::{Address, Space},
    device::DeviceState,
    digest::Digest,
    ledger::Ledger,
    primary::Verdict,
    record::SegmentId,
    summary::{Item, Span},
};
use kura_env::{CatalogError, DiskError};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::{
    device::Device,
    replicate::{Ceilings, Replication},
    store::{Early, Reading, Store, Upload},
};

/// Why a request was not carried out. What each case means on each surface stands in one table, in
/// `surface::outcome`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// Too many writes wait already.
    #[error("{waiting} writes wait already, the limit is {limit}; try again later")]
    Busy {
        /// Writes that wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// The budget for bodies in flight is used up.
    #[error(
        "{wanted_bytes} bytes wanted for a body in flight, {in_use_bytes} of {budget_bytes} are \
         in use; try again later or raise the staging budget"
    )]
    StagingFull {
        /// The budget.
        budget_bytes: u64,
        /// What others hold of it.
        in_use_bytes: u64,
        /// What this body asked for.
        wanted_bytes: u64,
    },
    /// The body is larger than this node takes.
    #[error("the body is over the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
        /// What the client declared, if it did.
        declared_bytes: Option<u64>,
    },
    /// The body is not as long as was declared.
    #[error("{declared_bytes} bytes were declared and {received_bytes} arrived")]
    Length {
        /// What the client declared.
        declared_bytes: u64,
        /// What arrived.
        received_bytes: u64,
    },
    /// The body does not have the digest that it is named by.
    #[error("the body has the SHA-256 {actual}, not {expected}")]
    WrongDigest {
        /// From the name.
        expected: Digest,
        /// Of the body.
        actual: Digest,
    },
    /// There is no room on the disk, and eviction made none.
    #[error("the disk is full: {0}; free space on the data volume or lower the capacity")]
    DiskFull(#[source] DiskError),
    /// The volume has no room above its floor, and nothing that may go.
    #[error(
        "no room: {wanted_bytes} bytes wanted, {available_bytes} available, of which {floor_bytes} \
         stay free; free space on the data volume or lower the capacity"
    )]
    NoRoom {
        /// What has to be free before more is taken in.
        wanted_bytes: u64,
        /// What the volume has.
        available_bytes: u64,
        /// What always stays free.
        floor_bytes: u64,
    },
    /// What would have to go is promised, or was only just written.
    #[error(
        "what would have to go for this is promised for another {for_seconds} s; raise the capacity \
         or lower the promise"
    )]
    Promised {
        /// For how long still.
        for_seconds: u64,
    },
    /// A body that a peer has is older than everything here, and the ring is full.
    #[error("older than all that the ring has room for")]
    TooOld,
    /// The version that a peer has is too far ahead of this node's clock.
    #[error(
        "its version is {ahead_seconds} s ahead of this node's clock, the limit is {limit_seconds} s: one of \
         the two clocks is wrong"
    )]
    Ahead {
        /// How far.
        ahead_seconds: u64,
        /// How far is allowed.
        limit_seconds: u64,
    },
    /// The device failed lately; writes rest before the next attempt.
    #[error("writes rest for {rest_seconds} s after a failure of the disk")]
    DiskFailed {
        /// How long until the next attempt.
        rest_seconds: u64,
    },
    /// The volume does not answer.
    #[error("the disk has not answered for {for_seconds} s")]
    DiskStalled {
        /// For how long.
        for_seconds: u64,
    },
    /// The store is not open yet.
    #[error("the node is recovering")]
    Recovering,
    /// The node is about to stop.
    #[error("the node is draining")]
    Draining,
    /// What lies on the disk is not what was written.
    #[error("damaged: {what} in segment {segment} at byte {offset}")]
    Damaged {
        /// The segment.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// What was found wrong.
        what: &'static str,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(DiskError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(CatalogError),
}

/// A body that is stored: acknowledged, and as durable as was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place in the order of this node's changes.
    pub sequence: u64,
    /// Its length.
    pub len_bytes: u64,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
}

/// What is known of a stored artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The length of its body.
    pub len_bytes: u64,
    /// The SHA-256 of its body.
    pub digest: Digest,
    /// Its place in the order of this node's changes.
    pub sequence: u64,
}

/// The state of a node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The process is up, nothing is open.
    Starting,
    /// The store is being read back.
    Recovering,
    /// Answers, reads and writes, and catches up with its peers.
    Joining,
    /// Has caught up.
    Serving,
    /// Stopping: no new work.
    Draining,
    /// Recovery failed; the process is about to end.
    Failed,
}

/// Whether a node should be given work, and if not, why not.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Where in its life the node is.
    pub state: State,
    /// Whether to send it work.
    pub ready: bool,
    /// Why it is not ready. When it is: who was not waited for.
    pub reasons: Vec<String>,
}

/// Whether a node takes public traffic of its region.
#[derive(Clone, Debug, Serialize)]
pub struct PrimaryAnswer {
    /// Whether it does.
    pub is_primary: bool,
    /// Why, or why not.
    pub why: String,
}

/// The node as its surfaces see it. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<RwLock<Life>>);

struct Life {
    state: State,
    reasons: Vec<String>,
    store: Option<Store>,
    /// While there is none yet.
    early: Option<Arc<Early>>,
    replication: Option<Arc<Replication>>,
    /// It is about to stop, and somebody else is to take over first.
    is_leaving: bool,
    device: Option<Arc<Device>>,
}

impl Default for Service {
    fn default() -> Self {
        let reasons = vec!["starting".to_owned()];
        Self(Arc::new(RwLock::new(Life {
            state: State::Starting,
            reasons,
            store: None,
            early: None,
            replication: None,
            is_leaving: false,
            device: None,
        })))
    }
}

impl Service {
    /// Reserves what a body of `declared_bytes` needs (or its first part, if the length is unknown).
    ///
    /// # Errors
    ///
    /// Any [`Refusal`] that is known before the first byte.
    pub async fn begin(
        &self,
        address: Address,
        declared_bytes: Option<u64>,
    ) -> Result<Upload, Refusal> {
        self.open_store()?.begin(address, declared_bytes).await
    }

    /// Deletes everything that is in a namespace now, for good, here and on all peers as soon as they hear of
    /// it.
    ///
    /// # Errors
    ///
    /// As [`Store::delete`], and [`Refusal::Recovering`] while the store is not open.
    pub async fn delete(&self, namespace: String) -> Result<(), Refusal> {
        self.open_store()?.delete(namespace).await
    }

    /// The store, if it takes changes.
    fn open_store(&self) -> Result<Store, Refusal> {
        let life = self.0.read();
        match life.state {
            State::Starting | State::Recovering | State::Failed => Err(Refusal::Recovering),
            State::Draining => Err(Refusal::Draining),
            State::Joining | State::Serving => life.store.clone().ok_or(Refusal::Recovering),
        }
    }

    /// Opens an artifact for reading; `None` is a miss. Until the store is open so is what was not read
    /// back yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::Disk`] or [`Refusal::Catalog`] when it cannot be told.
    pub async fn open(&self, address: &Address) -> Result<Option<Reading>, Refusal> {
        let (store, early) = {
            let life = self.0.read();
            (life.store.clone(), life.early.clone())
        };
        match (store, early) {
            (Some(store), _) => match store.open(address).await? {
                Some(reading) => Ok(Some(reading)),
                None => self.open_brought(&store, address).await,
            },
            (None, Some(early)) => early.open(address).await,
            (None, None) => Ok(None),
        }
    }

    /// Opens what is not here, if a peer delivers it.
    async fn open_brought(
        &self,
        store: &Store,
        address: &Address,
    ) -> Result<Option<Reading>, Refusal> {
        let replication = self.0.read().replication.clone();
        let reader = replication.and_then(|replication| replication.reader());
        let Some(reader) = reader else { return Ok(None) };
        if !reader.bring(address).await {
            return Ok(None);
        }
        let found = store.open(address).await?;
        reader.was_found(found.is_some());
        Ok(found)
    }

    /// What [`Service::open`] would find.
    ///
    /// # Errors
    ///
    /// As [`Service::open`]; for a content address also those of [`Store::vouch`].
    pub async fn head(&self, address: &Address) -> Result<Option<Meta>, Refusal> {
        if address.space() == Space::Cas {
            let Some(store) = self.store() else { return Ok(None) };
            // Whoever asks for a content address relies on the answer.
            if store.vouch(std::slice::from_ref(address)).await? != [true] {
                return Ok(None);
            }
        }
        Ok(self.open(address).await?.map(|reading| reading.meta().clone()))
    }

    /// Which of `addresses` are here and stay for as long as is promised. While the store is not open
    /// nothing is.
    ///
    /// # Errors
    ///
    /// As [`Store::vouch`].
    pub async fn vouch(&self, addresses: &[Address]) -> Result<Vec<bool>, Refusal> {
        match self.store() {
            Some(store) => store.vouch(addresses).await,
            None => Ok(vec![false; addresses.len()]),
        }
    }

    /// Whether to send work here. Reads memory only.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let life = self.0.read();
        let mut reasons = life.reasons.clone();
        let device = life.device.as_ref().map(|device| device.status());
        let is_stalled = device.as_ref().is_some_and(|it| it.state == DeviceState::Stalled);
        reasons.extend(device.and_then(|status| status.reason()));
        if life.is_leaving && life.state != State::Draining {
            reasons.push("draining: somebody else takes over first".to_owned());
        }
        let ready = life.state == State::Serving && !is_stalled && !life.is_leaving;
        Readiness { state: life.state, ready, reasons }
    }

    /// Whether it answers reads and takes writes, with misses for what is not here.
    pub(crate) fn is_serviceable(&self) -> bool {
        let life = self.0.read();
        let device = life.device.as_ref().map(|device| device.status());
        let is_stalled = device.is_some_and(|it| it.state == DeviceState::Stalled);
        matches!(life.state, State::Joining | State::Serving) && !is_stalled
    }

    /// Whether it takes public traffic of its region, and why or why not. A node without peers does once it serves.
    #[must_use]
    pub fn primacy(&self) -> PrimaryAnswer {
        let is_serviceable = self.is_serviceable();
        let replication = self.0.read().replication.clone();
        match replication {
            Some(replication) => {
                let Verdict { is_primary, why, .. } = replication.primacy().verdict();
                // What was decided a moment ago does not hold for one that has stopped serving since.
                let (is_primary, why) = match is_serviceable {
                    true => (is_primary, why),
                    false => (false, "it does not serve".to_owned()),
                };
                PrimaryAnswer { is_primary, why }
            }
            None => {
                let why = if is_serviceable { "it has no peers" } else { "it does not serve" };
                PrimaryAnswer { is_primary: is_serviceable, why: why.to_owned() }
            }
        }
    }

    /// Is not ready from now on, and waits until another node of the region has taken over, if this one is primary and there is
    /// one. Goes on to serve meanwhile.
    pub(crate) async fn hand_over(&self) {
        let (replication, store) = {
            let mut life = self.0.write();
            life.is_leaving = true;
            (life.replication.clone(), life.store.clone())
        };
        if let Some(replication) = replication {
            replication.primacy().hand_over(self, store.as_ref()).await;
        }
    }

    /// Tells of this volume from now on.
    pub(crate) fn watch(&self, device: Arc<Device>) {
        self.0.write().device = Some(device);
    }

    /// What an operator or a checker wants to know, as JSON.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        let Readiness { state, ready, reasons } = self.readiness();
        let mut status = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "state": state,
            "ready": ready,
            "reasons": reasons,
        });
        if let Some(store) = self.store() {
            status["ring"] = store.ring_status();
            status["staging"] = store.staging_status();
            status["index"] = store.index_status();
            status["disk"] = store.disk_status();
            status["deletes"] = store.deletes_status();
            status["catalog"] = store.catalog_status().into();
        }
        status
    }

    /// What the node holds of its volume; `None` while there is no store.
    #[must_use]
    pub fn ledger(&self) -> Option<Ledger> {
        self.store().map(|store| store.ledger())
    }

    /// As [`Store::wrong_sum`]; `None` while there is no store.
    #[must_use]
    pub fn wrong_sum(&self, items: &[(Item, SegmentId)]) -> Option<Span> {
        self.store()?.wrong_sum(items)
    }

    /// The store is being read back, and what is back already can be read.
    pub(crate) fn recovers(&self, early: Arc<Early>) {
        self.0.write().early = Some(early);
    }

    /// The store is there.
    pub(crate) fn serve(&self, store: Store) {
        let mut life = self.0.write();
        life.store = Some(store);
        life.early = None;
        // A drain that began during recovery stays a drain.
        if life.state != State::Draining {
            life.state = State::Joining;
            life.reasons = vec!["joining: asking the peers".to_owned()];
        }
    }

    /// What still keeps the node from having caught up.
    pub(crate) fn joining(&self, reasons: Vec<String>) {
        let mut life = self.0.write();
        if life.state == State::Joining {
            life.reasons = reasons;
        }
    }

    /// The node has caught up, and stays so for the rest of its life. `notes` say who was not waited
    /// for.
    pub(crate) fn synced(&self, notes: Vec<String>) {
        let mut life = self.0.write();
        if life.state == State::Joining {
            life.state = State::Serving;
            life.reasons = notes;
        }
    }

    /// The node has peers.
    pub(crate) fn replicates(&self, replication: Arc<Replication>) {
        self.0.write().replication = Some(replication);
    }

    /// The ceilings on bandwidth between peers, if the node has some.
    pub(crate) fn ceilings(&self) -> Option<Arc<Ceilings>> {
        self.0.read().replication.as_ref().map(|replication| replication.ceilings())
    }

    /// What is known of the mesh, as JSON.
    #[must_use]
    pub fn cluster(&self) -> serde_json::Value {
        let replication = self.0.read().replication.clone();
        let Readiness { state, ready, reasons } = self.readiness();
        let mut status = match replication {
            Some(replication) => {
                let mut status = replication.status();
                let store = self.store();
                status["primary"] = replication.primacy().status(self, store.as_ref());
                status
            }
            None => serde_json::json!({ "region": null, "peers": [], "primary": self.primacy() }),
        };
        let node = self.store().map(|store| format!("{:016x}", store.node()));
        status["self"] = serde_json::json!({
            "node": node, "state": state, "ready": ready, "reasons": reasons,
        });
        status
    }

    /// Moves to a state in which no new work is taken, and says why.
    pub(crate) fn enter(&self, state: State, reason: String) {
        let mut life = self.0.write();
        life.state = state;
        life.early = None;
        life.reasons = vec![reason];
    }

    /// How far recovery has come.
    pub(crate) fn progress(&self, reason: String) {
        let mut life = self.0.write();
        if life.state == State::Recovering {
            life.reasons = vec![reason];
        }
    }

    /// Takes the store away, so that its last clone can be closed.
    pub(crate) fn take_store(&self) -> Option<Store> {
        self.0.write().store.take()
    }

    pub(crate) fn store(&self) -> Option<Store> {
        self.0.read().store.clone()
    }
}
