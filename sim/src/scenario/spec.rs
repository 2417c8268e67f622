//! The parts of a scenario as plain typed data, taken from the fields that were drawn.

use std::time::Duration;

use fault_injection::{
    CatalogFault, CrashKind, CrashMoment, Cut, DiskFault, Fault, FaultId, KeepUnsynced, What, When,
};
use kura_core::primary::Rules;
use kura_node::config::PrimaryConfig;
use sim_storage::Keep;

use super::{
    drawn::{Drawn, Table},
    pressure::{DiskPressure, disk_pressure},
    quantity::MILLION,
    schema::Section,
};
use crate::draw::Draw;

/// Who stands near whom.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// Its groups of clients.
    pub clients: Vec<String>,
}

/// What lies between two zones, or within one.
#[derive(Clone, Debug)]
pub struct Link {
    /// One end.
    pub from: String,
    /// The other end.
    pub to: String,
    /// One way.
    pub latency: Duration,
    /// In each direction.
    pub bandwidth_bytes_per_second: u64,
}

/// A disk.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// How fast bytes are read.
    pub read_bytes_per_second: u64,
    /// How fast bytes are written.
    pub write_bytes_per_second: u64,
    /// What every call costs at least.
    pub call_time: Duration,
    /// What a sync costs beside its bytes.
    pub sync_time: Duration,
    /// What makes it small, slow or shared.
    pub pressure: DiskPressure,
    /// What an earlier life left under `tmp/`.
    pub stale_staging_bytes: u64,
    /// In how many files.
    pub stale_files: u64,
}

/// The settings of a node, as the scenario varies them.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Size of a segment.
    pub segment_bytes: u64,
    /// What the ring may hold; `None`: half of the disk.
    pub capacity_bytes: Option<u64>,
    /// Nodes that have another capacity.
    pub small: Vec<String>,
    /// Nodes with the least limits towards peers.
    pub narrow: Vec<String>,
    /// The capacity of those of `small`.
    pub small_capacity_bytes: Option<u64>,
    /// Bytes of bodies in flight on disk.
    pub staging_bytes_max: u64,
    /// Bytes of bodies in flight in memory.
    pub memory_bytes_max: u64,
    /// Bodies up to this size fill in memory.
    pub memory_body_bytes_max: u64,
    /// Bytes of the index in memory.
    pub index_bytes_max: u64,
    /// The largest body.
    pub body_bytes_max: u64,
    /// Whether an acknowledged write survives power loss, or the death of the process only.
    pub survives_power_loss: bool,
    /// A connection without progress is closed.
    pub idle_timeout: Duration,
    /// How long a header may take.
    pub header_timeout: Duration,
    /// Connections at once.
    pub connections_max: usize,
    /// How much of a refused body is still read.
    pub drain_body_bytes_max: u64,
    /// What `Retry-After` says.
    pub retry_after: Duration,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// For how long a silent peer holds readiness back.
    pub peer_wait: Duration,
    /// After how long a pass over a peer is cut.
    pub pass_timeout: Duration,
    /// How long a read of what is not here waits for a peer that holds it.
    pub read_through: Duration,
    /// Bytes of bodies in a second from and to its peers; 0: as many as come.
    pub bandwidth_bytes_per_second: u64,
    /// Who may be primary, and how often nodes ask each other how they are.
    pub primary: PrimaryConfig,
    /// For how long what was said to be here stays.
    pub promise: Duration,
    /// For how long a fresh write stays.
    pub write_grace: Duration,
    /// Rows of its feed.
    pub feed_rows_max: u64,
    /// How often the node reads all that it stores; zero: never by itself.
    pub scrub_every: Duration,
    /// How many bytes of it in a second.
    pub scrub_bytes_per_second: u64,
}

