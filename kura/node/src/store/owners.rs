//! Which object of the pool each name leads to, so that one whose artifact was put again goes at once:
//! it would hold space for nothing, and the next start could take it for the newest of its name once
//! what took its place was evicted.

use std::collections::BTreeMap;

use kura_core::record::{Area, SegmentId};

use super::index::Name;

/// There are as many as the pool has objects that can be read.
#[derive(Default)]
pub(super) struct Owners {
    objects: BTreeMap<Name, SegmentId>,
    names: BTreeMap<SegmentId, Name>,
}

impl Owners {
    /// The name leads to `segment` now. The object of the pool that it led to before, if it did.
    pub(super) fn leads_to(&mut self, name: Name, segment: SegmentId) -> Option<SegmentId> {
        let before = if segment.area() == Area::Pool {
            self.names.insert(segment, name);
            self.objects.insert(name, segment)
        } else {
            self.objects.remove(&name)
        };
        let superseded = before.filter(|before| *before != segment)?;
        self.names.remove(&superseded);
        Some(superseded)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The object is gone.
    pub(super) fn remove(&mut self, object: SegmentId) {
        if let Some(name) = self.names.remove(&object) {
            self.objects.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_told_of_once_its_name_leads_elsewhere() {
        let (a, b) = (Name::of(b"a"), Name::of(b"b"));
        let object = |number| SegmentId::new(Area::Pool, number);
        let segment = SegmentId::new(Area::Blobs, 1);
        let mut owners = Owners::default();
        assert_eq!(owners.leads_to(a, object(1)), None);
        assert_eq!(owners.leads_to(a, object(1)), None, "again");
        assert_eq!(owners.leads_to(b, object(2)), None);
        assert_eq!(owners.leads_to(a, object(3)), Some(object(1)));
        owners.remove(object(1));
        assert_eq!(owners.leads_to(a, segment), Some(object(3)));
        assert_eq!(owners.leads_to(a, object(4)), None);
        owners.remove(object(2));
        owners.remove(object(4));
        assert!(owners.objects.is_empty() && owners.names.is_empty());
    }
}
