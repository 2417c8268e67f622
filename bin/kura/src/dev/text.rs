//! What `kura dev` tells whoever runs it.

use std::{fmt::Write as _, time::Duration};

use super::{Home, node::Place};

/// What is said before anything runs.
pub(super) fn greeting(places: &[Place], home: &Home) -> String {
    let path = home.path().display();
    let data = match home {
        Home::Kept(_) => format!("the data stays in {path}"),
        Home::Temporary(_) => format!("the data is in {path} and goes with them (--dir keeps it)"),
    };
    let mut out = format!("{} on this machine; {data}\n\n", nodes(places.len()));
    for place in places {
        let _ = writeln!(out, "  {}  {}", place.name(), place.url());
    }
    out
}

/// What is said when all are ready.
pub(super) fn ready(running: &[&Place], after: Duration) -> String {
    let Some(first) = running.first().map(|place| place.url()) else { return String::new() };
    let urls: Vec<String> = running.iter().map(|place| place.url().to_string()).collect();
    let seconds = after.as_secs_f64();
    let (mesh, any) = match running.len() {
        1 => ("The node is ready".to_owned(), ""),
        count => (
            format!("All {count} nodes are ready"),
            " What is written at one node is fetched by the others, so any of the URLs will do.",
        ),
    };
    format!(
        "\n{mesh}, after {seconds:.1} s.{any}\n\n\
         ccache\n  export CCACHE_REMOTE_STORAGE=\"{first}/ccache|layout=subdirs\"\n\
         Bazel\n  bazel build //... --remote_cache={first}/bazel\n\
         How they are\n  kura status {}\n\nCtrl-C stops.\n",
        urls.join(" ")
    )
}

/// What is said when some node is not ready for long.
pub(super) fn still_waiting(waiting: &[&Place]) -> String {
    let names: Vec<String> = waiting.iter().map(|place| place.name()).collect();
    let urls: Vec<String> = waiting.iter().map(|place| place.url().to_string()).collect();
    format!("still waiting for {}; to see why: kura status {}\n", names.join(", "), urls.join(" "))
}

/// So many nodes, in words.
pub(super) fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}