/// A part of the cruel time.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long at most.
    pub lasts: Duration,
    /// Who is at work.
    pub clients: Vec<String>,
    /// Ends early at so many acknowledged bytes; `None`: lasts.
    pub until_written_bytes: Option<u64>,
    /// Killed as it begins.
    pub kill: Vec<String>,
    /// Killed as it begins, with everything on their disks gone.
    pub wipe: Vec<String>,
    /// An image of their disks is taken as it begins.
    pub snapshot: Vec<String>,
    /// Killed as it begins, with their disks as the last image of them.
    pub restore: Vec<String>,
    /// Started again as it begins.
    pub start: Vec<String>,
    /// Stopped in good order and started again before it begins.
    pub restart: Vec<String>,
    /// Stopped in good order and started again while it lasts, one after the other.
    pub roll: Vec<String>,
    /// Who crashes again and again while it lasts.
    pub crashes: CrashLoop,
    /// Zones or nodes that are cut off while it lasts.
    pub cut: Vec<String>,
    /// How.
    pub cut_how: CutHow,
    /// How the cuts come and go meanwhile; `None`: they stay.
    pub flaps: Option<Flaps>,
    /// Nodes from and to which nothing moves.
    pub freeze: Vec<String>,
    /// Nodes whose answers to peers are lies while it lasts.
    pub evil: Vec<String>,
    /// Which lies.
    pub evil_how: EvilHow,
    /// Nodes whose wall clock is set ahead while it lasts.
    pub clock_ahead: Vec<String>,
    /// Nodes whose wall clock is set back while it lasts.
    pub clock_behind: Vec<String>,
    /// By how much.
    pub clock_by: Duration,
    /// By how many millionths of the time that passes those go on getting more wrong.
    pub clock_drift: u64,
    /// What cannot be read any more.
    pub spoil: Spoil,
    /// What an operator deletes as it begins.
    pub clean: Clean,
    /// Strikes that come one behind the other, and must.
    pub strikes: Vec<String>,
    /// Whose passes those go by; empty if there are none.
    pub pass_of: String,
    /// Ends when these are ready, and they must be.
    pub ready: Vec<String>,
    /// Ends when these lack nothing of what others hold, and they must not.
    pub agree: Vec<String>,
    /// What the links between nodes carry in it at the most, in bytes; `None`: not judged.
    pub moved_bytes_max: Option<u64>,
    /// And those between nodes of different zones.
    pub far_moved_bytes_max: Option<u64>,
    /// The share of reads in it that must be hits, in millionths; `None`: not judged.
    pub hits_min: Option<u64>,
}

impl Phase {
    /// Its lists of nodes, by key.
    pub(super) fn node_lists(&self) -> [(&'static str, &[String]); 16] {
        [
            ("kill", &self.kill),
            ("wipe", &self.wipe),
            ("snapshot", &self.snapshot),
            ("restore", &self.restore),
            ("start", &self.start),
            ("restart", &self.restart),
            ("roll", &self.roll),
            ("freeze", &self.freeze),
            ("spoil_nodes", &self.spoil.nodes),
            ("clean_on", &self.clean.nodes),
            ("ready", &self.ready),
            ("agree", &self.agree),
            ("crash_loop", &self.crashes.nodes),
            ("evil", &self.evil),
            ("clock_ahead", &self.clock_ahead),
            ("clock_behind", &self.clock_behind),
        ]
    }

    /// Whether nodes catch up with their peers in it and nothing else goes on, so that what moves
    /// can be held against what was missing.
    #[must_use]
    pub fn is_catch_up(&self) -> bool {
        let is_quiet = self.clients.is_empty() && self.clean.namespaces.is_empty();
        !(self.ready.is_empty() && self.agree.is_empty()) && is_quiet
    }

    /// How far a clock that it sets back may lag behind those of others in it.
    #[must_use]
    pub fn lags_by_at_most(&self) -> Duration {
        if self.clock_behind.is_empty() {
            return Duration::ZERO;
        }
        let drifts = u128::from(self.clock_drift) * self.lasts.as_nanos() / u128::from(MILLION);
        self.clock_by + Duration::from_nanos(u64::try_from(drifts).unwrap_or(u64::MAX))
    }
}

/// How a peer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvilHow {
    /// What it answers is no HTTP, or has no meaning.
    Garbage,
    /// What it tells never comes to an end.
    Endless,
    /// Bodies are others than their digests say.
    WrongBodies,
    /// Versions are an hour ahead.
    Future,
    /// Bodies are longer or shorter than it told, or than any may be.
    WrongSizes,
    /// Answers have no end.
    Oversized,
}

