//! How far the passes of a node over its peers have come, told from what goes over the network alone.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use kura_core::limits::SMALL_BODY_BYTES;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::scenario::Point;

/// Told when a pass over a peer has come to a point.
pub(in crate::run) type OnPoint = Box<dyn Fn(SocketAddr, Point) + Send + Sync>;

/// The kinds of the frames of a whole body and of the rest of one.
const WHOLE: u8 = 1;
const REST: u8 = 3;

/// Sees the passes of one node.
pub(in crate::run) struct Sight {
    on_point: OnPoint,
    /// Where the nodes of these ids were met.
    met: Mutex<BTreeMap<u64, SocketAddr>>,
}

/// What is read of an answer.
enum About {
    Hello,
    Compared,
    Bodies,
}

/// An answer that is being received.
pub(super) struct Look {
    sight: Arc<Sight>,
    peer: SocketAddr,
    about: About,
    content: Vec<u8>,
    /// Bytes of content, also where they are not kept.
    came_bytes: u64,
    is_half_told: bool,
}

#[derive(Deserialize)]
struct Hello {
    life: Option<Life>,
}

#[derive(Deserialize)]
struct Life {
    node: u64,
}

#[derive(Deserialize)]
struct Compared {
    told: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    rows: Vec<serde_json::Value>,
    #[serde(default)]
    parts: Vec<serde_json::Value>,
}

impl Sight {
    pub(in crate::run) fn new(on_point: OnPoint) -> Arc<Self> {
        Arc::new(Self { on_point, met: Mutex::default() })
    }

    /// The node is about to save its cursor for the peer of this id.
    pub(in crate::run) fn saves_mark(&self, node: u64) {
        let peer = self.met.lock().get(&node).copied();
        if let Some(peer) = peer {
            (self.on_point)(peer, Point::MarkUnsaved);
        }
    }

    /// The node asks a peer. What is to be seen of the answer, if anything.
    pub(super) fn asked(self: &Arc<Self>, peer: SocketAddr, request: &[u8]) -> Option<Look> {
        let about = if request.starts_with(b"GET /peer/v1/hello") {
            About::Hello
        } else if request.starts_with(b"POST /peer/v1/compare") {
            About::Compared
        } else if request.starts_with(b"POST /peer/v1/bodies") {
            About::Bodies
        } else {
            if request.starts_with(b"GET /peer/v1/feed") {
                (self.on_point)(peer, Point::FeedAsked);
            }
            return None;
        };
        let (sight, content) = (self.clone(), Vec::new());
        Some(Look { sight, peer, about, content, came_bytes: 0, is_half_told: false })
    }
}

impl Look {
    /// More of the answer's content has come.
    pub(super) fn content(&mut self, bytes: &[u8]) {
        const FRAME_BYTES_MAX: usize = 17;
        self.came_bytes += bytes.len() as u64;
        match self.about {
            About::Hello | About::Compared => self.content.extend_from_slice(bytes),
            About::Bodies => {
                let room = FRAME_BYTES_MAX.saturating_sub(self.content.len());
                self.content.extend_from_slice(&bytes[..room.min(bytes.len())]);
                let half = large_body(&self.content).map(|(before, len)| before + len / 2);
                if !self.is_half_told && half.is_some_and(|half| self.came_bytes >= half) {
                    self.is_half_told = true;
                    self.tell(Point::BodyHalf);
                }
            }
        }
    }

    /// The answer has come to its end.
    pub(super) fn ended(self, status: u16) {
        if status != 200 {
            return;
        }
        match self.about {
            About::Hello => {
                let hello: Option<Hello> = serde_json::from_slice(&self.content).ok();
                if let Some(life) = hello.and_then(|hello| hello.life) {
                    self.sight.met.lock().insert(life.node, self.peer);
                    self.tell(Point::HeadNoted);
                }
            }
            About::Compared => {
                let told: Option<Compared> = serde_json::from_slice(&self.content).ok();
                let told = told.map(|it| it.told).unwrap_or_default();
                if told.iter().any(|told| !told.parts.is_empty()) {
                    self.tell(Point::RangesDiffer);
                }
                if told.iter().any(|told| !told.rows.is_empty()) {
                    self.tell(Point::NamesTold);
                }
            }
            About::Bodies => {}
        }
    }

