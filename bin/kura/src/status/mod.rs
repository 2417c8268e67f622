//! `kura status`: how nodes are, asked of the nodes themselves.

mod report;
mod table;

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use self::report::Report;
pub(crate) use self::table::size;
use crate::{ask::NodeUrl, complain, exit::Exit, try_print};

/// How often `--watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Moves to the first place of the screen.
const HOME: &str = "\x1b[H";
/// Clears what is right of the cursor.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears what is below the cursor.
const CLEAR_BELOW: &str = "\x1b[J";
/// Clears the screen, once.
const CLEAR: &str = "\x1b[2J";

/// What somebody wants to know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Of which nodes.
    pub(crate) nodes: Vec<NodeUrl>,
    /// Whether the answers are for a program.
    pub(crate) json: bool,
    /// Whether to look again and again.
    pub(crate) watch: bool,
}

/// Asks and prints, once or until somebody stops it.
pub(crate) fn run(question: &Question) -> Exit {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("kura: the system gives no file descriptors: {error}\n"));
            return Exit::Io;
        }
    };
    let exit = runtime.block_on(look(question));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    exit
}

async fn look(question: &Question) -> Exit {
    if !question.watch {
        let reports = ask_all(&question.nodes).await;
        return match try_print(&shown(question, &reports)) {
            Ok(()) => exit(&reports),
            Err(failed) => failed,
        };
    }
    let on_screen = io::stdout().is_terminal() && !question.json;
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_first = true;
    loop {
        ticks.tick().await;
        let reports = ask_all(&question.nodes).await;
        let text = shown(question, &reports);
        let text = match (on_screen, is_first) {
            (true, true) => format!("{CLEAR}{}", redrawn(&text)),
            (true, false) => redrawn(&text),
            (false, true) => text,
            (false, false) if question.json => text,
            (false, false) => format!("\n{text}"),
        };
        is_first = false;
        if let Err(failed) = try_print(&text) {
            return failed;
        }
    }
}

/// All nodes at once, so that one that hangs delays nobody; in the order in which they were named.
async fn ask_all(nodes: &[NodeUrl]) -> Vec<Report> {
    let mut asking = JoinSet::new();
    for (place, node) in nodes.iter().cloned().enumerate() {
        asking.spawn(async move { (place, Report::ask(node).await) });
    }
    let mut reports = asking.join_all().await;
    reports.sort_by_key(|(place, _)| *place);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn shown(question: &Question, reports: &[Report]) -> String {
    if !question.json {
        return table::render(reports);
    }
    let answers: serde_json::Value = reports.iter().map(Report::json).collect();
    // One look is for people as well; of many, each is a line.
    if question.watch { format!("{answers}\n") } else { format!("{answers:#}\n") }
}

/// `text` over what was drawn before, without a flicker.
fn redrawn(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{line}{CLEAR_LINE}\n")).collect();
    format!("{HOME}{lines}{CLEAR_BELOW}")
}

fn exit(reports: &[Report]) -> Exit {
    if reports.iter().any(|report| report.answers.is_err()) {
        Exit::Io
    } else if reports.iter().all(Report::is_ready) {
        Exit::Clean
    } else {
        Exit::NotReady
    }
}
