//! `kura-sim enumerate`: one story, told again and again, with a crash at every change of the disk in
//! turn, in every way in which one can die there; with a second crash at every change that recovery
//! makes; and with crashes aimed at the classes of change that none came at by then. A story with strikes is told
//! with every pair of them: see `pairs`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use sim::{
    report::{CrashPoint, RunReport, Verdict},
    run::Options,
    scenario::{self, Document, ScenarioError},
};

use crate::{
    Failure,
    execute::execute,
    library::{self, Found},
    pairs,
    show::{self, say},
};

/// The fault of the scenario that is moved through it.
const FAULT: &str = "fault.crash";
/// How a node may die: how it is killed, and what stays of what it had not synced.
const DEATHS: [(&str, &str); 4] = [
    ("sigkill", "everything"),
    ("power-loss", "nothing"),
    ("power-loss", "everything"),
    ("power-loss", "sampled"),
];
const MOMENTS: [&str; 3] = ["before", "within", "after"];
/// Where the first of two crashes comes, as shares of the story in tenths.
const FIRST_OF_TWO: [u64; 3] = [3, 6, 9];
/// What becomes of the catalog between the two, for a start that goes on and one that makes it again; and
/// how many names are digests. Of other names an older body may come back with a lost catalog, if a large
/// one that took its place was evicted before it: not solved yet.
const FATES: [(&str, &str); 2] = [("kept", "50%"), ("lost", "100%")];
/// The second crash comes at most so many changes behind the first: recovery takes fewer here.
const RECOVERY_EFFECTS_MAX: u64 = 120;
/// Runs in which a class of change that no crash came at was made, and that are made again with a crash there.
const AIMS_MAX: usize = 12;
/// Failures that are told.
pub(crate) const FAILURES_MAX: usize = 20;

/// Every class of change that a node makes to its disk. One that is not here, and one that no crash came
/// at, fails the enumeration, unless a reason says why.
const LEDGER: &[(&str, Option<&str>)] = &[
    ("allocate blobs/*.seg", None),
    ("append IDENTITY.new", None),
    ("append RING.new", None),
    ("append STAMP.new", None),
    ("append TOMBSTONES.new", None),
    ("append blobs/*.seg", None),
    ("append catalog/*.log", None),
    ("append tmp/*.part", None),
    ("create IDENTITY.new", None),
    ("create RING.new", None),
    ("create STAMP.new", None),
    ("create TOMBSTONES.new", None),
    ("create blobs/*.seg", None),
    ("create catalog/*.log", None),
    ("create tmp/*.part", None),
    ("freeze blobs/*.seg", None),
    ("freeze tmp/*.part", None),
    ("lock LOCK", None),
    ("mkdir blobs", None),
    ("mkdir catalog", None),
    ("mkdir entries", None),
    ("mkdir pool", None),
    ("mkdir pool/*", None),
    ("mkdir quarantine", None),
    ("mkdir quarantine/catalog", None),
    ("mkdir tmp", None),
    ("rename IDENTITY.new -> IDENTITY", None),
    ("rename RING.new -> RING", None),
    ("rename STAMP.new -> STAMP", None),
    ("rename TOMBSTONES.new -> TOMBSTONES", None),
    ("rename catalog/*.log -> quarantine/catalog/*.log", None),
    ("rename tmp/*.part -> pool/*/*.blob", None),
    ("sync_data IDENTITY.new", None),
    ("sync_data RING.new", None),
    ("sync_data STAMP.new", None),
    ("sync_data TOMBSTONES.new", None),
    ("sync_data blobs/*.seg", None),
    ("sync_data catalog/*.log", None),
    ("sync_data pool/*/*.blob", None),
    ("sync_data tmp/*.part", None),
    ("sync_dir .", None),
    ("sync_dir blobs", None),
    ("sync_dir catalog", None),
    ("sync_dir pool", None),
    ("sync_dir pool/*", None),
    ("sync_dir quarantine/catalog", None),
    ("unlink IDENTITY.new", None),
    ("unlink RING.new", None),
    ("unlink quarantine/catalog/*.log", None),
    ("unlink STAMP.new", None),
    ("unlink TOMBSTONES.new", None),
    ("unlink blobs/*.seg", None),
    ("unlink pool/*/*.blob", None),
    ("unlink tmp/*.part", None),
    ("write_at blobs/*.seg", None),
    ("write_at catalog/*.log", None),
    ("write_at tmp/*.part", None),
];

