//! One actor: one request at a time, for ever.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use http::Method;
use kura_env::{Instant, timeout};
use parking_lot::Mutex;

use super::{
    balancer::Balancer,
    clean::{Cleaner, OnDisk},
    connection::{self, Connection, Failure, Place},
    keys::{KeyNumber, Keys},
    read::{Ask, Reader, Seen, drain},
    upload::{Break, Pace, Upload},
};
use crate::{
    body::Body,
    court::Court,
    draw::Draw,
    history::{Fraud, NodeIndex, Put, PutOutcome},
    invariants::{puts_answered, true_digest, whole_body, writes_independent_of_peers},
    scenario::{ClientSpec, MILLION, Mix},
};

/// A node that can be asked.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Which.
    pub node: NodeIndex,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whether it stands in the zone of who asks, so that the way there is not shared with others.
    pub is_near: bool,
}

/// What all actors of a group share.
pub struct ActorWorld {
    /// What they are told to do.
    pub spec: Arc<ClientSpec>,
    /// Their keys.
    pub keys: Keys,
    /// Where they stand.
    pub place: Place,
    /// Whom they ask, in turn.
    pub targets: Vec<Target>,
    /// Which of them is asked, if not all in turn.
    pub balancer: Option<Arc<Balancer>>,
    /// The largest body that nodes take.
    pub body_bytes_max: u64,
    /// Where evidence goes.
    pub court: Court,
    /// For how long nodes promise what they say to be here.
    pub promise: Duration,
    /// An honest put to a node that serves is answered within this.
    pub answers_within: Option<Duration>,
    /// An honest put to a node that can take it is acknowledged within this.
    pub puts_within: Option<Duration>,
    /// Whether a node is still reading its data back.
    pub is_recovering: Box<dyn Fn(NodeIndex) -> bool + Send + Sync>,
    /// In which of its lives a node is, while it can take a put.
    pub open_life: Box<dyn Fn(NodeIndex) -> Option<u64> + Send + Sync>,
    /// What a node keeps of deletes.
    pub on_disk: Box<OnDisk>,
    /// How far those have come that write each key once.
    pub once: Mutex<Once>,
}

/// How far a group has come that writes each key once.
#[derive(Default)]
pub struct Once {
    /// The next key.
    next_key: u64,
    /// Actors that found nothing left to be done.
    finished: u64,
}

impl ActorWorld {
    /// Whether the group has written each of its keys once and is done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.spec.once && self.once.lock().finished >= self.spec.actors
    }

    fn next_once(&self) -> Option<u64> {
        let mut once = self.once.lock();
        if once.next_key >= self.spec.keys {
            once.finished += 1;
            return None;
        }
        once.next_key += 1;
        Some(once.next_key - 1)
    }
}

/// One actor.
pub struct Actor {
    world: Arc<ActorWorld>,
    draw: Draw,
    turn: usize,
    /// The open connections, at most one to each target. One is taken out for the time of a
    /// request, so that whatever breaks the request off also closes it.
    open: BTreeMap<SocketAddr, Connection>,
    /// What nodes said to be here and is to be read back, at most [`VOUCHED_MAX`].
    vouched: Vec<Vouched>,
}

/// Something that a node promised.
struct Vouched {
    /// When it is to be read.
    due: Instant,
    path: Arc<str>,
    target: Target,
}

/// How something is looked at.
#[derive(Clone, Copy)]
enum Way {
    Head,
    Get,
}

/// Promises that an actor remembers. It asks about more, and reads those no sooner than others.
const VOUCHED_MAX: usize = 256;

/// A put that is about to be made, perhaps several times.
struct Plan {
    path: Arc<str>,
    body: Body,
    breaks: Break,
    fraud: Option<Fraud>,
    /// The end of its side is declared in the middle, which hyper would not do.
    half_closes_at: Option<u64>,
    /// Whether the length of the body is told beforehand.
    declares: bool,
}

/// What a try of a put calls for.
enum Next {
    Done,
    Again { not_before: Option<Duration> },
}

impl Actor {
    /// The actor of this number in its group.
    #[must_use]
    pub fn new(world: Arc<ActorWorld>, seed: u64, number: u64) -> Self {
        let draw = Draw::named(seed, &format!("client.{}.{number}", world.spec.name));
        let turn = usize::try_from(number).unwrap_or(0);
        Self { world, draw, turn, open: BTreeMap::new(), vouched: Vec::new() }
    }

