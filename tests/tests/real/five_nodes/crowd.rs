//! The clients: actors of the simulator that speak to real nodes over real TCP, under the simulator's court.
//!
//! What they put and ask for is drawn as in a scenario, and what they are told goes into the same history and is judged
//! by the same invariants.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use http::Method;
use kura_core::tombstones::Tombstones;
use kura_env::Instant;
use kura_host::{HostClock, HostNet, HostTasks};
use kura_tests::{client::Client, wait::until};
use sim::{
    client::{
        Actor, ActorWorld, Ask, Keys, Reader, Seen, Target,
        connection::{Connection, Place},
    },
    court::Court,
    history::{NodeIndex, PutOutcome},
    invariants::one_winner::{self, Said},
    scenario::{ClientSpec, Scenario, read},
};
use tokio::{runtime::Handle, task::JoinSet};

use super::site::{NODES, Site};

/// What every node's own clients do, those who write the same names everywhere, and those who read on all nodes what is
/// written on one. A client gives up after half a minute, and none of them sees more than a quarter of that.
const LOAD: &str = r#"# Clients of five real nodes.
name = "five_nodes"

[topology]
nodes = 5
mesh = true

OWN

[client.shared]
actors = 5
rate = "6/s"
keys = 12
write_share = "60%"
cas_share = "0"
body_max = "2MiB"
timeout = "30s"

[[phase]]
name = "all along"
lasts = "1s"

[expect]
puts_within = "5s"
"#;

/// Of each node.
const OWN: &str = r#"
[client.at_NODE]
actors = 2
rate = "4/s"
keys = 20
nodes = ["node-NODE"]
body_max = "4MiB"
dies_share = "2%"
wrong_digest_share = "1%"
undeclared_share = "10%"
timeout = "30s"

[client.of_NODE]
rate = "3/s"
keys_of = "at_NODE"
keys = 20
write_share = "0"
timeout = "30s"
"#;

/// How long it may take until each node has acknowledged what a part of the story asks for.
const PART_MAX: Duration = Duration::from_secs(40);
/// How often the nodes are compared.
const COMPARE_AGAIN: Duration = Duration::from_millis(500);

/// What this machine gives to clients and links.
pub(crate) fn place() -> Place {
    let tasks = HostTasks::new(Handle::current(), 1).expect("there is room for a thread");
    Place { clock: Arc::new(HostClock::new()), net: Arc::new(HostNet), tasks: Arc::new(tasks) }
}

/// All clients, while they work and after.
pub(crate) struct Crowd {
    place: Place,
    pub(crate) court: Court,
    actors: JoinSet<()>,
}

impl Crowd {
    /// Sends the clients to work.
    pub(crate) fn go(place: &Place, site: &Site, seed: u64) -> Self {
        let own: String = (1..=NODES).map(|node| OWN.replace("NODE", &node.to_string())).collect();
        let document = read("five_nodes.toml", &LOAD.replace("OWN", &own)).unwrap();
        let scenario = Scenario::of(&document, seed).unwrap();
        let court = Court::default();
        court.evidence().history.span(NODES);
        let mut actors = JoinSet::new();
        for spec in &scenario.clients {
            let world = Arc::new(world((&scenario, spec), seed, (place, site), &court));
            for number in 0..spec.actors {
                actors.spawn(Actor::new(world.clone(), seed, number).run());
            }
        }
        Self { place: place.clone(), court, actors }
    }

    /// Notes what happens, for whoever reads why the run failed.
    pub(crate) fn tell(&self, what: &str) {
        self.court.evidence().tell(self.place.clock.now(), what.to_owned());
    }

    /// Fails if an invariant is violated.
    pub(crate) fn assert_undecided(&self) {
        let evidence = self.court.evidence();
        if let Some(violation) = evidence.violation() {
            let statuses = evidence.history.statuses();
            panic!("{violation}\nstatuses: {statuses:?}\n{}", evidence.timeline());
        }
    }

    /// Lets the clients go on until each node has acknowledged so many more puts.
    pub(crate) async fn goes_on(&self, puts: u64) {
        let before = self.acknowledged();
        until("every node acknowledges puts", PART_MAX, async || {
            self.assert_undecided();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.acknowledged();
            now.iter().zip(before).all(|(now, before)| *now >= before + puts).then_some(())
        })
        .await;
    }

    /// Sends the clients home, whatever they are doing.
    pub(crate) async fn goes_home(&mut self) {
        self.actors.shutdown().await;
    }

    /// How many puts each node has acknowledged.
    pub(crate) fn acknowledged(&self) -> [u64; NODES] {
        let evidence = self.court.evidence();
        let mut counts = [0; NODES];
        for (node, path) in evidence.history.keys() {
            let own = evidence.history.puts(node, path);
            let is_acked = |outcome| matches!(outcome, PutOutcome::Acked(_));
            let acked = own.iter().filter(|put| is_acked(put.outcome)).count();
            counts[node.0] += u64::try_from(acked).unwrap();
        }
        counts
    }

    /// How long the slowest put took that was acknowledged.
    pub(crate) fn slowest_put(&self) -> Duration {
        let evidence = self.court.evidence();
        let puts = evidence.history.keys().flat_map(|(node, path)| {
            evidence.history.puts(node, path).into_iter().filter_map(|put| match put.outcome {
                PutOutcome::Acked(_) => Some(put.end?.since(put.start)),
                PutOutcome::AckedElsewhere | PutOutcome::Unknown | PutOutcome::Refused => None,
            })
        });
        puts.max().unwrap_or_default()
    }

