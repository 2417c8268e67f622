//! Strikes: the first comes when a pass has come to its point, each other one behind it, while it holds.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use kura_env::Instant;
use sim_storage::{Crash, Keep};

use super::{Mesh, cuts::Barrier};
use crate::{
    run::machine::Machine,
    scenario::{Moment, Phase, Point, Role, Scenario, StrikeKind, StrikeSpec},
};

/// How often it is asked whether a node that is to be struck is there again.
const LOOK: Duration = Duration::from_millis(50);

/// The strikes of a phase, and how far they have got.
#[derive(Default)]
pub(super) struct Strikes {
    /// Those that are still to come, in their order.
    pending: VecDeque<StrikeSpec>,
    /// By position, whose passes they go by.
    pass_of: usize,
    /// Over whose data the pass of the first one was.
    source: usize,
    /// When the last one came.
    last: Option<Instant>,
    /// How many hold.
    holding: usize,
    /// How often each kind came, and why those behind the first did when they did.
    fired: BTreeMap<String, u64>,
    /// Whose clock ever jumped.
    jumped: BTreeSet<usize>,
}

impl Strikes {
    /// By position, who of so many nodes has a role.
    fn who(&self, role: Role, nodes: usize) -> usize {
        let (returner, source) = (self.pass_of, self.source);
        match role {
            Role::Returner => returner,
            Role::Source => source,
            Role::Bystander => {
                let other = (0..nodes).find(|position| ![returner, source].contains(position));
                other.unwrap_or(source)
            }
        }
    }
}

/// Why a strike comes now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A pass over the peer at this position has come to a point.
    Point(usize, Point),
    /// The one before has held for half of its time.
    Half,
}

impl Mesh {
    /// The strikes of a phase that begins.
    pub(in crate::run) fn arm(&self, scenario: &Scenario, phase: &Phase) {
        let pass_of = scenario.nodes.iter().position(|node| *node == phase.pass_of);
        let pending: VecDeque<StrikeSpec> = scenario.strikes_of(phase).into();
        let mut strikes = self.strikes.lock();
        strikes.pass_of = pass_of.unwrap_or(0);
        strikes.last = None;
        strikes.pending = pending;
    }

    /// Whether all strikes of the phase have come and none holds any more.
    pub(in crate::run) fn is_struck(&self) -> bool {
        let strikes = self.strikes.lock();
        strikes.pending.is_empty() && strikes.holding == 0
    }

    /// What of the phase's strikes did not come or holds still; `None` if nothing.
    pub(in crate::run) fn not_struck(&self) -> Option<String> {
        let strikes = self.strikes.lock();
        match strikes.pending.front() {
            Some(it) => {
                Some(format!("strike {} never came: it waits for {}", it.name, it.at.name()))
            }
            None if strikes.holding > 0 => Some(format!("{} strikes hold still", strikes.holding)),
            None => None,
        }
    }

    /// How often each kind of strike came.
    pub(in crate::run) fn strikes_fired(&self) -> BTreeMap<String, u64> {
        self.strikes.lock().fired.clone()
    }

    /// By position, the nodes whose clock ever jumped.
    pub(in crate::run) fn jumped(&self) -> BTreeSet<usize> {
        self.strikes.lock().jumped.clone()
    }

    /// A pass of the node at `position` over a peer has come to a point. What comes of it does not come from within.
    pub(in crate::run) fn passes(self: &Arc<Self>, position: usize, over: SocketAddr, at: Point) {
        {
            let strikes = self.strikes.lock();
            if strikes.pending.is_empty() || strikes.pass_of != position {
                return;
            }
        }
        let mesh = Arc::downgrade(self);
        self.world.schedule(self.world.now(), move |_| {
            let Some(mesh) = mesh.upgrade() else { return };
            let members = mesh.members();
            if let Some(peer) = members.iter().position(|machine| machine.peer_addr == over) {
                mesh.strike_if(Cause::Point(peer, at));
            }
        });
    }

    /// The next strike comes, if this is what it waits for and whom it hits is there.
    fn strike_if(self: &Arc<Self>, cause: Cause) {
        let members = self.members();
        let now = self.world.now();
        let mut strikes = self.strikes.lock();
        let Some(next) = strikes.pending.front().cloned() else { return };
        let is_due = match (next.at, cause) {
            (Moment::Point(awaited), Cause::Point(_, point)) => awaited == point,
            (Moment::Next, Cause::Point(..)) => strikes.last.is_some_and(|last| now > last),
            (Moment::Next | Moment::Half, Cause::Half) => true,
            (Moment::Point(_), Cause::Half) | (Moment::Half, Cause::Point(..)) => false,
        };
        if !is_due {
            return;
        }
        if let (None, Cause::Point(peer, _)) = (strikes.last, cause) {
            strikes.source = peer;
        }
        let position = strikes.who(next.role, members.len());
        // One that was dead has to have got somewhere: struck as it starts it would only be dead for longer.
        let is_there = |machine: &&Arc<Machine>| match strikes.last {
            None => machine.life() > 0,
            Some(_) => machine.open_life().is_some(),
        };
        let Some(machine) = members.get(position).filter(is_there) else {
            drop(strikes);
            return self.look_again(cause, LOOK);
        };
        strikes.pending.pop_front();
        strikes.last = Some(now);
        strikes.holding += 1;
        let kind = next.kind.name();
        *strikes.fired.entry(format!("strike.{kind}")).or_default() += 1;
        let why = match cause {
            Cause::Point(_, point) => point.name(),
            Cause::Half => "half of the time",
        };
        if !matches!(next.at, Moment::Point(_)) {
            *strikes.fired.entry(format!("strike.behind.{why}")).or_default() += 1;
        }
        let waits = !strikes.pending.is_empty();
        if next.kind == StrikeKind::ClockJump {
            strikes.jumped.insert(position);
        }
        drop(strikes);
        let text = format!("strike {}: {kind} on {} at {why}", next.name, machine.name);
        self.court.evidence().tell(now, text);
        self.strike(&next, position, machine);
        if waits {
            self.look_again(Cause::Half, next.lasts / 2);
        }
        let (mesh, machine) = (Arc::downgrade(self), machine.clone());
        self.world.schedule(now + next.lasts, move |_| {
            if let Some(mesh) = mesh.upgrade() {
                mesh.relent(&next, position, &machine);
            }
        });
    }

