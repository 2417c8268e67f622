//! Five nodes in three regions, and links between these that are throttled, delayed and cut, under clients that never
//! rest: what was acknowledged is everywhere in the end, no read is ever wrong, and no put is refused or slow because of
//! a peer.

mod crowd;
mod site;

use std::time::{Duration, Instant};

use crowd::Crowd;
pub(crate) use crowd::place;
use fault_injection::{Dial, Dials, End, Flow, Link, Way};
use kura_tests::{endurance, wait::until};
use site::{NODES, REGIONS, Site};

/// How long after the last fault and the last put all nodes may differ: a peer whose answer was swallowed hears nothing
/// for 30 s before it gives up, pauses of up to 16 s follow, and what is lacking has to come.
const CONVERGED_WITHIN: Duration = Duration::from_secs(75);
/// How long it may take until a peer tries again: the longest pause after failures.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);
/// Puts that each node acknowledges in a part of the story.
const PART: u64 = 8;
/// What a node may say to a client here. `broken-body` and `wrong-digest` are for those who sent such; `recovering` for
/// those who came while a node started.
const REFUSALS: [&str; 4] = ["broken-body", "length", "wrong-digest", "recovering"];

/// The dials of a link under which nothing arrives at `end` any more.
fn deaf(end: End, flow: Flow) -> Dials {
    let dial = Dial { flow, ..Dial::default() };
    match end.out().reverse() {
        Way::Forth => Dials { forth: dial, ..Dials::default() },
        Way::Back => Dials { back: dial, ..Dials::default() },
    }
}

/// Bytes that arrived at these ends.
fn arrived(links: &[(&Link, End)]) -> u64 {
    let bytes = |(link, end): &(&Link, End)| link.counts().way(end.out().reverse()).delivered_bytes;
    links.iter().map(bytes).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_converge_through_a_restart_of_all_and_partitions_under_load() {
    let seed = endurance::seed("five_nodes");
    let begun = Instant::now();
    let place = place();
    let mut site = Site::new(&place).await;
    site.start_all().await;
    let mut crowd = Crowd::go(&place, &site, seed);
    crowd.goes_on(PART).await;
    site.all_ready().await;
    assert_only(&REFUSALS, &site.refusals().await);

    crowd.tell("all are killed and started at once");
    site.kill_all();
    site.start_all().await;
    crowd.goes_on(PART).await;
    site.all_ready().await;

    crowd.tell("links are slow and long");
    let slow = Dial {
        bytes_per_second: Some(2_000_000),
        delay: Duration::from_millis(40),
        ..Dial::default()
    };
    site.turn_all(Dials::both(slow));
    crowd.goes_on(PART).await;

    partitions(&site, &crowd).await;

    crowd.tell("healed");
    site.turn_all(Dials::default());
    crowd.goes_on(PART).await;
    crowd.goes_home().await;
    let healed = Instant::now();
    crowd.converges(&site, CONVERGED_WITHIN).await;
    let converged = healed.elapsed();
    site.all_ready().await;
    let bodies = crowd.read_back(&site).await;
    assert_only(&REFUSALS, &site.refusals().await);
    report(&site, &crowd, &format!("{bodies} bodies read back, converged after {converged:?}"));
    eprintln!("five_nodes: {:?} in all", begun.elapsed());
    for (between, counts) in site.counts() {
        assert!(counts.forth.throttled > 0 && counts.back.throttled > 0, "{between}: {counts:?}");
    }
}

/// The north is cut off: from the south by a link that refuses and from the east by one that is silent; and then it
/// hears nothing from either of them, while they hear it.
async fn partitions(site: &Site, crowd: &Crowd) {
    let links = site.links_of("north");
    let (south, _) = site.link("north", "south");
    let (east, _) = site.link("north", "east");
    crowd.tell("the north is cut off");
    south.turn(Dials::refusing());
    east.turn(Dials::both(Dial { flow: Flow::Held, ..Dial::default() }));
    // What was being handed over when the dials turned is over by then.
    crowd.goes_on(1).await;
    let before = arrived(&links);
    crowd.goes_on(PART).await;
    assert_eq!(arrived(&links), before, "bytes came through a partition");
    let differing = crowd.differences(site).await;
    assert!(!differing.is_empty(), "a partition under load that nobody notices is none");
    until("somebody meets the link that refuses", NOTICED_WITHIN, async || {
        (south.counts().refused > 0).then_some(())
    })
    .await;

    crowd.tell("the north hears nothing");
    for (link, end) in &links {
        link.turn(deaf(*end, Flow::Swallowed));
    }
    crowd.goes_on(1).await;
    let before = arrived(&links);
    crowd.goes_on(PART).await;
    assert_eq!(arrived(&links), before, "bytes came to those who hear nothing");
    let has_swallowed = |(link, end): &(&Link, End)| {
        let counts = link.counts();
        counts.way(end.out().reverse()).swallowed_bytes + counts.lost > 0
    };
    until("both links swallow something", NOTICED_WITHIN, async || {
        links.iter().all(has_swallowed).then_some(())
    })
    .await;
}

/// Fails if a node refused anything for another reason than these.
#[track_caller]
fn assert_only(reasons: &[&str], refusals: &[(usize, String, u64)]) {
    let is_other = |(_, reason, count): &&(usize, String, u64)| {
        *count > 0 && !reasons.contains(&reason.as_str())
    };
    let others: Vec<_> = refusals.iter().filter(is_other).collect();
    assert!(others.is_empty(), "refused: {others:?}");
}

/// Says what the run did: an empty run would pass as well.
fn report(site: &Site, crowd: &Crowd, last: &str) {
    let acknowledged = crowd.acknowledged();
    let (slowest, evidence) = (crowd.slowest_put(), crowd.court.evidence());
    let history = &evidence.history;
    eprintln!(
        "five_nodes: {acknowledged:?} puts acknowledged in {REGIONS:?}, {} bytes, the slowest after {slowest:?}; \
         {} answers {:?}, {} bodies read, {} bytes; {last}",
        history.acked_bytes(),
        history.answers(),
        history.statuses(),
        history.hits(),
        history.read_bytes(),
    );
    for (between, counts) in site.counts() {
        eprintln!("five_nodes: {between}: {counts:?}");
    }
    assert!(history.hits() > 50 * NODES as u64, "hardly anything was read");
}
