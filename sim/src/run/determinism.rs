//! Every scenario does the same twice under one seed, and something else under another.

use super::{Options, run};
use crate::{
    report::{RunReport, Verdict},
    scenario::read,
};

/// The scenarios of the repository, as short as they still tell their story.
const SCENARIOS: &[(&str, &str)] = &[
    ("crash", include_str!("../../../scenarios/incidents/crash_in_rotation_window.toml")),
    ("leaked", include_str!("../../../scenarios/incidents/leaked_staging_fills_disk.toml")),
    ("overflow", include_str!("../../../scenarios/incidents/staging_overflow_evicts_node.toml")),
    ("nine", include_str!("../../../scenarios/speed/nine_hosts.toml")),
    ("cold start", include_str!("../../../scenarios/incidents/full_mesh_cold_start.toml")),
    (
        "transient",
        include_str!("../../../scenarios/incidents/one_transient_error_joins_for_ever.toml"),
    ),
    ("short", include_str!("../../../scenarios/incidents/short_segment_is_never_served.toml")),
    (
        "dead peer",
        include_str!("../../../scenarios/incidents/dead_peer_refuses_client_writes.toml"),
    ),
    ("partition", include_str!("../../../scenarios/incidents/partition_then_heal.toml")),
    ("frozen", include_str!("../../../scenarios/incidents/frozen_node.toml")),
    ("deleted", include_str!("../../../scenarios/incidents/deleted_namespace_resurrected.toml")),
    ("deletes", include_str!("../../../scenarios/incidents/deletes_survive_crashes.toml")),
    ("lagging", include_str!("../../../scenarios/incidents/lagging_clock_after_delete.toml")),
];

/// Runs a scenario with its phases cut to three seconds, which leave nobody ready, and few keys.
fn run_short(text: &str, seed: u64, options: Options) -> RunReport {
    let cut = |line: &str| match line.split_once(" = ").map(|(key, _)| key) {
        Some("lasts") => "lasts = \"3s\"".to_owned(),
        Some("keys") => "keys = 20".to_owned(),
        Some("ready") => String::new(),
        Some(_) | None => line.to_owned(),
    };
    let text: Vec<String> = text.lines().map(cut).collect();
    let document = read("scenario.toml", &text.join("\n")).unwrap();
    run(&document, seed, options).unwrap()
}

#[test]
fn a_seed_does_the_same_twice() {
    for (name, text) in SCENARIOS {
        let first = run_short(text, 3, Options::default());
        let second = run_short(text, 3, Options::default());
        assert_eq!(first, second, "{name}");
        assert!(first.events > 100, "{name} did nothing: {first:?}");
    }
}

#[test]
fn recording_the_journal_changes_nothing_and_other_seeds_do_something_else() {
    let (_, text) = SCENARIOS[0];
    let plain = run_short(text, 5, Options::default());
    let (sender, lines) = std::sync::mpsc::channel();
    let recorder = Box::new(move |_: &str| sender.send(()).unwrap());
    let options = Options { recorder: Some(recorder), ..Options::default() };
    assert_eq!(run_short(text, 5, options), plain);
    assert!(lines.iter().count() > 100, "the journal has a line for every event");
    let rescheduled = Options { schedule_seed: Some(1), ..Options::default() };
    assert_ne!(run_short(text, 5, rescheduled).journal_hash, plain.journal_hash);
    assert_ne!(run_short(text, 6, Options::default()).journal_hash, plain.journal_hash);
}

#[test]
fn a_delete_that_a_node_does_not_do_is_a_finding() {
    let text = |kill: &str| {
        format!(
            "name = \"d\"\n[client.builds]\nrate = \"50/s\"\n[[phase]]\nname = \"p\"\nlasts = \"5s\"\n\
             clients = [\"builds\"]\n[[phase]]\nname = \"q\"\nlasts = \"5s\"\nkill = [{kill}]\nclean = [\"builds\"]\n"
        )
    };
    let run = |kill: &str| {
        let document = read("d.toml", &text(kill)).unwrap();
        run(&document, 3, Options::default()).unwrap()
    };
    let done = run("");
    assert!(done.verdict == Verdict::Pass && done.statuses[&204] == 1, "{done:?}");
    let dead = run("\"all\"");
    assert_eq!(dead.invariant, "phase.clean", "{}", dead.reason);
}
