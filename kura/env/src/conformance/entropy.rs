//! What every [`Entropy`] keeps: streams that have nothing to do with each other, and bits that
//! look like noise.

use std::{collections::BTreeSet, sync::Arc};

use crate::{Entropy, EntropyStream};

/// Words drawn per stream. Enough for a biased bit to show, and for no fair one to fail.
const WORDS: u32 = 4096;

/// Holds `entropy` to its contract.
///
/// # Panics
///
/// Where the contract is broken, or with a chance of less than one in a billion.
#[expect(clippy::unused_async, reason = "every suite is awaited alike")]
pub async fn suite(entropy: Arc<dyn Entropy>) {
    streams_are_independent(&*entropy);
    every_bit_is_fair(&mut *entropy.stream("conformance"));
    fill_follows_the_words(&mut *entropy.stream("conformance"));
}

fn streams_are_independent(entropy: &dyn Entropy) {
    // Another purpose, and another stream of the same purpose.
    let mut streams = [entropy.stream("one"), entropy.stream("two"), entropy.stream("one")];
    let mut seen = BTreeSet::new();
    for _ in 0..WORDS {
        for stream in &mut streams {
            assert!(seen.insert(stream.next_u64()), "two streams share a word");
        }
    }
}

fn every_bit_is_fair(stream: &mut dyn EntropyStream) {
    let mut ones = [0_u32; 64];
    for _ in 0..WORDS {
        let word = stream.next_u64();
        for (bit, ones) in ones.iter_mut().enumerate() {
            *ones += u32::from(word >> bit & 1 == 1);
        }
    }
    // The standard deviation is 32, so this is eight of them to either side.
    let fair = WORDS / 2 - 256..WORDS / 2 + 256;
    for (bit, ones) in ones.iter().enumerate() {
        assert!(fair.contains(ones), "bit {bit} was set in {ones} of {WORDS} words");
    }
}

fn fill_follows_the_words(stream: &mut dyn EntropyStream) {
    for len_bytes in [0, 1, 7, 8, 9, 31] {
        let mut filled = vec![0; len_bytes];
        stream.fill(&mut filled);
        // No length of at least seven bytes is all zeros, but once in 2^56.
        assert!(len_bytes < 7 || filled.iter().any(|&byte| byte != 0), "nothing was filled in");
    }
    let mut bytes = [0; 64];
    stream.fill(&mut bytes);
    let words: BTreeSet<_> = bytes.chunks(8).collect();
    assert_eq!(words.len(), 8, "words repeat within one fill");
}