    /// Asks for the next strike once more after a while, if by then none came.
    fn look_again(self: &Arc<Self>, cause: Cause, after: Duration) {
        let (mesh, left) = (Arc::downgrade(self), self.strikes.lock().pending.len());
        // A point is over by then.
        let cause = if matches!(cause, Cause::Point(..)) { Cause::Half } else { cause };
        self.world.schedule(self.world.now() + after, move |_| {
            let Some(mesh) = mesh.upgrade() else { return };
            if mesh.strikes.lock().pending.len() == left {
                mesh.strike_if(cause);
            }
        });
    }

    fn strike(&self, strike: &StrikeSpec, position: usize, machine: &Arc<Machine>) {
        let host = machine.host;
        match strike.kind {
            StrikeKind::Kill => machine.crash_and_return(Crash::Sigkill, strike.lasts),
            StrikeKind::PowerLoss => {
                machine.crash_and_return(Crash::PowerLoss { keep: Keep::Nothing }, strike.lasts);
            }
            StrikeKind::Cut => self.wall_off(position, Barrier::Refuse),
            StrikeKind::Deaf => self.wall_off(position, Barrier::Deaf),
            StrikeKind::Mute => self.wall_off(position, Barrier::Mute),
            StrikeKind::NoSpace => {
                machine.disk.set_foreign_bytes(machine.disk.space().total_bytes);
            }
            StrikeKind::Stall => {
                machine.disk.stand_still(strike.lasts);
                self.wall_off(position, Barrier::Slow);
            }
            StrikeKind::Freeze => {
                self.world.freeze(host);
                self.wall_off(position, Barrier::Slow);
            }
            StrikeKind::ClockJump => {
                let ahead_ms = i64::try_from(strike.jump.as_millis()).unwrap_or(i64::MAX);
                self.world.set_wall_skew(host, ahead_ms);
            }
        }
    }

    /// A strike is over.
    fn relent(&self, strike: &StrikeSpec, position: usize, machine: &Arc<Machine>) {
        match strike.kind {
            StrikeKind::Kill | StrikeKind::PowerLoss => {}
            StrikeKind::Cut => self.let_through(position, Barrier::Refuse),
            StrikeKind::Deaf => self.let_through(position, Barrier::Deaf),
            StrikeKind::Mute => self.let_through(position, Barrier::Mute),
            StrikeKind::NoSpace => machine.disk.set_foreign_bytes(0),
            StrikeKind::Stall => self.let_through(position, Barrier::Slow),
            StrikeKind::Freeze => {
                self.world.thaw(machine.host);
                self.let_through(position, Barrier::Slow);
            }
            StrikeKind::ClockJump => self.world.set_wall_skew(machine.host, 0),
        }
        self.strikes.lock().holding -= 1;
        let text = format!("strike {} is over", strike.name);
        self.court.evidence().tell(self.world.now(), text);
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        report::{RunReport, Verdict},
        run::{Options, run},
        scenario::read,
    };

    fn struck_at(point: &str) -> RunReport {
        let text = format!(
            "name = \"s\"\ntopology = {{ nodes = 3, mesh = true }}\n\
             [client.few]\nactors = 1\nonce = true\nkeys = 4\nbody_max = \"1KiB\"\ntries = 5\n\
             [[phase]]\nname = \"one is away\"\nlasts = \"1min\"\nclients = [\"few\"]\nkill = [\"node-1\"]\n\
             [[phase]]\nname = \"it comes back\"\nlasts = \"30s\"\nstart = [\"node-1\"]\n\
             strikes = [\"only\"]\npass_of = \"node-1\"\n\
             [strike.only]\nkind = \"cut\"\nrole = \"source\"\nat = \"{point}\"\nlasts = \"2s\"\n\
             [expect]\nhealed_within = \"5min\"\n"
        );
        let document = read("s.toml", &text).unwrap();
        run(&document, 1, Options::default()).unwrap()
    }

    #[test]
    fn a_strike_at_a_point_that_no_pass_comes_to_fails_the_run() {
        let report = struck_at("feed-asked");
        assert_eq!((report.verdict, report.faults_fired["strike.cut"]), (Verdict::Pass, 1));
        let report = struck_at("body-half");
        assert_eq!(report.verdict, Verdict::Violated);
        assert_eq!(report.invariant, "phase.strikes");
        assert!(report.reason.contains("strike only never came"), "{}", report.reason);
    }
}
