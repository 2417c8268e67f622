//! The schema of scenario files: one table, from which they are read, checked and documented.

use super::quantity::Unit;

/// A part of a scenario file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Keys before the first table.
    Root,
    /// `[topology]`: which nodes there are.
    Topology,
    /// `[zone.NAME]`: who stands near whom.
    Zone,
    /// `[link.NAME]`: what lies between two zones, or within one.
    Link,
    /// `[disk]`: the disk of every node.
    Disk,
    /// `[co_tenant.NAME]`: who else holds space of the disks.
    CoTenant,
    /// `[node]`: the settings of every node.
    Node,
    /// `[client.NAME]`: a group of actors.
    Client,
    /// `[[phase]]`: the cruel part of a run, in order; healing follows by itself.
    Phase,
    /// `[fault.NAME]`: what breaks.
    Fault,
    /// `[strike.NAME]`: what befalls a node when a pass has come to a point.
    Strike,
    /// `[expect]`: what the run must come to, beside the invariants.
    Expect,
}

/// How the tables of a section are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// At most one table.
    Single,
    /// One table for each name.
    Named,
    /// An array of tables, each with a `name`.
    Listed,
}

impl Section {
    /// Every section, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Root,
        Self::Topology,
        Self::Zone,
        Self::Link,
        Self::Disk,
        Self::CoTenant,
        Self::Node,
        Self::Client,
        Self::Phase,
        Self::Fault,
        Self::Strike,
        Self::Expect,
    ];

    /// The key of its table; empty for the root.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Topology => "topology",
            Self::Zone => "zone",
            Self::Link => "link",
            Self::Disk => "disk",
            Self::CoTenant => "co_tenant",
            Self::Node => "node",
            Self::Client => "client",
            Self::Phase => "phase",
            Self::Fault => "fault",
            Self::Strike => "strike",
            Self::Expect => "expect",
        }
    }

    /// How it is written.
    #[must_use]
    pub fn shape(self) -> Shape {
        match self {
            Self::Root | Self::Topology | Self::Disk | Self::Node | Self::Expect => Shape::Single,
            Self::Zone
            | Self::Link
            | Self::CoTenant
            | Self::Client
            | Self::Fault
            | Self::Strike => Shape::Named,
            Self::Phase => Shape::Listed,
        }
    }

    /// Its header as one writes it.
    #[must_use]
    pub fn header(self) -> String {
        match self.shape() {
            Shape::Single if self == Self::Root => "top of the file".to_owned(),
            Shape::Single => format!("[{}]", self.key()),
            Shape::Named => format!("[{}.NAME]", self.key()),
            Shape::Listed => format!("[[{}]]", self.key()),
        }
    }

    /// The fields of this section.
    pub fn fields(self) -> impl Iterator<Item = &'static Field> {
        FIELDS.iter().filter(move |field| field.section == self)
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of this unit within these bounds, both included.
    Number(Unit, u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// A list of texts.
    Texts,
    /// A count of nodes, which are then named `node-1`, `node-2`, ..., or a list of their names.
    Nodes,
    /// A list of whole numbers.
    Counts,
    /// `true` or `false`.
    Flag,
}

/// What holds when a field is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// It must be written.
    Required,
    /// This value, written as in a file (strings without their quotes).
    Is(&'static str),
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Where it stands.
    pub section: Section,
    /// Its name.
    pub key: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What holds when it is not written.
    pub preset: Preset,
    /// Whether `scale` divides it.
    pub scaled: bool,
    /// What it means, in one line.
    pub meaning: &'static str,
}

impl Field {
    /// What may stand here, for people who wrote something else.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Number(unit, min, max) => {
                format!("{} from {} to {}", unit.example(), unit.show(min), unit.show(max))
            }
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Text => "a text".to_owned(),
            Kind::Texts => "a list of texts".to_owned(),
            Kind::Nodes => "a count from 1 to 64, or a list of names".to_owned(),
            Kind::Counts => "a list of whole numbers".to_owned(),
            Kind::Flag => "true or false".to_owned(),
        }
    }
}

