//! What a node that is not ready gets from its peers shows on its page.

use kura_core::limits::{BATCH_BYTES_MAX, fetches_at_most};

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "progress_is_visible",
    demands: "while a node that catches up is not ready, what `/status/cluster` says of its passes changes before more bodies have come \
              than all requests that may be under way carry, and two more",
    checked: "every second, where `progress_visible` is given",
};

/// Judges a node that has got `bytes` of bodies from `peers` peers since its page changed. `largest` is the longest body.
///
/// # Errors
///
/// If somebody who looked at the page would take it for one that gets nothing.
pub fn check(node: &str, bytes: u64, peers: usize, largest: u64) -> Result<(), Violation> {
    let requests = fetches_at_most(peers) as u64;
    // One that is too long for a request with others is told of by itself.
    let limit = requests.saturating_mul(BATCH_BYTES_MAX).saturating_add(largest.saturating_mul(2));
    if bytes <= limit {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node} is not ready and got {bytes} bytes of bodies from its peers since `/status/cluster` showed anything new, the limit is \
         {limit}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_what_is_under_way_has_to_show() {
        let limit = (24 + 2 * 2) * (1 << 20) + 2 * 5000;
        assert!(check("x", limit, 2, 5000).is_ok() && check("x", limit + 1, 2, 5000).is_err());
    }
}
