//! What settings demand of each other. A check whose settings cannot be read waits until they can.

use kura_node::store::share_bytes;

use super::{
    Settings,
    problem::{Conflict, Party, Problem},
    setting::Key,
    value::Value,
};

/// All pairs of settings that do not go together.
pub(super) fn conflicts(settings: &Settings) -> Vec<Conflict> {
    [largest_body_can_be_staged(settings), memory_holds_one_body(settings)]
        .into_iter()
        .flatten()
        .collect()
}

/// The two ports, if they are one. Free ones, which the system chooses, differ.
pub(super) fn one_port_for_two(settings: &Settings) -> Option<Problem> {
    let port = |key| settings.value(key).filter(|port| **port != Value::Count(0));
    let (one, other) = (port(Key::Port)?, port(Key::PeerPort)?);
    (settings.has_peer_plane() && one == other).then(|| Problem::SamePort {
        one: Box::new(party(settings, Key::Port)),
        other: Box::new(party(settings, Key::PeerPort)),
    })
}

fn largest_body_can_be_staged(settings: &Settings) -> Option<Conflict> {
    let share = share_bytes(settings.bytes(Key::StagingMax)?);
    (settings.bytes(Key::MaxBody)? > share).then(|| Conflict {
        low: party(settings, Key::StagingMax),
        high: party(settings, Key::MaxBody),
        reason: "the largest body may have half of staging, because bodies of clients and of \
                 peers get a half each"
            .to_owned(),
    })
}

fn memory_holds_one_body(settings: &Settings) -> Option<Conflict> {
    let share = share_bytes(settings.bytes(Key::MemoryMax)?);
    (settings.bytes(Key::MemoryBody)? > share).then(|| Conflict {
        low: party(settings, Key::MemoryMax),
        high: party(settings, Key::MemoryBody),
        reason: "not even one such body would fit half of the memory, and bodies of clients and \
                 of peers get a half each"
            .to_owned(),
    })
}

fn party(settings: &Settings, key: Key) -> Party {
    let entry = settings.entry(key);
    Party {
        toml: key.setting().toml,
        value: entry.map(|entry| entry.value.to_string()).unwrap_or_default(),
        origin: entry.map_or(super::Origin::Default, |entry| entry.origin.clone()),
    }
}
