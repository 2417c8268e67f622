//! RING as it lies there: the members of both rings in the order of their age, and what of it does not fit
//! the files.

use std::collections::BTreeMap;

use kura_core::{
    capacity::{Capacity, capacity},
    record::{Area, Flow, SegmentId},
    recovery::{Plan, plan},
    ring::{InvalidRing, Ring},
};
use kura_env::{Disk, DiskError, DiskErrorKind, DiskPath, FileKind};
use serde::Serialize;

use crate::store::{SavedRing, load_ring_file};

/// What lies in RING, and beside it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RingReport {
    /// Each ring; none if RING cannot be read.
    pub rings: Vec<RingPart>,
    /// Every sequence that was given out lies below.
    pub sequence_ceiling: u64,
    /// Hybrid logical time when it was saved.
    pub hlc: u64,
    /// Objects of the pool that are promised, and until when, in wall milliseconds.
    pub promised_objects: Vec<(String, u64)>,
    /// What a stop may have left, and the next start clears up.
    pub notes: Vec<String>,
    /// What no stop explains.
    pub problems: Vec<String>,
}

/// One ring.
#[derive(Clone, Debug, Serialize)]
pub struct RingPart {
    /// `blobs` or `entries`.
    pub area: &'static str,
    /// No client's write of this or a higher sequence was evicted.
    pub horizon_sequence: u64,
    /// Segments that it may have on this disk, by the settings; none if they do not fit.
    pub segments_max: Option<usize>,
    /// How large each may be.
    pub segment_bytes: Option<u64>,
    /// The eldest first.
    pub members: Vec<MemberReport>,
}

/// A member of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberReport {
    /// Which segment.
    pub segment: String,
    /// `old`, `middle` or `young`.
    pub generation: &'static str,
    /// `live`, or `catch-up`.
    pub flow: &'static str,
    /// Whether it is the one of its flow that takes appends.
    pub is_newest: bool,
    /// Whether no other record fits.
    pub is_full: bool,
    /// The hybrid logical time that orders it.
    pub age: u64,
    /// No client's write in it has a lower sequence.
    pub base_sequence: u64,
    /// Until when something in it is promised, in wall milliseconds; 0 if nothing ever was.
    pub promised_until_ms: u64,
    /// The length of its file; none if there is no file.
    pub len_bytes: Option<u64>,
    /// The bytes of the disk that the file holds.
    pub allocated_bytes: Option<u64>,
}

/// A file of a ring: its length, and the bytes of the disk that it holds.
type Size = (u64, u64);

/// Reads RING, and holds it against the files. `wanted` is the capacity and the size of a segment that the
/// settings ask for.
///
/// # Errors
///
/// [`DiskError`] if the disk fails at more than the bytes of RING.
pub async fn ring(disk: &dyn Disk, wanted: (Option<u64>, u64)) -> Result<RingReport, DiskError> {
    let mut report = RingReport::default();
    let files = ring_files(disk, &mut report.notes).await?;
    let problem = match load_ring_file(disk).await? {
        SavedRing::Ring(ring) => {
            let (capacity_bytes, segment_bytes) = wanted;
            let total_bytes = disk.space().await?.total_bytes;
            let capacity = capacity(capacity_bytes, total_bytes, segment_bytes);
            if let Err(error) = &capacity {
                report.notes.push(format!("with these settings a node does not start: {error}"));
            }
            fill(&mut report, &ring, &files, capacity.ok().as_ref());
            return Ok(report);
        }
        SavedRing::Absent if files.is_empty() => {
            report
                .notes
                .push("there is no RING and no segment: nothing was stored here yet".into());
            return Ok(report);
        }
        SavedRing::Absent => {
            let segments = files.len();
            format!(
                "RING is missing beside {segments} segments; the next start makes it again from \
                 them, and so does `kura verify --repair`"
            )
        }
        SavedRing::Invalid(invalid @ InvalidRing::Format(_)) => {
            format!("RING has {invalid}; start the version that wrote it, or an empty directory")
        }
        SavedRing::Invalid(invalid) => format!(
            "RING has {invalid}; the next start makes it again from the segments, and so does \
             `kura verify --repair`"
        ),
        SavedRing::Unreadable(error) => error.to_string(),
    };
    report.problems.push(problem);
    Ok(report)
}

