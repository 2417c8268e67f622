//! Groups of clients: who they are, and what they do.

use std::time::Duration;

use super::{drawn::Drawn, schema::Section};

/// A group of actors. Shares are in millionths.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// Its name.
    pub name: String,
    /// How many actors.
    pub actors: u64,
    /// Requests of the group, in millionths per second; 0: as fast as answers come.
    pub rate: u64,
    /// The nodes it talks to; empty: all.
    pub nodes: Vec<String>,
    /// Of those it talks to the one that says that it is primary, as a load balancer finds it.
    pub follows_primary: bool,
    /// Its namespace.
    pub namespace: String,
    /// How many keys.
    pub keys: u64,
    /// Whose keys; empty: its own.
    pub keys_of: String,
    /// Writes each key once and is done.
    pub once: bool,
    /// Reads all of its keys in a row once in this time; `None`: does what it draws.
    pub sweep_every: Option<Duration>,
    /// What it reads must never be evicted.
    pub stays: bool,
    /// What it does how often.
    pub mix: Mix,
    /// The smallest body.
    pub body_bytes_min: u64,
    /// The largest body.
    pub body_bytes_max: u64,
    /// How fast a body is sent; `None`: as fast as the link takes it.
    pub upload_bytes_per_second: Option<u64>,
    /// When an operation is given up.
    pub timeout: Duration,
    /// What it does when it is refused.
    pub retry: Retry,
}

/// Shares of what an actor does, in millionths.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Of all operations: PUT.
    pub write: u64,
    /// Of all operations: DELETE of the namespace.
    pub clean: u64,
    /// Of the others: HEAD.
    pub head: u64,
    /// Of the others: HEAD, and a GET within the promise of what that found.
    pub vouch: u64,
    /// Of the others: for keys nobody wrote.
    pub miss: u64,
    /// Of all keys: named by the digest of their body.
    pub cas: u64,
    /// Of all bodies: with forged headers inside.
    pub forged: u64,
    /// Of puts: closes in the middle.
    pub dies: u64,
    /// Of puts: falls silent in the middle.
    pub stalls: u64,
    /// Of puts: under a wrong digest.
    pub wrong_digest: u64,
    /// Of puts: ends before the declared length.
    pub short: u64,
    /// Of puts: declares more than is taken.
    pub oversize: u64,
    /// Of puts: in chunks, without a declared length.
    pub undeclared: u64,
}

/// What an actor does when an operation fails.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Tries in all.
    pub tries: u64,
    /// Before the second try; doubled each time.
    pub wait: Duration,
    /// The longest.
    pub wait_max: Duration,
}

pub(super) fn client(drawn: &Drawn, name: &str) -> ClientSpec {
    let table = drawn.named(Section::Client, name);
    let upload = table.number("upload_rate");
    ClientSpec {
        name: name.to_owned(),
        actors: table.number("actors"),
        rate: table.number("rate"),
        nodes: table.texts("nodes").to_vec(),
        follows_primary: table.flag("follows_primary"),
        namespace: table.text("namespace").to_owned(),
        keys: table.number("keys"),
        keys_of: table.text("keys_of").to_owned(),
        once: table.flag("once"),
        sweep_every: Some(table.duration("sweep_every")).filter(|every| !every.is_zero()),
        stays: table.flag("stays"),
        mix: Mix {
            write: table.number("write_share"),
            clean: table.number("clean_share"),
            head: table.number("head_share"),
            vouch: table.number("vouch_share"),
            miss: table.number("miss_share"),
            cas: table.number("cas_share"),
            forged: table.number("forged_share"),
            dies: table.number("dies_share"),
            stalls: table.number("stalls_share"),
            wrong_digest: table.number("wrong_digest_share"),
            short: table.number("short_share"),
            oversize: table.number("oversize_share"),
            undeclared: table.number("undeclared_share"),
        },
        body_bytes_min: table.number("body_min"),
        body_bytes_max: table.number("body_max").max(table.number("body_min")),
        upload_bytes_per_second: (upload > 0).then_some(upload),
        timeout: table.duration("timeout"),
        retry: Retry {
            tries: table.number("tries"),
            wait: table.duration("retry_wait"),
            wait_max: table.duration("retry_wait_max"),
        },
    }
}
