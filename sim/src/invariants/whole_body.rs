//! No body is delivered as complete that is not, and none is taken as complete that was cut.

use super::{Invariant, Violation};
use crate::{
    body::{Body, Match},
    history::Fraud,
};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "whole_body",
    demands: "no short or long body is ever delivered as complete, and no cut upload is taken",
    checked: "at the end of every GET that HTTP calls complete, and at every answer to a PUT",
};

/// Judges a body that HTTP delivered to its declared end.
///
/// # Errors
///
/// If it is only the beginning of what was put, or not as long as was declared.
pub fn check_delivery(
    path: &str,
    declared_bytes: Option<u64>,
    received_bytes: u64,
    body: Match,
) -> Result<(), Violation> {
    if let Some(declared) = declared_bytes
        && declared != received_bytes
    {
        return Err(INVARIANT.violated(format!(
            "GET {path}: {declared} bytes were declared, {received_bytes} delivered as complete"
        )));
    }
    match body {
        Match::Short(id) => Err(INVARIANT.violated(format!(
            "GET {path}: the first {received_bytes} bytes of body {} were delivered as complete",
            id.0
        ))),
        Match::Whole(_) | Match::Wrong(_) => Ok(()),
    }
}

/// Judges an acknowledgement.
///
/// # Errors
///
/// If the body was cut, or larger than may be taken.
pub fn check_acknowledgement(
    path: &str,
    body: &Body,
    sent_bytes: u64,
    fraud: Option<Fraud>,
) -> Result<(), Violation> {
    match fraud {
        Some(Fraud::Cut | Fraud::Oversize) => Err(INVARIANT.violated(format!(
            "PUT {path}: acknowledged after {sent_bytes} of the {} bytes that were declared",
            body.len_bytes
        ))),
        Some(Fraud::WrongDigest) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BodyId;

    #[test]
    fn a_short_body_and_a_wrong_length_are_reported() {
        let check = |declared, received, body| check_delivery("/k", declared, received, body);
        assert!(check(Some(10), 10, Match::Whole(BodyId(1))).is_ok());
        assert!(check(None, 10, Match::Whole(BodyId(1))).is_ok());
        assert!(check(Some(10), 9, Match::Whole(BodyId(1))).is_err());
        let violation = check(Some(9), 9, Match::Short(BodyId(1))).unwrap_err();
        assert_eq!(violation.invariant, "whole_body");
    }

    #[test]
    fn an_acknowledged_cut_upload_is_reported() {
        let body = Body { id: BodyId(1), len_bytes: 10, forged: false };
        assert!(check_acknowledgement("/k", &body, 10, None).is_ok());
        assert!(check_acknowledgement("/k", &body, 10, Some(Fraud::WrongDigest)).is_ok());
        assert!(check_acknowledgement("/k", &body, 4, Some(Fraud::Cut)).is_err());
        assert!(check_acknowledgement("/k", &body, 0, Some(Fraud::Oversize)).is_err());
    }
}