/// Arguments of `enumerate`.
#[derive(clap::Args)]
pub(crate) struct EnumerateArguments {
    /// A scenario with a fault `crash`, or with strikes `first` and `second`, by its file or its name.
    #[arg(default_value = "crash_at_every_effect")]
    scenario: String,
    /// From which everything else is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Makes one part of the runs only: the K-th of N, counted from 0.
    #[arg(long, value_name = "K/N", value_parser = part)]
    part: Option<(u64, u64)>,
    /// Runs at once; one for each core if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Of a scenario with strikes: makes the run of this name alone, and shows it.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Where that run leaves its capsule if it fails.
    #[arg(long, requires = "only")]
    out: Option<PathBuf>,
}

fn part(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').ok_or("write it as K/N, such as 3/10")?;
    let number = |part: &str| part.parse().map_err(|_| format!("{part:?} is no number"));
    let (part, of): (u64, u64) = (number(parts.0)?, number(parts.1)?);
    if part < of { Ok((part, of)) } else { Err(format!("{text}: parts are counted from 0")) }
}

/// One run: what is set in the scenario.
pub(crate) type Settings = Vec<String>;
/// A finished run.
pub(crate) type Finished = (Settings, Result<RunReport, Failure>);

/// Makes all runs, or one part of them.
pub(crate) fn enumerate(arguments: &EnumerateArguments) -> Result<u8, Failure> {
    let EnumerateArguments { scenario, seed, part, jobs, only, out } = arguments;
    let Found { path, document, .. } = library::find(scenario)?;
    let threads =
        jobs.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1).max(1);
    if pairs::has_strikes(&document) {
        let story = pairs::Story { path, document, seed: *seed };
        return match only {
            Some(name) => pairs::one(&story, name, out.clone()),
            None => pairs::all(&story, *part, threads),
        };
    }
    if only.is_some() {
        return Err(Failure::Usage(format!("{path} has no strikes: its runs have no names")));
    }
    let calm = run(&document, *seed, &[format!("{FAULT}.chance=0")])?;
    if calm.verdict != Verdict::Pass {
        let what = format!("without a crash it does not pass: {}", calm.reason);
        return Err(Failure::Usage(what));
    }
    let effects = calm.crash_points.values().map(|point| point.crossed).sum();
    let mut runs = first_crashes(effects);
    runs.extend(second_crashes(effects));
    let total = runs.len();
    keep_part(&mut runs, *part);
    say(&format!(
        "{path} with seed {seed}: {effects} changes of the disk; {} of {total} runs",
        runs.len()
    ))?;
    let (mut seen, document) = (Seen::default(), Arc::new(document));
    let make = |seen: &mut Seen, runs| {
        for (settings, report) in start(document.clone(), *seed, runs, threads)? {
            seen.take(&path, *seed, &settings, &report?)?;
        }
        Ok::<_, Failure>(())
    };
    make(&mut seen, runs)?;
    // The second round aims behind the second crashes of the first.
    for _ in 0..2 {
        let aimed = if part.is_none() { seen.take_aims() } else { Vec::new() };
        if !aimed.is_empty() {
            say(&format!("{} runs with a crash at what none came at", aimed.len()))?;
            make(&mut seen, aimed)?;
        }
    }
    seen.summary(part.is_none())
}

