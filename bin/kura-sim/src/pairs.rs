//! `kura-sim enumerate` of a story with two strikes: every point of a pass, with every kind of strike on every
//! node as the first, and as the second.
//!
//! Nodes count by what they do: whose pass it is, over whom it has come to the point, and who stands by. That is the
//! symmetry: which of three nodes has which name makes no difference but for what the story does to one of them before
//! the strikes come (a delete is asked of one), and what of it follows by the time of their passes is the same.
//!
//! The first strike has a point. The second comes behind it, at a moment that follows from the first: what two points two
//! faults would have one by one is not asked.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use sim::{
    report::{RunReport, Verdict},
    scenario::{Document, Moment, Point, Section, StrikeKind},
};

use crate::{
    Failure,
    enumerate::{self, FAILURES_MAX, Settings},
    run::RunArguments,
    show::say,
};

/// Whom a strike hits.
const ROLES: [&str; 3] = ["returner", "source", "bystander"];
/// In how many ways three nodes can be given these roles.
const WAYS: usize = 6;

/// A story that is told again and again.
pub(crate) struct Story {
    /// Its file.
    pub(crate) path: String,
    /// What it says.
    pub(crate) document: Document,
    /// From which everything else is drawn.
    pub(crate) seed: u64,
}

/// A kind of strike on a node.
type Strike = (StrikeKind, &'static str);

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    point: Point,
    first: Strike,
    second: Strike,
}

impl Pair {
    /// As it is told and found again.
    fn name(&self) -> String {
        let Self { point, first, second } = self;
        let strike = |(kind, role): &Strike| format!("{}@{role}", kind.name());
        format!("{}/{}/{}", point.name(), strike(first), strike(second))
    }

    fn settings(&self) -> Settings {
        let behind = if acts_at_once(self.first.0) { Moment::Next } else { Moment::Half };
        let mut settings = vec![
            format!("strike.first.at={}", self.point.name()),
            format!("strike.second.at={}", behind.name()),
        ];
        for (name, (kind, role)) in [("first", self.first), ("second", self.second)] {
            settings.push(format!("strike.{name}.kind={}", kind.name()));
            settings.push(format!("strike.{name}.role={role}"));
            settings.push(format!("strike.{name}.lasts={}", lasts(kind)));
        }
        settings
    }

    /// A strike that did not come in a run in which these came. One that passed without both says nothing.
    fn missed(&self, fired: &BTreeMap<String, u64>) -> Option<&'static str> {
        let times = if self.first.0 == self.second.0 { 2 } else { 1 };
        let came = |kind: &str| fired.get(&format!("strike.{kind}")).copied().unwrap_or(0);
        [self.first.0.name(), self.second.0.name()].into_iter().find(|kind| came(kind) < times)
    }

    /// Whether the second strike is the first one, only longer.
    fn is_one(&self) -> bool {
        self.first == self.second && !self.first.0.is_death()
    }
}

/// Whether a strike is felt at once, so that a pass deals with it at its next point. What a full disk, one that stands still
/// or a wrong clock does, it does to what comes behind it; and silence is noticed when it has lasted.
fn acts_at_once(kind: StrikeKind) -> bool {
    matches!(kind, StrikeKind::Kill | StrikeKind::PowerLoss | StrikeKind::Cut)
}

/// For how long a strike holds: long enough to be noticed. A node that loses power when half of the time of its wrong
/// clock is over comes back by the right one, and one that is killed then by the wrong one. Of what nothing but silence tells
/// half outlasts the 30 s after which a silent stream is given up, so that the second strike meets who deals with that.
/// A disk that stands still does so for longer than the 6 s after which a node says so.
fn lasts(kind: StrikeKind) -> &'static str {
    match kind {
        StrikeKind::Kill => "1s",
        StrikeKind::PowerLoss => "2s",
        StrikeKind::ClockJump => "3s",
        StrikeKind::Cut | StrikeKind::NoSpace => "5s",
        StrikeKind::Stall => "12s",
        StrikeKind::Deaf | StrikeKind::Mute | StrikeKind::Freeze => "62s",
    }
}

/// Whether a scenario is one for this.
pub(crate) fn has_strikes(document: &Document) -> bool {
    document.instances.get(&Section::Strike).is_some_and(|strikes| !strikes.is_empty())
}

