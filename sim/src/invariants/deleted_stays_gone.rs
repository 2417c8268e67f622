//! What was deleted with its namespace does not come back: not with a crash, not with a catalog that is made
//! again, and not with a peer that never heard of it.

use kura_core::{
    address::Address,
    place::{Place, is_mark_in_places},
    tombstones::Tombstones,
};
use kura_env::Instant;

use super::{Invariant, Violation, acked_or_evicted::CLOCK_GRAIN};
use crate::{
    body::{BodyId, Match},
    deletes::Buried,
    history::{Put, PutOutcome},
    holdings,
    image::Image,
};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "deleted_stays_gone",
    demands: "a node that acknowledged the delete of a namespace hands out nothing of it that had been put \
              before; after healing no node of its mesh does, all know the same deletes, and no index leads \
              to what they cover; also after SIGKILL, power loss and the loss of a catalog",
    checked: "at every hit; for every key after healing; on the disk and the catalog of every node, at rest",
};

/// Judges a hit, given the deletes that the node must go by, and everything put there.
///
/// # Errors
///
/// If one of them covers every put that the body may be of.
pub fn check_hit(
    path: &str,
    buried: &[Buried],
    puts: &[Put],
    body: Match,
) -> Result<(), Violation> {
    let Match::Whole(found) = body else { return Ok(()) };
    let of_body = |put: &&Put| put.body.id == found && put.outcome != PutOutcome::Refused;
    let mut of_body = puts.iter().filter(of_body).peekable();
    let Some(latest) = buried.iter().max_by_key(|buried| buried.since) else { return Ok(()) };
    let is_gone = |put: &Put| buried.iter().any(|buried| covers(buried, put));
    if of_body.peek().is_none() || !of_body.all(is_gone) {
        return Ok(());
    }
    let BodyId(body) = found;
    let who = if latest.is_own { "it" } else { "a node of its mesh" };
    let sent = latest.since.since(Instant(0));
    Err(INVARIANT.violated(format!(
        "GET {path}: body {body}, though {who} acknowledged a delete of the namespace that was sent {sent:?} \
         into the run, when all that put it had been answered"
    )))
}

/// Whether a put has the lower version for sure. One whose client was told nothing may have been applied at any
/// time.
fn covers(buried: &Buried, put: &Put) -> bool {
    let Some(end) = put.end else { return false };
    match put.outcome {
        PutOutcome::Acked(_) if buried.is_own => end <= buried.since,
        PutOutcome::Acked(_) | PutOutcome::AckedElsewhere => end + CLOCK_GRAIN < buried.since,
        PutOutcome::Unknown | PutOutcome::Refused => false,
    }
}

/// Judges what the nodes of a mesh know of deletes, by their disks; `None` where that cannot be read.
///
/// # Errors
///
/// If two of them do not know the same.
pub fn check_known(known: &[(&str, Option<Tombstones>)]) -> Result<(), Violation> {
    let print = |known: &Option<Tombstones>| known.as_ref().map(Tombstones::print);
    let Some((first, theirs)) = known.first() else { return Ok(()) };
    let show = |known: &Option<Tombstones>| match known {
        None => "what cannot be read".to_owned(),
        Some(known) => {
            let all: Vec<String> = known
                .iter()
                .map(|(name, it)| format!("{name} at {}", it.version.time >> 16))
                .collect();
            format!("[{}]", all.join(", "))
        }
    };
    match known.iter().find(|(_, other)| other.is_none() || print(other) != print(theirs)) {
        None => Ok(()),
        Some((name, others)) => Err(INVARIANT.violated(format!(
            "{first} and {name} do not know the same deletes: {} and {}",
            show(theirs),
            show(others)
        ))),
    }
}

