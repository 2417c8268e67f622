//! The keys of a group of actors, and what may be put under them.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    body::{Body, BodyId},
    draw::Draw,
    scenario::ClientSpec,
};

/// A key by its number within the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNumber(pub u64);

/// What a key is.
#[derive(Clone, Debug)]
pub struct Key {
    /// The path of its URL.
    pub path: Arc<str>,
    /// The only body it can have, if the path holds its digest.
    pub content: Option<Body>,
}

/// The keys of one group. Each is a function of the seed, the group's name and its number.
pub struct Keys {
    spec: Arc<ClientSpec>,
    seed: u64,
    known: Mutex<Vec<Option<Key>>>,
}

/// Ids of bodies that are named by their digest, which need no history to be told apart.
const CONTENT_IDS: u64 = 1 << 62;

impl Keys {
    /// The keys of a group.
    #[must_use]
    pub fn new(spec: Arc<ClientSpec>, seed: u64) -> Self {
        let count = usize::try_from(spec.keys).unwrap_or(0);
        Self { spec, seed, known: Mutex::new(vec![None; count]) }
    }

    /// In which namespace they are.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.spec.namespace
    }

    /// A key, made at its first use: a digest costs as much as its body is long.
    #[must_use]
    pub fn key(&self, number: KeyNumber) -> Key {
        let position = usize::try_from(number.0).unwrap_or(usize::MAX);
        let known = self.known.lock().get(position).cloned().flatten();
        if let Some(key) = known {
            return key;
        }
        let key = self.make(number);
        if let Some(slot) = self.known.lock().get_mut(position) {
            *slot = Some(key.clone());
        }
        key
    }

    fn make(&self, number: KeyNumber) -> Key {
        let ClientSpec { name, namespace, mix, .. } = &*self.spec;
        let mut draw = Draw::named(self.seed, &format!("key.{name}.{}", number.0));
        if draw.chance(mix.cas) {
            let len_bytes = draw.octaves(self.spec.body_bytes_min, self.spec.body_bytes_max);
            let id = BodyId(CONTENT_IDS | draw.next_u64() >> 2);
            let body = Body { id, len_bytes, forged: draw.chance(mix.forged) };
            let path = format!("/{namespace}/cas/{}", body.digest()).into();
            return Key { path, content: Some(body) };
        }
        Key { path: format!("/{namespace}/{name}/{}", number.0).into(), content: None }
    }

    /// A key that nobody ever puts anything to.
    #[must_use]
    pub fn absent(&self, number: u64) -> Arc<str> {
        format!("/{}/{}/absent-{number}", self.spec.namespace, self.spec.name).into()
    }

    /// A path with the digest of other bytes than those of any body.
    #[must_use]
    pub fn wrong_digest(&self, body: &Body) -> Arc<str> {
        let other = Body { id: BodyId(!body.id.0), len_bytes: 64, forged: false };
        format!("/{}/cas/{}", self.spec.namespace, other.digest()).into()
    }
}