    fn tell(&self, point: Point) {
        (self.sight.on_point)(self.peer, point);
    }
}

/// Of an answer that begins so: how many bytes stand before the body, and how long that is, if it is one of those
/// that are asked for alone.
fn large_body(begins: &[u8]) -> Option<(u64, u64)> {
    let before = match *begins.first()? {
        WHOLE => 9,
        REST => 17,
        _ => return None,
    };
    let len = begins.get(before - 8..before)?.try_into().ok().map(u64::from_le_bytes)?;
    (len > SMALL_BODY_BYTES).then_some((before as u64, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ([u8; 4], u16) = ([10, 0, 0, 2], 7000);

    /// The points that answers with this content are seen to come to.
    fn points(request: &str, pieces: &[&[u8]], status: u16) -> Vec<Point> {
        let seen: Arc<Mutex<Vec<Point>>> = Arc::default();
        let told = seen.clone();
        let sight = Sight::new(Box::new(move |_, point| told.lock().push(point)));
        if let Some(mut look) = sight.asked(PEER.into(), request.as_bytes()) {
            pieces.iter().for_each(|piece| look.content(piece));
            look.ended(status);
        }
        sight.saves_mark(7);
        seen.lock().clone()
    }

    #[test]
    fn what_is_asked_and_told_shows_how_far_a_pass_has_come() {
        const HELLO: &str = "GET /peer/v1/hello HTTP/1.1";
        const COMPARE: &str = "POST /peer/v1/compare?rows=9 HTTP/1.1";
        let life: &[u8] = b"{\"life\":{\"node\":7,\"incarnation\":1,\"head\":3}}";
        assert_eq!(points(HELLO, &[life], 200), [Point::HeadNoted, Point::MarkUnsaved]);
        assert_eq!(points(HELLO, &[&life[..9], &life[9..]], 200).len(), 2, "in pieces");
        assert_eq!(points(HELLO, &[life], 503), []);
        assert_eq!(points(HELLO, &[b"{\"life\":null}"], 200), [], "it reads its data back");
        assert_eq!(points(COMPARE, &[b"{\"told\":[{}]}"], 200), [], "the same");
        let parts: &[u8] = b"{\"told\":[{\"parts\":[[[0,0,1,0],[1,2,3]]]}]}";
        assert_eq!(points(COMPARE, &[parts], 200), [Point::RangesDiffer]);
        let rows: &[u8] = b"{\"told\":[{},{\"rows\":[{\"node\":1}]}]}";
        assert_eq!(points(COMPARE, &[rows], 200), [Point::NamesTold]);
        assert_eq!(points("GET /peer/v1/feed?from=3 HTTP/1.1", &[], 200), [Point::FeedAsked]);
    }

    #[test]
    fn half_of_a_large_body_is_seen_once() {
        let answer = |kind: &[u8], len: u64, came: usize| {
            let frame = [kind, &len.to_le_bytes(), &vec![0; came]].concat();
            points("POST /peer/v1/bodies HTTP/1.1", &[&frame[..5], &frame[5..]], 200)
        };
        assert_eq!(answer(&[WHOLE], 200_000, 99_999), []);
        assert_eq!(answer(&[WHOLE], 200_000, 200_000), [Point::BodyHalf]);
        assert_eq!(answer(&[WHOLE], SMALL_BODY_BYTES, 64 << 10), [], "it comes with others");
        let from = [&[REST][..], &[9; 8]].concat();
        assert_eq!(answer(&from, 200_000, 99_999), []);
        assert_eq!(answer(&from, 200_000, 100_000), [Point::BodyHalf]);
        assert_eq!(answer(&[0], 200_000, 200_000), [], "it has not got it");
    }
}
