//! The scrub: what the disk lost is found although nobody reads it.

use std::time::Duration;

use kura_node::store::{ScrubPass, ScrubStatus};

use crate::bed::{Bed, body, plain};

const BODY_BYTES: usize = 20_000;
const ARTIFACTS: u64 = 10;

fn filled(seed: u64, every: Duration) -> Bed {
    let mut bed = Bed::new(seed);
    bed.config.scrub_every = every;
    bed.config.scrub_bytes_per_second = 100_000;
    bed.start().unwrap();
    for number in 0..ARTIFACTS {
        bed.put(plain(&number.to_string()), body(number, BODY_BYTES)).unwrap();
    }
    bed
}

/// The last pass, once there is one.
fn passed(bed: &Bed) -> ScrubPass {
    for _ in 0..60 {
        bed.wait(1);
        if let ScrubStatus { under_way: None, last: Some(pass), .. } = bed.store().scrub_status() {
            return pass;
        }
    }
    panic!("no pass ended: {:?}", bed.store().scrub_status());
}

#[test]
fn what_rotted_is_found_and_forgotten_and_the_rest_stays() {
    let bed = filled(301, Duration::ZERO);
    let path = format!("blobs/{}", bed.segments()[0].file_name());
    // A byte of the first body, and one between two bodies: in the header of the next record or the
    // end of a body.
    for at in [3_000, 2 * BODY_BYTES as u64] {
        bed.disk.rot(&path, at, 1).unwrap();
    }
    bed.wait(30);
    assert_eq!(bed.store().scrub_status().last.map(|pass| pass.records), None, "nobody asked");
    bed.store().ask_for_scrub();
    let pass = passed(&bed);
    assert_eq!((pass.segments, pass.segments_done), (1, 1));
    assert_eq!((pass.records, pass.lost), (ARTIFACTS, 2));
    assert!(pass.bytes > ARTIFACTS * BODY_BYTES as u64);
    bed.settle();
    assert_eq!(bed.metrics().store.forgotten.get(), 2);
    assert_eq!(bed.metrics().store.misses.get(), 0, "a scrub is no reader");
    let here = (0..ARTIFACTS).filter(|number| {
        let found = bed.get(&plain(&number.to_string())).unwrap();
        found.is_some_and(|found| found == body(*number, BODY_BYTES))
    });
    assert_eq!(here.count() as u64, ARTIFACTS - 2);
    bed.store().ask_for_scrub();
    bed.wait(1);
    let pass = passed(&bed);
    assert_eq!((pass.records, pass.lost), (ARTIFACTS - 2, 0), "what is forgotten is not read");
}

#[test]
fn passes_come_by_themselves_and_keep_to_the_rate() {
    let bed = filled(302, Duration::from_secs(5));
    let first = passed(&bed);
    assert_eq!((first.records, first.lost), (ARTIFACTS, 0));
    let took_ms = first.ended_ms.unwrap() - first.began_ms;
    // 200,000 B and some headers at 100,000 B/s, where the last run is not waited for.
    assert!(took_ms <= 2_500, "{took_ms} ms");
    bed.wait(20);
    let passes = bed.metrics().store.scrub_passes.get();
    assert!((3..=5).contains(&passes), "{passes} passes in about 26 s");
    assert_eq!(bed.metrics().store.scrubbed_records.get(), passes * ARTIFACTS);
}