    /// Works until it is dropped, or until each key was written once if that is its task.
    pub async fn run(mut self) {
        if let Some(every) = self.world.spec.sweep_every {
            return self.sweep(every).await;
        }
        let mut due = self.world.place.clock.now();
        loop {
            self.pace(&mut due).await;
            if self.world.spec.once {
                let Some(number) = self.world.next_once() else { return };
                self.turn = usize::try_from(number).unwrap_or(0);
                self.put(KeyNumber(number)).await;
                continue;
            }
            if self.read_back().await {
                continue;
            }
            self.turn = self.turn.wrapping_add(1);
            let Mix { clean, write, .. } = self.world.spec.mix;
            // Nothing is drawn where nothing is deleted, so that other scenarios stay as they are.
            if clean > 0 && self.draw.chance(clean) {
                self.clean().await;
            } else if self.draw.chance(write) {
                let number = self.draw.below(self.world.spec.keys);
                self.put(KeyNumber(number)).await;
            } else {
                self.read().await;
            }
        }
    }

    /// Reads its share of the group's keys in a row, once in `every`, until it is dropped.
    async fn sweep(mut self, every: Duration) {
        let clock = self.world.place.clock.clone();
        let (keys, actors) = (self.world.spec.keys, self.world.spec.actors);
        let first = u64::try_from(self.turn).unwrap_or(0);
        loop {
            let begun = clock.now();
            let mut due = begun;
            for number in (first..keys).step_by(usize::try_from(actors).unwrap_or(1)) {
                self.pace(&mut due).await;
                // As whoever writes each key once chooses the node.
                self.turn = usize::try_from(number).unwrap_or(0);
                let path = self.world.keys.key(KeyNumber(number)).path;
                let head = self.draw.chance(self.world.spec.mix.head);
                let target = self.target();
                self.look(target, &path, if head { Way::Head } else { Way::Get }).await;
            }
            clock.sleep_until(begun + every).await;
        }
    }

    /// Waits until the next operation is due.
    async fn pace(&mut self, due: &mut Instant) {
        let clock = self.world.place.clock.clone();
        let pause = self.pause();
        *due = (*due + pause).max(clock.now());
        if !pause.is_zero() {
            clock.sleep_until(*due).await;
        }
    }

    /// The time between two operations of this actor: drawn evenly from half to one and a half of
    /// what its share of the group's rate makes.
    fn pause(&mut self) -> Duration {
        let ClientSpec { rate, actors, .. } = &*self.world.spec;
        if *rate == 0 {
            return Duration::ZERO;
        }
        let mean_nanos =
            u128::from(*actors) * 1_000_000_000 * u128::from(MILLION) / u128::from(*rate);
        let mean_nanos = u64::try_from(mean_nanos).unwrap_or(u64::MAX / 2);
        Duration::from_nanos(mean_nanos / 2 + self.draw.below(mean_nanos.max(1)))
    }

    fn target(&self) -> Target {
        match &self.world.balancer {
            Some(balancer) => balancer.target(),
            None => self.world.targets[self.turn % self.world.targets.len()],
        }
    }

    /// The open connection to `addr`, or a new one. Whoever takes it puts it back.
    async fn take(&mut self, addr: SocketAddr) -> Result<Connection, Failure> {
        match self.open.remove(&addr).filter(Connection::is_usable) {
            Some(open) => Ok(open),
            None => Connection::open(&self.world.place, addr).await,
        }
    }

    fn put_back(&mut self, connection: Connection) {
        self.open.insert(connection.addr(), connection);
    }

    async fn read(&mut self) {
        let world = self.world.clone();
        let mix = &world.spec.mix;
        let key = KeyNumber(self.draw.below(world.spec.keys));
        let path = if self.draw.chance(mix.miss) {
            world.keys.absent(key.0)
        } else {
            world.keys.key(key).path
        };
        let target = self.target();
        // Nothing is drawn where nothing is asked for, so that other scenarios stay as they are.
        if mix.vouch > 0 && self.draw.chance(mix.vouch) {
            let asked = world.place.clock.now();
            let seen = self.look(target, &path, Way::Head).await;
            let promise_nanos = u64::try_from(world.promise.as_nanos()).unwrap_or(u64::MAX);
            let after = Duration::from_nanos(self.draw.below(promise_nanos.max(1)));
            if matches!(seen, Some(Seen::Hit(_))) && self.vouched.len() < VOUCHED_MAX {
                self.vouched.push(Vouched { due: asked + after, path, target });
            }
            return;
        }
        let head = self.draw.chance(mix.head);
        self.look(target, &path, if head { Way::Head } else { Way::Get }).await;
    }

    /// Reads what was said to be here, if it is time to. Whether it was.
    async fn read_back(&mut self) -> bool {
        let now = self.world.place.clock.now();
        let Some(at) = self.vouched.iter().position(|vouched| vouched.due <= now) else {
            return false;
        };
        let Vouched { path, target, .. } = self.vouched.swap_remove(at);
        self.look(target, &path, Way::Get).await;
        true
    }