    /// Every path that anything was put to, and whether somebody acknowledged that.
    fn paths(&self) -> BTreeMap<String, bool> {
        let evidence = self.court.evidence();
        let mut paths: BTreeMap<String, bool> = BTreeMap::new();
        for (node, path) in evidence.history.keys() {
            let is_owed = evidence.history.owed(node, path, Instant(u64::MAX)).is_some();
            *paths.entry(path.to_owned()).or_default() |= is_owed;
        }
        paths
    }

    /// The paths at which the nodes differ, or that somebody acknowledged and some node has not.
    pub(crate) async fn differences(&self, site: &Site) -> BTreeSet<String> {
        let paths = self.paths();
        let tags = join_all((0..NODES).map(|node| tags(site, node, &paths))).await;
        let differs = |(at, (_, is_owed)): &(usize, (&String, &bool))| {
            let said: BTreeSet<&str> = tags.iter().map(|tags| tags[*at].as_str()).collect();
            said.len() > 1 || **is_owed && said.contains("")
        };
        let differing = paths.iter().enumerate().filter(differs);
        differing.map(|(_, (path, _))| path.clone()).collect()
    }

    /// Waits until the nodes answer alike twice in a row.
    pub(crate) async fn converges(&self, site: &Site, bound: Duration) {
        let (mut last, mut times_alike) = (BTreeSet::new(), 0);
        let comparing = async {
            while times_alike < 2 {
                last = self.differences(site).await;
                times_alike = if last.is_empty() { times_alike + 1 } else { 0 };
                tokio::time::sleep(COMPARE_AGAIN).await;
            }
        };
        if tokio::time::timeout(bound, comparing).await.is_err() {
            let refusals = site.refusals().await;
            let mut lags = Vec::new();
            for node in site.nodes() {
                lags.push(node.get("/status/cluster").await.text());
            }
            panic!(
                "after {bound:?} the nodes differ in {} paths: {last:?}\nrefusals: {refusals:?}\n\
                 {:#?}\n{}\n{}",
                last.len(),
                site.counts(),
                lags.join("\n"),
                self.court.evidence().timeline(),
            );
        }
    }

    /// Reads every path on every node, under the eyes of the court. How many bodies came.
    pub(crate) async fn read_back(&self, site: &Site) -> usize {
        let paths = self.paths();
        let read = async |node| {
            let mut connection = Connection::open(&self.place, site.addr(node)).await.unwrap();
            let mut bodies = Vec::new();
            for path in paths.keys() {
                let clock = &*self.place.clock;
                let mut reader = Reader { court: &self.court, connection: &mut connection, clock };
                let ask = Ask { node: NodeIndex(node), path, start: clock.now() };
                bodies.push(match reader.get(ask).await.unwrap() {
                    Seen::Hit(body) => body,
                    Seen::Miss => None,
                    Seen::Refused(status) => panic!("GET {path}: {status}"),
                });
            }
            bodies
        };
        let bodies = join_all((0..NODES).map(read)).await;
        self.assert_undecided();
        for (at, (path, is_owed)) in paths.iter().enumerate() {
            let said = |(node, bodies): (usize, &Vec<_>)| Said {
                node: format!("node-{}", node + 1),
                body: bodies[at],
            };
            let said: Vec<Said> = bodies.iter().enumerate().map(said).collect();
            one_winner::check(path, &said).unwrap_or_else(|violation| panic!("{violation}"));
            assert!(!is_owed || said[0].body.is_some(), "{path} was acknowledged and is gone");
        }
        bodies.iter().flatten().flatten().count()
    }
}

/// What the actors of a group share.
fn world(
    (scenario, spec): (&Scenario, &ClientSpec),
    seed: u64,
    (place, site): (&Place, &Site),
    court: &Court,
) -> ActorWorld {
    let keys_of = scenario.clients.iter().find(|group| group.name == spec.keys_of).unwrap_or(spec);
    let is_asked = |name: &String| spec.nodes.is_empty() || spec.nodes.contains(name);
    let targets = scenario.nodes.iter().enumerate().filter(|(_, name)| is_asked(name));
    // No link lies between clients and nodes.
    let target = |node| Target { node: NodeIndex(node), addr: site.addr(node), is_near: true };
    let (lives, open) = (site.lives.clone(), site.lives.clone());
    ActorWorld {
        spec: Arc::new(spec.clone()),
        keys: Keys::new(Arc::new(keys_of.clone()), seed),
        place: place.clone(),
        balancer: None,
        targets: targets.map(|(node, _)| target(node)).collect(),
        body_bytes_max: scenario.node.body_bytes_max,
        court: court.clone(),
        promise: scenario.node.promise,
        answers_within: scenario.expect.answers_within,
        puts_within: scenario.expect.puts_within,
        is_recovering: Box::new(move |node: NodeIndex| lives.of(node.0).is_none()),
        open_life: Box::new(move |node: NodeIndex| open.of(node.0)),
        // Nobody deletes.
        on_disk: Box::new(|_| Tombstones::default()),
        once: Default::default(),
    }
}

/// What a node says of each path: the digest of what it has, or nothing.
async fn tags(site: &Site, node: usize, paths: &BTreeMap<String, bool>) -> Vec<String> {
    let mut client = Client::connect(site.addr(node)).await;
    let mut tags = Vec::new();
    for path in paths.keys() {
        let answer = client.send(Method::HEAD, path, bytes::Bytes::new()).await;
        assert!([200, 404].contains(&answer.status), "HEAD {path}: {}", answer.status);
        tags.push(answer.header("etag").to_owned());
    }
    tags
}