/// How a phase cuts nodes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutHow {
    /// Both ends are told: connections are refused and reset.
    Refuse,
    /// Neither hears anything.
    Silent,
    /// Nobody outside hears what is cut off, which hears all.
    OneWayOut,
    /// What is cut off hears nobody outside, and is heard.
    OneWayIn,
    /// What is open carries nothing any more, and nobody is told; what is opened then works.
    Forgotten,
}

/// Cuts that come and go: each for between half and one and a half of this, drawn every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaps {
    /// For how long it is cut.
    pub down: Duration,
    /// For how long it is not.
    pub up: Duration,
}

/// Nodes that crash again and again.
#[derive(Clone, Debug)]
pub struct CrashLoop {
    /// Which.
    pub nodes: Vec<String>,
    /// From one crash to the next.
    pub every: Duration,
    /// What a power loss leaves each time of what was not synced; `None`: the process is killed.
    pub power_loss: Option<Keep>,
    /// From a crash to the restart.
    pub down_for: Duration,
}

/// What an operator deletes.
#[derive(Clone, Debug)]
pub struct Clean {
    /// Which namespaces.
    pub namespaces: Vec<String>,
    /// Who is asked for it.
    pub nodes: Vec<String>,
}

/// Artifacts that cannot be read whole any more.
#[derive(Clone, Debug)]
pub struct Spoil {
    /// How many on each node.
    pub artifacts: u64,
    /// On which nodes.
    pub nodes: Vec<String>,
    /// In which way.
    pub how: SpoilHow,
}

/// How an artifact is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoilHow {
    /// Reads fail.
    Unreadable,
    /// A byte of the body is another one.
    Rotten,
    /// A byte of the record's header is another one.
    Headless,
    /// The file ends in the middle of the body.
    Short,
    /// A page of the body has a sector that cannot be read.
    Latent,
    /// A page in the body was never written, and nobody was told.
    Lost,
    /// A page of the body was written over one of another record of the segment.
    Misdirected,
}

/// A fault, and what follows it.
#[derive(Clone, Debug)]
pub struct FaultSpec {
    /// Its name.
    pub name: String,
    /// The fault as plans have it, numbered by its position.
    pub fault: Fault,
    /// If it is a crash, how long until the node comes back.
    pub down_for: Duration,
    /// Crashes once more, so many disk effects later; 0: does not.
    pub again_nth: u64,
    /// And a third time, so many disk effects behind the second; 0: does not.
    pub third_nth: u64,
    /// If it is a crash, what becomes of the catalog until the restart.
    pub catalog: CatalogFate,
}

/// What becomes of a catalog while its node is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogFate {
    /// Nothing.
    Kept,
    /// All of its files are gone.
    Lost,
    /// Its journal is gone, and its tables are there.
    JournalLost,
    /// Its journal ends in the middle.
    Shortened,
    /// A byte of its tables, or where there are none of its journal, is another one.
    Spoilt,
    /// Its tables are none: it does not open.
    Broken,
}

/// How well a catch-up must use its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkUsed {
    /// Bodies as a share of what the links could carry, at least; in millionths.
    pub share: u64,
    /// Round trips that are taken off the time first.
    pub round_trips: u32,
}

/// What is demanded of the primaries of zones.
#[derive(Clone, Copy, Debug)]
pub struct Primaries {
    /// How long none, several, or one that lacks what others have may be it.
    pub within: Duration,
    /// How often another one may become it.
    pub moves_max: u64,
}

/// What a run must come to.
#[derive(Clone, Debug)]
pub struct Expect {
    /// From the last fault until all nodes serve and are at rest.
    pub healed_within: Duration,
    /// What was spoilt has to be back on its node by then, if a peer has it.
    pub repaired: bool,
    /// What a node that is told to stop leaves is with the others of its zone that are ready.
    pub drains_whole: bool,
    /// What comes to a node that is not ready shows on its page.
    pub progress_visible: bool,
    /// A node that runs says so within this; `None`: not judged.
    pub up_within: Option<Duration>,
    /// After the phases a node takes a put within this; `None`: not judged.
    pub writes_back_within: Option<Duration>,
    /// An honest put is answered within this, somehow; `None`: not judged.
    pub answers_within: Option<Duration>,
    /// What is demanded of primaries, if anything.
    pub primaries: Option<Primaries>,
    /// Within this the answer to a GET begins; `None`: not judged.
    pub reads_within: Option<Duration>,
    /// An honest put is acknowledged within this; `None`: not judged.
    pub puts_within: Option<Duration>,
    /// Statuses that clients must have seen.
    pub statuses: Vec<u16>,
    /// Segments evicted at least.
    pub ring_turns_min: u64,
    /// Names under which nodes held two bodies of one version at the end of a phase, at least.
    pub ties_min: u64,
    /// Whole bodies handed out by nodes that were still reading their data back, at least.
    pub early_hits_min: u64,
    /// How well catch-ups use their links; `None`: not judged.
    pub link_used: Option<LinkUsed>,
    /// What the links carry in a catch-up at the most, as a multiple of what was missing, in
    /// millionths; `None`: not judged.
    pub fetched_at_most: Option<u64>,
}