/// The most nodes or actors that a scenario may have.
pub const NODES_MAX: u64 = 64;
const EIB: u64 = 1 << 60;
const HOUR_NS: u64 = 3_600_000_000_000;
const DAY_NS: u64 = 24 * HOUR_NS;

const fn bytes(min: u64) -> Kind {
    Kind::Number(Unit::Bytes, min, EIB)
}
const fn duration(min: u64) -> Kind {
    Kind::Number(Unit::Duration, min, DAY_NS)
}
const fn count(min: u64, max: u64) -> Kind {
    Kind::Number(Unit::Count, min, max)
}
const SHARE: Kind = Kind::Number(Unit::Ratio, 0, 1_000_000);
const FACTOR: Kind = Kind::Number(Unit::Ratio, 0, 1_000_000_000);
const BYTE_RATE: Kind = Kind::Number(Unit::ByteRate, 1, EIB);

const fn field(
    section: Section,
    key: &'static str,
    kind: Kind,
    preset: Preset,
    meaning: &'static str,
) -> Field {
    // What has bytes in it shrinks with the scale; time and counts stay as they are.
    let scaled = matches!(kind, Kind::Number(Unit::Bytes | Unit::ByteRate, ..));
    Field { section, key, kind, preset, scaled, meaning }
}

use Preset::{Is, Required};
use Section::{
    Client, CoTenant, Disk, Expect, Fault, Link, Node, Phase, Root, Strike, Topology, Zone,
};

