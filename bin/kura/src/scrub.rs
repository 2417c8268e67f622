//! `kura scrub`: has a node read all that it holds, and says what came of it.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use serde::Deserialize;
use tokio::runtime::Builder;

use crate::{
    ask::{AskError, NodeUrl, Page},
    complain,
    exit::Exit,
    try_print,
};

/// The page of a node.
const SCRUB: &str = "/status/scrub";
/// How often the node is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks in a row that may fail, while a node is busy.
const FAILURES_MAX: u32 = 10;
/// How long it has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What somebody wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Of which node.
    pub(crate) node: NodeUrl,
    /// Whether not to wait for the end of the pass.
    pub(crate) no_wait: bool,
}

/// What a node says of its scrub; what is not used here is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    is_asked: bool,
    under_way: Option<Pass>,
    last: Option<Pass>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Pass {
    began_ms: u64,
    segments: u64,
    segments_done: u64,
    records: u64,
    bytes: u64,
    lost: u64,
}

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("it answered {0}: {1}")]
    Status(u16, String),
    #[error("it knows of no pass: it was restarted; ask again")]
    Restarted,
    #[error("its answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// Asks, and waits if that is wanted.
pub(crate) fn run(order: &Order) -> Exit {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("kura: the system gives no file descriptors: {error}\n"));
            return Exit::Io;
        }
    };
    let exit = runtime.block_on(scrub(order));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    match exit {
        Ok(exit) => exit,
        Err(failure) => {
            complain(&format!("kura: {}: {failure}\n", order.node));
            Exit::Io
        }
    }
}

async fn scrub(order: &Order) -> Result<Exit, Failure> {
    let Order { node, no_wait } = order;
    let begun = read(node.post(SCRUB, ANSWER_MAX).await?)?;
    if *no_wait {
        return Ok(printed("a pass is under way\n", Exit::Clean));
    }
    let last_before = begun.last.map(|pass| pass.began_ms);
    let shows = io::stderr().is_terminal();
    let mut failures = 0;
    loop {
        let status = match node.get(SCRUB, ANSWER_MAX).await.map_err(Failure::from).and_then(read) {
            Ok(status) => status,
            Err(failure) if failures == FAILURES_MAX => return Err(failure),
            Err(_) => {
                failures += 1;
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        };
        failures = 0;
        match (status.under_way, status.last) {
            (Some(pass), _) if shows => complain(&format!("\r{}\x1b[K", progress(&pass))),
            (Some(_), _) => {}
            (None, Some(pass)) if !status.is_asked && Some(pass.began_ms) != last_before => {
                if shows {
                    complain("\r\x1b[K");
                }
                let exit = if pass.lost == 0 { Exit::Clean } else { Exit::Unsound };
                return Ok(printed(&result(&pass), exit));
            }
            // Asked for, and not begun.
            (None, _) if status.is_asked => {}
            (None, _) => return Err(Failure::Restarted),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn read(page: Page) -> Result<Status, Failure> {
    if !(200..300).contains(&page.status) {
        let text = String::from_utf8_lossy(&page.body).trim().to_owned();
        return Err(Failure::Status(page.status, text));
    }
    Ok(serde_json::from_slice(&page.body)?)
}

fn printed(text: &str, exit: Exit) -> Exit {
    match try_print(text) {
        Ok(()) => exit,
        Err(failed) => failed,
    }
}

fn progress(pass: &Pass) -> String {
    let Pass { segments, segments_done, records, bytes, lost, .. } = pass;
    let mib = bytes / (1024 * 1024);
    format!(
        "{segments_done} of {segments} segments, {records} records, {mib} MiB read, {lost} lost"
    )
}

fn result(pass: &Pass) -> String {
    let Pass { segments, records, bytes, lost, .. } = pass;
    let read = format!(
        "{records} records in {segments} segments and large objects were read, {bytes} bytes\n"
    );
    let verdict = match lost {
        0 => "all are as they were written\n".to_owned(),
        1 => "1 could not be read whole: it is a miss now, and its peers are asked for it\n"
            .to_owned(),
        lost => format!(
            "{lost} could not be read whole: they are misses now, and the peers are asked for them\n"
        ),
    };
    read + &verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_is_told_in_two_lines() {
        let body = |text: &str| Page { status: 200, body: text.to_owned().into() };
        let status = read(body(
            r#"{"is_asked":false,"under_way":null,"last":{"began_ms":7,"ended_ms":9,"segments":2,
            "segments_done":2,"records":5,"bytes":4096,"lost":1}}"#,
        ));
        let pass = status.expect("it is one").last.expect("it has one");
        assert_eq!(
            result(&pass),
            "5 records in 2 segments and large objects were read, 4096 bytes\n1 could not be read \
             whole: it is a miss now, and its peers are asked for it\n"
        );
        assert!(result(&Pass::default()).ends_with("all are as they were written\n"));
        let told = "0 of 0 segments, 0 records, 0 MiB read, 0 lost";
        assert_eq!(progress(&Pass::default()), told);
        let refused = read(Page { status: 503, body: "recovering\n".into() });
        let refused = refused.expect_err("it is no page").to_string();
        assert_eq!(refused, "it answered 503: recovering");
    }
}
