//! The table of settings. The TOML reader, the variables, the flags, `kura config example`, `kura
//! config show` and `docs/configuration.md` are all made from it; nothing else names a setting.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use kura_core::limits::READ_THROUGH_WAIT_MAX;

use super::{
    setting::{DefaultValue, Key, Section, Setting, Stakes},
    value::{Choice, GIB, KIB, Kind, MIB, PEER_PORT, TIB, Value},
};

/// An acknowledged write survives power loss.
pub(crate) const POWER_LOSS: &str = "power-loss";
/// An acknowledged write survives the death of the process only.
pub(crate) const PROCESS_CRASH: &str = "process-crash";
/// The log is lines for people.
pub(crate) const TEXT: &str = "text";
/// The log is one JSON object a line.
pub(crate) const JSON: &str = "json";

/// The sections of a TOML file, in the order of the table.
pub(crate) static SECTIONS: [Section; 8] = [
    Section { name: "node", about: "The node as a whole." },
    Section { name: "http", about: "The public port." },
    Section {
        name: "mesh",
        about: "The nodes that hold what this one holds, and the port on which they reach it.",
    },
    Section { name: "sync", about: "Catching up with the peers." },
    Section { name: "primary", about: "Which node of a region public traffic should go to." },
    Section { name: "store", about: "What is kept, and how safely." },
    Section { name: "staging", about: "Bodies in flight: received, and not stored yet." },
    Section { name: "log", about: "The log, which goes to standard error." },
];

