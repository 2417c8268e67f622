//! Scenarios: what a run is made of, read from TOML in production units and drawn from a seed.
//!
//! `schema` is the one table of fields; `read` holds a file to it, `drawn` lets the seed choose
//! within declared ranges, and here the outcome becomes plain typed data for the runner.

mod clients;
mod drawn;
mod error;
mod pressure;
mod quantity;
mod read;
mod schema;
mod spec;
mod strike;
mod value;

use std::{collections::BTreeSet, time::Duration};

pub use clients::{ClientSpec, Mix, Retry};
pub use drawn::{Drawn, draw};
pub use error::{Problem, ScenarioError};
pub use pressure::{CoTenantSpec, DiskPressure};
pub use quantity::{MILLION, Unit};
pub use read::{Document, Entry, Written, read, set};
pub use schema::{FIELDS, Field, Kind, NODES_MAX, Preset, Section, Shape, markdown};
pub use spec::{
    CatalogFate, Clean, CrashLoop, CutHow, DiskSpec, EvilHow, Expect, FaultSpec, Flaps, Link,
    LinkUsed, NodeSpec, Phase, Primaries, Spoil, SpoilHow, Zone,
};
pub use strike::{Moment, Point, Role, StrikeKind, StrikeSpec};
pub use value::Value;

/// The zone of whatever stands in none.
pub const ELSEWHERE: &str = "elsewhere";

/// Every node, where nodes are named.
pub const ALL_NODES: &str = "all";

/// A scenario under one seed, scaled.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// By what bytes were divided.
    pub scale: u64,
    /// The nodes, by name.
    pub nodes: Vec<String>,
    /// Whether they are each other's peers.
    pub mesh: bool,
    /// Nodes whose wall clocks lag.
    pub lagging: Vec<String>,
    /// By how much.
    pub lags_by: Duration,
    /// The zones; [`ELSEWHERE`] is not among them.
    pub zones: Vec<Zone>,
    /// What lies between zones; unnamed pairs have the defaults of `[link.NAME]`.
    pub links: Vec<Link>,
    /// The disk of every node.
    pub disk: DiskSpec,
    /// Who else holds space of the disks.
    pub co_tenants: Vec<CoTenantSpec>,
    /// The settings of every node.
    pub node: NodeSpec,
    /// The groups of actors, by name.
    pub clients: Vec<ClientSpec>,
    /// The cruel part, in order.
    pub phases: Vec<Phase>,
    /// What breaks.
    pub faults: Vec<FaultSpec>,
    /// What befalls nodes when a pass has come to a point.
    pub strikes: Vec<StrikeSpec>,
    /// What is expected.
    pub expect: Expect,
    /// What the seed chose, by path, in production units.
    pub drawn: Drawn,
}

impl Scenario {
    /// The scenario that `document` is under `seed`.
    ///
    /// # Errors
    ///
    /// [`Problem::Dangling`] if a name in it refers to nothing.
    pub fn of(document: &Document, seed: u64) -> Result<Self, ScenarioError> {
        let drawn = draw(document, seed);
        let names = |section| document.instances.get(&section).cloned().unwrap_or_default();
        let root = drawn.table(Section::Root);
        let scenario = Self {
            name: root.text("name").to_owned(),
            scale: drawn.scale(),
            nodes: drawn.table(Section::Topology).texts("nodes").to_vec(),
            mesh: drawn.table(Section::Topology).flag("mesh"),
            lagging: drawn.table(Section::Topology).texts("lagging").to_vec(),
            lags_by: drawn.table(Section::Topology).duration("lags_by"),
            zones: names(Section::Zone).iter().map(|name| spec::zone(&drawn, name)).collect(),
            links: names(Section::Link)
                .iter()
                .filter_map(|name| spec::link(&drawn, name))
                .collect(),
            disk: spec::disk(&drawn),
            co_tenants: names(Section::CoTenant)
                .iter()
                .map(|name| pressure::co_tenant(&drawn, name))
                .collect(),
            node: spec::node(&drawn),
            clients: names(Section::Client)
                .iter()
                .map(|name| clients::client(&drawn, name))
                .collect(),
            phases: names(Section::Phase).iter().map(|name| spec::phase(&drawn, name)).collect(),
            faults: names(Section::Fault)
                .iter()
                .enumerate()
                .filter(|(_, name)| spec::is_planned(&drawn, seed, name))
                .map(|(position, name)| spec::fault(&drawn, name, position))
                .collect(),
            strikes: names(Section::Strike)
                .iter()
                .filter_map(|name| strike::strike(&drawn, name))
                .collect(),
            expect: spec::expect(&drawn),
            drawn,
        };
        scenario.check(document)?;
        Ok(scenario)
    }