pub(super) fn zone(drawn: &Drawn, name: &str) -> Zone {
    let table = drawn.named(Section::Zone, name);
    Zone {
        name: name.to_owned(),
        nodes: table.texts("nodes").to_vec(),
        clients: table.texts("clients").to_vec(),
    }
}

pub(super) fn link(drawn: &Drawn, name: &str) -> Option<Link> {
    let table = drawn.named(Section::Link, name);
    let [from, to] = table.texts("between") else { return None };
    Some(Link {
        from: from.clone(),
        to: to.clone(),
        latency: table.duration("latency"),
        bandwidth_bytes_per_second: table.number("bandwidth"),
    })
}

pub(super) fn disk(drawn: &Drawn) -> DiskSpec {
    let table = drawn.table(Section::Disk);
    DiskSpec {
        capacity_bytes: table.number("capacity"),
        read_bytes_per_second: table.number("read_rate"),
        write_bytes_per_second: table.number("write_rate"),
        call_time: table.duration("call_time"),
        sync_time: table.duration("sync_time"),
        pressure: disk_pressure(drawn),
        stale_staging_bytes: table.number("stale_staging"),
        stale_files: table.number("stale_files"),
    }
}

impl NodeSpec {
    /// The settings of the node of this name.
    #[must_use]
    pub fn of(&self, name: &str) -> Self {
        let is_small = self.small.iter().any(|small| small == name);
        let capacity_bytes = if is_small { self.small_capacity_bytes } else { self.capacity_bytes };
        Self { capacity_bytes, ..self.clone() }
    }
}

pub(super) fn node(drawn: &Drawn) -> NodeSpec {
    let table = drawn.table(Section::Node);
    let nonzero = |number: u64| (number > 0).then_some(number);
    NodeSpec {
        segment_bytes: table.number("segment"),
        capacity_bytes: nonzero(table.number("capacity")),
        small: table.texts("small").to_vec(),
        narrow: table.texts("narrow").to_vec(),
        small_capacity_bytes: nonzero(table.number("small_capacity")),
        staging_bytes_max: table.number("staging_budget"),
        memory_bytes_max: table.number("memory_budget"),
        memory_body_bytes_max: table.number("memory_body"),
        index_bytes_max: table.number("index"),
        body_bytes_max: table.number("body_max"),
        survives_power_loss: table.text("durability") == "power-loss",
        idle_timeout: table.duration("idle_timeout"),
        header_timeout: table.duration("header_timeout"),
        connections_max: usize::try_from(table.number("connections_max")).unwrap_or(usize::MAX),
        drain_body_bytes_max: table.number("drain_body"),
        retry_after: table.duration("retry_after"),
        drain_timeout: table.duration("drain_timeout"),
        peer_wait: table.duration("peer_wait"),
        pass_timeout: table.duration("pass_timeout"),
        read_through: table.duration("read_through"),
        bandwidth_bytes_per_second: table.number("bandwidth_limit"),
        primary: PrimaryConfig {
            rules: Rules {
                min_age: table.duration("primary_min_age"),
                lag_max: table.duration("primary_lag_max"),
            },
            pulse_every: table.duration("pulse"),
        },
        promise: table.duration("promise"),
        write_grace: table.duration("write_grace"),
        feed_rows_max: table.number("feed_rows"),
        scrub_every: table.duration("scrub_every"),
        scrub_bytes_per_second: table.number("scrub_rate"),
    }
}