/// Keeps every so many-th of the runs alone, if a part is asked for.
pub(crate) fn keep_part<R>(runs: &mut Vec<R>, part: Option<(u64, u64)>) {
    let Some((part, of)) = part else { return };
    let mut position = 0;
    runs.retain(|_| {
        position += 1;
        (position - 1) % of == part
    });
}

/// A crash at every change, in every way.
fn first_crashes(effects: u64) -> Vec<Settings> {
    let mut runs = Vec::new();
    for nth in 1..=effects {
        for (death, keeps) in DEATHS {
            runs.extend(MOMENTS.map(|moment| settings(nth, (death, keeps), moment, ("kept", 0))));
        }
    }
    runs
}

/// A second crash at every change behind the first.
fn second_crashes(effects: u64) -> Vec<Settings> {
    let mut runs = Vec::new();
    for share in FIRST_OF_TWO {
        for again in 1..=RECOVERY_EFFECTS_MAX {
            for (number, death) in (0_u64..).zip(DEATHS) {
                // Both crashes have one moment: which one goes round.
                let moment = MOMENTS[usize::try_from((again + number) % 3).unwrap_or(0)];
                let nth = effects * share / 10;
                runs.extend(FATES.map(|(fate, digests)| {
                    let mut settings = settings(nth, death, moment, (fate, again));
                    settings.push(format!("client.builds.cas_share={digests}"));
                    settings
                }));
            }
        }
    }
    runs
}

fn settings(
    nth: u64,
    (death, keeps): (&str, &str),
    moment: &str,
    (fate, again): (&str, u64),
) -> Settings {
    let values = [
        ("chance", "1".to_owned()),
        ("nth", nth.to_string()),
        ("death", death.to_owned()),
        ("keeps", keeps.to_owned()),
        ("moment", moment.to_owned()),
        ("catalog", fate.to_owned()),
        ("again_nth", again.to_string()),
    ];
    values.map(|(key, value)| format!("{FAULT}.{key}={value}")).into()
}

pub(crate) fn run(
    document: &Document,
    seed: u64,
    settings: &[String],
) -> Result<RunReport, Failure> {
    let mut document = document.clone();
    for setting in settings {
        let wrong = |error: ScenarioError| Failure::Usage(error.to_string());
        scenario::set(&mut document, setting).map_err(wrong)?;
    }
    Ok(execute(Arc::new(document), seed, Options::default())?.report)
}