    /// Whether every name refers to something.
    fn check(&self, document: &Document) -> Result<(), ScenarioError> {
        let all_in =
            |path, found: &[String], allowed: &[&str]| all_in(document, path, found, allowed);
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        let clients: Vec<&str> = self.clients.iter().map(|c| c.name.as_str()).collect();
        let mut zones: Vec<&str> = self.zones.iter().map(|z| z.name.as_str()).collect();
        zones.push(ELSEWHERE);
        for zone in &self.zones {
            all_in(format!("zone.{}.nodes", zone.name), &zone.nodes, &nodes)?;
            all_in(format!("zone.{}.clients", zone.name), &zone.clients, &clients)?;
        }
        for name in document.instances.get(&Section::Link).into_iter().flatten() {
            let path = format!("link.{name}.between");
            let ends = self.drawn.named(Section::Link, name).texts("between").to_vec();
            if ends.len() != 2 {
                let found = ends.join(", ");
                let allowed = "two zones".to_owned();
                return Err(document.blame(&path, Problem::Illegal { found, allowed }));
            }
            all_in(path, &ends, &zones)?;
        }
        for client in &self.clients {
            all_in(format!("client.{}.nodes", client.name), &client.nodes, &nodes)?;
            let of = Some(client.keys_of.clone()).filter(|of| !of.is_empty());
            all_in(format!("client.{}.keys_of", client.name), of.as_slice(), &clients)?;
        }
        for tenant in &self.co_tenants {
            all_in(format!("co_tenant.{}.nodes", tenant.name), &tenant.nodes, &nodes)?;
        }
        all_in("node.small".to_owned(), &self.node.small, &nodes)?;
        all_in("node.narrow".to_owned(), &self.node.narrow, &nodes)?;
        all_in("topology.lagging".to_owned(), &self.lagging, &nodes)?;
        for phase in &self.phases {
            let path = |key: &str| format!("phase.{}.{key}", phase.name);
            all_in(path("clients"), &phase.clients, &clients)?;
            let mut named = nodes.clone();
            named.push(ALL_NODES);
            for (key, list) in phase.node_lists() {
                all_in(path(key), list, &named)?;
            }
            named.extend(&zones);
            all_in(path("cut"), &phase.cut, &named)?;
        }
        for fault in &self.faults {
            let node = fault.fault.node.clone();
            all_in(format!("fault.{}.node", fault.name), &[node], &nodes)?;
        }
        self.check_strikes(document, &nodes)?;
        self.check_stalls(document)?;
        self.check_restarts(document)?;
        self.check_images(document)?;
        self.check_expectations(document)
    }