pub(super) fn phase(drawn: &Drawn, name: &str) -> Phase {
    let table = drawn.named(Section::Phase, name);
    let (until, moved) = (table.number("until_written"), table.number("moved_at_most"));
    Phase {
        name: name.to_owned(),
        lasts: table.duration("lasts"),
        clients: table.texts("clients").to_vec(),
        until_written_bytes: (until > 0).then_some(until),
        kill: table.texts("kill").to_vec(),
        wipe: table.texts("wipe").to_vec(),
        snapshot: table.texts("snapshot").to_vec(),
        restore: table.texts("restore").to_vec(),
        start: table.texts("start").to_vec(),
        restart: table.texts("restart").to_vec(),
        roll: table.texts("roll").to_vec(),
        crashes: CrashLoop {
            nodes: table.texts("crash_loop").to_vec(),
            every: table.duration("crash_every"),
            power_loss: (table.text("crash_how") == "power-loss").then(|| {
                match table.text("crash_keeps") {
                    "nothing" => Keep::Nothing,
                    "everything" => Keep::Everything,
                    _ => Keep::Sampled,
                }
            }),
            down_for: table.duration("crash_down_for"),
        },
        cut: table.texts("cut").to_vec(),
        cut_how: match table.text("cut_how") {
            "refuse" => CutHow::Refuse,
            "one-way-out" => CutHow::OneWayOut,
            "one-way-in" => CutHow::OneWayIn,
            "forgotten" => CutHow::Forgotten,
            _ => CutHow::Silent,
        },
        flaps: flaps(&table),
        freeze: table.texts("freeze").to_vec(),
        evil: table.texts("evil").to_vec(),
        evil_how: evil_how(table.text("evil_how")),
        clock_ahead: table.texts("clock_ahead").to_vec(),
        clock_behind: table.texts("clock_behind").to_vec(),
        clock_by: table.duration("clock_by"),
        clock_drift: table.number("clock_drift"),
        spoil: Spoil {
            artifacts: table.number("spoil"),
            nodes: table.texts("spoil_nodes").to_vec(),
            how: spoil_how(table.text("spoil_how")),
        },
        clean: Clean {
            namespaces: table.texts("clean").to_vec(),
            nodes: table.texts("clean_on").to_vec(),
        },
        strikes: table.texts("strikes").to_vec(),
        pass_of: table.text("pass_of").to_owned(),
        ready: table.texts("ready").to_vec(),
        agree: table.texts("agree").to_vec(),
        moved_bytes_max: (moved > 0).then_some(moved),
        far_moved_bytes_max: Some(table.number("far_moved_at_most")).filter(|bytes| *bytes > 0),
        hits_min: Some(table.number("hits_at_least")).filter(|share| *share > 0),
    }
}

fn evil_how(word: &str) -> EvilHow {
    match word {
        "endless" => EvilHow::Endless,
        "wrong-bodies" => EvilHow::WrongBodies,
        "future" => EvilHow::Future,
        "wrong-sizes" => EvilHow::WrongSizes,
        "oversized" => EvilHow::Oversized,
        _ => EvilHow::Garbage,
    }
}

fn spoil_how(word: &str) -> SpoilHow {
    match word {
        "unreadable" => SpoilHow::Unreadable,
        "short" => SpoilHow::Short,
        "headless" => SpoilHow::Headless,
        "latent" => SpoilHow::Latent,
        "lost" => SpoilHow::Lost,
        "misdirected" => SpoilHow::Misdirected,
        _ => SpoilHow::Rotten,
    }
}

fn flaps(table: &Table<'_>) -> Option<Flaps> {
    let (down, up) = (table.duration("flap_down"), table.duration("flap_up"));
    (!down.is_zero()).then_some(Flaps { down, up })
}

/// Whether a fault is in the plan of this seed.
pub(super) fn is_planned(drawn: &Drawn, seed: u64, name: &str) -> bool {
    let table = drawn.named(Section::Fault, name);
    Draw::named(seed, &format!("{} (drawn)", table.path("chance"))).chance(table.number("chance"))
}