/// Starts the threads; the finished runs come as they are done.
pub(crate) fn start(
    document: Arc<Document>,
    seed: u64,
    runs: Vec<Settings>,
    threads: usize,
) -> Result<mpsc::Receiver<Finished>, Failure> {
    let (sender, receiver) = mpsc::sync_channel(threads);
    let (runs, next) = (Arc::new(runs), Arc::new(AtomicUsize::new(0)));
    for number in 0..threads {
        let (runs, next, sender) = (runs.clone(), next.clone(), sender.clone());
        let document = document.clone();
        let work = move || {
            while let Some(settings) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let report = run(&document, seed, settings);
                if sender.send((settings.clone(), report)).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name(format!("enumerate {number}"));
        thread.spawn(work).map_err(|error| Failure::Io("a thread".to_owned(), error))?;
    }
    Ok(receiver)
}

/// Of one class: the settings of runs that made such a change behind a crash, each with another crash there,
/// by how many crashes that takes.
type Aims = [Vec<Settings>; 2];

/// What the runs came to.
#[derive(Default)]
struct Seen {
    runs: u64,
    failed: usize,
    struck_twice: u64,
    worst: u8,
    points: BTreeMap<String, CrashPoint>,
    /// By class, as long as no crash came at it.
    aims: BTreeMap<String, Aims>,
}

/// The settings of a run with one crash more, so many changes behind its last one, which was the first or the
/// second; `None` if it had one there already.
fn aimed(settings: &Settings, behind: usize, distance: u64) -> Option<Settings> {
    let (again, third) = (format!("{FAULT}.again_nth="), format!("{FAULT}.third_nth="));
    let has =
        |key: &String| settings.iter().any(|it| it.strip_prefix(key).is_some_and(|nth| nth != "0"));
    let (key, is_next) = match behind {
        0 => (again.clone(), !has(&again)),
        _ => (third.clone(), has(&again) && !has(&third)),
    };
    let mut aimed: Settings = settings.iter().filter(|it| !it.starts_with(&key)).cloned().collect();
    aimed.push(format!("{key}{distance}"));
    (is_next && distance > 0).then_some(aimed)
}

impl Seen {
    /// Runs that are aimed at what no crash came at; each is given once.
    fn take_aims(&mut self) -> Vec<Settings> {
        let mut take = |at: usize| -> Vec<Settings> {
            self.aims.values_mut().flat_map(|aims| std::mem::take(&mut aims[at])).collect()
        };
        let first = take(0);
        if first.is_empty() { take(1) } else { first }
    }

    fn aim(&mut self, class: &str, point: CrashPoint, settings: &Settings) {
        if self.points.get(class).is_some_and(|point| point.crashed > 0) {
            self.aims.remove(class);
            return;
        }
        for (behind, distance) in point.behind.into_iter().enumerate() {
            if let Some(aimed) = aimed(settings, behind, distance) {
                let aims = &mut self.aims.entry(class.to_owned()).or_default()[behind];
                if aims.len() < AIMS_MAX && !aims.contains(&aimed) {
                    aims.push(aimed);
                }
            }
        }
    }

    fn take(
        &mut self,
        path: &str,
        seed: u64,
        settings: &Settings,
        report: &RunReport,
    ) -> Result<(), Failure> {
        self.runs += 1;
        self.struck_twice += report.faults_fired.get("crash.again").copied().unwrap_or(0);
        for (class, point) in &report.crash_points {
            let total = self.points.entry(class.clone()).or_default();
            total.crossed += point.crossed;
            total.crashed += point.crashed;
            self.aim(class, *point, settings);
        }
        if report.verdict == Verdict::Pass {
            return Ok(());
        }
        self.failed += 1;
        self.worst = self.worst.max(report.verdict.exit_code());
        if self.failed <= FAILURES_MAX {
            let replay = show::replay(path, seed);
            let set: Vec<String> = settings.iter().map(|it| format!("--set {it}")).collect();
            let reason = report.reason.lines().next().unwrap_or_default();
            say(&format!("{}: {reason}\n  replay: {replay} {}", report.invariant, set.join(" ")))?;
        }
        Ok(())
    }

    /// Tells the totals. Whether a class was left out can be told only of `all` runs.
    fn summary(&self, all: bool) -> Result<u8, Failure> {
        say(&format!(
            "{} runs, {} failed; a second crash came in {}",
            self.runs, self.failed, self.struck_twice
        ))?;
        say(&"changes of the disk (made, died at):")?;
        for (class, CrashPoint { crossed, crashed, .. }) in &self.points {
            say(&format!("  {crossed:>10} {crashed:>6}  {class}"))?;
        }
        let gaps = gaps(LEDGER, &self.points, all);
        for gap in &gaps {
            say(gap)?;
        }
        let unlisted = if gaps.is_empty() { 0 } else { Verdict::Violated.exit_code() };
        Ok(self.worst.max(unlisted))
    }
}

/// What the ledger and the runs do not have in common.
fn gaps(
    ledger: &[(&str, Option<&str>)],
    points: &BTreeMap<String, CrashPoint>,
    all: bool,
) -> Vec<String> {
    let listed: BTreeMap<&str, Option<&str>> = ledger.iter().copied().collect();
    let unknown = points.keys().filter(|class| !listed.contains_key(class.as_str()));
    let mut gaps: Vec<String> =
        unknown.map(|class| format!("not in the ledger of changes: {class}")).collect();
    for (class, reason) in ledger.iter().filter(|_| all) {
        let crashed = points.get(*class).map_or(0, |point| point.crashed);
        match reason {
            None if crashed == 0 => gaps.push(format!("no crash came at: {class}")),
            Some(_) if crashed > 0 => {
                gaps.push(format!("has a reason never to be died at: {class}"))
            }
            None | Some(_) => {}
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_zero() {
        assert_eq!(part("3/10"), Ok((3, 10)));
        for wrong in ["3", "10/10", "a/b", "1/0"] {
            assert!(part(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_change_is_died_at_in_every_way() {
        let runs = first_crashes(5);
        assert_eq!(runs.len(), 5 * DEATHS.len() * MOMENTS.len());
        assert!(runs[0].contains(&"fault.crash.nth=1".to_owned()));
        assert!(runs.iter().all(|run| run.contains(&"fault.crash.again_nth=0".to_owned())));
        let twice = second_crashes(100);
        let most = format!("fault.crash.again_nth={RECOVERY_EFFECTS_MAX}");
        assert!(twice.iter().any(|run| run.contains(&most)));
    }

    #[test]
    fn what_no_crash_came_at_is_aimed_at_behind_the_crash_that_brings_it_about() {
        let report = |class: &str, crashed, behind| {
            (class.to_owned(), CrashPoint { crossed: 1, crashed, behind })
        };
        let once: Settings = settings(9, DEATHS[0], MOMENTS[0], ("lost", 0));
        let twice = aimed(&once, 0, 7).unwrap();
        assert!(twice.contains(&"fault.crash.again_nth=7".to_owned()));
        assert_eq!(aimed(&twice, 0, 8), None, "it has a second crash");
        assert_eq!(aimed(&once, 1, 8), None, "it has no second crash to come behind");
        let thrice = aimed(&twice, 1, 8).unwrap();
        assert_eq!((aimed(&thrice, 1, 3), aimed(&once, 0, 0)), (None, None));
        let mut seen = Seen::default();
        let mut take = |settings: &Settings, points: &[(String, CrashPoint)]| {
            for (class, point) in points {
                seen.points.entry(class.clone()).or_default().crashed += point.crashed;
                seen.aim(class, *point, settings);
            }
        };
        take(&once, &[report("skip", 0, [7, 0]), report("append", 0, [2, 0])]);
        take(&once, &[report("skip", 0, [7, 0]), report("append", 1, [2, 0])]);
        take(&twice, &[report("unlink", 0, [0, 8]), report("append", 0, [3, 4])]);
        assert_eq!(seen.take_aims(), [twice]);
        assert_eq!(seen.take_aims(), [thrice]);
        assert!(seen.take_aims().is_empty());
    }

    #[test]
    fn what_was_never_died_at_is_told_unless_there_is_a_reason() {
        let point = |crossed, crashed| CrashPoint { crossed, crashed, behind: [0; 2] };
        let points = BTreeMap::from([
            ("append RING.new".to_owned(), point(5, 1)),
            ("unlink pool/*".to_owned(), point(5, 0)),
            ("mkdir elsewhere".to_owned(), point(1, 1)),
        ]);
        let ledger =
            [("append RING.new", None), ("unlink pool/*", None), ("lock LOCK", Some("why"))];
        let told = gaps(&ledger, &points, true);
        assert_eq!(
            told,
            ["not in the ledger of changes: mkdir elsewhere", "no crash came at: unlink pool/*"]
        );
        assert_eq!(gaps(&ledger, &points, false).len(), 1, "a part cannot tell what others cross");
        let stale = [("append RING.new", Some("it cannot be reached"))];
        assert!(
            gaps(&stale, &points, true)
                .contains(&"has a reason never to be died at: append RING.new".to_owned())
        );
    }
}