    /// Whether every strike of a phase is there, and has something that it can come at.
    fn check_strikes(&self, document: &Document, nodes: &[&str]) -> Result<(), ScenarioError> {
        let known = document.instances.get(&Section::Strike).cloned().unwrap_or_default();
        for phase in self.phases.iter().filter(|phase| !phase.strikes.is_empty()) {
            let blame = |key: &str, found: String, allowed: &str| {
                let path = format!("phase.{}.{key}", phase.name);
                let allowed = allowed.to_owned();
                Err(document.blame(&path, Problem::Illegal { found, allowed }))
            };
            if let Some(name) = phase.strikes.iter().find(|name| !known.contains(name)) {
                return blame("strikes", name.clone(), &known.join(", "));
            }
            if !self.mesh || nodes.len() != 3 {
                return blame("strikes", phase.strikes.join(", "), "none, but in a mesh of three");
            }
            if !nodes.contains(&phase.pass_of.as_str()) {
                return blame("pass_of", phase.pass_of.clone(), &nodes.join(", "));
            }
            let first = self.strikes_of(phase).into_iter().next();
            let is_point = |strike: &StrikeSpec| matches!(strike.at, Moment::Point(_));
            if let Some(first) = first.filter(|first| !is_point(first)) {
                return blame("strikes", first.name, "as the first one a strike at a point");
            }
        }
        Ok(())
    }

    /// The strikes of a phase in their order, without those that are left out.
    #[must_use]
    pub fn strikes_of(&self, phase: &Phase) -> Vec<StrikeSpec> {
        let find = |name: &String| self.strikes.iter().find(|strike| strike.name == *name);
        phase.strikes.iter().filter_map(find).cloned().collect()
    }

    /// Whether nothing else changes what is there while nodes are restarted in good order.
    fn check_restarts(&self, document: &Document) -> Result<(), ScenarioError> {
        let is_there = |section| document.instances.get(&section).is_some_and(|it| !it.is_empty());
        let disturbs = self.mesh || is_there(Section::Fault) || is_there(Section::CoTenant);
        let restarts = self.phases.iter().find(|phase| !phase.restart.is_empty());
        let Some(phase) = restarts.filter(|_| disturbs) else { return Ok(()) };
        let found = phase.restart.join(", ");
        let allowed = "none in a mesh, and none beside faults or co-tenants".to_owned();
        let path = format!("phase.{}.restart", phase.name);
        Err(document.blame(&path, Problem::Illegal { found, allowed }))
    }

    /// Whether an image was taken of each disk that is to be put back.
    fn check_images(&self, document: &Document) -> Result<(), ScenarioError> {
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        for phase in &self.phases {
            taken.extend(self.positions(&phase.snapshot));
            let untaken = self.positions(&phase.restore).into_iter().find(|at| !taken.contains(at));
            if let Some(position) = untaken {
                let found = self.nodes[position].clone();
                let allowed = "nodes of an earlier `snapshot`".to_owned();
                let path = format!("phase.{}.restore", phase.name);
                return Err(document.blame(&path, Problem::Illegal { found, allowed }));
            }
        }
        Ok(())
    }

    /// Whether a disk that stalls works for at least half of the time.
    fn check_stalls(&self, document: &Document) -> Result<(), ScenarioError> {
        let Some(stalls) = self.disk.pressure.stalls else { return Ok(()) };
        if stalls.lasts <= stalls.every / 2 {
            return Ok(());
        }
        let found = format!("{:?}", stalls.lasts);
        let allowed = format!("at most half of stall_every, which is {:?}", stalls.every);
        Err(document.blame("disk.stall_lasts", Problem::Illegal { found, allowed }))
    }

    /// Whether what is expected of catch-ups has one to be judged by, and sizes as they are.
    fn check_expectations(&self, document: &Document) -> Result<(), ScenarioError> {
        if let Some(phase) = self.phases.iter().find(|phase| !phase.agree.is_empty() && !self.mesh)
        {
            let found = format!("{:?}", phase.agree);
            let allowed = "nothing, unless the nodes are a mesh".to_owned();
            let path = format!("phase.{}.agree", phase.name);
            return Err(document.blame(&path, Problem::Illegal { found, allowed }));
        }
        let Expect { link_used, fetched_at_most, .. } = &self.expect;
        let given = [
            ("expect.link_used", link_used.map(|it| it.share)),
            ("expect.fetched_at_most", *fetched_at_most),
        ];
        let has_catch_up = self.mesh && self.phases.iter().any(Phase::is_catch_up);
        let allowed = if !has_catch_up {
            "0, unless nodes of a mesh catch up: a phase with `ready` or `agree` and without clients"
        } else if self.scale != 1 {
            "0, unless `scale` is 1: headers do not shrink with bodies"
        } else {
            return Ok(());
        };
        for (path, share) in given {
            if let Some(share) = share {
                let found = Unit::Ratio.show(share);
                let problem = Problem::Illegal { found, allowed: allowed.to_owned() };
                return Err(document.blame(path, problem));
            }
        }
        Ok(())
    }