    /// One read, judged; nothing if there was no answer.
    async fn look(&mut self, target: Target, path: &str, way: Way) -> Option<Seen> {
        let world = self.world.clone();
        let clock = world.place.clock.clone();
        let stays = world.spec.stays;
        let read = async {
            let mut connection = self.take(target.addr).await?;
            let mut reader =
                Reader { court: &world.court, connection: &mut connection, clock: &*clock };
            let ask = Ask { node: target.node, path, start: clock.now() };
            let seen = match way {
                Way::Head => reader.head(ask).await?,
                Way::Get if stays => reader.get_staying(ask).await?,
                Way::Get => reader.get(ask).await?,
            };
            self.put_back(connection);
            Ok::<Seen, Failure>(seen)
        };
        let was_recovering = (world.is_recovering)(target.node);
        let result = timeout(&*clock, world.spec.timeout, read).await;
        let seen = result.ok().and_then(Result::ok);
        if let Some(Seen::Hit(Some(_))) = seen
            && was_recovering
            && (world.is_recovering)(target.node)
        {
            world.court.evidence().history.count_early_hit();
        }
        match seen {
            Some(Seen::Hit(_) | Seen::Miss) => {}
            // An error or an overload: be gentle, as build tools are not.
            Some(Seen::Refused(_)) | None => clock.sleep(world.spec.retry.wait).await,
        }
        seen
    }

    /// One delete of the namespace of its keys.
    async fn clean(&mut self) {
        let world = self.world.clone();
        let clock = world.place.clock.clone();
        let Target { node, addr, .. } = self.target();
        let cleaning = async {
            let mut connection = self.take(addr).await?;
            let cleaner = Cleaner { court: &world.court, clock: &*clock, on_disk: &*world.on_disk };
            let status = cleaner.clean(&mut connection, node, world.keys.namespace()).await?;
            self.put_back(connection);
            Ok::<u16, Failure>(status)
        };
        match timeout(&*clock, world.spec.timeout, cleaning).await {
            Ok(Ok(204)) => {}
            Ok(Ok(_) | Err(_)) | Err(_) => clock.sleep(world.spec.retry.wait).await,
        }
    }

    async fn put(&mut self, number: KeyNumber) {
        let plan = self.plan(number);
        let retry = self.world.spec.retry.clone();
        let mut wait = retry.wait;
        for tried in 1..=retry.tries {
            let Next::Again { not_before } = self.try_put(&plan).await else { return };
            // Even the last failure is followed by a pause: nobody hammers a server that says no.
            let pause = wait.max(not_before.unwrap_or_default()).min(retry.wait_max.max(wait));
            self.world.place.clock.sleep(pause).await;
            wait = (wait * 2).min(retry.wait_max);
            if tried == retry.tries {
                return;
            }
        }
    }

    fn plan(&mut self, number: KeyNumber) -> Plan {
        let world = self.world.clone();
        let ClientSpec { mix, body_bytes_min, body_bytes_max, .. } = &*world.spec;
        let key = world.keys.key(number);
        let len_bytes = self.draw.octaves(*body_bytes_min, *body_bytes_max);
        let forged = self.draw.chance(mix.forged);
        let id = world.court.evidence().history.next_body();
        let body = key.content.unwrap_or(Body { id, len_bytes, forged });
        let at = self.draw.below(body.len_bytes.max(1));
        let mut plan = Plan {
            path: key.path,
            body,
            breaks: Break::Never,
            fraud: None,
            half_closes_at: None,
            declares: true,
        };
        // One throw decides, so that the shares add up and exclude each other.
        let mut throw = self.draw.below(MILLION);
        let mut falls_in = |share: u64| {
            let falls = throw < share;
            throw = if falls { u64::MAX } else { throw.saturating_sub(share) };
            falls
        };
        if falls_in(mix.dies) {
            (plan.breaks, plan.fraud) = (Break::Close(at), Some(Fraud::Cut));
        } else if falls_in(mix.stalls) {
            (plan.breaks, plan.fraud) = (Break::Silence(at), Some(Fraud::Cut));
        } else if falls_in(mix.short) {
            (plan.half_closes_at, plan.fraud) = (Some(at), Some(Fraud::Cut));
        } else if falls_in(mix.wrong_digest) {
            plan.body.id = id;
            plan.path = world.keys.wrong_digest(&plan.body);
            plan.fraud = Some(Fraud::WrongDigest);
        } else if falls_in(mix.oversize) {
            plan.body = Body { id, len_bytes: world.body_bytes_max + 1 + at, forged: false };
            plan.fraud = Some(Fraud::Oversize);
        }
        plan.declares = !self.draw.chance(mix.undeclared);
        // The body of length zero cannot be cut.
        if body.len_bytes == 0 && plan.fraud == Some(Fraud::Cut) {
            (plan.breaks, plan.fraud, plan.half_closes_at) = (Break::Never, None, None);
        }
        plan
    }