/// Judges the image of a node at rest.
///
/// # Errors
///
/// If its tombstones cannot be read, or a row of `places` leads to something that they cover.
pub fn check_rest(node: &str, image: &Image<'_>) -> Result<(), Violation> {
    let Some(deleted) = image.tombstones() else {
        return Err(INVARIANT.violated(format!("{node}: TOMBSTONES cannot be read")));
    };
    if deleted.is_empty() {
        return Ok(());
    }
    for (key, row) in image.places.iter().filter(|(key, _)| !is_mark_in_places(key)) {
        let (Ok(address), Some(place)) = (Address::decode(key), Place::decode(row)) else {
            continue;
        };
        if deleted.covers_address(&address, place.version) {
            let name = holdings::name(key);
            let reason = format!("{node}: a row of `places` leads to {name}, which was deleted");
            return Err(INVARIANT.violated(reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kura_core::record::Version;

    use super::*;
    use crate::{body::Body, image::sample::Sample};

    const MS: u64 = 1_000_000;

    fn put(id: u64, end: Option<u64>, outcome: PutOutcome) -> Put {
        let body = Body { id: BodyId(id), len_bytes: 10, forged: false };
        let end = end.map(|ms| Instant(ms * MS));
        Put { body, start: Instant(0), end, outcome, fraud: None }
    }

    fn own(ms: u64) -> Buried {
        Buried { since: Instant(ms * MS), is_own: true }
    }

    #[test]
    fn what_was_put_before_the_delete_and_comes_back_is_reported() {
        let puts = [
            put(1, Some(10), PutOutcome::Acked(5)),
            put(2, Some(20), PutOutcome::Acked(6)),
            put(3, Some(10), PutOutcome::Unknown),
            put(4, None, PutOutcome::Unknown),
            put(5, Some(10), PutOutcome::Acked(7)),
            put(5, Some(30), PutOutcome::Acked(8)),
            put(6, Some(10), PutOutcome::Acked(9)),
            put(6, Some(40), PutOutcome::Refused),
        ];
        let check = |buried: &[Buried], id| {
            check_hit("/k", buried, &puts, Match::Whole(BodyId(id))).is_ok()
        };
        assert!(check(&[], 1));
        assert!(check(&[own(9)], 1) && !check(&[own(10)], 1) && !check(&[own(15)], 1));
        assert!(check(&[own(15)], 2), "it was put later");
        assert!(check(&[own(15)], 3) && check(&[own(15)], 4), "nobody knows when it was applied");
        assert!(check(&[own(15)], 5) && !check(&[own(30)], 5), "it was put again");
        assert!(!check(&[own(15)], 6), "what was refused puts nothing");
        assert!(check(&[own(15)], 99), "that nobody ever put it is for others to report");
    }

    #[test]
    fn what_another_node_took_in_is_told_apart_by_the_clock() {
        let puts = [put(1, Some(10), PutOutcome::AckedElsewhere)];
        let check = |buried| check_hit("/k", &[buried], &puts, Match::Whole(BodyId(1))).is_ok();
        let other = |ms| Buried { is_own: false, ..own(ms) };
        assert!(check(own(15)) && !check(own(16)));
        assert!(check(other(15)) && !check(other(16)));
        let here = [put(1, Some(10), PutOutcome::Acked(5))];
        let check = |buried| check_hit("/k", &[buried], &here, Match::Whole(BodyId(1))).is_ok();
        assert!(check(other(15)) && !check(other(16)), "by its own clock");
    }

    #[test]
    fn nodes_that_do_not_know_the_same_are_reported() {
        let told = |deletes: &[(&str, u64)]| {
            let mut tombstones = Tombstones::default();
            for (namespace, time) in deletes {
                tombstones.merge(namespace, Version { time: *time, node: 1 });
            }
            Some(tombstones)
        };
        let check = |known: &[Option<Tombstones>]| {
            let known: Vec<_> = known.iter().map(|known| ("n", known.clone())).collect();
            check_known(&known).is_ok()
        };
        assert!(check(&[]) && check(&[told(&[])]) && check(&[told(&[]), told(&[])]));
        let both = told(&[("a", 1), ("b", 2)]);
        assert!(check(&[both.clone(), both.clone(), both.clone()]));
        assert!(!check(&[both.clone(), both.clone(), told(&[("a", 1)])]));
        assert!(!check(&[both.clone(), told(&[("a", 2), ("b", 2)])]));
        assert!(!check(&[both, None]) && !check(&[None]));
    }

    #[test]
    fn a_row_that_leads_to_what_was_deleted_is_reported() {
        let check = |namespace: &str, time| {
            let mut tombstones = Tombstones::default();
            tombstones.merge(namespace, Version { time, node: 0 });
            let mut sample = Sample::sound();
            sample.files.insert("TOMBSTONES".to_owned(), tombstones.encode());
            check_rest("n", &sample.image())
        };
        assert!(check_rest("n", &Sample::sound().image()).is_ok());
        assert!(check("ns", 0).is_ok(), "it is later");
        assert!(check("other", 9).is_ok());
        assert!(check("ns", 1).is_err() && check("ns", 9).is_err());
        let mut spoilt = Sample::sound();
        spoilt.files.insert("TOMBSTONES".to_owned(), vec![1, 2, 3]);
        assert!(check_rest("n", &spoilt.image()).is_err());
    }
}
