//! The store alone: what it keeps, what it gives back, and what it makes of damage.

use bytes::Bytes;
use kura_core::{
    address::{Address, Space},
    digest::Digest,
    feed::FeedRow,
    place::{CONTENTS, PLACES},
    record::{SegmentId, Version},
};
use kura_env::{DiskErrorKind, EffectKind, Keyspace};
use kura_node::service::Refusal;
use sim_storage::{Crash, Effect, EffectVerdict, Keep};

use crate::bed::{Bed, body, plain, put};

pub(crate) const POWER_LOSS: Crash = Crash::PowerLoss { keep: Keep::Nothing };

#[test]
fn what_is_put_comes_back_and_survives_every_kind_of_stop() {
    let mut bed = Bed::new(1);
    bed.start().unwrap();
    let bodies = [("small", 10), ("empty", 0), ("staged", 20_000), ("chunks", 58_000)];
    for (key, len) in bodies {
        let published = bed.put(plain(key), body(9, len)).unwrap();
        assert_eq!(
            (published.len_bytes, published.digest),
            (len as u64, Digest::of(&body(9, len)))
        );
    }
    for stop in [None, Some(Crash::Sigkill), Some(POWER_LOSS)] {
        for (key, len) in bodies {
            assert_eq!(bed.get(&plain(key)).unwrap(), Some(body(9, len)), "{key} before {stop:?}");
        }
        match stop {
            None => bed.close(),
            Some(crash) => bed.crash(crash),
        }
        bed.start().unwrap();
    }
    assert_eq!(bed.get(&plain("absent")).unwrap(), None);
    assert_eq!(bed.staged_bytes(), 0);
}

#[test]
fn the_last_put_of_a_key_wins_also_when_the_whole_index_is_made_again() {
    let mut bed = Bed::new(2);
    bed.start().unwrap();
    for round in 0..5 {
        bed.put(plain("key"), body(round, 100)).unwrap();
    }
    bed.close();
    bed.forget_index();
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.recovered_records.get(), 5);
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(4, 100)));
}

#[test]
fn the_ring_turns_within_its_capacity_and_what_left_it_is_a_miss() {
    let mut bed = Bed::new(3);
    bed.start().unwrap();
    let keys: Vec<String> = (0..700).map(|n| format!("key-{n}")).collect();
    let mut sequences = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        sequences.push(bed.put(plain(key), body(n as u64, 9_000)).unwrap().sequence);
        assert!(bed.segments().len() <= 10, "eight, and two that are being evicted");
    }
    bed.settle();
    assert_eq!(bed.segments().len(), 8);
    let horizon = bed.store().ring_status()["horizon_sequence"].as_u64().unwrap();
    let mut kept = 0;
    for (n, key) in keys.iter().enumerate() {
        let store = bed.store();
        // Looked up and not read: a read of what is old copies it forward, and so turns the ring.
        let address = plain(key);
        let found = bed.run(async move { store.holds(&address).await.unwrap() });
        let (is_kept, sequence) = (sequences[n] >= horizon, sequences[n]);
        assert_eq!(found, is_kept, "{key}, sequence {sequence}, horizon {horizon}");
        kept += usize::from(is_kept);
    }
    assert!((190..240).contains(&kept), "{kept} of 700 fit the ring");
    assert_eq!(
        bed.catalog().peek_len(Keyspace(PLACES)),
        kept + 9,
        "rows, watermarks and the stamp"
    );
    assert_eq!(
        bed.catalog().peek_len(Keyspace(CONTENTS)),
        kept + 9,
        "rows, watermarks and the stamp"
    );
}

#[test]
fn a_body_of_another_digest_or_length_stores_nothing() {
    let mut bed = Bed::new(4);
    bed.start().unwrap();
    let name = Digest::of(b"one").to_string();
    let address = Address::new("team", Space::Cas, name).unwrap();
    let refusal = bed.put(address.clone(), Bytes::from_static(b"two")).unwrap_err();
    assert!(matches!(refusal, Refusal::WrongDigest { .. }), "{refusal}");
    assert_eq!(bed.get(&address).unwrap(), None);

    let store = bed.store();
    let refusals = bed.run(async move {
        let mut long = store.begin(plain("long"), Some(3)).await.unwrap();
        let long = long.write(Bytes::from_static(b"four")).await.unwrap_err();
        let mut short = store.begin(plain("short"), Some(9_000)).await.unwrap();
        short.write(body(1, 8_999)).await.unwrap();
        [long, short.publish().await.unwrap_err()]
    });
    for refusal in refusals {
        assert!(matches!(refusal, Refusal::Length { .. }), "{refusal}");
    }
    bed.settle();
    assert_eq!((bed.get(&plain("long")).unwrap(), bed.get(&plain("short")).unwrap()), (None, None));
    assert_eq!(bed.staged_bytes(), 0);
}

