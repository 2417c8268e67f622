//! What is delivered is, byte by byte, what somebody put under that name.

use super::{Invariant, Violation};
use crate::{
    body::{Body, Match},
    history::{Fraud, Put, PutOutcome},
};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "true_digest",
    demands: "the bytes of a hit are exactly those of one put to that key which was not refused",
    checked: "at the end of every GET, at every HEAD, and at every answer to a PUT",
};

/// Judges a body that was delivered as complete, given everything that was ever put to its key.
///
/// # Errors
///
/// If nobody put it there, or the put that did was refused or had another digest.
pub fn check_delivery(path: &str, puts: &[Put], body: Match) -> Result<(), Violation> {
    let id = match body {
        Match::Whole(id) => id,
        Match::Wrong(offset) => {
            return Err(INVARIANT.violated(format!(
                "GET {path}: from byte {offset} on the body is none of the {} that were put there",
                puts.len()
            )));
        }
        // A true beginning; that it is not whole is for `whole_body` to say.
        Match::Short(_) => return Ok(()),
    };
    let mut sources = puts.iter().filter(|put| put.body.id == id);
    if sources.any(|put| put.outcome != PutOutcome::Refused && put.fraud.is_none()) {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("GET {path}: delivered body {}, whose put was refused", id.0)))
}

/// Judges the length that a HEAD told.
///
/// # Errors
///
/// If nothing of this length was put there.
pub fn check_length(path: &str, puts: &[Put], len_bytes: u64) -> Result<(), Violation> {
    let mut legal = puts.iter().filter(|put| put.fraud.is_none());
    if legal.any(|put| put.outcome != PutOutcome::Refused && put.body.len_bytes == len_bytes) {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("HEAD {path}: nothing of {len_bytes} bytes was put there")))
}

/// Judges an acknowledgement.
///
/// # Errors
///
/// If the name promised another digest.
pub fn check_acknowledgement(
    path: &str,
    body: &Body,
    fraud: Option<Fraud>,
) -> Result<(), Violation> {
    match fraud {
        Some(Fraud::WrongDigest) => Err(INVARIANT.violated(format!(
            "PUT {path}: acknowledged, but body {} has another digest",
            body.id.0
        ))),
        Some(Fraud::Cut | Fraud::Oversize) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kura_env::Instant;

    use super::*;
    use crate::body::BodyId;

    fn put(id: u64, outcome: PutOutcome, fraud: Option<Fraud>) -> Put {
        let body = Body { id: BodyId(id), len_bytes: 10 * id, forged: false };
        Put { body, start: Instant(0), end: Some(Instant(1)), outcome, fraud }
    }

    #[test]
    fn only_bytes_that_were_put_and_not_refused_may_be_delivered() {
        let puts = [
            put(1, PutOutcome::Acked(1), None),
            put(2, PutOutcome::Unknown, None),
            put(3, PutOutcome::Refused, None),
            put(4, PutOutcome::Unknown, Some(Fraud::WrongDigest)),
        ];
        let check = |body| check_delivery("/k", &puts, body).is_ok();
        assert!(check(Match::Whole(BodyId(1))) && check(Match::Whole(BodyId(2))));
        assert!(!check(Match::Whole(BodyId(3))), "a refused put");
        assert!(!check(Match::Whole(BodyId(4))), "a put under another digest");
        assert!(!check(Match::Wrong(0)));
        let length = |len_bytes| check_length("/k", &puts, len_bytes).is_ok();
        assert!(length(10) && length(20) && !length(30) && !length(40) && !length(15));
    }

    #[test]
    fn an_acknowledged_wrong_digest_is_reported() {
        let body = Body { id: BodyId(1), len_bytes: 1, forged: false };
        assert!(check_acknowledgement("/k", &body, None).is_ok());
        assert!(check_acknowledgement("/k", &body, Some(Fraud::WrongDigest)).is_err());
    }
}
