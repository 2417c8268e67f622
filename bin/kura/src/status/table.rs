//! Reports as a table for people, and below it what does not fit a cell.

use std::fmt::Write as _;

use serde_json::Value;

use super::report::{Answers, Report};

/// The columns.
const HEAD: [&str; 9] =
    ["NODE", "STATE", "READY", "PRIMARY", "PEERS", "LAG", "RING", "STAGING", "DISK"];

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// Units of sizes, each 1024 of the one before.
const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// Reports in lines, in their order.
pub(crate) fn render(reports: &[Report]) -> String {
    let rows: Vec<[String; HEAD.len()]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(reports.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let notes: String = reports.iter().map(notes).collect();
    if !notes.is_empty() {
        let _ = write!(out, "\n{notes}");
    }
    out
}

fn row(report: &Report) -> [String; HEAD.len()] {
    let node = report.node.to_string();
    let Ok(answers) = &report.answers else {
        let unknown = || UNKNOWN.to_owned();
        let mut row = std::array::from_fn(|_| unknown());
        [row[0], row[1], row[2]] = [node, "unreachable".to_owned(), "no".to_owned()];
        return row;
    };
    let Answers { ready, primary, status, cluster, disk } = answers;
    let peers: Vec<&Value> = peers(cluster).collect();
    // Compared with once, and not failing now.
    let is_well = |peer: &&&Value| peer["standing"] == "passed" && peer["error"].is_null();
    let well = peers.iter().filter(is_well).count();
    let lags: Option<u64> = peers.iter().map(|peer| peer["lag"].as_u64()).sum();
    let (ring, staging) = (&status["ring"], &status["staging"]);
    let ring = [&ring["segments"], &ring["segments_max"], &ring["segment_bytes"]];
    [
        node,
        ready["state"].as_str().unwrap_or(UNKNOWN).to_owned(),
        yes_or_no(report.is_ready()).to_owned(),
        primary["primary"]["is_primary"].as_bool().map_or(UNKNOWN, yes_or_no).to_owned(),
        if peers.is_empty() { "none".to_owned() } else { format!("{well} of {}", peers.len()) },
        match lags {
            Some(lag) if !peers.is_empty() => lag.to_string(),
            Some(_) | None => UNKNOWN.to_owned(),
        },
        known(ring, |[used, max, bytes]| format!("{used} of {max} x {}", size(bytes))),
        known([&staging["in_use_bytes"], &staging["budget_bytes"]], |[used, budget]| {
            format!("{} of {}", size(used), size(budget))
        }),
        known([&disk["available_bytes"], &disk["total_bytes"]], |[free, total]| {
            format!("{} of {} free", size(free), size(total))
        }),
    ]
}

const fn yes_or_no(it: bool) -> &'static str {
    if it { "yes" } else { "no" }
}

/// The peers of a node, without itself.
fn peers(cluster: &Value) -> impl Iterator<Item = &Value> {
    let peers = cluster["peers"].as_array();
    peers.into_iter().flatten().filter(|peer| peer["standing"] != "myself")
}

/// A cell, if all numbers for it are there.
fn known<const N: usize>(values: [&Value; N], cell: impl Fn([u64; N]) -> String) -> String {
    let numbers: Option<Vec<u64>> = values.into_iter().map(Value::as_u64).collect();
    match numbers.map(<[u64; N]>::try_from) {
        Some(Ok(numbers)) => cell(numbers),
        Some(Err(_)) | None => UNKNOWN.to_owned(),
    }
}

/// A size to a tenth of its unit, rounded down.
pub(crate) fn size(bytes: u64) -> String {
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, "B");
    for next in UNITS {
        if tenths < 10 * 1024 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    match tenths % 10 {
        0 => format!("{}{unit}", tenths / 10),
        tenth => format!("{}.{tenth}{unit}", tenths / 10),
    }
}

/// Why a node is not ready, and what is wrong with its peers.
fn notes(report: &Report) -> String {
    let node = &report.node;
    let answers = match &report.answers {
        Ok(answers) => answers,
        Err(error) => return format!("{node} cannot be reached: {error}\n"),
    };
    let mut out = String::new();
    let reasons = answers.ready["reasons"].as_array();
    let mut reasons = reasons.into_iter().flatten().filter_map(Value::as_str).peekable();
    if !report.is_ready() {
        let _ = writeln!(out, "{node} is not ready:");
    } else if reasons.peek().is_some() {
        let _ = writeln!(out, "{node} was ready without all of its peers:");
    }
    for reason in reasons {
        let _ = writeln!(out, "  {reason}");
    }
    for peer in peers(&answers.cluster) {
        let name = peer["peer"].as_str().unwrap_or(UNKNOWN);
        if let Some(error) = peer["error"].as_str() {
            let how = match peer["silent_seconds"].as_u64() {
                Some(seconds) => format!("has been silent for {seconds} s"),
                None => "failed".to_owned(),
            };
            let _ = writeln!(out, "{node}: peer {name} {how}: {error}");
        }
        let pass = &peer["pass"];
        let numbers = [&pass["done"], &pass["wanted"], &pass["bytes"]];
        if let [Some(done), Some(wanted), Some(bytes)] = numbers.map(Value::as_u64) {
            let speed = pass["bytes_per_second"].as_f64().map_or(0, whole);
            let (bytes, speed) = (size(bytes), size(speed));
            let _ = writeln!(
                out,
                "{node}: pass over {name}: {done} of {wanted} artifacts so far, {bytes}, {speed}/s"
            );
        }
        let set_aside = peer["set_aside_total"].as_u64().unwrap_or(0);
        if set_aside > 0 {
            let first = peer["set_aside"][0].as_str().unwrap_or(UNKNOWN);
            let _ = writeln!(
                out,
                "{node}: {set_aside} artifacts of {name} could not be fetched, such as {first}"
            );
        }
        if let Some(seconds) = peer["ahead_seconds"].as_u64() {
            let _ = writeln!(
                out,
                "{node}: what {name} has is up to {seconds} s ahead of the clock here, and waits"
            );
        }
    }
    out
}