    /// How far a wall clock may lag behind those of others at any time.
    #[must_use]
    pub fn lags_by_at_most(&self) -> Duration {
        let in_phases = self.phases.iter().map(Phase::lags_by_at_most).max();
        self.lags_by + in_phases.unwrap_or_default()
    }

    /// The zone in which a node stands.
    #[must_use]
    pub fn zone_of_node(&self, node: &str) -> &str {
        let zone = self.zones.iter().find(|zone| zone.nodes.iter().any(|name| name == node));
        zone.map_or(ELSEWHERE, |zone| zone.name.as_str())
    }

    /// The positions of the nodes that a list names.
    #[must_use]
    pub fn positions(&self, names: &[String]) -> Vec<usize> {
        let is_named = |node: &String| names.iter().any(|name| name == node || name == ALL_NODES);
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(|(_, node)| is_named(node)).map(|(position, _)| position).collect()
    }

    /// The zone in which a group of clients stands.
    #[must_use]
    pub fn zone_of_client(&self, client: &str) -> &str {
        let zone = self.zones.iter().find(|zone| zone.clients.iter().any(|name| name == client));
        zone.map_or(ELSEWHERE, |zone| zone.name.as_str())
    }
}

/// Whether each of the names that a scenario's `path` holds is one of those allowed.
fn all_in(
    document: &Document,
    path: String,
    found: &[String],
    allowed: &[&str],
) -> Result<(), ScenarioError> {
    match found.iter().find(|name| !allowed.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let allowed = allowed.join(", ");
            Err(document.blame(&path, Problem::Dangling { found: name.clone(), allowed }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "\
# A story
# in two lines.
name = \"small\"
scale = 4
[node]
segment = \"64KiB\"
capacity = { times = { from = 4, to = 8 }, of = \"node.segment\" }
[client.a]
actors = { from = 2, to = 5 }
cas_share = { one_of = [0, \"50%\", 1] }
[client.b]
body_max = { from = \"1KiB\", to = \"1MiB\", octaves = true }
[[phase]]
name = \"work\"
lasts = \"10s\"
clients = [\"a\", \"b\"]
";

    fn complaint(from: &str, to: &str) -> String {
        let text = SMALL.replacen(from, to, 1);
        assert_ne!(text, SMALL, "{from:?} is not in the file");
        let error = read("s.toml", &text).and_then(|document| Scenario::of(&document, 0));
        error.map(|_| ()).expect_err("the file is wrong").to_string()
    }

    #[test]
    fn the_seed_draws_within_the_ranges_and_bytes_are_scaled() {
        let document = read("s.toml", SMALL).unwrap();
        assert_eq!(document.story, "A story\nin two lines.");
        let mut actors = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let scenario = Scenario::of(&document, seed).unwrap();
            assert_eq!(scenario.node.segment_bytes, 16 << 10);
            let turns = scenario.node.capacity_bytes.unwrap() as f64 / f64::from(16 << 10);
            assert!((4.0..=8.0).contains(&turns), "{turns}");
            assert!((256..=256 << 10).contains(&scenario.clients[1].body_bytes_max));
            assert!([0, 500_000, 1_000_000].contains(&scenario.clients[0].mix.cas));
            actors.insert(scenario.clients[0].actors);
            let chosen: Vec<&String> = scenario.drawn.chosen.keys().collect();
            assert_eq!(
                chosen,
                ["client.a.actors", "client.a.cas_share", "client.b.body_max", "node.capacity"]
            );
        }
        assert_eq!(actors.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn another_field_changes_no_other_draw() {
        let more = SMALL.replace("[client.b]", "keys = { from = 1, to = 100 }\n[client.b]");
        for seed in 0..20 {
            let before = draw(&read("s.toml", SMALL).unwrap(), seed).chosen;
            let mut after = draw(&read("s.toml", &more).unwrap(), seed).chosen;
            assert!(after.remove("client.a.keys").is_some());
            assert_eq!(before, after);
        }
    }

    #[test]
    fn a_field_can_be_set_from_outside() {
        let mut document = read("s.toml", SMALL).unwrap();
        for argument in ["node.durability=process-crash", "client.a.actors=7", "node.segment=1MiB"]
        {
            set(&mut document, argument).unwrap();
        }
        let scenario = Scenario::of(&document, 0).unwrap();
        assert!(!scenario.node.survives_power_loss);
        assert_eq!((scenario.clients[0].actors, scenario.node.segment_bytes), (7, 256 << 10));
        for argument in ["node.durabilty=x", "node.durability=x", "client.a.actors", "scale=70"] {
            let error = set(&mut document, argument).expect_err(argument).to_string();
            assert!(error.starts_with(argument), "{error}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_line_its_key_and_what_is_allowed() {
        let table = [
            (
                "scale = 4",
                "scale = 65",
                "s.toml:4: scale: found 65; allowed: a whole number from 1 to 64",
            ),
            (
                "segment =",
                "segmnt =",
                "s.toml:6: node.segmnt: no such key here; did you mean `segment`?",
            ),
            ("\"64KiB\"", "\"64\"", "s.toml:6: node.segment: found \"64\"; allowed: bytes such as"),
            ("[node]", "[nod]", "s.toml:5: nod: no such key here; did you mean `node`?"),
            (
                "of = \"node.segment\"",
                "of = \"node.retry_after\"",
                "s.toml:7: node.capacity: found node.retry_after, which is not there",
            ),
            (
                "from = 2, to = 5",
                "from = 5, to = 2",
                "s.toml:9: client.a.actors: found { from = 5, to = 2 }",
            ),
            (
                "from = 2, to",
                "from = 2, until",
                "s.toml:9: client.a.actors: found { from = 2, until = 5 }",
            ),
            ("lasts = \"10s\"", "", "s.toml:13: phase.work.lasts: is missing; allowed: a duration"),
            (
                "\"a\", \"b\"",
                "\"a\", \"c\"",
                "s.toml:16: phase.work.clients: found c, which is not there; there is: a, b",
            ),
            ("name = \"small\"", "name = small", "s.toml:3: is not TOML"),
        ];
        assert_complaints(&table);
    }

    #[test]
    fn a_table_that_makes_no_sense_is_named_as_well() {
        let table = [
            (
                "[[phase]]",
                "[disk]\nstall_every = \"2s\"\nstall_lasts = \"1500ms\"\n[[phase]]",
                "s.toml:15: disk.stall_lasts: found 1.5s; allowed: at most half of stall_every",
            ),
            (
                "[[phase]]",
                "[co_tenant.logs]\nnodes = [\"node-2\"]\ntakes = \"1GiB\"\n[[phase]]",
                "s.toml:14: co_tenant.logs.nodes: found node-2, which is not there; there is: node-1",
            ),
            (
                "[[phase]]",
                "[co_tenant.logs]\n[[phase]]",
                "s.toml:13: co_tenant.logs.takes: is missing",
            ),
            (
                "[[phase]]",
                "[fault.f]\nkind = \"crash\"\n[[phase]]\nrestart = [\"all\"]",
                "s.toml:16: phase.work.restart: found all; allowed: none in a mesh, and none beside \
                 faults or co-tenants",
            ),
            (
                "[[phase]]",
                "[[phase]]\nrestore = [\"node-1\"]",
                "s.toml:14: phase.work.restore: found node-1; allowed: nodes of an earlier `snapshot`",
            ),
            (
                "[[phase]]",
                "[expect]\nlink_used = \"85%\"\n[[phase]]",
                "s.toml:14: expect.link_used: found 0.85; allowed: 0, unless nodes of a mesh",
            ),
            (
                "[[phase]]",
                "[expect]\nfetched_at_most = 1.1\n[topology]\nmesh = true\n[[phase]]\nname = \"up\"\n\
                 lasts = \"9s\"\nready = [\"all\"]\n[[phase]]",
                "s.toml:14: expect.fetched_at_most: found 1.1; allowed: 0, unless `scale` is 1",
            ),
        ];
        assert_complaints(&table);
    }

    #[test]
    fn cuts_that_flap_and_clocks_that_lag_are_read() {
        let phase = |keys: &str| {
            let text = format!("{SMALL}{keys}\n");
            Scenario::of(&read("s.toml", &text).unwrap(), 0).unwrap()
        };
        let plain = phase("cut = [\"all\"]");
        assert_eq!(plain.phases[0].flaps, None);
        assert_eq!(plain.phases[0].cut_how, CutHow::Silent);
        assert_eq!(plain.lags_by_at_most(), Duration::ZERO);
        let flaps = phase("cut = [\"all\"]\ncut_how = \"one-way-in\"\nflap_down = \"3s\"");
        let (down, up) = (Duration::from_secs(3), Duration::from_secs(5));
        assert_eq!(flaps.phases[0].flaps, Some(Flaps { down, up }));
        assert_eq!(flaps.phases[0].cut_how, CutHow::OneWayIn);
        let clocks = "clock_by = \"2s\"\nclock_drift = \"1%\"";
        let lags = phase(&format!("clock_behind = [\"all\"]\n{clocks}"));
        assert_eq!(lags.lags_by_at_most(), Duration::from_millis(2100), "1% of ten seconds");
        let ahead = phase(&format!("clock_ahead = [\"all\"]\n{clocks}"));
        assert_eq!(ahead.lags_by_at_most(), Duration::ZERO);
    }

    #[test]
    fn strikes_need_three_nodes_a_pass_and_a_point_to_begin_at() {
        let phase = "strikes = [\"s\"]\n[strike.s]\nkind = \"kill\"\n";
        let mesh = |nodes: u8| format!("[topology]\nnodes = {nodes}\nmesh = true\n[[phase]]");
        let text = |nodes: u8, more: &str| {
            let text = SMALL.replacen("[[phase]]", &mesh(nodes), 1);
            format!("{text}{more}{phase}")
        };
        let complaint = |text: &str| {
            let error = read("s.toml", text).and_then(|document| Scenario::of(&document, 0));
            error.map(|_| ()).expect_err("the file is wrong").to_string()
        };
        let begins = "pass_of = \"node-1\"\n";
        let ending = "at = \"body-half\"\n";
        let right = text(3, begins) + ending;
        let document = read("s.toml", &right).unwrap();
        let scenario = Scenario::of(&document, 0).unwrap();
        let strikes = scenario.strikes_of(&scenario.phases[0]);
        assert_eq!(strikes[0].at, Moment::Point(Point::BodyHalf));
        let none = right.replace("\"kill\"", "\"none\"");
        let scenario = Scenario::of(&read("s.toml", &none).unwrap(), 0).unwrap();
        assert!(scenario.strikes_of(&scenario.phases[0]).is_empty(), "it is left out");
        let wrong = [
            (text(2, begins) + ending, "none, but in a mesh of three"),
            (text(3, "") + ending, "node-1, node-2, node-3"),
            (text(3, begins), "as the first one a strike at a point"),
            (right.replace("[\"s\"]", "[\"t\"]"), "allowed: s"),
        ];
        for (text, expected) in wrong {
            let found = complaint(&text);
            assert!(found.contains(expected), "{found}\nexpected {expected}");
        }
    }

    /// What is said when the first text is replaced by the second begins with the third.
    fn assert_complaints(table: &[(&str, &str, &str)]) {
        for (from, to, expected) in table {
            let found = complaint(from, to);
            assert!(found.starts_with(expected), "{found}\nexpected {expected}");
        }
    }
}
