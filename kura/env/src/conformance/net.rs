//! What every [`Net`] keeps: ordered bytes in both directions, back-pressure, and four ends of a
//! stream that are told apart (refused, orderly end, reset, silence).

use std::{future::poll_fn, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::future::join;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{Clock, Listener, Net, NetErrorKind, Stream, timeout};

/// How long the suite looks before it says that something does not happen.
const LOOK: Duration = Duration::from_millis(200);

/// More than any window of a stream nobody reads from.
const FLOOD_BYTES: usize = 64 * 1024 * 1024;

/// What the network is tried with.
#[derive(Clone)]
pub struct World {
    /// The network of the side that listens.
    pub server: Arc<dyn Net>,
    /// The network of the side that connects; may be the same.
    pub client: Arc<dyn Net>,
    /// Where the server may listen: an address of its own with port 0.
    pub bind: SocketAddr,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Holds a network to its contract. Both sides run inside the returned future.
///
/// # Panics
///
/// Where the contract is broken.
pub async fn suite(world: World) {
    a_port_is_chosen_and_both_ends_know_each_other(&world).await;
    bytes_go_both_ways_at_once(&world).await;
    a_writer_waits_for_its_reader(&world).await;
    a_shutdown_ends_one_direction(&world).await;
    dropping_delivers_what_was_accepted(&world).await;
    dropping_unread_bytes_resets(&world).await;
    silence_is_not_an_end(&world).await;
    an_address_is_taken_and_freed(&world).await;
    an_address_resolves_to_itself(&world).await;
}

/// A name that does not exist is unknown. Apart from [`suite`], because on a real network the
/// answer comes from a name server, and how long that takes is not ours to say.
///
/// # Panics
///
/// Where the contract is broken.
pub async fn unknown_names(net: Arc<dyn Net>) {
    let error = net.resolve("no-such-host.invalid", 80).await.expect_err("nobody has this name");
    assert!(matches!(error.kind, NetErrorKind::UnknownName), "{error}");
}

async fn listen(world: &World) -> Box<dyn Listener> {
    world.server.listen(world.bind).await.expect("the server may listen here")
}

/// A connected pair: the client's end and the server's.
async fn pair(world: &World) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let listener = listen(world).await;
    let (client, server) =
        join(world.client.connect(listener.local_addr()), listener.accept()).await;
    (client.expect("somebody listens"), server.expect("somebody connects"))
}

/// Bytes that show a shift, a repetition or a hole.
fn pattern(len_bytes: usize) -> Vec<u8> {
    (0..len_bytes).map(|i| (i ^ i >> 8 ^ i >> 16).to_le_bytes()[0]).collect()
}

async fn a_port_is_chosen_and_both_ends_know_each_other(world: &World) {
    let listener = listen(world).await;
    let addr = listener.local_addr();
    assert_eq!(addr.ip(), world.bind.ip());
    assert_ne!(addr.port(), 0, "a port was to be chosen");
    let (client, server) = join(world.client.connect(addr), listener.accept()).await;
    let (client, server) = (client.expect("connects"), server.expect("accepts"));
    assert_eq!(client.peer_addr(), addr);
    assert_ne!(server.peer_addr().port(), 0, "the client has a port too");
    let second = join(world.client.connect(addr), listener.accept()).await;
    let second = second.1.expect("a listener accepts more than once");
    assert_ne!(server.peer_addr(), second.peer_addr(), "two streams, two addresses");
}

async fn bytes_go_both_ways_at_once(world: &World) {
    // Each way more than fits into any window, so that a network that does one direction at a time
    // comes to a stop.
    let data = &pattern(4 * 1024 * 1024);
    let run = |stream: Box<dyn Stream>| async move {
        let (mut read, mut write) = tokio::io::split(stream);
        let send = async {
            write.write_all(data).await.expect("the peer reads");
            write.shutdown().await.expect("the peer is there");
        };
        let mut received = Vec::new();
        let ((), got) = join(send, read.read_to_end(&mut received)).await;
        got.expect("an orderly end");
        assert!(received == *data, "the bytes changed on their way");
    };
    let (client, server) = pair(world).await;
    join(run(client), run(server)).await;
}

async fn a_writer_waits_for_its_reader(world: &World) {
    let (mut client, mut server) = pair(world).await;
    let mut accepted = 0;
    let chunk = [7_u8; 64 * 1024];
    // Until no byte is accepted for a while.
    while let Ok(written) = timeout(&*world.clock, LOOK, client.write(&chunk)).await {
        accepted += written.expect("the peer is there");
        assert!(accepted < FLOOD_BYTES, "{accepted} bytes were accepted and nobody reads");
    }
    assert!(accepted > 0, "a fresh stream accepts nothing");
    // Once somebody reads, all of it arrives and the writer goes on.
    let write_more = async {
        client.write_all(&chunk).await.expect("there is room again");
        client.shutdown().await.expect("the peer is there");
    };
    let mut received = Vec::new();
    let ((), got) = join(write_more, server.read_to_end(&mut received)).await;
    got.expect("an orderly end");
    assert_eq!(received.len(), accepted + chunk.len(), "what was accepted is delivered");
}

async fn a_shutdown_ends_one_direction(world: &World) {
    let (mut client, mut server) = pair(world).await;
    client.write_all(b"question").await.expect("the peer is there");
    client.shutdown().await.expect("the peer is there");
    let mut question = Vec::new();
    server.read_to_end(&mut question).await.expect("the end is orderly");
    assert_eq!(question, b"question");
    assert_eq!(server.read(&mut [0; 8]).await.expect("still orderly"), 0, "the end stays the end");

    server.write_all(b"answer").await.expect("the other direction is open");
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("the end is orderly");
    assert_eq!(answer, b"answer");
}

async fn dropping_delivers_what_was_accepted(world: &World) {
    let (mut client, mut server) = pair(world).await;
    let data = pattern(100_000);
    let send = async {
        server.write_all(&data).await.expect("the peer is there");
        drop(server);
    };
    let mut received = Vec::new();
    let ((), got) = join(send, client.read_to_end(&mut received)).await;
    got.expect("an orderly close reads as an end");
    assert!(received == data, "bytes were lost at the close");

    // Writing to who has gone fails, if not at once.
    let write_on = async {
        loop {
            if let Err(error) = client.write_all(b"anybody there?").await {
                return error;
            }
            world.clock.sleep(Duration::from_millis(5)).await;
        }
    };
    let error = timeout(&*world.clock, Duration::from_secs(10), write_on).await;
    assert_gone(&error.expect("writing to who has gone goes on"));
}

async fn dropping_unread_bytes_resets(world: &World) {
    let (mut client, mut server) = pair(world).await;
    client.write_all(&[7; 1000]).await.expect("the peer is there");
    // All thousand have arrived with the first, as one segment.
    assert_eq!(server.read(&mut [0; 1]).await.expect("bytes arrive"), 1);
    drop(server);
    let error = client.read(&mut [0; 8]).await.expect_err("a reset is no orderly end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

async fn silence_is_not_an_end(world: &World) {
    let (mut client, mut server) = pair(world).await;
    let heard = timeout(&*world.clock, LOOK, client.read(&mut [0; 8])).await;
    assert!(heard.is_err(), "the peer said nothing, and yet: {heard:?}");
    // A read that was given up has taken nothing.
    server.write_all(b"late").await.expect("the peer is there");
    let mut late = [0; 4];
    client.read_exact(&mut late).await.expect("bytes arrive");
    assert_eq!(&late, b"late");
    // A flush waits for nobody to read.
    poll_fn(|cx| Pin::new(&mut server).poll_flush(cx)).await.expect("the peer is there");
}

async fn an_address_is_taken_and_freed(world: &World) {
    let listener = listen(world).await;
    let addr = listener.local_addr();
    let taken = world.server.listen(addr).await.err().expect("the address is taken");
    assert!(matches!(taken.kind, NetErrorKind::AddressInUse), "{taken}");
    let (client, server) = join(world.client.connect(addr), listener.accept()).await;
    let (mut client, mut server) = (client.expect("connects"), server.expect("accepts"));

    drop(listener);
    let refused = world.client.connect(addr).await.err().expect("nobody listens any more");
    assert!(matches!(refused.kind, NetErrorKind::Refused), "{refused}");
    client.write_all(b"on").await.expect("accepted streams outlive their listener");
    server.read_exact(&mut [0; 2]).await.expect("accepted streams outlive their listener");

    let again = world.server.listen(addr).await.expect("the address is free again");
    assert_eq!(again.local_addr(), addr);
    let (client, server) = join(world.client.connect(addr), again.accept()).await;
    client.expect("connects again");
    server.expect("accepts again");
}

async fn an_address_resolves_to_itself(world: &World) {
    let name = world.bind.ip().to_string();
    let found = world.client.resolve(&name, 4321).await.expect("an address needs no name server");
    assert_eq!(found, [SocketAddr::new(world.bind.ip(), 4321)]);
}

fn assert_gone(error: &io::Error) {
    let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(gone.contains(&error.kind()), "{error}");
}
