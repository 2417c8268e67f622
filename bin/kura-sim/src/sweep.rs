//! `kura-sim sweep`: many seeds, on several threads, going on where an earlier sweep stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, BufWriter, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sim::{
    report::{CrashPoint, Verdict},
    run::Options,
};

use crate::{
    Failure,
    execute::{Timed, execute},
    library::{self, Found},
    show::{self, say},
};

/// Arguments of `sweep`.
#[derive(clap::Args)]
pub(crate) struct SweepArguments {
    /// Scenarios, by their files or names.
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// Which seeds: from A on, below B.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: (u64, u64),
    /// Runs at once; one for each core if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where finished seeds are written down, to be skipped by the next sweep of the same build
    /// and scenarios.
    #[arg(long, default_value = "target/kura-sim/sweep.jsonl")]
    out: PathBuf,
    /// Goes on after the first failure of a scenario that many failed runs.
    #[arg(long, default_value_t = 20)]
    failures_max: usize,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once("..").ok_or("write it as A..B, such as 0..500")?;
    let number = |part: &str| part.parse().map_err(|_| format!("{part:?} is not a seed"));
    let (from, to) = (number(parts.0)?, number(parts.1)?);
    if from < to { Ok((from, to)) } else { Err(format!("{text} holds no seed")) }
}

/// A finished run, as the file of a sweep keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Finished {
    /// The build and the text of the scenario.
    fingerprint: String,
    scenario: String,
    path: String,
    seed: u64,
    exit_code: u8,
    invariant: String,
    reason: String,
    sim_seconds: f64,
    wall_seconds: f64,
    faults_fired: BTreeMap<String, u64>,
    crash_points: BTreeMap<String, (u64, u64)>,
}

/// A run that is to be made.
struct Job {
    found: Arc<Found>,
    fingerprint: Arc<str>,
    seed: u64,
}

/// Runs every scenario under every seed.
pub(crate) fn sweep(arguments: &SweepArguments) -> Result<u8, Failure> {
    let build = fingerprint_of_build()?;
    let mut jobs = Vec::new();
    for wanted in &arguments.scenarios {
        let found = Arc::new(library::find(wanted)?);
        let text = format!("{build}{}", found.text);
        let fingerprint: Arc<str> = hex(&Sha256::digest(text.as_bytes())).into();
        let job = |seed| Job { found: found.clone(), fingerprint: fingerprint.clone(), seed };
        jobs.extend((arguments.seeds.0..arguments.seeds.1).map(job));
    }
    let (mut finished, mut file) = open(&arguments.out)?;
    let done: BTreeSet<(String, u64)> =
        finished.iter().map(|run| (run.fingerprint.clone(), run.seed)).collect();
    let wanted: BTreeSet<(String, u64)> =
        jobs.iter().map(|job| (job.fingerprint.to_string(), job.seed)).collect();
    finished.retain(|run| wanted.contains(&(run.fingerprint.clone(), run.seed)));
    jobs.retain(|job| !done.contains(&(job.fingerprint.to_string(), job.seed)));
    if !finished.is_empty() {
        say(&format!("{} runs were finished before, {} to go", finished.len(), jobs.len()))?;
    }
    let threads = arguments.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into));
    let bar = progress_bar(jobs.len());
    for run in start(jobs, threads.unwrap_or(1).max(1))? {
        let run = run?;
        let failed = |error| Failure::Io(arguments.out.display().to_string(), error);
        let line = serde_json::to_string(&run)
            .map_err(|error| Failure::Io("a finished run".to_owned(), error.into()))?;
        writeln!(file, "{line}").and_then(|()| file.flush()).map_err(failed)?;
        if run.exit_code != 0 {
            bar.suspend(|| say(&complaint(&run)))?;
        }
        finished.push(run);
        bar.inc(1);
        if finished.iter().filter(|run| run.exit_code != 0).count() >= arguments.failures_max {
            bar.suspend(|| say(&"too many failures: the rest is not run"))?;
            break;
        }
    }
    bar.finish_and_clear();
    summary(&finished)
}

