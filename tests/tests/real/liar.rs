//! A server that lies, to show that whoever judges real nodes finds each lie: the same reader, history and invariants
//! that the clients of `five_nodes` use.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kura_env::Instant;
use sim::{
    body::{Body, BodyId},
    client::{Ask, Reader, Seen, connection::Connection},
    court::Court,
    history::{NodeIndex, Put, PutId, PutOutcome},
    invariants::{
        one_winner::{self, Said},
        writes_independent_of_peers,
    },
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::five_nodes::place;

/// What the liar says that it is, so that a miss is held against it.
const SERVING: &str =
    r#"{"state":"serving","ring":{"horizon_sequence":1,"entries":{"horizon_sequence":1}}}"#;
const PATH: &str = "/team/key";
const HERE: NodeIndex = NodeIndex(0);
const ELSEWHERE: NodeIndex = NodeIndex(1);

/// A server with one answer to everything but `/status`; nothing is a miss.
async fn liar(answer: Option<Bytes>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(async |request: Request<Incoming>| {
            let said = match request.uri().path() {
                "/status" => Some(Bytes::from(SERVING)),
                _ => answer.clone(),
            };
            let mut response = Response::new(Full::new(said.clone().unwrap_or_default()));
            *response.status_mut() = if said.is_some() { 200 } else { 404 }.try_into().unwrap();
            Ok::<_, Infallible>(response)
        });
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
    });
    (addr, serving)
}

fn body(id: u64) -> Body {
    Body { id: BodyId(id), len_bytes: 200_000, forged: id.is_multiple_of(2) }
}

fn bytes_of(body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < body.len_bytes {
        bytes.extend_from_slice(&body.part(bytes.len() as u64));
    }
    bytes
}

/// Puts of these outcomes, one after the other and a second apart; the body of each has the number of its place.
fn court(puts: &[(NodeIndex, PutOutcome)]) -> Court {
    let court = Court::default();
    let mut evidence = court.evidence();
    evidence.history.span(2);
    for (number, (node, outcome)) in (0..).zip(puts) {
        let start = Instant::default() + Duration::from_secs(number);
        let put =
            Put { body: body(number), start, end: None, outcome: PutOutcome::Unknown, fraud: None };
        let id: PutId = evidence.history.begin_put(*node, PATH, put);
        let end = start + Duration::from_millis(1);
        evidence.history.end_put((*node, PATH), id, end, *outcome);
    }
    drop(evidence);
    court
}

/// Which invariant is violated if the answer to a read is this one.
async fn verdict(court: &Court, answer: Option<Vec<u8>>) -> Option<&'static str> {
    let (addr, serving) = liar(answer.map(Bytes::from)).await;
    let place = Arc::new(place());
    let mut connection = Connection::open(&place, addr).await.unwrap();
    let clock = &*place.clock;
    let mut reader = Reader { court, connection: &mut connection, clock };
    let start = Instant::default() + Duration::from_secs(1000);
    let seen = reader.get(Ask { node: HERE, path: PATH, start }).await.unwrap();
    assert!(!matches!(seen, Seen::Refused(_)));
    serving.abort();
    court.evidence().violation().map(|violation| violation.invariant)
}

#[tokio::test]
async fn what_was_put_is_no_lie() {
    let puts = [
        (HERE, PutOutcome::Acked(5)),
        (ELSEWHERE, PutOutcome::Acked(9)),
        (HERE, PutOutcome::Unknown),
    ];
    for number in 0..3 {
        let told = verdict(&court(&puts), Some(bytes_of(body(number)))).await;
        assert_eq!(told, None, "body {number}");
    }
    assert_eq!(verdict(&court(&[]), None).await, None, "nothing was put there");
    let elsewhere = [(ELSEWHERE, PutOutcome::Acked(9))];
    assert_eq!(verdict(&court(&elsewhere), None).await, None, "it may not have come yet");
}

#[tokio::test]
async fn every_lie_about_a_body_is_found() {
    let puts = [
        (HERE, PutOutcome::Acked(5)),
        (ELSEWHERE, PutOutcome::Acked(9)),
        (HERE, PutOutcome::Refused),
        (HERE, PutOutcome::Acked(6)),
    ];
    let whole = bytes_of(body(3));
    let mut changed = whole.clone();
    changed[150_000] ^= 1;
    let mix = [&whole[..100_000], &bytes_of(body(1))[100_000..]].concat();
    for (what, answer, oracle) in [
        ("short", whole[..199_999].to_vec(), "whole_body"),
        ("empty", Vec::new(), "whole_body"),
        ("changed", changed, "true_digest"),
        ("mixed of two", mix, "true_digest"),
        ("longer", [&whole[..], b"x"].concat(), "true_digest"),
        ("never put", bytes_of(body(77)), "true_digest"),
        ("refused", bytes_of(body(2)), "true_digest"),
        ("older than what was acknowledged here", bytes_of(body(0)), "acked_or_evicted"),
        ("older, from elsewhere", bytes_of(body(1)), "acked_or_evicted"),
    ] {
        assert_eq!(verdict(&court(&puts), Some(answer)).await, Some(oracle), "{what}");
    }
    assert_eq!(verdict(&court(&puts), None).await, Some("acked_or_evicted"), "a miss");
}

#[test]
fn nodes_that_differ_and_puts_that_are_refused_or_late_are_found() {
    let said = |bodies: [Option<u64>; 2]| {
        let said = |body: Option<u64>| Said { node: "n".to_owned(), body: body.map(BodyId) };
        one_winner::check(PATH, &bodies.map(said)).is_ok()
    };
    assert!(said([Some(1), Some(1)]) && !said([Some(1), Some(2)]) && !said([Some(1), None]));
    let limit = Duration::from_secs(5);
    let put =
        |outcome, took| writes_independent_of_peers::check(PATH, outcome, took, limit).is_ok();
    assert!(put(PutOutcome::Acked(1), limit) && !put(PutOutcome::Acked(1), limit * 2));
    assert!(!put(PutOutcome::Unknown, limit) && !put(PutOutcome::Refused, limit));
}
