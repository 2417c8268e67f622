//! Random numbers of a host, by purpose: functions of the seed.

use std::collections::BTreeMap;

use kura_env::{Entropy, EntropyStream};
use parking_lot::Mutex;
use sim::draw::Draw;

/// The entropy of one life of a host.
pub(crate) struct KeyedEntropy {
    pub(crate) seed: u64,
    /// Host and life.
    pub(crate) owner: String,
    /// How many streams of a purpose this life has asked for.
    pub(crate) streams: Mutex<BTreeMap<&'static str, u64>>,
}

struct KeyedStream(Draw);

impl Entropy for KeyedEntropy {
    fn stream(&self, purpose: &'static str) -> Box<dyn EntropyStream> {
        let mut streams = self.streams.lock();
        let nth = streams.entry(purpose).or_default();
        *nth += 1;
        let name = format!("turmoil.{}.{purpose}.{nth}", self.owner);
        Box::new(KeyedStream(Draw::named(self.seed, &name)))
    }
}

impl EntropyStream for KeyedStream {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}