/// Starts the threads; the finished runs come as they are done. Dropping the receiver stops them
/// after the run that each is at.
fn start(
    jobs: Vec<Job>,
    threads: usize,
) -> Result<mpsc::Receiver<Result<Finished, Failure>>, Failure> {
    let (sender, receiver) = mpsc::sync_channel(threads);
    let (jobs, next) = (Arc::new(jobs), Arc::new(AtomicUsize::new(0)));
    for number in 0..threads.min(jobs.len()) {
        let (jobs, next, sender) = (jobs.clone(), next.clone(), sender.clone());
        let work = move || {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if sender.send(finish(job)).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name(format!("sweep {number}"))
            .spawn(work)
            .map_err(|error| Failure::Io("a thread".to_owned(), error))?;
    }
    Ok(receiver)
}

fn finish(job: &Job) -> Result<Finished, Failure> {
    let document = Arc::new(job.found.document.clone());
    let Timed { report, wall_seconds } = execute(document, job.seed, Options::default())?;
    let point = |(class, CrashPoint { crossed, crashed, .. }): (String, CrashPoint)| {
        (class, (crossed, crashed))
    };
    Ok(Finished {
        fingerprint: job.fingerprint.to_string(),
        path: job.found.path.clone(),
        scenario: report.scenario,
        seed: report.seed,
        exit_code: report.verdict.exit_code(),
        invariant: report.invariant,
        reason: report.reason,
        sim_seconds: report.sim_seconds,
        wall_seconds,
        faults_fired: report.faults_fired,
        crash_points: report.crash_points.into_iter().map(point).collect(),
    })
}

/// The runs that an earlier sweep finished, and the file to go on in.
fn open(path: &Path) -> Result<(Vec<Finished>, BufWriter<fs::File>), Failure> {
    let failed = |error| Failure::Io(path.display().to_string(), error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut finished = Vec::new();
    if path.exists() {
        let lines = BufReader::new(fs::File::open(path).map_err(failed)?).lines();
        for line in lines {
            // A sweep that was killed may have left half a line.
            if let Ok(run) = serde_json::from_str(&line.map_err(failed)?) {
                finished.push(run);
            }
        }
    }
    let file = fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    Ok((finished, BufWriter::new(file)))
}

fn fingerprint_of_build() -> Result<String, Failure> {
    let failed = |error| Failure::Io("this program's file".to_owned(), error);
    let program = std::env::current_exe().map_err(failed)?;
    Ok(hex(&Sha256::digest(fs::read(program).map_err(failed)?)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn progress_bar(runs: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(runs).unwrap_or(u64::MAX));
    let form = "{bar:40} {pos}/{len} runs, {per_sec}, {eta} to go";
    bar.set_style(
        ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}

fn complaint(run: &Finished) -> String {
    let verdict =
        if run.exit_code == Verdict::NotHealed.exit_code() { "NOT HEALED" } else { "VIOLATED" };
    let reason = run.reason.lines().next().unwrap_or_default();
    let replay = show::replay(&run.path, run.seed);
    format!(
        "{} seed {}: {verdict} {}: {reason}\n  replay: {replay}",
        run.scenario, run.seed, run.invariant
    )
}

/// Totals, and the crash points hit. The exit code is that of the worst run.
fn summary(finished: &[Finished]) -> Result<u8, Failure> {
    let mut scenarios: BTreeMap<&str, (u64, u64, f64, f64)> = BTreeMap::new();
    let mut points: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut fired: BTreeMap<&str, u64> = BTreeMap::new();
    for run in finished {
        let total = scenarios.entry(&run.scenario).or_default();
        total.0 += 1;
        total.1 += u64::from(run.exit_code != 0);
        total.2 += run.sim_seconds;
        total.3 += run.wall_seconds;
        for (class, (crossed, crashed)) in &run.crash_points {
            let point = points.entry(class).or_default();
            *point = (point.0 + crossed, point.1 + crashed);
        }
        for (class, count) in &run.faults_fired {
            *fired.entry(class).or_default() += count;
        }
    }
    for (scenario, (runs, failed, sim_seconds, wall_seconds)) in scenarios {
        say(&format!(
            "{scenario}: {runs} runs, {failed} failed, {sim_seconds:.0} simulated seconds in \
             {wall_seconds:.1} s ({:.0} times as fast as time)",
            show::per_second(sim_seconds, wall_seconds)
        ))?;
    }
    say(&"faults fired:")?;
    for (class, count) in fired {
        let never = if count == 0 { "  <- never" } else { "" };
        say(&format!("  {count:>8}  {class}{never}"))?;
    }
    say(&"crash points (crossed, crashed at):")?;
    for (class, (crossed, crashed)) in points {
        say(&format!("  {crossed:>10} {crashed:>6}  {class}"))?;
    }
    let codes = finished.iter().map(|run| run.exit_code);
    // A violation outweighs a node that did not heal in time.
    let violated = codes.clone().any(|code| code == Verdict::Violated.exit_code());
    let worst = if violated { Verdict::Violated.exit_code() } else { codes.max().unwrap_or(0) };
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_that_holds_something() {
        assert_eq!(seeds("0..500"), Ok((0, 500)));
        for wrong in ["5", "5..5", "7..5", "a..b", "..", "0..=5"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }

    fn finished(seed: u64, exit_code: u8) -> Finished {
        Finished {
            fingerprint: "f".to_owned(),
            scenario: "s".to_owned(),
            path: "s.toml".to_owned(),
            seed,
            exit_code,
            invariant: String::new(),
            reason: String::new(),
            sim_seconds: 1.0,
            wall_seconds: 1.0,
            faults_fired: BTreeMap::new(),
            crash_points: BTreeMap::new(),
        }
    }

    #[test]
    fn a_violation_outweighs_a_node_that_did_not_heal() {
        let code = |codes: &[u8]| {
            let runs: Vec<Finished> = codes.iter().map(|code| finished(0, *code)).collect();
            summary(&runs).unwrap()
        };
        assert_eq!((code(&[]), code(&[0, 0])), (0, 0));
        assert_eq!((code(&[0, 3]), code(&[3, 1, 0])), (3, 1));
    }

    #[test]
    fn finished_runs_are_read_back_and_half_a_line_is_not() {
        let path = std::env::temp_dir().join(format!("kura-sim-sweep-{}", std::process::id()));
        let whole = serde_json::to_string(&finished(4, 0)).unwrap();
        fs::write(&path, format!("{whole}\n{}", &whole[..20])).unwrap();
        let (runs, _file) = open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(runs.iter().map(|run| run.seed).collect::<Vec<_>>(), [4]);
    }
}
