//! What a link does to those at its ends, over a simulated network: in its time every wait is exact.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use fault_injection::{BUFFER_BYTES_MAX, Dial, Dials, End, Flow, Link, LinkCounts, Proxy};
use futures_util::future::join;
use kura_env::{Instant, Listener, NetErrorKind, Stream, timeout};
use sim_engine::{NodeId, World, WorldConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);
/// What the simulated network itself takes, and more.
const NETWORK_MAX: Duration = Duration::from_millis(30);

/// All dials as they are at first, but for what becomes of what arrives.
fn dials(forth: Flow, back: Flow) -> Dials {
    let dial = |flow| Dial { flow, ..Dial::default() };
    Dials { forth: dial(forth), back: dial(back), refuses: false }
}

/// A client at the near end, a server at the far one, and the link in between.
struct Bed {
    world: World,
    client: NodeId,
    link: Link,
    proxy: Option<Proxy>,
    listen: SocketAddr,
    target: SocketAddr,
    server: Box<dyn Listener>,
}

impl Bed {
    async fn new(world: World) -> Self {
        let [client, between, server] = [1, 2, 3].map(|number: u8| {
            world.add_node(&format!("n{number}"), IpAddr::from([10, 0, 0, number]))
        });
        let link = Link::new(world.clock(between), world.net(between), world.tasks(between));
        let listen = SocketAddr::new(world.addr(between), 80);
        let target = SocketAddr::new(world.addr(server), 80);
        let proxy = link.proxy(End::Near, listen, target).await.unwrap();
        let server = world.net(server).listen(target).await.unwrap();
        Self { world, client, link, proxy: Some(proxy), listen, target, server }
    }

    async fn dial(&self) -> Box<dyn Stream> {
        self.world.net(self.client).connect(self.listen).await.unwrap()
    }

    /// A connection over the link: the client's end and the server's.
    async fn pair(&self) -> (Box<dyn Stream>, Box<dyn Stream>) {
        let (near, far) = join(self.dial(), self.server.accept()).await;
        (near, far.unwrap())
    }

    /// Whether a byte comes within a second.
    async fn hears(&self, stream: &mut Box<dyn Stream>) -> bool {
        let clock = self.world.clock(self.client);
        matches!(timeout(&*clock, SECOND, stream.read_u8()).await, Ok(Ok(_)))
    }

    /// Whether the stream ends within a second.
    async fn ends(&self, stream: &mut Box<dyn Stream>) -> bool {
        let clock = self.world.clock(self.client);
        let read = async { matches!(stream.read(&mut [0; 10]).await, Ok(0) | Err(_)) };
        timeout(&*clock, SECOND, read).await == Ok(true)
    }

    fn counts(&self) -> LinkCounts {
        self.link.counts()
    }

    async fn pass(&self, duration: Duration) {
        self.world.clock(self.client).sleep(duration).await;
    }

    fn now(&self) -> Instant {
        self.world.now()
    }
}

fn run<F: Future<Output = ()> + Send + 'static>(story: impl FnOnce(World) -> F) {
    let world = World::new(WorldConfig::from_seed(1));
    let hour = Instant::default() + SECOND * 3600;
    let done = world.block_on(story(world.clone()), hour);
    done.unwrap_or_else(|outcome| panic!("{outcome}"));
}