#[test]
fn a_body_over_the_limit_is_refused_whether_declared_or_not() {
    let mut bed = Bed::new(5);
    bed.start().unwrap();
    let store = bed.store();
    bed.run(async move {
        let declared = store.begin(plain("key"), Some(4 << 20)).await.err();
        assert!(matches!(declared, Some(Refusal::TooLarge { .. })), "{declared:?}");
        let mut upload = store.begin(plain("key"), None).await.unwrap();
        let refusal = loop {
            if let Err(refusal) = upload.write(body(1, 1000)).await {
                break refusal;
            }
        };
        assert!(matches!(refusal, Refusal::TooLarge { declared_bytes: None, .. }), "{refusal}");
    });
    bed.settle();
    assert_eq!(bed.staged_bytes(), 0);
}

#[test]
fn the_largest_body_fits_the_pool_and_no_segment_is_larger_than_it_may_be() {
    let mut bed = Bed::new(6);
    bed.start().unwrap();
    let store = bed.store();
    let limit = bed.run(async move {
        match store.begin(plain("key"), Some(u64::MAX)).await.err() {
            Some(Refusal::TooLarge { limit_bytes, .. }) => usize::try_from(limit_bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    });
    let longest = Address::new("n".repeat(128), Space::Plain, "k".repeat(1024)).unwrap();
    bed.put(longest.clone(), body(1, limit)).unwrap();
    assert_eq!(bed.get(&longest).unwrap(), Some(body(1, limit)));
    for file in bed.disk.walk().into_iter().filter(|file| !file.path.as_str().starts_with("pool/"))
    {
        assert!(file.len_bytes <= bed.config.segment_bytes, "{}", file.path);
    }
}

#[test]
fn staging_that_is_used_up_refuses_and_comes_back() {
    let mut bed = Bed::new(7);
    bed.config.staging_bytes_max = 30_000;
    bed.start().unwrap();
    let store = bed.store();
    bed.run(async move {
        let first = store.begin(plain("first"), Some(20_000)).await.unwrap();
        let second = store.begin(plain("second"), Some(20_000)).await.err();
        assert!(
            matches!(second, Some(Refusal::StagingFull { in_use_bytes: 20_000, .. })),
            "{second:?}"
        );
        drop(first);
    });
    bed.settle();
    bed.put(plain("second"), body(2, 20_000)).unwrap();
    assert_eq!(bed.metrics().store.staging_refused.get(), 1);
    assert_eq!(bed.store().staging_status()["in_use_bytes"], 0);
}

#[test]
fn many_writers_share_one_sync() {
    let mut bed = Bed::new(8);
    bed.start().unwrap();
    let store = bed.store();
    bed.run(async move {
        let puts = (0..64).map(|n| put(store.clone(), plain(&format!("key-{n}")), body(n, 100)));
        for published in futures_util::future::join_all(puts).await {
            published.unwrap();
        }
    });
    let syncs = bed.metrics().store.segment_syncs.get();
    assert!(syncs <= 2, "{syncs} syncs for 64 writers");
}

#[test]
fn a_rotten_chunk_breaks_the_body_and_is_a_miss_from_then_on() {
    let mut bed = Bed::new(9);
    bed.start().unwrap();
    bed.put(plain("key"), body(1, 10_000)).unwrap();
    bed.put(plain("other"), body(2, 10_000)).unwrap();
    let path = format!("blobs/{}", bed.segments()[0].file_name());
    bed.disk.rot(&path, 5_000, 1).unwrap();
    let refusal = bed.get(&plain("key")).unwrap_err();
    assert!(matches!(refusal, Refusal::Damaged { .. }), "{refusal}");
    bed.settle();
    assert_eq!(bed.get(&plain("key")).unwrap(), None);
    assert_eq!(bed.get(&plain("other")).unwrap(), Some(body(2, 10_000)));
}

#[test]
fn a_body_that_looks_like_records_is_never_taken_for_one() {
    let mut bed = Bed::new(10);
    bed.start().unwrap();
    bed.put(plain("victim"), body(1, 100)).unwrap();
    // The very bytes of the segment, its header and a valid record, as the body of another put.
    let path = format!("blobs/{}", bed.segments()[0].file_name());
    let copy = bed.disk.peek(&path).unwrap();
    bed.put(plain("copy"), copy.clone()).unwrap();
    bed.crash(Crash::Sigkill);
    bed.forget_index();
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.recovered_records.get(), 2);
    assert_eq!(bed.get(&plain("copy")).unwrap(), Some(copy));
    assert_eq!(bed.get(&plain("victim")).unwrap(), Some(body(1, 100)));
}

#[test]
fn a_lost_ring_is_made_again_from_the_segments() {
    let mut bed = Bed::new(12);
    bed.start().unwrap();
    for n in 0..30 {
        bed.put(plain(&format!("key-{n}")), body(n, 9_000)).unwrap();
    }
    bed.close();
    let before = bed.segments();
    bed.disk.rot("RING", 20, 1).unwrap();
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.recovered_rings.get(), 1);
    bed.settle();
    assert_eq!(bed.segments(), before);
    let published = bed.put(plain("new"), body(99, 9_000)).unwrap();
    assert!(published.sequence > 30);
    for n in 0..30 {
        assert_eq!(bed.get(&plain(&format!("key-{n}"))).unwrap(), Some(body(n, 9_000)), "{n}");
    }
}

