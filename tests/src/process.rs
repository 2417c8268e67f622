//! Other processes, as the system shows them: signals, children, and whether one is still there.

use std::{fs, process::Command};

/// Sends the signal of this name, such as `TERM`.
pub fn signal(pid: u32, name: &str) {
    let line = format!("kill -s {name} {pid}");
    let sent = Command::new("sh").args(["-c", &line]).status();
    assert!(sent.expect("there is a shell").success(), "the signal could not be sent");
}

/// The processes that `parent` has started and that still run, sorted.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("the system shows its processes");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut children: Vec<u32> =
        pids.filter(|pid| stat(*pid).is_some_and(|(_, found)| found == parent)).collect();
    children.sort_unstable();
    children
}

/// Whether the process still runs. One that nobody has waited for does not.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// The state of a process and its parent; nothing if it is gone.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in front, in brackets, may hold anything.
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?.to_owned();
    Some((state, words.next()?.parse().ok()?))
}