/// Every field there is.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field(Root, "name", Kind::Text, Required, "the scenario's name: that of its file"),
    field(Root, "scale", count(1, 64), Is("1"),
        "divides every field in bytes or bytes per second; time and counts stay"),
    field(Topology, "nodes", Kind::Nodes, Is("1"), "how many nodes, or their names"),
    field(Topology, "mesh", Kind::Flag, Is("false"),
        "whether the nodes are each other's peers; a node's region is its zone"),
    field(Topology, "lagging", Kind::Texts, Is(""), "nodes whose wall clocks lag behind all others"),
    field(Topology, "lags_by", duration(0), Is("0"), "by how much"),
    field(Zone, "nodes", Kind::Texts, Is(""), "the nodes that stand here"),
    field(Zone, "clients", Kind::Texts, Is(""), "the groups of clients that stand here"),
    field(Link, "between", Kind::Texts, Required,
        "two zones, or one zone twice for what lies within it; what is in no zone is in `elsewhere`"),
    field(Link, "latency", duration(0), Is("250us"), "one way"),
    field(Link, "bandwidth", BYTE_RATE, Is("10Gbit/s"), "in each direction, shared by all flows"),
    field(Disk, "capacity", bytes(1 << 16), Is("64GiB"), "size of the file system"),
    field(Disk, "read_rate", BYTE_RATE, Is("2GiB/s"), "how fast bytes are read"),
    field(Disk, "write_rate", BYTE_RATE, Is("1GiB/s"), "how fast bytes are written"),
    field(Disk, "call_time", duration(0), Is("5us"), "what every call costs at least"),
    field(Disk, "sync_time", duration(0), Is("1ms"), "what a sync costs beside its bytes"),
    field(Disk, "quota", bytes(0), Is("0"),
        "what a node may hold of it, also where there is more room; 0: all of it"),
    field(Disk, "quota_told", Kind::Flag, Is("false"),
        "whether the file system tells the quota as its size, as for a project; that of a user is not told"),
    field(Disk, "delayed_allocation", Kind::Flag, Is("false"),
        "blocks are looked for when bytes reach the device: an append succeeds, and the sync finds no room"),
    field(Disk, "preallocation", Kind::Flag, Is("true"), "whether space can be reserved"),
    field(Disk, "slow_share", SHARE, Is("0"), "share of calls, reads and syncs that are slow"),
    field(Disk, "slow_by", duration(0), Is("100ms"), "how much longer one of those takes at the most"),
    field(Disk, "lying_syncs", SHARE, Is("0"),
        "share of syncs that say they are done and have kept nothing; what a power loss takes then is owed to nobody"),
    field(Disk, "stall_every", duration(0), Is("0"),
        "the device stands still once in each interval of this length, at a drawn moment; 0: never"),
    field(Disk, "stall_lasts", duration(0), Is("1s"), "for how long; at most half of the interval"),
    field(Disk, "stale_staging", bytes(0), Is("0"),
        "what an earlier life left behind under tmp/ before the first start"),
    field(Disk, "stale_files", count(1, 10_000), Is("1"), "in how many files that lies"),
    field(CoTenant, "nodes", Kind::Texts, Is(""), "on whose disks; none written: on all"),
    field(CoTenant, "shape", Kind::Choice(&["step", "ramp", "noise"]), Is("step"),
        "takes it all at once, more and more, or another drawn part of it every now and then"),
    field(CoTenant, "takes", bytes(1), Required,
        "what it holds at the most; it gets what is free, and the rest as soon as that is free"),
    field(CoTenant, "after", duration(0), Is("0"), "from this time of the run on"),
    field(CoTenant, "lasts", duration(0), Is("0"),
        "gives everything back after that; 0: as the phases end"),
    field(CoTenant, "rise", duration(1), Is("1min"), "after how long a ramp holds all of it"),
    field(CoTenant, "every", duration(1), Is("10s"), "how often noise draws another part"),
    field(CoTenant, "stays", Kind::Flag, Is("false"),
        "whether it stays as the phases end, so that the run must heal beside it"),
    field(Node, "segment", bytes(1 << 12), Is("512MiB"), "size of a segment"),
    field(Node, "capacity", bytes(0), Is("0"), "what the ring may hold; 0: half of the disk"),
    field(Node, "small", Kind::Texts, Is(""), "nodes whose ring may hold `small_capacity` instead"),
    field(Node, "narrow", Kind::Texts, Is(""),
        "nodes that take and tell the least in one request of a peer that a version may"),
    field(Node, "small_capacity", bytes(0), Is("0"), "what their ring may hold; 0: half of the disk"),
    field(Node, "staging_budget", bytes(1), Is("8GiB"), "bytes of bodies in flight on disk"),
    field(Node, "memory_budget", bytes(1), Is("256MiB"), "bytes of bodies in flight in memory"),
    field(Node, "memory_body", bytes(0), Is("256KiB"), "bodies up to this size fill in memory"),
    field(Node, "index", bytes(0), Is("1MiB"), "bytes of the index in memory"),
    field(Node, "body_max", bytes(1), Is("64MiB"), "the largest body"),
    field(Node, "durability", Kind::Choice(&["power-loss", "process-crash"]), Is("power-loss"),
        "what an acknowledged write survives"),
    field(Node, "idle_timeout", duration(1), Is("30s"), "a connection without progress is closed"),
    field(Node, "header_timeout", duration(1), Is("10s"), "how long a request's header may take"),
    field(Node, "connections_max", count(1, 100_000), Is("10000"), "connections at once"),
    field(Node, "drain_body", bytes(0), Is("1MiB"), "how much of a refused body is still read"),
    field(Node, "retry_after", duration(0), Is("1s"), "what Retry-After says on a refusal"),
    field(Node, "drain_timeout", duration(0), Is("30s"), "how long a drain may take"),
    field(Node, "peer_wait", duration(0), Is("60s"), "for how long a silent peer holds readiness back"),
    field(Node, "pass_timeout", duration(1), Is("30min"), "after how long a pass over a peer is cut, to go on later"),
    field(Node, "read_through", duration(0), Is("0"),
        "how long a read of what is not here waits for a peer of its zone that holds it; 0: not at all"),
    field(Node, "bandwidth_limit", Kind::Number(Unit::ByteRate, 0, EIB), Is("512MiB/s"),
        "bodies that it fetches from all peers in a second at the most, and that it serves; 0: no limit"),
    field(Node, "pulse", duration(0), Is("0"),
        "how often nodes of a zone ask each other how they are, to find their primary; 0: each takes itself for it"),
    field(Node, "primary_min_age", duration(0), Is("10min"), "from which age on a node is preferred as primary"),
    field(Node, "primary_lag_max", duration(0), Is("30s"), "for how long a primary may lack what a peer has"),
    field(Node, "promise", duration(0), Is("15min"), "for how long what was said to be here stays"),
    field(Node, "write_grace", duration(0), Is("60s"), "for how long a fresh write stays"),
    field(Node, "feed_rows", count(1, 1_000_000), Is("1000000"),
        "how many rows its own feed may have; what is older than that is compared"),
    field(Node, "scrub_every", duration(0), Is("0"),
        "how often a node reads all that it stores; 0: never by itself"),
    field(Node, "scrub_rate", BYTE_RATE, Is("4MiB/s"), "how fast it does that at the most"),
    field(Client, "actors", count(1, 4096), Is("1"), "how many, each with one request at a time"),
    field(Client, "rate", Kind::Number(Unit::Frequency, 0, u64::MAX), Is("0"),
        "requests of the whole group per time; 0: each actor goes on as soon as it is answered"),
    field(Client, "nodes", Kind::Texts, Is(""), "the nodes it talks to, in turn; none written: all"),
    field(Client, "follows_primary", Kind::Flag, Is("false"),
        "of those nodes it talks to the one that answers 200 to `GET /primary`, asked every second as by a load balancer"),
    field(Client, "namespace", Kind::Text, Is("builds"), "the namespace of its keys"),
    field(Client, "keys", count(1, 1_000_000), Is("64"), "how many keys it writes over and over"),
    field(Client, "keys_of", Kind::Text, Is(""), "the group whose keys it uses; none written: its own"),
    field(Client, "once", Kind::Flag, Is("false"),
        "writes each key once, in order and to the nodes in turn, and is done"),
    field(Client, "sweep_every", duration(0), Is("0"),
        "reads all of its keys in a row, once in this time, and does nothing else; 0: draws what it does"),
    field(Client, "stays", Kind::Flag, Is("false"),
        "it reads so often that nothing it reads may ever be evicted"),
    field(Client, "write_share", SHARE, Is("50%"), "share of operations that are PUT"),
    field(Client, "head_share", SHARE, Is("5%"), "share of the others that are HEAD"),
    field(Client, "vouch_share", SHARE, Is("0"),
        "share of the others that are HEAD, and where that is answered 200 a GET within the node's promise"),
    field(Client, "clean_share", SHARE, Is("0"), "share of operations that delete the namespace of its keys"),
    field(Client, "miss_share", SHARE, Is("5%"), "share of reads for keys nobody ever wrote"),
    field(Client, "cas_share", SHARE, Is("25%"), "share of keys that are the digest of their body"),
    field(Client, "body_min", bytes(0), Is("1KiB"), "the smallest body"),
    field(Client, "body_max", bytes(0), Is("64KiB"),
        "the largest body; each put draws between, orders of magnitude evenly"),
    field(Client, "forged_share", SHARE, Is("10%"),
        "share of bodies that hold what looks like the headers of records"),
    field(Client, "dies_share", SHARE, Is("0"), "share of puts that close in the middle of the body"),
    field(Client, "stalls_share", SHARE, Is("0"),
        "share of puts that fall silent in the middle of the body"),
    field(Client, "wrong_digest_share", SHARE, Is("0"),
        "share of puts under a digest that is not that of their body"),
    field(Client, "short_share", SHARE, Is("0"),
        "share of puts that end their side before the declared length"),
    field(Client, "oversize_share", SHARE, Is("0"),
        "share of puts that declare more than the node's body_max"),
    field(Client, "undeclared_share", SHARE, Is("0"),
        "share of puts in chunks, without a declared length; also of those that break off"),
    field(Client, "upload_rate", Kind::Number(Unit::ByteRate, 0, EIB), Is("0"),
        "how fast an actor sends a body; 0: as fast as the link takes it"),
    field(Client, "timeout", duration(1), Is("60s"), "an operation without answer is given up"),
    field(Client, "tries", count(1, 100), Is("1"), "how often a failed operation is tried in all"),
    field(Client, "retry_wait", duration(0), Is("200ms"),
        "wait before the second try, doubled each time; a longer Retry-After is obeyed"),
    field(Client, "retry_wait_max", duration(0), Is("5s"), "the longest wait between tries"),
    field(Phase, "name", Kind::Text, Required, "for people"),
    field(Phase, "lasts", duration(1), Required, "how long at most"),
    field(Phase, "clients", Kind::Texts, Is(""), "the groups that are at work"),
    field(Phase, "until_written", bytes(0), Is("0"),
        "ends the phase early, once so many bytes were acknowledged in all; 0: it lasts"),
    field(Phase, "kill", Kind::Texts, Is(""), "nodes that are killed as it begins, and stay dead; `all`"),
    field(Phase, "wipe", Kind::Texts, Is(""),
        "nodes that are killed as it begins, stay dead, and lose everything on their disks; `all`"),
    field(Phase, "snapshot", Kind::Texts, Is(""),
        "nodes of whose disks an image is taken as it begins, once those of `kill` are dead; `all`"),
    field(Phase, "restore", Kind::Texts, Is(""),
        "nodes that are killed as it begins, stay dead, and whose disks are again as the last image of them; `all`"),
    field(Phase, "start", Kind::Texts, Is(""), "nodes that are started again as it begins; `all`"),
    field(Phase, "restart", Kind::Texts, Is(""),
        "nodes that are told to stop before it begins, with nobody at work, and are started again; `all`; \
         not in a mesh, and not beside faults or co-tenants"),
    field(Phase, "roll", Kind::Texts, Is(""),
        "told to stop and started again while it lasts, one after the other, each once the one before is ready; it ends with the \
         last"),
    field(Phase, "crash_loop", Kind::Texts, Is(""),
        "nodes that crash again and again while it lasts, and come back; `all`"),
    field(Phase, "crash_every", duration(1_000_000), Is("5s"), "how often those crash"),
    field(Phase, "crash_how", Kind::Choice(&["sigkill", "power-loss"]), Is("sigkill"), "and how"),
    field(Phase, "crash_keeps", Kind::Choice(&["nothing", "everything", "sampled"]), Is("sampled"),
        "what a power loss leaves of what was not synced"),
    field(Phase, "crash_down_for", duration(1_000_000), Is("500ms"), "how long each time until the restart"),
    field(Phase, "cut", Kind::Texts, Is(""),
        "zones or nodes, each cut off from every node outside of it while it lasts; `all`: each node \
         from each other"),
    field(Phase, "cut_how", Kind::Choice(&["refuse", "silent", "one-way-out", "one-way-in", "forgotten"]), Is("silent"),
        "whether connections over the cut are refused and reset, or hear nothing; or only nobody outside hears what is \
         cut off, or that hears nobody outside, and the other way works. With `all`, of two nodes the first is the \
         one that is cut off. What is `forgotten` is each connection that is open as it begins: it carries nothing any \
         more, neither end is told, and new ones work"),
    field(Phase, "flap_down", duration(0), Is("0"),
        "each cut between two nodes comes and goes by itself: so long it is there, drawn each time between half and one \
         and a half of this; 0: it stays"),
    field(Phase, "flap_up", duration(1_000_000), Is("5s"), "and so long it is not, drawn alike"),
    field(Phase, "freeze", Kind::Texts, Is(""), "nodes from and to which nothing moves while it lasts"),
    field(Phase, "evil", Kind::Texts, Is(""),
        "nodes that are killed and started as it begins and as it ends, and whose answers to peers are lies in between; `all`"),
    field(Phase, "evil_how", Kind::Choice(&["garbage", "endless", "wrong-bodies", "future", "wrong-sizes", "oversized"]),
        Is("garbage"),
        "answers are no HTTP or without a meaning; pages never come to an end; bodies are others than their digests say; \
         versions are an hour ahead; lengths are others than was told; answers do not end"),
    field(Phase, "clock_ahead", Kind::Texts, Is(""), "nodes whose wall clock is set ahead while it lasts; `all`"),
    field(Phase, "clock_behind", Kind::Texts, Is(""), "nodes whose wall clock is set back while it lasts; `all`"),
    field(Phase, "clock_by", duration(0), Is("0"), "by how much, either way"),
    field(Phase, "clock_drift", SHARE, Is("0"),
        "how much faster those run that are ahead, and slower those that are behind, as a share of the time that passes"),
    field(Phase, "spoil", count(0, 100_000), Is("0"),
        "so many artifacts, drawn, cannot be read whole any more on the nodes of `spoil_nodes`"),
    field(Phase, "spoil_nodes", Kind::Texts, Is(""), "whose disks those are; `all`"),
    field(Phase, "spoil_how", Kind::Choice(&["unreadable", "rotten", "short", "headless", "latent", "lost",
        "misdirected"]), Is("rotten"),
        "reads fail, a byte is another one, the segment's file ends in the middle of the body, a byte of the \
         record's header is another one, a page has a sector that cannot be read, a page was never \
         written, or it was written over one of another record"),
    field(Phase, "clean", Kind::Texts, Is(""),
        "namespaces that an operator deletes as it begins; each delete is sent again until it is done, and must be \
         before the phase ends"),
    field(Phase, "clean_on", Kind::Texts, Is("all"), "the nodes that are asked for that, each by itself; `all`"),
    field(Phase, "strikes", Kind::Texts, Is(""),
        "strikes that come one behind the other, in this order; all of them must have come, and be over, before it \
         ends; it ends as soon as they are"),
    field(Phase, "pass_of", Kind::Text, Is(""), "whose passes over its peers those go by"),
    field(Phase, "ready", Kind::Texts, Is(""),
        "nodes that must be ready before it ends; it ends as soon as they are; `all`"),
    field(Phase, "agree", Kind::Texts, Is(""),
        "nodes of a mesh that must lack nothing of what others hold before it ends; it ends as soon as they do; `all`"),
    field(Phase, "moved_at_most", bytes(0), Is("0"),
        "what the links between nodes may carry while it lasts, in both directions; 0: not judged"),
    field(Phase, "far_moved_at_most", bytes(0), Is("0"),
        "what those between nodes of different zones may carry while it lasts, in both directions; 0: not judged"),
    field(Phase, "hits_at_least", SHARE, Is("0"),
        "the share of reads in it that are hits, at least; 0: not judged"),
    field(Fault, "kind", Kind::Choice(&["crash", "disk-error", "short-append", "stall", "catalog-error",
        "net-refuse", "net-cut", "net-stall"]), Required,
        "what breaks: the node, a call of its disk, a write half done, an operation that takes longer, \
         a commit of the catalog, a connection"),
    field(Fault, "chance", SHARE, Is("100%"), "how likely it is to be in the plan at all"),
    field(Fault, "node", Kind::Text, Is("node-1"), "whom it hits"),
    field(Fault, "at", Kind::Choice(&["effect", "label", "time"]), Is("effect"),
        "strikes at the n-th disk effect of the node, the n-th operation of a label, or from a time on"),
    field(Fault, "nth", count(1, 10_000_000), Is("1"), "which one, counted from the start of the run"),
    field(Fault, "label", Kind::Text, Is("*"),
        "the class of operation, such as `unlink blobs/*.seg`; `*` stands for anything"),
    field(Fault, "after", duration(0), Is("0"), "from this time of the run on"),
    field(Fault, "times", count(1, 1_000_000), Is("1"), "how many operations in a row it strikes"),
    field(Fault, "death", Kind::Choice(&["sigkill", "power-loss"]), Is("sigkill"), "how a crash kills"),
    field(Fault, "keeps", Kind::Choice(&["nothing", "everything", "sampled"]), Is("sampled"),
        "what a power loss leaves of what was not synced"),
    field(Fault, "moment", Kind::Choice(&["before", "within", "after"]), Is("after"),
        "whether a crash comes before the effect, in its middle, or before its caller hears of it"),
    field(Fault, "down_for", duration(0), Is("1s"), "how long until the restart after a crash"),
    field(Fault, "again_nth", count(0, 10_000_000), Is("0"),
        "crashes once more, so many disk effects later, and so perhaps in recovery; 0: does not"),
    field(Fault, "third_nth", count(0, 10_000_000), Is("0"),
        "behind that crash, crashes a third time, so many disk effects later; 0: does not"),
    field(Fault, "catalog", Kind::Choice(&["kept", "lost", "journal-lost", "shortened", "spoilt", "broken"]), Is("kept"),
        "what becomes of the catalog after a crash: nothing; all files go; its journal goes; its journal ends in \
         the middle; a byte of it is another one; it does not open"),
    field(Fault, "error", Kind::Choice(&["no-space", "quota", "read-only", "io"]), Is("io"),
        "with which error; a catalog knows no-space and io"),
    field(Fault, "lasts", duration(0), Is("1s"), "how long a stall takes"),
    field(Fault, "after_bytes", bytes(0), Is("0"), "how much a connection carries before"),
    field(Fault, "ends", Kind::Choice(&["reset", "eof", "silence"]), Is("reset"), "how it is cut"),
    field(Strike, "kind", Kind::Choice(&["none", "kill", "power-loss", "cut", "deaf", "mute", "no-space", "stall",
        "freeze", "clock-jump"]), Required,
        "the process is killed; power is lost, and all that was not synced; connections to all other nodes are reset and \
         refused; it hears none of them; none of them hears it; others take all of its disk that is free; its disk \
         stands still; its process does; its wall clock jumps ahead. With none there is no strike"),
    field(Strike, "role", Kind::Choice(&["returner", "source", "bystander"]), Is("source"),
        "whom it hits: the node whose pass it is, the peer over which that has come to the point of the first strike, \
         or the third node"),
    field(Strike, "at", Kind::Choice(&["head-noted", "ranges-differ", "names-told", "body-half", "mark-unsaved",
        "feed-asked", "next", "half"]), Is("next"),
        "the first time in the phase that a pass comes to this point: hello is answered; parts of a range are told; names \
         are told; half of a large body has come; the cursor is about to be saved; the feed is asked for. `half`: when the \
         strike before it has held for half of its time; `next`: then, or at the next point that a pass comes to \
         behind that strike, whichever is first"),
    field(Strike, "lasts", duration(1_000_000), Is("1s"), "how long it holds; after a death until the restart"),
    field(Strike, "jump", duration(0), Is("320s"), "how far a clock jumps"),
    field(Expect, "healed_within", duration(1), Is("30s"),
        "from the last fault until every node serves and is at rest"),
    field(Expect, "repaired", Kind::Flag, Is("false"),
        "what was spoilt has to be back on its node by then, if a peer has it"),
    field(Expect, "progress_visible", Kind::Flag, Is("false"),
        "what comes from peers to a node that is not ready shows on `/status/cluster`"),
    field(Expect, "drains_whole", Kind::Flag, Is("false"),
        "what a node that stops in `roll` has taken from clients is held by the others of its zone that are ready"),
    field(Expect, "up_within", duration(0), Is("0"),
        "a node that runs answers `GET /up` within this, asked every second; 0: not judged"),
    field(Expect, "writes_back_within", duration(0), Is("0"),
        "after the phases every node acknowledges a put within this; 0: not judged"),
    field(Expect, "answers_within", duration(0), Is("0"),
        "an honest put to a node that serves is answered within this, with any status; 0: not judged"),
    field(Expect, "reads_within", duration(0), Is("0"),
        "the answer to a GET begins within this, hit or miss; 0: not judged"),
    field(Expect, "puts_within", duration(0), Is("0"),
        "an honest put to a node that can take it is acknowledged within this, whatever its peers do; \
         0: not judged"),
    field(Expect, "primary_within", duration(0), Is("0"),
        "in each zone one node is primary, and one that holds what others do, but for so long after a change; 0: not judged"),
    field(Expect, "primary_moves", count(0, 1_000_000), Is("1000000"),
        "in how many cases another node of a zone becomes primary, at most"),
    field(Expect, "statuses", Kind::Counts, Is(""), "HTTP statuses that clients must have seen"),
    field(Expect, "ring_turns_min", count(0, 1000), Is("0"),
        "segments evicted in all, at least; shows that the run turned the ring"),
    field(Expect, "ties_min", count(0, 1_000_000), Is("0"),
        "names under which nodes held two bodies of one version at the end of a phase, at least"),
    field(Expect, "early_hits_min", count(0, 1_000_000), Is("0"),
        "whole bodies that nodes handed out while they were still reading their data back, at least"),
    field(Expect, "link_used", SHARE, Is("0"),
        "in each catch-up, the bodies that came, at least as this share of what the links could carry in \
         that time; 0: not judged"),
    field(Expect, "round_trips", count(0, 10_000), Is("0"),
        "so many round trips of the longest way are taken off the time that `link_used` is judged over"),
    field(Expect, "fetched_at_most", FACTOR, Is("0"),
        "in each catch-up, everything that the links carried, at most as this multiple of the bodies \
         that were missing; 0: not judged"),
];