/// The files in the directories of the rings. What is none of a segment is noted.
async fn ring_files(
    disk: &dyn Disk,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<SegmentId, Size>, DiskError> {
    let mut files = BTreeMap::new();
    for area in [Area::Blobs, Area::Entries] {
        let entries = match disk.list(&DiskPath::new(area.dir())).await {
            Err(error) if error.kind == DiskErrorKind::NotFound => continue,
            listed => listed?,
        };
        for entry in entries {
            match SegmentId::from_file_name(area, &entry.name) {
                Some(id) if entry.kind == FileKind::File => {
                    files.insert(id, (entry.len_bytes, entry.allocated_bytes));
                }
                Some(_) | None => {
                    notes.push(format!("{}/{} is no segment: left alone", area.dir(), entry.name));
                }
            }
        }
    }
    Ok(files)
}

fn fill(
    report: &mut RingReport,
    ring: &Ring,
    files: &BTreeMap<SegmentId, Size>,
    capacity: Option<&Capacity>,
) {
    report.sequence_ceiling = ring.sequence_ceiling();
    report.hlc = ring.hlc();
    let promised = ring.promised_objects();
    report.promised_objects = promised.map(|(id, until)| (id.to_string(), until)).collect();
    let on_disk: Vec<SegmentId> = files.keys().copied().collect();
    let Plan { missing, orphans, .. } = plan(ring, &on_disk);
    let of_missing = missing.iter().map(|id| {
        format!("{id} is in RING and has no file: the next start drops it from the ring")
    });
    let of_orphans = orphans
        .iter()
        .map(|id| format!("{id} has a file and is not in RING: the next start evicts it"));
    report.notes.extend(of_missing.chain(of_orphans));
    report.rings =
        [Area::Blobs, Area::Entries].map(|area| part(ring, area, files, capacity)).into();
}

fn part(
    ring: &Ring,
    area: Area,
    files: &BTreeMap<SegmentId, Size>,
    capacity: Option<&Capacity>,
) -> RingPart {
    let room = capacity.map(|capacity| capacity.ring(area));
    let generations = ring.generations(area);
    let members = ring.members_of(area).enumerate().map(|(position, member)| {
        let size = files.get(&member.id);
        let is_newest = ring.is_newest(member.id);
        let reaches = |(len_bytes, _): &Size| room.is_some_and(|it| *len_bytes >= it.segment_bytes);
        MemberReport {
            segment: member.id.to_string(),
            generation: generation(position, generations.old, generations.middle),
            flow: match member.flow {
                Flow::Live => "live",
                Flow::CatchUp => "catch-up",
            },
            is_newest,
            is_full: !is_newest || size.is_some_and(reaches),
            age: member.age,
            base_sequence: member.base_sequence,
            promised_until_ms: member.promised_until_ms,
            len_bytes: size.map(|(len_bytes, _)| *len_bytes),
            allocated_bytes: size.map(|(_, allocated_bytes)| *allocated_bytes),
        }
    });
    RingPart {
        area: area.dir(),
        horizon_sequence: ring.horizon_sequence(area),
        segments_max: room.map(|room| room.segments_max),
        segment_bytes: room.map(|room| room.segment_bytes),
        members: members.collect(),
    }
}

/// The generation of the member at `position`, counted from the eldest.
fn generation(position: usize, old: usize, middle: usize) -> &'static str {
    if position < old {
        "old"
    } else if position < old + middle {
        "middle"
    } else {
        "young"
    }
}

#[cfg(test)]
mod tests {
    use kura_core::ring::Turn;

    use super::*;

    #[test]
    fn members_stand_by_age_and_what_does_not_fit_the_files_is_noted() {
        let ring = (0..10).fold(Ring::default(), |ring, age| {
            let turn = Turn { area: Area::Blobs, flow: Flow::Live, next_sequence: age, age };
            ring.rotated(turn, 99, |_| false).unwrap().0
        });
        let blob = |number| SegmentId::new(Area::Blobs, number);
        // Of ten the third is gone, and an eleventh lies there.
        let numbers = [1, 2, 4, 5, 6, 7, 8, 9, 10, 77];
        let files = numbers.map(|number| (blob(number), (1000 * number, 4096)));
        let mut report = RingReport::default();
        fill(&mut report, &ring, &files.into(), None);
        let [blobs, entries] = &report.rings[..] else { panic!("{report:?}") };
        let generations: Vec<_> = blobs.members.iter().map(|it| it.generation).collect();
        assert_eq!(generations[..3], ["old", "old", "middle"]);
        assert_eq!(generations[5..7], ["middle", "young"]);
        assert!(blobs.members.iter().is_sorted_by_key(|member| member.age));
        assert_eq!(blobs.members[2].len_bytes, None);
        let newest: Vec<_> = blobs.members.iter().map(|it| (it.is_newest, it.is_full)).collect();
        assert_eq!((newest[8], newest[9]), ((false, true), (true, false)));
        assert!(entries.members.is_empty());
        let [missing, orphan] = &report.notes[..] else { panic!("{:?}", report.notes) };
        assert!(missing.starts_with("blobs/0000000000000003 is in RING"), "{missing}");
        assert!(orphan.starts_with("blobs/000000000000004d has a file"), "{orphan}");
        assert!(report.problems.is_empty());
    }
}