/// Sends so many bytes and its end; when the last of them was read, and whether they were right.
async fn transfer(
    bed: &Bed,
    near: &mut Box<dyn Stream>,
    far: &mut Box<dyn Stream>,
    bytes: usize,
) -> Instant {
    let sent: Vec<u8> = (0..251).cycle().take(bytes).collect();
    let mut received = Vec::new();
    let send = async {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let (_, read) = join(send, far.read_to_end(&mut received)).await;
    read.unwrap();
    assert!(received == sent, "{} bytes of {bytes}, or others", received.len());
    bed.now()
}

#[track_caller]
fn assert_took(begun: Instant, ended: Instant, expected: Duration) {
    let took = ended.since(begun);
    let is_right = expected <= took + Duration::from_millis(50) && took <= expected + NETWORK_MAX;
    assert!(is_right, "{took:?} and not {expected:?}");
}

#[test]
fn an_open_link_changes_nothing_and_counts() {
    run(async |world| {
        let bed = Bed::new(world).await;
        let (mut near, mut far) = bed.pair().await;
        let begun = bed.now();
        let ended = transfer(&bed, &mut near, &mut far, 3_000_000).await;
        assert_took(begun, ended, Duration::ZERO);
        let ended = transfer(&bed, &mut far, &mut near, 1000).await;
        assert_took(begun, ended, Duration::ZERO);
        bed.pass(SECOND).await;
        let counts = bed.counts();
        assert_eq!((counts.forth.delivered_bytes, counts.back.delivered_bytes), (3_000_000, 1000));
        assert_eq!((counts.accepted, counts.open, counts.cut), (1, 0, 0));
        assert_eq!((counts.forth.throttled, counts.forth.held), (0, 0));
    });
}

#[test]
fn all_connections_share_the_rate_of_their_way() {
    run(async |world| {
        let bed = Bed::new(world).await;
        let dial = Dial { bytes_per_second: Some(1_000_000), ..Dial::default() };
        bed.link.turn(Dials { forth: dial, ..Dials::default() });
        let (mut near, mut far) = bed.pair().await;
        let (mut other_near, mut other_far) = bed.pair().await;
        let begun = bed.now();
        let one = transfer(&bed, &mut near, &mut far, 2_000_000);
        let other = transfer(&bed, &mut other_near, &mut other_far, 2_000_000);
        let (one, other) = join(one, other).await;
        assert_took(begun, one.max(other), SECOND * 4);
        assert!(one.since(begun) > SECOND * 3 && other.since(begun) > SECOND * 3, "in turn");
        let ended = transfer(&bed, &mut far, &mut near, 2_000_000).await;
        assert_took(one.max(other), ended, Duration::ZERO);
        assert!(bed.counts().forth.throttled > 100 && bed.counts().back.throttled == 0);
    });
}

#[test]
fn who_waits_for_its_turn_goes_on_when_the_rate_is_turned_up() {
    run(async |world| {
        let bed = Bed::new(world).await;
        bed.link.turn(Dials::both(Dial { bytes_per_second: Some(0), ..Dial::default() }));
        let (mut near, mut far) = bed.pair().await;
        let begun = bed.now();
        let turn = async {
            bed.pass(SECOND * 5).await;
            bed.link.turn(Dials::default());
        };
        let (ended, ()) = join(transfer(&bed, &mut near, &mut far, 1_000_000), turn).await;
        assert_took(begun, ended, SECOND * 5);
    });
}

#[test]
fn a_delay_holds_up_each_byte_and_not_those_behind_it() {
    run(async |world| {
        let bed = Bed::new(world).await;
        bed.link.turn(Dials::both(Dial { delay: SECOND, ..Dial::default() }));
        let (mut near, mut far) = bed.pair().await;
        let begun = bed.now();
        let ended = transfer(&bed, &mut near, &mut far, BUFFER_BYTES_MAX / 2).await;
        assert_took(begun, ended, SECOND);
        // No more than the buffer is on its way.
        let (mut near, mut far) = bed.pair().await;
        let ended_later = transfer(&bed, &mut near, &mut far, BUFFER_BYTES_MAX * 5 / 2).await;
        assert_took(ended, ended_later, SECOND * 3);
    });
}

#[test]
fn a_way_that_is_held_delivers_everything_later_and_the_other_one_goes_on() {
    run(async |world| {
        let bed = Bed::new(world).await;
        let (mut near, mut far) = bed.pair().await;
        bed.link.turn(dials(Flow::Held, Flow::Open));
        near.write_all(b"ab").await.unwrap();
        far.write_all(b"x").await.unwrap();
        assert!(!bed.hears(&mut far).await && bed.hears(&mut near).await);
        // Who dials now is not connected yet.
        let mut late = bed.dial().await;
        late.write_all(b"l").await.unwrap();
        let clock = bed.world.clock(bed.client);
        assert!(timeout(&*clock, SECOND, bed.server.accept()).await.is_err());
        bed.link.turn(Dials::default());
        let mut heard = [0; 2];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ab");
        let mut late_far = bed.server.accept().await.unwrap();
        assert!(bed.hears(&mut late_far).await);
        let counts = bed.counts();
        assert_eq!((counts.forth.held, counts.back.held, counts.open), (1, 0, 2));
        assert_eq!((counts.forth.delivered_bytes, counts.back.delivered_bytes), (3, 1));
    });
}

#[test]
fn what_was_swallowed_leaves_no_hole_but_a_connection_that_stays_silent() {
    run(async |world| {
        let bed = Bed::new(world).await;
        let (mut near, mut far) = bed.pair().await;
        let (mut idle_near, mut idle_far) = bed.pair().await;
        bed.link.turn(dials(Flow::Open, Flow::Swallowed));
        near.write_all(b"a").await.unwrap();
        far.write_all(b"xyz").await.unwrap();
        assert!(bed.hears(&mut far).await && !bed.hears(&mut near).await);
        // Who dials now reaches nobody, and hears nothing.
        let mut lost = bed.dial().await;
        lost.write_all(b"l").await.unwrap();
        assert!(!bed.hears(&mut lost).await);
        bed.link.turn(Dials::default());
        far.write_all(b"w").await.unwrap();
        near.write_all(b"b").await.unwrap();
        assert!(
            bed.hears(&mut far).await && !bed.hears(&mut near).await && !bed.hears(&mut lost).await
        );
        // One that lost nothing is forgotten all the same.
        idle_far.write_all(b"u").await.unwrap();
        idle_near.write_all(b"c").await.unwrap();
        assert!(bed.hears(&mut idle_far).await && !bed.hears(&mut idle_near).await);
        let (mut near_again, mut far_again) = bed.pair().await;
        far_again.write_all(b"v").await.unwrap();
        assert!(bed.hears(&mut near_again).await);
        let counts = bed.counts();
        assert_eq!((counts.back.swallowed_bytes, counts.forth.swallowed_bytes), (5, 1));
        assert_eq!((counts.lost, counts.open), (1, 4));
        // When both ends give up, nothing of it stays.
        drop((near, far, lost, idle_near, idle_far));
        bed.pass(SECOND).await;
        assert_eq!(bed.counts().open, 1);
    });
}

#[test]
fn a_link_that_refuses_closes_what_is_there_and_what_comes() {
    run(async |world| {
        let bed = Bed::new(world).await;
        let (mut near, mut far) = bed.pair().await;
        bed.link.turn(Dials::refusing());
        assert!(bed.ends(&mut near).await && bed.ends(&mut far).await);
        let mut refused = bed.dial().await;
        assert!(bed.ends(&mut refused).await);
        bed.link.turn(Dials::default());
        let (mut near, mut far) = bed.pair().await;
        near.write_all(b"a").await.unwrap();
        assert!(bed.hears(&mut far).await);
        bed.link.cut();
        assert!(bed.ends(&mut near).await && bed.ends(&mut far).await);
        let counts = bed.counts();
        assert_eq!((counts.accepted, counts.refused, counts.cut, counts.open), (3, 1, 2, 0));
    });
}

#[test]
fn a_connection_is_cut_in_the_middle_of_what_it_carries() {
    run(async |world| {
        let bed = Bed::new(world).await;
        let dial = Dial { cut_after_bytes: Some(100_000), ..Dial::default() };
        bed.link.turn(Dials { back: dial, ..Dials::default() });
        let (mut near, mut far) = bed.pair().await;
        // The other way is not counted.
        near.write_all(&[1; 200_000]).await.unwrap();
        far.read_exact(&mut vec![0; 200_000]).await.unwrap();
        let mut received = Vec::new();
        let send = async { far.write_all(&[2; 200_000]).await.ok() };
        let (_, read) = join(send, near.read_to_end(&mut received)).await;
        assert_eq!((read.is_ok(), received.len()), (true, 100_000));
        assert_eq!((bed.counts().cut, bed.counts().back.delivered_bytes), (1, 100_000));
    });
}

#[test]
fn a_target_that_is_not_there_closes_whoever_dials() {
    run(async |world| {
        let mut bed = Bed::new(world).await;
        let server = std::mem::replace(
            &mut bed.server,
            bed.world.net(bed.client).listen("10.0.0.1:9".parse().unwrap()).await.unwrap(),
        );
        drop(server);
        let mut near = bed.dial().await;
        assert!(bed.ends(&mut near).await);
        assert_eq!((bed.counts().unreachable, bed.counts().open), (1, 0));
    });
}

#[test]
fn a_proxy_that_is_dropped_leaves_nothing() {
    run(async |world| {
        let mut bed = Bed::new(world).await;
        let (mut near, mut far) = bed.pair().await;
        bed.link.turn(dials(Flow::Held, Flow::Held));
        near.write_all(&[1; 100_000]).await.unwrap();
        bed.proxy.take();
        assert!(bed.ends(&mut near).await && bed.ends(&mut far).await);
        assert_eq!(bed.counts().open, 0);
        drop((near, far));
        let refused = bed.world.net(bed.client).connect(bed.listen).await;
        assert!(matches!(refused.err().map(|error| error.kind), Some(NetErrorKind::Refused)));
        bed.proxy = Some(bed.link.proxy(End::Near, bed.listen, bed.target).await.unwrap());
        bed.link.turn(Dials::default());
        let (mut near, mut far) = bed.pair().await;
        near.write_all(b"a").await.unwrap();
        assert!(bed.hears(&mut far).await);
        drop((near, far));
        bed.pass(SECOND).await;
        assert_eq!(bed.world.network().connections(), 0);
    });
}