/// A number that is whole already, as such.
fn whole(number: f64) -> u64 {
    format!("{number:.0}").parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(answers: Result<Answers, String>) -> Report {
        Report { node: "127.0.0.1:4000".parse().unwrap(), answers }
    }

    fn serving() -> Answers {
        Answers {
            ready: json!({ "state": "serving", "ready": true, "reasons": [] }),
            primary: json!({ "primary": { "is_primary": true, "why": "it has no peers" } }),
            status: json!({
                "ring": { "segments": 3, "segments_max": 8, "segment_bytes": 512 << 20 },
                "staging": { "in_use_bytes": 1536, "budget_bytes": 8_u64 << 30 },
            }),
            cluster: json!({ "peers": [
                { "peer": "a:1", "standing": "myself" },
                { "peer": "b:1", "standing": "passed", "lag": 2, "error": null },
                { "peer": "c:1", "standing": "passed", "lag": 3, "error": null },
            ] }),
            disk: json!({ "total_bytes": 100_u64 << 30, "available_bytes": 10_u64 << 30 }),
        }
    }

    #[test]
    fn a_node_that_serves_is_one_line() {
        let lines = render(&[report(Ok(serving()))]);
        let expected = "\
NODE                   STATE    READY  PRIMARY  PEERS   LAG  RING             STAGING         DISK
http://127.0.0.1:4000  serving  yes    yes      2 of 2  5    3 of 8 x 512MiB  1.5KiB of 8GiB  10GiB of 100GiB free
";
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&lines), words(expected));
        let starts = |line: &str, word: &str| line.find(word).unwrap();
        let (head, row) = lines.split_once('\n').unwrap();
        for (title, cell) in [("STATE", "serving"), ("RING", "3 of 8"), ("DISK", "10GiB of")] {
            assert_eq!(starts(head, title), starts(row, cell), "{lines}");
        }
    }

    #[test]
    fn what_is_wrong_stands_below_the_table() {
        let mut joining = serving();
        joining.ready = json!({ "state": "joining", "ready": false, "reasons": ["b:1: 1 of 9"] });
        joining.primary = Value::Null;
        joining.status = json!({});
        joining.disk = Value::Null;
        joining.cluster = json!({ "peers": [
            { "peer": "b:1", "standing": "passing", "lag": null, "set_aside_total": 2,
              "set_aside": ["team/x"], "ahead_seconds": 900, "silent_seconds": 4, "error": "refused",
              "pass": { "done": 1, "wanted": 9, "bytes": 2048, "bytes_per_second": 1024.0 } },
            { "peer": "c:1", "standing": "passing", "lag": null, "silent_seconds": null,
              "error": "our own store: full" },
        ] });
        let lines = render(&[report(Ok(joining)), report(Err("no connection".to_owned()))]);
        let lines: Vec<_> = lines.lines().collect();
        let words: Vec<_> = lines[1].split_whitespace().collect();
        let node = "http://127.0.0.1:4000";
        assert_eq!(words, [node, "joining", "no", "-", "0", "of", "2", "-", "-", "-", "-"]);
        let words: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(words, [node, "unreachable", "no", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(
            lines[3..],
            [
                "",
                "http://127.0.0.1:4000 is not ready:",
                "  b:1: 1 of 9",
                "http://127.0.0.1:4000: peer b:1 has been silent for 4 s: refused",
                "http://127.0.0.1:4000: pass over b:1: 1 of 9 artifacts so far, 2KiB, 1KiB/s",
                "http://127.0.0.1:4000: 2 artifacts of b:1 could not be fetched, such as team/x",
                "http://127.0.0.1:4000: what b:1 has is up to 900 s ahead of the clock here, and waits",
                "http://127.0.0.1:4000: peer c:1 failed: our own store: full",
                "http://127.0.0.1:4000 cannot be reached: no connection",
            ]
        );
    }

    #[test]
    fn who_was_not_waited_for_is_told_of_a_node_that_is_ready() {
        let mut ready = serving();
        ready.ready["reasons"] = json!(["b:1 is silent and not waited for any longer"]);
        let lines = render(&[report(Ok(ready))]);
        let expected = "\
http://127.0.0.1:4000 was ready without all of its peers:
  b:1 is silent and not waited for any longer
";
        assert!(lines.ends_with(expected), "{lines}");
    }

    #[test]
    fn sizes_are_short_and_rounded_down() {
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            ((1 << 30) - 1, "1023.9MiB"),
            (u64::MAX, "16383.9PiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