/// Every run there is; those that say what another one says are left out of `kept`.
fn pairs() -> (usize, Vec<Pair>) {
    let strikes = || StrikeKind::ALL.into_iter().flat_map(|kind| ROLES.map(|role| (kind, role)));
    let mut all = Vec::new();
    for point in Point::ALL {
        for first in strikes() {
            all.extend(strikes().map(|second| Pair { point, first, second }));
        }
    }
    let count = all.len();
    all.retain(|pair| !pair.is_one());
    (count, all)
}

/// Makes one run, and shows it.
pub(crate) fn one(story: &Story, name: &str, out: Option<PathBuf>) -> Result<u8, Failure> {
    let found = pairs().1.into_iter().find(|pair| pair.name() == name);
    let pair = found.ok_or_else(|| {
        let example = "head-noted/kill@returner/cut@source";
        Failure::Usage(format!("{name} is no run; they are named as {example}"))
    })?;
    let (scenario, seed) = (story.path.clone(), story.seed);
    crate::run::run(&RunArguments {
        scenario,
        seed,
        set: pair.settings(),
        out,
        ..RunArguments::default()
    })
}

/// Makes all runs, or one part of them.
pub(crate) fn all(story: &Story, part: Option<(u64, u64)>, threads: usize) -> Result<u8, Failure> {
    let Story { path, document, seed } = story;
    let none = ["first", "second"].map(|name| format!("strike.{name}.kind=none"));
    let calm = enumerate::run(document, *seed, &none)?;
    if calm.verdict != Verdict::Pass {
        let what = format!("without a strike it does not pass: {}", calm.reason);
        return Err(Failure::Usage(what));
    }
    let (by_role, kept) = pairs();
    let (by_name, told) = (by_role * WAYS, kept.len());
    let mut chosen = kept;
    enumerate::keep_part(&mut chosen, part);
    say(&format!(
        "{path} with seed {seed}: {by_name} pairs of strikes on named nodes, {by_role} by what \
         the nodes do, {told} without those whose second strike only lengthens the first; {} runs",
        chosen.len()
    ))?;
    let by_settings: BTreeMap<Settings, Pair> =
        chosen.iter().map(|pair| (pair.settings(), *pair)).collect();
    let runs: Vec<Settings> = by_settings.keys().cloned().collect();
    let mut seen = Seen::default();
    for (settings, report) in enumerate::start(Arc::new(document.clone()), *seed, runs, threads)? {
        let pair = by_settings.get(&settings);
        let pair = pair.ok_or_else(|| Failure::Usage("a run that was not begun".to_owned()))?;
        let mut report = report?;
        if let (Verdict::Pass, Some(kind)) = (report.verdict, pair.missed(&report.faults_fired)) {
            report.verdict = Verdict::Violated;
            "phase.strikes".clone_into(&mut report.invariant);
            report.reason = format!("it passed, and a strike that was to come did not: {kind}");
        }
        seen.take(story, *pair, &report)?;
    }
    seen.summary()
}

/// What the runs of one point came to.
#[derive(Clone, Copy, Default)]
struct Told {
    runs: u64,
    failed: u64,
}

/// What the runs came to.
#[derive(Default)]
struct Seen {
    worst: u8,
    by_point: BTreeMap<Point, Told>,
    by_kind: BTreeMap<&'static str, Told>,
    by_invariant: BTreeMap<String, u64>,
    /// At which points the second strikes came, and what came.
    fired: BTreeMap<String, u64>,
}