#[test]
fn files_that_the_ring_does_not_know_are_swept_and_foreign_ones_stay() {
    let mut bed = Bed::new(13);
    bed.start().unwrap();
    bed.put(plain("key"), body(1, 100)).unwrap();
    bed.close();
    let orphan = format!("blobs/{}", SegmentId(0xdead).file_name());
    bed.disk.plant(&orphan, &Bytes::from_static(b"left over")).unwrap();
    bed.disk.plant("blobs/README", &Bytes::from_static(b"mine")).unwrap();
    bed.disk.plant("tmp/0000000000000007.part", &Bytes::from_static(b"stale")).unwrap();
    bed.start().unwrap();
    assert_eq!(bed.staged_bytes(), 0);
    bed.settle();
    assert_eq!(bed.segments().len(), 1);
    assert!(bed.disk.peek("blobs/README").is_some());
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(1, 100)));
}

#[test]
fn a_failed_sync_refuses_its_writers_and_the_segment_takes_no_more() {
    let mut bed = Bed::new(14);
    bed.start().unwrap();
    bed.put(plain("before"), body(1, 100)).unwrap();
    let mut failures = 1;
    bed.disk.set_effect_hook(Box::new(move |effect: &Effect| {
        if effect.change.kind == EffectKind::SyncData && failures > 0 {
            failures -= 1;
            return EffectVerdict::Fail(DiskErrorKind::Io);
        }
        EffectVerdict::Go
    }));
    let refusal = bed.put(plain("failed"), body(2, 100)).unwrap_err();
    assert!(matches!(refusal, Refusal::Disk(_)), "{refusal}");
    let refusal = bed.put(plain("too soon"), body(2, 100)).unwrap_err();
    assert!(matches!(refusal, Refusal::DiskFailed { .. }), "{refusal}");
    assert_eq!(bed.get(&plain("failed")).unwrap(), None);
    bed.settle();
    bed.put(plain("after"), body(3, 100)).unwrap();
    assert_eq!(bed.segments().len(), 2);
    assert_eq!(bed.metrics().store.segments_given_up.get(), 1);
    for (key, seed) in [("before", 1), ("after", 3)] {
        assert_eq!(bed.get(&plain(key)).unwrap(), Some(body(seed, 100)), "{key}");
    }
}

