//! Pages of a peer that were told in vain: nothing came of them. A peer that goes on telling such pages for ever must not
//! be asked for them as fast as it answers.
//!
//! An honest peer tells many of them as well: where two rings hold unlike things, a pass names all of that, and rows of a
//! feed may be about what was replaced since. So they are asked for more slowly, and never given up.

use std::time::Duration;

/// Pages in a row that are asked for as fast as they come. Fewer: a pass that has to name much that is not wanted is
/// slowed down sooner. More: a peer that lies is asked so much at once.
pub const VAIN_PAGES_MAX: u32 = 128;
/// The pause after each page beyond that: so many a second are asked for at the most. Shorter: a peer that lies costs
/// more. Longer: a pass that names a million artifacts, a thousand on a page, takes longer by a thousand of these.
pub const VAIN_PAUSE: Duration = Duration::from_millis(100);

/// How many pages in a row were told in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vain {
    pages: u32,
}

impl Vain {
    /// A page was told. How long to wait before the next one is asked for. `came` says whether bodies came since the page
    /// before it.
    #[must_use]
    pub fn told(&mut self, came: bool) -> Duration {
        self.pages = if came { 0 } else { self.pages.saturating_add(1) };
        self.pause()
    }

    /// How long to wait before the next page is asked for.
    #[must_use]
    pub fn pause(self) -> Duration {
        if self.pages > VAIN_PAGES_MAX { VAIN_PAUSE } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_which_nothing_comes_are_asked_for_more_slowly_after_a_while() {
        let mut vain = Vain::default();
        assert!((0..VAIN_PAGES_MAX).all(|_| vain.told(false).is_zero()));
        assert_eq!(vain.told(false), VAIN_PAUSE);
        assert_eq!(vain.told(false), VAIN_PAUSE);
        assert_eq!(vain.pause(), VAIN_PAUSE);
        assert!(vain.told(true).is_zero() && vain.pause().is_zero(), "something came");
        assert!((0..VAIN_PAGES_MAX).all(|_| vain.told(false).is_zero()));
        let mut vain = Vain { pages: u32::MAX };
        assert_eq!(vain.told(false), VAIN_PAUSE);
    }
}