impl Seen {
    fn take(&mut self, story: &Story, pair: Pair, report: &RunReport) -> Result<(), Failure> {
        let failed = u64::from(report.verdict != Verdict::Pass);
        let kinds = [pair.first.0.name(), pair.second.0.name()];
        let mut told = vec![self.by_point.entry(pair.point).or_default()];
        let mut by_kind: Vec<(&&str, &mut Told)> = Vec::new();
        for kind in &kinds[..if kinds[0] == kinds[1] { 1 } else { 2 }] {
            self.by_kind.entry(kind).or_default();
        }
        by_kind.extend(self.by_kind.iter_mut().filter(|(kind, _)| kinds.contains(kind)));
        told.extend(by_kind.into_iter().map(|(_, told)| told));
        for told in told {
            told.runs += 1;
            told.failed += failed;
        }
        for (class, count) in &report.faults_fired {
            *self.fired.entry(class.clone()).or_default() += count;
        }
        if report.verdict == Verdict::Pass {
            return Ok(());
        }
        self.worst = self.worst.max(report.verdict.exit_code());
        *self.by_invariant.entry(report.invariant.clone()).or_default() += 1;
        if self.by_invariant.values().sum::<u64>() <= FAILURES_MAX as u64 {
            let (reason, name) = (report.reason.lines().next().unwrap_or_default(), pair.name());
            let Story { path, seed, .. } = story;
            say(&format!(
                "{}: {reason}\n  replay: cargo run --profile sim -p kura-sim -- enumerate {path} \
                 --seed {seed} --only {name}",
                report.invariant
            ))?;
        }
        Ok(())
    }

    fn summary(&self) -> Result<u8, Failure> {
        let total = |of: fn(&Told) -> u64| self.by_point.values().map(of).sum::<u64>();
        let (runs, failed) = (total(|told| told.runs), total(|told| told.failed));
        say(&format!("{runs} runs, {} passed, {failed} failed", runs - failed))?;
        for (point, Told { runs, failed }) in &self.by_point {
            say(&format!("  {runs:>6} {failed:>5}  first strike at {}", point.name()))?;
        }
        for (kind, Told { runs, failed }) in &self.by_kind {
            say(&format!("  {runs:>6} {failed:>5}  with {kind}"))?;
        }
        for (invariant, failed) in &self.by_invariant {
            say(&format!("  {failed:>12}  by {invariant}"))?;
        }
        for (class, count) in &self.fired {
            say(&format!("  {count:>12}  {class}"))?;
        }
        Ok(self.worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_told_once_and_has_a_name_of_its_own() {
        let (all, kept) = pairs();
        let strikes = StrikeKind::ALL.len() * ROLES.len();
        assert_eq!(all, Point::ALL.len() * strikes * strikes);
        let lengthened = Point::ALL.len() * (StrikeKind::ALL.len() - 2) * ROLES.len();
        assert_eq!(kept.len(), all - lengthened, "two deaths of a node are two");
        let mut names: Vec<String> = kept.iter().map(Pair::name).collect();
        assert!(names.contains(&"body-half/kill@source/kill@source".to_owned()));
        assert!(!names.contains(&"body-half/stall@source/stall@source".to_owned()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), kept.len());
    }

    #[test]
    fn a_run_without_one_of_its_strikes_is_told() {
        let pair = |second| Pair {
            point: Point::FeedAsked,
            first: (StrikeKind::Kill, "source"),
            second: (second, "source"),
        };
        let fired = |came: &[(&str, u64)]| -> BTreeMap<String, u64> {
            came.iter().map(|(kind, count)| (format!("strike.{kind}"), *count)).collect()
        };
        let both = fired(&[("kill", 1), ("cut", 1)]);
        assert_eq!(pair(StrikeKind::Cut).missed(&both), None);
        assert_eq!(pair(StrikeKind::Kill).missed(&both), Some("kill"), "it was to come twice");
        assert_eq!(pair(StrikeKind::Kill).missed(&fired(&[("kill", 2)])), None);
        assert_eq!(pair(StrikeKind::Cut).missed(&fired(&[("kill", 1)])), Some("cut"));
        assert_eq!(pair(StrikeKind::Cut).missed(&fired(&[("cut", 1), ("kill", 0)])), Some("kill"));
        assert_eq!(pair(StrikeKind::Cut).missed(&BTreeMap::new()), Some("kill"));
    }

    #[test]
    fn a_run_sets_all_that_makes_its_pair() {
        let kind = StrikeKind::Cut;
        let pair = Pair {
            point: Point::BodyHalf,
            first: (kind, "source"),
            second: (StrikeKind::Kill, "returner"),
        };
        let settings = pair.settings();
        for expected in
            ["strike.first.at=body-half", "strike.first.kind=cut", "strike.second.role=returner"]
        {
            assert!(settings.contains(&expected.to_owned()), "{settings:?}");
        }
    }
}