#[test]
fn a_disk_that_others_filled_refuses_writes_and_serves_reads_until_space_returns() {
    let mut bed = Bed::new(15);
    bed.start().unwrap();
    bed.put(plain("early"), body(1, 9_000)).unwrap();
    let free = bed.disk.space().available_bytes;
    bed.disk.set_foreign_bytes(free);
    let mut refused = 0;
    for n in 0..20 {
        match bed.put(plain(&format!("key-{n}")), body(n, 9_000)) {
            Ok(_) => {}
            Err(Refusal::DiskFull(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        assert_eq!(bed.get(&plain("early")).unwrap(), Some(body(1, 9_000)), "after put {n}");
    }
    assert!(refused > 0, "the disk is full");
    assert_eq!(bed.staged_bytes(), 0);
    bed.disk.set_foreign_bytes(0);
    bed.settle();
    bed.put(plain("late"), body(2, 9_000)).unwrap();
    assert_eq!(bed.get(&plain("late")).unwrap(), Some(body(2, 9_000)));
}

#[test]
fn a_body_of_a_peer_is_refused_while_nobody_can_tell_what_is_here() {
    let mut bed = Bed::new(41);
    bed.config.index_bytes_max = 0;
    bed.start().unwrap();
    bed.put(plain("key"), body(1, 3_000)).unwrap();
    let (store, older) = (bed.store(), body(2, 3_000));
    let row = FeedRow {
        address: plain("key"),
        version: Version { time: 1, node: 9 },
        body_bytes: 3_000,
        digest: Digest::of(&older),
    };
    let mut upload = bed.run(async move { store.begin_replica(&row).await.unwrap() });
    bed.close_index();
    let published = bed.run(async move {
        upload.write(older).await.unwrap();
        upload.publish().await
    });
    assert!(matches!(published, Err(Refusal::Catalog(_))), "{published:?}");
    bed.put(plain("other"), body(3, 10)).unwrap();
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(1, 3_000)), "the later version");
}

#[test]
fn a_blob_that_is_here_is_not_written_again_until_it_grows_old() {
    let mut bed = Bed::new(43);
    bed.start().unwrap();
    let blob = body(1, 3_000);
    let address = Address::new("team", Space::Cas, Digest::of(&blob).to_string()).unwrap();
    let first = bed.put(address.clone(), blob.clone()).unwrap();
    assert_eq!(bed.put(address.clone(), blob.clone()).unwrap(), first);
    // A plain key may mean something else each time.
    let plain_ones = [(); 2].map(|()| bed.put(plain("key"), body(2, 100)).unwrap().sequence);
    assert!(plain_ones[0] < plain_ones[1]);
    let metrics = bed.metrics();
    assert_eq!((metrics.store.puts.get(), metrics.store.repeated_puts.get()), (3, 1));
    let mut n = 0;
    while bed.segments().len() < 8 {
        bed.put(plain(&format!("key-{n}")), body(n, 9_000)).unwrap();
        n += 1;
    }
    // Its segment is the eldest of eight now: written again, it stays.
    let again = bed.put(address.clone(), blob.clone()).unwrap();
    assert!(again.sequence > first.sequence);
    bed.crash(POWER_LOSS);
    bed.start().unwrap();
    assert_eq!(bed.put(address.clone(), blob.clone()).unwrap(), again);
    assert_eq!(bed.get(&address).unwrap(), Some(blob));
}

#[test]
fn a_blob_of_a_peer_that_a_client_writes_too_is_in_the_feed() {
    let mut bed = Bed::new(44);
    bed.start().unwrap();
    let blob = body(1, 3_000);
    let digest = Digest::of(&blob);
    let address = Address::new("team", Space::Cas, digest.to_string()).unwrap();
    let version = Version { time: 1, node: 9 };
    let row = FeedRow { address: address.clone(), version, body_bytes: 3_000, digest };
    let (store, bytes) = (bed.store(), blob.clone());
    bed.run(async move {
        let mut upload = store.begin_replica(&row).await.unwrap();
        upload.write(bytes).await.unwrap();
        upload.publish().await.unwrap();
    });
    let head = bed.store().extent().head;
    bed.put(address, blob).unwrap();
    assert!(bed.store().extent().head > head);
}

#[test]
fn a_catalog_that_closed_opens_again_without_a_writer() {
    let mut bed = Bed::new(45);
    bed.config.index_bytes_max = 64 << 10;
    bed.start().unwrap();
    bed.put(plain("key"), body(1, 100)).unwrap();
    bed.settle();
    bed.close_index();
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(1, 100)), "known without the catalog");
    bed.get(&plain("other")).unwrap_err();
    assert_eq!(bed.store().catalog_status(), "closed");
    bed.wait(6);
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(1, 100)));
    assert_eq!(bed.store().catalog_status(), "open");
}