/// Every setting, by section. The order is that of [`Key`].
pub(crate) static SETTINGS: [Setting; 34] = [
    Setting {
        key: Key::DataDir,
        toml: "node.data_dir",
        variable: "KURA_DATA_DIR",
        flag: "data-dir",
        kind: Kind::Path,
        default: DefaultValue::Required { example: "\"/var/lib/kura\"" },
        meaning: "The directory that holds everything the node keeps, uploads in flight included. \
                  It is made if it is not there. One node uses it at a time.",
        stakes: Stakes::Choice(
            "On a memory file system every restart begins with an empty cache. On a disk shared \
             with others, they can fill it; then the node serves reads and refuses writes.",
        ),
    },
    Setting {
        key: Key::DrainTimeout,
        toml: "node.drain_timeout",
        variable: "KURA_DRAIN_COMPLETION_TIMEOUT_MS",
        flag: "drain-completion-timeout",
        kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(3600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(30))),
        meaning: "After SIGTERM, SIGINT or SIGUSR1: how long requests in flight may go on before \
                  they are cut. With peers three quarters of it, and what is left is theirs, to fetch \
                  what came last.",
        stakes: Stakes::Ends {
            too_low: "Requests in flight are cut, and clients see resets at every restart. What came \
                      last is on this node alone until it is back.",
            too_high: "Whoever stops the node (Kubernetes after 30 s, systemd after 90 s) loses \
                       patience first and kills it. Nothing that was acknowledged is lost then \
                       either, but the next start has to recover.",
        },
    },
    Setting {
        key: Key::Bind,
        toml: "http.bind",
        variable: "KURA_BIND",
        flag: "bind",
        kind: Kind::Address,
        default: DefaultValue::Fixed(Value::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        meaning: "The address to listen on. `0.0.0.0` is every IPv4 address of the machine, `::` \
                  every address.",
        stakes: Stakes::Choice(
            "There is no authentication: whoever reaches the port can read and write the cache. \
             On `127.0.0.1` only programs on the same machine can.",
        ),
    },
    Setting {
        key: Key::Port,
        toml: "http.port",
        variable: "KURA_PORT",
        flag: "port",
        kind: Kind::Count { min: 0, max: 65535 },
        default: DefaultValue::Fixed(Value::Count(4000)),
        meaning: "The port to listen on. 0 takes a free one, which the line that `kura serve` \
                  prints then names.",
        stakes: Stakes::Choice(
            "A port that is taken stops the start. One below 1024 needs a privilege on most \
             systems.",
        ),
    },
    Setting {
        key: Key::MaxConnections,
        toml: "http.max_connections",
        variable: "KURA_MAX_CONNECTIONS",
        flag: "max-connections",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        default: DefaultValue::Fixed(Value::Count(4096)),
        meaning: "Connections that are served at once. Further ones wait to be accepted.",
        stakes: Stakes::Ends {
            too_low: "Clients wait in line while the node has nothing to do.",
            too_high: "Each connection takes a file descriptor and some memory. When descriptors \
                       run out, files cannot be opened either.",
        },
    },
    Setting {
        key: Key::IdleTimeout,
        toml: "http.idle_timeout",
        variable: "KURA_IDLE_TIMEOUT_MS",
        flag: "idle-timeout",
        kind: Kind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(3600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(30))),
        meaning: "A connection on which no byte moves in either direction for this long is \
                  closed, and with it an upload that stalls. There is no limit on how long a body \
                  may take while it moves.",
        stakes: Stakes::Ends {
            too_low: "Uploads over slow networks are cut at every pause.",
            too_high: "Dead clients hold connections and staging.",
        },
    },
    Setting {
        key: Key::HeaderTimeout,
        toml: "http.header_timeout",
        variable: "KURA_HEADER_TIMEOUT_MS",
        flag: "header-timeout",
        kind: Kind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(10))),
        meaning: "How long a client may take to send the header of a request.",
        stakes: Stakes::Ends {
            too_low: "Clients on slow networks never get a request through.",
            too_high: "Clients that send a header byte by byte, or none, hold connections.",
        },
    },
    Setting {
        key: Key::DrainBodyMax,
        toml: "http.drain_body_max",
        variable: "KURA_DRAIN_BODY_MAX_BYTES",
        flag: "drain-body-max",
        kind: Kind::Bytes { min: 0, max: GIB },
        default: DefaultValue::Fixed(Value::Bytes(16 * MIB)),
        meaning: "When an upload is refused before its body was read, up to this much of the body \
                  is read and thrown away, so that the client sees the answer.",
        stakes: Stakes::Ends {
            too_low: "Clients that send before they listen see a reset and no reason.",
            too_high: "Refused uploads use the network for nothing.",
        },
    },
    Setting {
        key: Key::RetryAfter,
        toml: "http.retry_after",
        variable: "KURA_RETRY_AFTER_MS",
        flag: "retry-after",
        kind: Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(3600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(1))),
        meaning: "What `Retry-After` says on a refusal that will pass, in whole seconds.",
        stakes: Stakes::Ends {
            too_low: "Clients come back before anything has changed.",
            too_high: "Clients give up, or wait long after the node has room again.",
        },
    },
    Setting {
        key: Key::Peers,
        toml: "mesh.peers",
        variable: "KURA_PEERS",
        flag: "peers",
        kind: Kind::Peers,
        default: DefaultValue::Fixed(Value::Peers(Vec::new())),
        meaning: "The peers of this node, by their peer ports. The node itself may be among them and \
                  finds itself out, so that all nodes of a mesh can have the same list. A node \
                  that stands in nobody's list gives nothing to anybody.",
        stakes: Stakes::Choice(
            "A peer that is not listed is not followed: what is written there is a miss here. One \
             that does not exist delays readiness by `sync.peer_wait` at every start.",
        ),
    },
    Setting {
        key: Key::PeerPort,
        toml: "mesh.internal_port",
        variable: "KURA_INTERNAL_PORT",
        flag: "internal-port",
        kind: Kind::Count { min: 0, max: 65535 },
        default: DefaultValue::Fixed(Value::Count(PEER_PORT as u64)),
        meaning: "The port on which peers reach this node, at the address of `http.bind`. It is \
                  listened on when there are peers, or when it is set here. 0 takes a free one, \
                  which the log then names.",
        stakes: Stakes::Choice(
            "The peer plane is plain HTTP without authentication for now: whoever reaches the port \
             can read the whole cache. It belongs on a private network.",
        ),
    },
    Setting {
        key: Key::Region,
        toml: "mesh.region",
        variable: "KURA_REGION",
        flag: "region",
        kind: Kind::Name,
        default: DefaultValue::Fixed(Value::Name(Cow::Borrowed("default"))),
        meaning: "The region that this node is in. Peers learn it and `/status/cluster` shows it. Of the nodes of one \
                  region one is primary (`GET /primary`).",
        stakes: Stakes::Choice(
            "Every node fetches from every peer, whatever the region. Reads go through to peers of \
             the same region alone (`sync.read_through`).",
        ),
    },
    Setting {
        key: Key::PeerWait,
        toml: "sync.peer_wait",
        variable: "KURA_SYNC_PEER_WAIT_MS",
        flag: "sync-peer-wait",
        kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(3600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(60))),
        meaning: "After a start: how long a peer may be silent before the node no longer waits for \
                  it to be ready.",
        stakes: Stakes::Ends {
            too_low: "The node takes work before it has asked a peer that is only slow to come up, \
                      and answers misses that the peer could have spared.",
            too_high: "A peer that is gone keeps the node from being ready.",
        },
    },
    Setting {
        key: Key::PassTimeout,
        toml: "sync.pass_timeout",
        variable: "KURA_BOOTSTRAP_TIMEOUT_MS",
        flag: "bootstrap-timeout",
        kind: Kind::Duration {
            min: Duration::from_secs(1),
            max: Duration::from_secs(7 * 24 * 3600),
        },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(30 * 60))),
        meaning: "How long a pass over all that a peer holds may take before it is cut. What is under \
                  way then still ends, however long it takes, and what is left goes on after a pause of \
                  seconds. A node that starts waits as long for the first whole body of a pass, and from one \
                  to the next, while pieces of them come.",
        stakes: Stakes::Ends {
            too_low: "Passes over peers that hold much pause again and again, and where the network or \
                      sync.bandwidth_limit lets through few large bodies in that time, a node is ready \
                      before it holds them.",
            too_high: "A pass that does not get on is looked at later, and a peer whose bodies never come \
                       to their end keeps the node from being ready for longer.",
        },
    },
    Setting {
        key: Key::ReadThrough,
        toml: "sync.read_through",
        variable: "KURA_SYNC_READ_THROUGH_MS",
        flag: "sync-read-through",
        kind: Kind::Duration { min: Duration::ZERO, max: READ_THROUGH_WAIT_MAX },
        default: DefaultValue::Fixed(Value::Duration(Duration::ZERO)),
        meaning: "How long a read of what is not here waits for a peer of the same region that is known to \
                  hold it, and of which it has still to be fetched. Zero: such a read is a miss at once.",
        stakes: Stakes::Ends {
            too_low: "What a peer delivers a little later is fetched, and the read is a miss all the same.",
            too_high: "While peers are slow, reads of what they hold are slow misses.",
        },
    },
    Setting {
        key: Key::BandwidthLimit,
        toml: "sync.bandwidth_limit",
        variable: "KURA_REPLICATION_BANDWIDTH_LIMIT_BYTES_PER_SECOND",
        flag: "replication-bandwidth-limit",
        kind: Kind::Bytes { min: 0, max: TIB },
        default: DefaultValue::Fixed(Value::Bytes(512 * MIB)),
        meaning: "How many bytes of bodies are fetched from all peers together in a second at the most, \
                  and as many are served to them. What moves for clients goes first, and leaves a quarter of that \
                  at the least: so set it to what the network of this node carries. Less than 1MiB counts as 1MiB; \
                  zero is no limit.",
        stakes: Stakes::Ends {
            too_low: "A node that lacks much takes long to catch up, and is not ready until then.",
            too_high: "Peers that catch up take the network from clients.",
        },
    },
    Setting {
        key: Key::PrimaryMinAge,
        toml: "primary.min_age",
        variable: "KURA_PRIMARY_MIN_AGE_MS",
        flag: "primary-min-age",
        kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(24 * 3600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(600))),
        meaning: "From which age on a node is preferred as primary of its region while nobody is: where there is \
                  none of that age, a younger one is taken, and who is primary stays so whatever its age.",
        stakes: Stakes::Ends {
            too_low: "A node that just started takes the traffic, while older ones have what was used lately at hand.",
            too_high: "After a start of all nodes their age makes no difference for longer.",
        },
    },
    Setting {
        key: Key::PrimaryLagMax,
        toml: "primary.lag_max",
        variable: "KURA_PRIMARY_LAG_MAX_MS",
        flag: "primary-lag-max",
        kind: Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(24 * 3600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(30))),
        meaning: "For how long a node may lack what a peer of its region has and be as fit to be primary as one that \
                  lacks nothing; for who is primary it is twice as long.",
        stakes: Stakes::Ends {
            too_low: "A burst of writes that takes a while to arrive moves the traffic to another node.",
            too_high: "The primary misses what was built on other nodes meanwhile.",
        },
    },
    Setting {
        key: Key::Capacity,
        toml: "store.capacity",
        variable: "KURA_CAS_CAPACITY_BYTES",
        flag: "cas-capacity",
        kind: Kind::Bytes { min: 5 * MIB, max: 1024 * TIB },
        default: DefaultValue::Derived {
            rule: "half of the file system that holds the data directory",
            example: "\"100GiB\"",
        },
        meaning: "How many bytes may be kept: seven tenths for the ring of bodies, a quarter for \
                  the pool of large objects, a twentieth for the ring of action results. What is \
                  full makes room by giving up its eldest. Whatever is set, no more than four \
                  fifths of the file system are used; the node says so when it starts.",
        stakes: Stakes::Ends {
            too_low: "Artifacts are evicted before the next build asks for them. Below a few \
                      segments every rotation takes a large part of the cache with it.",
            too_high: "The disk fills. Writes are refused until there is space again.",
        },
    },
    Setting {
        key: Key::Segment,
        toml: "store.segment",
        variable: "KURA_SEGMENT_BYTES",
        flag: "segment",
        kind: Kind::Bytes { min: MIB, max: 4 * GIB },
        default: DefaultValue::Derived {
            rule: "512MiB, or a fifth of `store.capacity` where that is set and less",
            example: "\"512MiB\"",
        },
        meaning: "Size of one segment file, the unit in which space is taken and given back.",
        stakes: Stakes::Ends {
            too_low: "Bodies that do not fit are refused, and rotations come often.",
            too_high: "Eviction is coarse, and a small ring holds too few segments to tell old \
                       from new.",
        },
    },
    Setting {
        key: Key::MaxBody,
        toml: "store.max_body",
        variable: "KURA_MAX_BODY_BYTES",
        flag: "max-body",
        kind: Kind::Bytes { min: 1, max: 4 * GIB },
        default: DefaultValue::Derived {
            rule: "half of staging, and no more than 4GiB",
            example: "\"256MiB\"",
        },
        meaning: "The largest body that is accepted; larger ones are answered 413. Never more \
                  than half of `staging.disk_max`, so that whatever one node accepts finds room at \
                  a peer with the same settings, and never more than the pool of large objects \
                  holds, which is a quarter of the capacity.",
        stakes: Stakes::Ends {
            too_low: "Large artifacts are never cached.",
            too_high: "A few huge artifacts push many small ones out.",
        },
    },
    Setting {
        key: Key::IndexMax,
        toml: "store.index_max",
        variable: "KURA_INDEX_MAX_BYTES",
        flag: "index-max",
        kind: Kind::Bytes { min: 0, max: TIB },
        default: DefaultValue::Fixed(Value::Bytes(256 * MIB)),
        meaning: "Bytes of memory for where the artifacts lie that are asked for most: 192 bytes \
                  for each, so that 256MiB hold 1.3 million. Taken as it fills. The others are \
                  found by way of the catalog.",
        stakes: Stakes::Ends {
            too_low: "Reads of what is asked for often go to the catalog, which costs more.",
            too_high: "Memory that the page cache could use for bodies.",
        },
    },
    Setting {
        key: Key::Durability,
        toml: "store.durability",
        variable: "KURA_DURABILITY",
        flag: "durability",
        kind: Kind::Choice(&[
            Choice {
                name: POWER_LOSS,
                meaning: "a write is acknowledged once it is on the disk itself; writers at the \
                          same time share one sync",
            },
            Choice {
                name: PROCESS_CRASH,
                meaning: "a write is acknowledged once the operating system has it",
            },
        ]),
        default: DefaultValue::Fixed(Value::Choice(POWER_LOSS)),
        meaning: "What an acknowledged write survives. Whatever the choice, nothing wrong is \
                  served after a crash.",
        stakes: Stakes::Choice(
            "With `process-crash` the last writes before a power cut are forgotten. With \
             `power-loss` a single writer waits for the disk at every write.",
        ),
    },
    Setting {
        key: Key::Promise,
        toml: "store.promise",
        variable: "KURA_PROMISE_MS",
        flag: "promise",
        kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(86_400) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(15 * 60))),
        meaning: "For how long an artifact stays that a client was told is here. Zero promises \
                  nothing.",
        stakes: Stakes::Ends {
            too_low: "Builds that rely on what they were told fail when it is gone.",
            too_high: "On a small disk most of what is kept is promised; writes are refused, and \
                       what is here is said to be missing.",
        },
    },
    Setting {
        key: Key::WriteGrace,
        toml: "store.write_grace",
        variable: "KURA_WRITE_GRACE_MS",
        flag: "write-grace",
        kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(3600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(60))),
        meaning: "For how long a fresh write stays, whatever comes after it.",
        stakes: Stakes::Ends {
            too_low: "Under a burst of writes a build's outputs may be gone before it reads them.",
            too_high: "A burst larger than the capacity is refused until the grace is over.",
        },
    },
    Setting {
        key: Key::ScrubEvery,
        toml: "store.scrub_every",
        variable: "KURA_SCRUB_EVERY_MS",
        flag: "scrub-every",
        kind: Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(8760 * 3600) },
        default: DefaultValue::Fixed(Value::Duration(Duration::from_secs(168 * 3600))),
        meaning: "How long the node waits between two passes in which it reads all that it holds, to \
                  find what the disk lost while its peers have it still. Zero: only when `kura scrub` \
                  asks for it.",
        stakes: Stakes::Ends {
            too_low: "The disk is never at rest.",
            too_high: "What the disk lost may be gone from the peers as well when it is noticed.",
        },
    },
    Setting {
        key: Key::ScrubRate,
        toml: "store.scrub_rate",
        variable: "KURA_SCRUB_RATE_BYTES",
        flag: "scrub-rate",
        kind: Kind::Bytes { min: MIB, max: 64 * GIB },
        default: DefaultValue::Fixed(Value::Bytes(4 * MIB)),
        meaning: "How many bytes such a pass reads in a second at the most. At 4MiB it takes three \
                  days for 1TiB.",
        stakes: Stakes::Ends {
            too_low: "A pass takes weeks.",
            too_high: "Builds wait for the disk, and what they read leaves the page cache.",
        },
    },
    Setting {
        key: Key::StagingDir,
        toml: "staging.dir",
        variable: "KURA_TMP_DIR",
        flag: "tmp-dir",
        kind: Kind::Path,
        default: DefaultValue::Derived {
            rule: "`tmp` in the data directory",
            example: "\"/var/lib/kura-tmp\"",
        },
        meaning: "The directory for bodies in flight, on the file system of the data. They lie in a \
                  directory of their own in it, named after the data directory, so that nodes may \
                  share it; nothing else in it is touched. Both are made if they are not there.",
        stakes: Stakes::Choice(
            "What is left there when the setting is changed stays until it is removed by hand.",
        ),
    },
    Setting {
        key: Key::OtherFileSystem,
        toml: "staging.other_filesystem",
        variable: "KURA_TMP_DIR_OTHER_FILESYSTEM",
        flag: "tmp-dir-other-filesystem",
        kind: Kind::Switch,
        default: DefaultValue::Fixed(Value::Switch(false)),
        meaning: "Whether `staging.dir` may lie on another file system than the data. If not, a \
                  node that finds it there does not start.",
        stakes: Stakes::Choice(
            "Large bodies are copied from there to their place, and other writes wait for that. \
             Bodies in flight count against the space of the data all the same, and the space of \
             the other file system is not watched: when it is full, uploads are answered 503.",
        ),
    },
    Setting {
        key: Key::StagingMax,
        toml: "staging.disk_max",
        variable: "KURA_TMP_DIR_MAX_BYTES",
        flag: "tmp-dir-max",
        kind: Kind::Bytes { min: MIB, max: 16 * TIB },
        default: DefaultValue::Fixed(Value::Bytes(8 * GIB)),
        meaning: "Bytes of bodies in flight on disk, over all requests. Bodies that are fetched \
                  from peers wait for room and take at most half. Uploads may take all that is \
                  free, but only half while a body from a peer waits; one that does not fit waits \
                  for up to 2 s and is then answered 503 with `Retry-After`.",
        stakes: Stakes::Ends {
            too_low: "Large uploads wait and are refused when several come at once.",
            too_high: "Uploads take space that the ring could use.",
        },
    },
    Setting {
        key: Key::MemoryMax,
        toml: "staging.memory_max",
        variable: "KURA_MEMORY_MAX_BYTES",
        flag: "memory-max",
        kind: Kind::Bytes { min: 64 * KIB, max: TIB },
        default: DefaultValue::Fixed(Value::Bytes(256 * MIB)),
        meaning: "Bytes of bodies in flight in memory, over all requests, shared by uploads and \
                  bodies from peers as `staging.disk_max` is. A small upload that does not fit \
                  goes through a file.",
        stakes: Stakes::Ends {
            too_low: "Small uploads go through files, which is slower, when many come at once.",
            too_high: "A burst of uploads can exhaust the memory of the machine.",
        },
    },
    Setting {
        key: Key::MemoryBody,
        toml: "staging.memory_body",
        variable: "KURA_MEMORY_BODY_BYTES",
        flag: "memory-body",
        kind: Kind::Bytes { min: 0, max: GIB },
        default: DefaultValue::Fixed(Value::Bytes(256 * KIB)),
        meaning: "Bodies up to this size are gathered in memory, larger ones in a staging file. \
                  At most half of `staging.memory_max`.",
        stakes: Stakes::Ends {
            too_low: "Small uploads pay for a file each.",
            too_high: "A few uploads use the memory meant for many.",
        },
    },
    Setting {
        key: Key::LogFilter,
        toml: "log.filter",
        variable: "KURA_LOG",
        flag: "log",
        kind: Kind::LogFilter,
        default: DefaultValue::Fixed(Value::LogFilter(Cow::Borrowed(
            "info,fjall=warn,lsm_tree=warn",
        ))),
        meaning: "What is logged. The parts `fjall` and `lsm_tree` are the catalog.",
        stakes: Stakes::Choice(
            "At `debug` and `trace` every request writes lines, which costs time and disk. At \
             `error` and `off` nobody learns why requests were refused but the clients.",
        ),
    },
    Setting {
        key: Key::LogFormat,
        toml: "log.format",
        variable: "KURA_LOG_FORMAT",
        flag: "log-format",
        kind: Kind::Choice(&[
            Choice { name: TEXT, meaning: "lines for people" },
            Choice { name: JSON, meaning: "one JSON object a line, for log collectors" },
        ]),
        default: DefaultValue::Fixed(Value::Choice(TEXT)),
        meaning: "How the log is written.",
        stakes: Stakes::Choice("A collector that expects the other form cannot read the log."),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings::value::Written;

    #[test]
    fn every_key_has_its_row_at_its_place() {
        for (place, setting) in SETTINGS.iter().enumerate() {
            assert_eq!(setting.key as usize, place, "{}", setting.toml);
        }
    }

    #[test]
    fn names_are_unique_and_follow_one_rule() {
        let mut names = BTreeSet::new();
        for setting in &SETTINGS {
            for name in [setting.toml, setting.variable, setting.flag] {
                assert!(names.insert(name), "{name} stands twice");
            }
            let unit = match &setting.kind {
                Kind::Bytes { .. } => "_BYTES",
                Kind::Duration { .. } => "_MS",
                Kind::Count { .. }
                | Kind::Address
                | Kind::Path
                | Kind::Switch
                | Kind::Choice(_)
                | Kind::Name
                | Kind::Peers
                | Kind::LogFilter => "",
            };
            // A rate is a number of bytes as well.
            let variable = setting.variable.trim_end_matches("_PER_SECOND");
            let stem = variable.strip_prefix("KURA_").and_then(|s| s.strip_suffix(unit));
            let flag = stem.expect(setting.variable).to_ascii_lowercase().replace('_', "-");
            assert_eq!(setting.flag, flag, "the flag is the variable without prefix and unit");
        }
    }

    #[test]
    fn sections_stand_together_and_in_order() {
        let mut sections: Vec<_> = SETTINGS.iter().map(Setting::section).collect();
        sections.dedup();
        let declared: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
        assert_eq!(sections, declared);
    }

    #[test]
    fn every_default_is_itself_allowed() {
        for setting in &SETTINGS {
            let DefaultValue::Fixed(value) = &setting.default else { continue };
            let shown = value.to_string();
            let text = shown.trim_matches('"').to_owned();
            assert_eq!(setting.kind.read(&Written::Flag(text)).as_ref(), Ok(value), "{shown}");
        }
    }

    #[test]
    fn texts_are_whole_sentences() {
        for setting in &SETTINGS {
            let stakes = match setting.stakes {
                Stakes::Ends { too_low, too_high } => vec![too_low, too_high],
                Stakes::Choice(text) => vec![text],
            };
            for text in stakes.into_iter().chain([setting.meaning]) {
                assert!(text.ends_with('.') && !text.contains("  "), "{}: {text:?}", setting.toml);
            }
        }
    }
}
