//! `kura-sim run`: one scenario, one seed.

use std::{path::PathBuf, sync::Arc};

use sim::{
    report::{EXIT_DIFFERENT, Verdict},
    run::Options,
    scenario::{self, ScenarioError},
};

use crate::{
    Failure, capsule,
    execute::{Timed, execute},
    library::{self, Found},
    show::{self, say},
    twin::{self, Engine},
};

/// Arguments of `run`.
#[derive(clap::Args, Default)]
pub(crate) struct RunArguments {
    /// A scenario, by its file or its name.
    pub(crate) scenario: String,
    /// From which everything is drawn.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Chooses the order of tasks that are ready at once; as the seed says if not given.
    #[arg(long)]
    pub(crate) schedule: Option<u64>,
    /// Replaces a field of the scenario: `node.durability=process-crash`.
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Prints one line of JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where a failing run leaves its capsule: verdict, plan, timeline, journal, replay command.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Runs twice and compares: the same seed must do the same.
    #[arg(long)]
    pub(crate) twice: bool,
    /// What the nodes run on; turmoil runs small forms of some scenarios, for a second opinion.
    #[arg(long, value_enum, default_value_t = Engine::Own)]
    pub(crate) engine: Engine,
}

/// Runs one scenario.
pub(crate) fn run(arguments: &RunArguments) -> Result<u8, Failure> {
    match arguments.engine {
        Engine::Own => {}
        Engine::Turmoil => {
            let RunArguments { scenario, seed, json, twice, .. } = arguments;
            let own = [
                ("--schedule", arguments.schedule.is_some()),
                ("--set", !arguments.set.is_empty()),
                ("--out", arguments.out.is_some()),
            ];
            return twin::run(scenario, *seed, (*json, *twice), &own);
        }
    }
    let Found { path, mut document, .. } = library::find(&arguments.scenario)?;
    for setting in &arguments.set {
        let wrong = |error: ScenarioError| Failure::Usage(error.to_string());
        scenario::set(&mut document, setting).map_err(wrong)?;
    }
    let (document, seed) = (Arc::new(document), arguments.seed);
    let options = || Options { schedule_seed: arguments.schedule, recorder: None };
    let timed = execute(document.clone(), seed, options())?;
    let mut replay = show::replay(&path, seed);
    if let Some(schedule) = arguments.schedule {
        replay.push_str(&format!(" --schedule {schedule}"));
    }
    for setting in &arguments.set {
        replay.push_str(&format!(" --set '{setting}'"));
    }
    if arguments.json {
        let json = serde_json::to_string(&timed)
            .map_err(|error| Failure::Io("the report".to_owned(), error.into()))?;
        say(&json)?;
    } else {
        say(&show::report(&timed.report, timed.wall_seconds, &replay))?;
    }
    if arguments.twice {
        let again = execute(document.clone(), seed, options())?;
        if again.report != timed.report {
            show::complain(&difference(&timed, &again));
            return Ok(EXIT_DIFFERENT);
        }
    }
    let failed = timed.report.verdict != Verdict::Pass;
    if let Some(out) = arguments.out.as_ref().filter(|_| failed) {
        let (directory, journalled) = capsule::leave(out, document, &timed, (options(), &replay))?;
        show::complain(&format!("the capsule is in {}", directory.display()));
        if journalled.report != timed.report {
            show::complain(&difference(&timed, &journalled));
            return Ok(EXIT_DIFFERENT);
        }
    }
    Ok(timed.report.verdict.exit_code())
}

fn difference(first: &Timed, second: &Timed) -> String {
    let (a, b) = (&first.report, &second.report);
    format!(
        "two runs of {} under seed {} differ: {} events and journal {}, then {} events and journal \
         {}",
        a.scenario, a.seed, a.events, a.journal_hash, b.events, b.journal_hash
    )
}