/// The field of this name in a section.
#[must_use]
pub(super) fn find(section: Section, key: &str) -> Option<&'static Field> {
    section.fields().find(|field| field.key == key)
}

/// The word of `candidates` nearest to `word`, if one is near.
#[must_use]
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    const SIMILARITY_MIN: f64 = 0.7;
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The schema as a Markdown table for each section; `docs/simulation.md` holds it.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    for section in Section::ALL {
        text.push_str(&format!("#### {}\n\n", section.header()));
        text.push_str("| key | holds | default | meaning |\n|---|---|---|---|\n");
        for field in section.fields() {
            let holds = match field.kind {
                Kind::Number(unit, ..) => unit.to_string(),
                Kind::Choice(words) => words.join(", "),
                Kind::Text => "text".to_owned(),
                Kind::Texts => "list of texts".to_owned(),
                Kind::Nodes => "count or list of names".to_owned(),
                Kind::Counts => "list of counts".to_owned(),
                Kind::Flag => "flag".to_owned(),
            };
            let preset = match field.preset {
                Preset::Required => "must be written".to_owned(),
                Preset::Is("") => "none".to_owned(),
                Preset::Is(value) => format!("`{value}`"),
            };
            text.push_str(&format!(
                "| `{}` | {holds} | {preset} | {} |\n",
                field.key, field.meaning
            ));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_lies_within_its_own_bounds() {
        for field in FIELDS {
            let (Kind::Number(unit, min, max), Preset::Is(text)) = (field.kind, field.preset)
            else {
                continue;
            };
            let value = unit.parse(text);
            assert!(
                value.is_some_and(|value| (min..=max).contains(&value)),
                "{}.{}: {text} is {value:?}, not within {min}..={max}",
                field.section.key(),
                field.key
            );
        }
    }

    #[test]
    fn no_key_stands_twice_in_a_section() {
        for (position, field) in FIELDS.iter().enumerate() {
            let twin = FIELDS[..position]
                .iter()
                .find(|other| other.section == field.section && other.key == field.key);
            assert!(twin.is_none(), "{} {}", field.section.key(), field.key);
        }
    }

    #[test]
    fn a_typing_error_finds_the_key_that_was_meant() {
        let keys = || Section::Disk.fields().map(|field| field.key);
        assert_eq!(nearest("capcity", keys()), Some("capacity"));
        assert_eq!(nearest("zzz", keys()), None);
    }
}