    async fn try_put(&mut self, plan: &Plan) -> Next {
        let world = self.world.clone();
        let clock = world.place.clock.clone();
        let Target { node, addr, is_near } = self.target();
        let put = Put {
            body: plan.body,
            start: clock.now(),
            end: None,
            outcome: PutOutcome::Unknown,
            fraud: plan.fraud,
        };
        let id = {
            let mut evidence = world.court.evidence();
            if !evidence.history.deletes.is_empty() {
                evidence.history.deletes.hears(node, &(world.on_disk)(node), put.start);
            }
            evidence.history.begin_put(node, &plan.path, put)
        };
        let life = (world.open_life)(node);
        let sending = self.send(plan, addr);
        let limit = world.spec.timeout;
        let sent = timeout(&*clock, limit, sending).await;
        let now = clock.now();
        let (outcome, next) = match sent {
            Ok(Ok((status, sequence, retry_after))) => {
                world.court.evidence().history.saw_status(status);
                match self.judge_answer(plan, status, sequence, now) {
                    Some(outcome) => (outcome, Next::Done),
                    None => (PutOutcome::Unknown, Next::Again { not_before: retry_after }),
                }
            }
            Ok(Err(_)) | Err(_) => (PutOutcome::Unknown, Next::Again { not_before: None }),
        };
        world.court.evidence().history.end_put((node, &plan.path), id, now, outcome);
        // Held against a node only if it could take the put from the first byte to the answer.
        if plan.fraud.is_none() && life.is_some() && (world.open_life)(node) == life {
            let took = now.since(put.start);
            if let Some(limit) = world.answers_within {
                let verdict = puts_answered::check(&plan.path, took, limit);
                world.court.evidence().judge(now, verdict);
            }
            // And only if nobody else was in the way there.
            if let Some(limit) = world.puts_within.filter(|_| is_near) {
                let verdict = writes_independent_of_peers::check(&plan.path, outcome, took, limit);
                world.court.evidence().judge(now, verdict);
            }
        }
        next
    }

    /// What an answer says of the put; `None` if it may be tried again.
    fn judge_answer(
        &self,
        plan: &Plan,
        status: u16,
        sequence: Option<u64>,
        now: Instant,
    ) -> Option<PutOutcome> {
        if (400..500).contains(&status) {
            return Some(PutOutcome::Refused);
        }
        if !(200..300).contains(&status) {
            return None;
        }
        let sent_bytes = match (plan.breaks, plan.half_closes_at) {
            (Break::Close(at) | Break::Silence(at), _) | (Break::Never, Some(at)) => at,
            (Break::Never, None) => plan.body.len_bytes,
        };
        let (path, body, fraud) = (&plan.path, &plan.body, plan.fraud);
        let mut evidence = self.world.court.evidence();
        let whole = whole_body::check_acknowledgement(path, body, sent_bytes, fraud);
        evidence.judge(now, whole);
        evidence.judge(now, true_digest::check_acknowledgement(path, body, fraud));
        // Without a sequence the acknowledgement cannot be held against the horizon.
        Some(sequence.map_or(PutOutcome::Unknown, PutOutcome::Acked))
    }

    /// Sends the body; the status, the sequence and when to come again.
    async fn send(
        &mut self,
        plan: &Plan,
        addr: SocketAddr,
    ) -> Result<(u16, Option<u64>, Option<Duration>), Failure> {
        if let Some(at) = plan.half_closes_at {
            let place = &self.world.place;
            let status = connection::put_short(place, addr, &plan.path, &plan.body, at).await?;
            return Ok((status, None, None));
        }
        let rate = self.world.spec.upload_bytes_per_second;
        let clock = self.world.place.clock.clone();
        let pace = rate.map(|bytes_per_second| Pace { clock, bytes_per_second });
        let upload = Upload::new(plan.body, plan.breaks, pace);
        let upload = if plan.declares { upload } else { upload.undeclared() };
        let mut connection = self.take(addr).await?;
        let answer = connection.request(Method::PUT, &plan.path, upload).await?;
        let told = (answer.status, answer.sequence, answer.retry_after);
        // An answer before the body was drained ends the connection: what it said counts.
        if drain(answer).await.is_ok() {
            self.put_back(connection);
        }
        Ok(told)
    }
}