pub(super) fn fault(drawn: &Drawn, name: &str, position: usize) -> FaultSpec {
    let table = drawn.named(Section::Fault, name);
    let millis = |key: &str| u64::try_from(table.duration(key).as_millis()).unwrap_or(u64::MAX);
    let when = match table.text("at") {
        "time" => When::AtMillis(millis("after")),
        "label" => {
            When::EffectMatching { label: table.text("label").to_owned(), nth: table.number("nth") }
        }
        _ => When::Effect(table.number("nth")),
    };
    let kind = match table.text("error") {
        "no-space" => DiskFault::NoSpace,
        "quota" => DiskFault::Quota,
        "read-only" => DiskFault::ReadOnly,
        _ => DiskFault::Io,
    };
    let after_bytes = table.number("after_bytes");
    let what = match table.text("kind") {
        "disk-error" => What::DiskError { kind },
        "short-append" => What::ShortAppend { kind },
        "stall" => What::Stall { millis: millis("lasts") },
        "catalog-error" => What::CatalogError {
            kind: match kind {
                DiskFault::NoSpace | DiskFault::Quota => CatalogFault::NoSpace,
                DiskFault::ReadOnly | DiskFault::Io => CatalogFault::Io,
            },
        },
        "net-refuse" => What::NetRefuse,
        "net-cut" => What::NetCut { after_bytes, how: cut(table.text("ends")) },
        "net-stall" => What::NetStall { after_bytes, millis: millis("lasts") },
        _ => What::Crash {
            kind: crash_kind(table.text("death"), table.text("keeps")),
            moment: moment(table.text("moment")),
        },
    };
    FaultSpec {
        name: name.to_owned(),
        fault: Fault {
            id: FaultId(u32::try_from(position).unwrap_or(u32::MAX)),
            node: table.text("node").to_owned(),
            when,
            what,
            times: u32::try_from(table.number("times")).unwrap_or(u32::MAX),
        },
        down_for: table.duration("down_for"),
        again_nth: table.number("again_nth"),
        third_nth: table.number("third_nth"),
        catalog: match table.text("catalog") {
            "lost" => CatalogFate::Lost,
            "journal-lost" => CatalogFate::JournalLost,
            "shortened" => CatalogFate::Shortened,
            "spoilt" => CatalogFate::Spoilt,
            "broken" => CatalogFate::Broken,
            _ => CatalogFate::Kept,
        },
    }
}

fn crash_kind(death: &str, keeps: &str) -> CrashKind {
    let keep = match keeps {
        "nothing" => KeepUnsynced::Nothing,
        "everything" => KeepUnsynced::Everything,
        _ => KeepUnsynced::Sampled,
    };
    if death == "sigkill" { CrashKind::Sigkill } else { CrashKind::PowerLoss { keep } }
}

fn moment(word: &str) -> CrashMoment {
    match word {
        "before" => CrashMoment::Before,
        "within" => CrashMoment::Within,
        _ => CrashMoment::After,
    }
}

fn cut(word: &str) -> Cut {
    match word {
        "eof" => Cut::Eof,
        "silence" => Cut::Silence,
        _ => Cut::Reset,
    }
}

pub(super) fn expect(drawn: &Drawn) -> Expect {
    let table = drawn.table(Section::Expect);
    let statuses = table.counts("statuses").iter();
    let limit = |key: &str| Some(table.duration(key)).filter(|limit| !limit.is_zero());
    let nonzero = |key: &str| Some(table.number(key)).filter(|number| *number > 0);
    let round_trips = u32::try_from(table.number("round_trips")).unwrap_or(u32::MAX);
    Expect {
        healed_within: table.duration("healed_within"),
        repaired: table.flag("repaired"),
        drains_whole: table.flag("drains_whole"),
        progress_visible: table.flag("progress_visible"),
        up_within: limit("up_within"),
        writes_back_within: limit("writes_back_within"),
        answers_within: limit("answers_within"),
        primaries: limit("primary_within")
            .map(|within| Primaries { within, moves_max: table.number("primary_moves") }),
        reads_within: limit("reads_within"),
        puts_within: limit("puts_within"),
        statuses: statuses.filter_map(|status| u16::try_from(*status).ok()).collect(),
        ring_turns_min: table.number("ring_turns_min"),
        ties_min: table.number("ties_min"),
        early_hits_min: table.number("early_hits_min"),
        link_used: nonzero("link_used").map(|share| LinkUsed { share, round_trips }),
        fetched_at_most: nonzero("fetched_at_most"),
    }
}
