//! What this version says, as bytes: so that whoever changes it sees that nodes of two versions talk to each other while
//! a mesh is renewed. `KURA_BLESS=1` writes the files anew.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use kura_core::{
    address::{Address, Space},
    digest::Digest,
    feed::FeedRow,
    limits::PeerLimits,
    primary::Candidate,
    record::Version,
    summary::{Position, Span, Sum},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Ask, BODY_MISSING, BODY_UNREADABLE, Compared, DeleteKnown, DeletesKnown, FeedPage, Hello, Life,
    Limits, Part, Pulse, Row, Told, announcement,
};
use crate::service::State;

/// Compares `bytes` with what is recorded under this name.
#[allow(clippy::disallowed_methods, reason = "a test reads and writes its own data")]
fn compare(name: &str, bytes: &[u8]) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/replicate/wire/recorded");
    let path = dir.join(name);
    if std::env::var_os("KURA_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let recorded = std::fs::read(&path).unwrap();
    let texts = (String::from_utf8_lossy(bytes), String::from_utf8_lossy(&recorded));
    assert!(bytes == recorded, "{name}: {} was recorded as {}", texts.0, texts.1);
    recorded
}

/// The same of a message, which must be read as it was written.
fn compare_message<T: Serialize + DeserializeOwned + Debug>(name: &str, message: &T) {
    let recorded = compare(name, &serde_json::to_vec(message).unwrap());
    let read: T = serde_json::from_slice(&recorded).unwrap();
    assert_eq!(format!("{read:?}"), format!("{message:?}"), "{name}");
}

fn row(key: &str) -> Row {
    Row::from(&FeedRow {
        address: Address::new("team", Space::Plain, key).unwrap(),
        version: Version { time: 1 << 40, node: u64::MAX },
        body_bytes: 100_000,
        digest: Digest::of(b"body"),
    })
}

fn span(from: u64, to: u64) -> Span {
    let at = |time| Position { time, print: time + 1 };
    Span { from: at(from), to: at(to) }
}

fn hello() -> Hello {
    Hello {
        life: Some(Life { node: 1, incarnation: u64::MAX, head: 3, start: Some(4) }),
        region: "here".to_owned(),
        state: Some(State::Serving),
        deletes: 5,
        limits: PeerLimits::FIRST.into(),
    }
}

#[test]
fn what_is_said_is_what_was_recorded() {
    compare_message("hello.json", &hello());
    compare_message(
        "hello_recovering.json",
        &Hello { life: None, state: Some(State::Recovering), deletes: 0, ..hello() },
    );
    let me = Candidate {
        node: 1,
        is_serviceable: true,
        is_leaving: false,
        age: Duration::from_millis(1),
        lag: Some(Duration::from_millis(2)),
        bytes: 3,
        primary_for: Some(Duration::from_millis(4)),
    };
    compare_message("pulse.json", &Pulse::new(&me, "here", hello().life));
    compare_message("pulse_recovering.json", &Pulse::default());
    let page =
        FeedPage {
            rows: vec![row("a/b"), row("ü")], next: 7, head: 9, deletes: 5, start: Some(4)
        };
    compare_message("feed_page.json", &page);
    let sum = Sum { count: 3, print: u128::MAX - 5 };
    let asks = vec![Ask::sum(span(1, 9), sum), Ask::known(span(9, 12), vec![4, u64::MAX])];
    compare_message("compare_question.json", &asks);
    let told = Told { rows: vec![row("a/b")], parts: vec![Part::new(span(1, 5), sum)] };
    let compared = Compared { told: vec![Told::default(), told], deletes: 5 };
    compare_message("compare_answer.json", &compared);
    let delete = DeleteKnown { namespace: "team".to_owned(), time: 1 << 40, node: 2 };
    compare_message("deletes.json", &DeletesKnown { print: 5, deletes: vec![delete] });
    compare_message("bodies_question.json", &vec![Row { from: 70_000, ..row("a") }, row("b")]);
    let whole = [announcement(3, 0), b"abc".to_vec()].concat();
    let rest = [announcement(300, 298), b"yz".to_vec()].concat();
    let answer = [whole, vec![BODY_MISSING], vec![BODY_UNREADABLE], rest].concat();
    compare("bodies_answer.bin", &answer);
}

#[test]
fn what_a_node_of_another_version_adds_or_leaves_out_is_no_error() {
    let read = |text: &str| serde_json::from_str::<Hello>(text).unwrap();
    let first = read(r#"{"life":null,"region":"","state":"serving"}"#);
    assert_eq!((first.deletes, first.limits), (0, Limits::default()));
    let later = read(
        r#"{"life":{"node":1,"incarnation":2,"head":3,"tail":4},"region":"","state":"serving",
            "deletes":0,"mood":"good","limits":{"page_rows":5,"spans":0,"wishes":3}}"#,
    );
    assert_eq!(later.life.unwrap().start, None);
    let pulse: Pulse =
        serde_json::from_str(r#"{"life":null,"serves":true,"mood":"good"}"#).unwrap();
    assert_eq!(pulse.read(), None, "nobody is primary who does not say who it is");
    let limits = PeerLimits { page_rows: 5, spans: 0, ..PeerLimits::FIRST };
    assert_eq!(PeerLimits::from(later.limits), limits);
    let page = r#"{"rows":[{"namespace":"t","space":250,"key":"k","time":1,"node":1,"bytes":1,"digest":"x","age":2}],
        "next":2,"head":2,"more":true}"#;
    let page: FeedPage = serde_json::from_str(page).unwrap();
    assert_eq!(page.start, None);
    assert_eq!(page.rows[0].read(), None, "of a space that nobody here knows");
    let asks: Vec<Ask> =
        serde_json::from_str(r#"[{"range":[1,2,3,4],"sum":[1,2,3],"why":7}]"#).unwrap();
    assert_eq!(asks[0].span(), span(1, 3));
}
