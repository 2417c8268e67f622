//! `kura inspect` on every part of a directory, which stays as it is; and one bit in every kind of file, which
//! `kura verify` shows and repairs.

use std::{fs, path::Path, process::Output, time::SystemTime};

use kura_core::digest::Digest;
use kura_tests::{
    node::{Home, SMALL, run},
    raw::Raw,
    wait::{A_MOMENT, until},
};

use crate::{
    bed::{Bed, body, put_head},
    damage::{at_stake, comes_back, copy, files, filled},
};

const MIB: usize = 1024 * 1024;

/// Everything that can be seen of a tree: paths, times, lengths and contents, directories included.
fn tree(root: &Path) -> Vec<(String, SystemTime, u64, String)> {
    let mut seen = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else {
            Digest::of(&fs::read(&path).unwrap()).to_string()
        };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        seen.push((name, metadata.modified().unwrap(), metadata.len(), content));
    }
    seen.sort();
    seen
}

/// Runs a command on the data of `home`, with the settings of its node.
async fn kura(home: &Home, words: &str) -> Output {
    let data = home.data_dir().to_str().unwrap();
    let words = words.split(' ').chain(["--data-dir", data]).chain(SMALL);
    run(&words.collect::<Vec<_>>()).await
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn a_look_at_any_part_changes_nothing() {
    let home = filled().await;
    let object = files(home.data_dir())
        .iter()
        .find(|file| file.starts_with("pool"))
        .map(|file| file.display().to_string())
        .unwrap();
    fs::write(home.data_dir().join("tmp/3.part"), "left").unwrap();
    let before = tree(home.data_dir());
    for (words, part) in [
        ("inspect ring", "blobs/0000000000000001  young       live  open"),
        ("inspect segment blobs/0000000000000001", "whole     /team/key-1\n"),
        ("inspect segment blobs/0000000000000001 --no-bodies", "unread    /team/key-1\n"),
        (&format!("inspect segment {object}"), "1 record with 2MiB of bodies"),
        ("inspect record team key-1 --scan", "/team/key-1: by the catalog in blobs/"),
        ("inspect record blobs/0000000000000001:64", "sequence 1\n"),
        ("inspect record team nothing", "/team/nothing: a miss"),
        ("inspect catalog", "the catalog is whole"),
        ("inspect catalog --keyspace feed --limit 2", "2 -> /team/key-1, 20480 B"),
        ("inspect staging", "3.part                 stale      4B"),
    ] {
        for format in ["", " --json"] {
            let output = kura(&home, &format!("{words}{format}")).await;
            let text = said(&output);
            assert_eq!(output.status.code(), Some(0), "{words}{format}: {text}");
            if format.is_empty() {
                assert!(text.contains(part), "{words}: {part:?} is not in {text}");
            } else {
                let mut values = serde_json::Deserializer::from_str(&text).into_iter();
                let all: Result<Vec<serde_json::Value>, _> = values.by_ref().collect();
                assert!(all.is_ok_and(|all| !all.is_empty()), "{words}{format}: {text}");
            }
            assert_eq!(tree(home.data_dir()), before, "{words}{format}");
        }
    }
    let empty = Home::default();
    assert_eq!(kura(&empty, "inspect ring").await.status.code(), Some(74));
    assert!(!empty.data_dir().exists(), "nothing was made");
}

#[tokio::test]
async fn beside_a_node_that_runs_all_but_the_catalog_can_be_looked_at() {
    let mut bed = Bed::start(&["--memory-body=4KiB"]).await;
    assert_eq!(bed.node.put("/team/key", body(1, 5000)).await.status, 201);
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/team/in-flight", &[&format!("Content-Length: {}", 2 * MIB)])).await;
    raw.send(body(2, MIB)).await;
    bed.staging_in_use().await;
    for (words, part) in [
        ("inspect ring", "has the data directory"),
        ("inspect segment blobs/0000000000000001", "whole     /team/key\n"),
        ("inspect record blobs/0000000000000001:64", "holds /team/key, 5000 bytes"),
        ("inspect staging", "in flight"),
    ] {
        until(words, A_MOMENT, async || {
            let output = kura(&bed.home, words).await;
            let is_seen = said(&output).contains(part) && output.status.success();
            is_seen.then_some(())
        })
        .await;
    }
    for words in ["inspect catalog", "inspect record team key", "verify", "verify --repair"] {
        let output = kura(&bed.home, words).await;
        assert_eq!(output.status.code(), Some(75), "{words}: {}", said(&output));
        assert!(said(&output).contains(&format!("process id {}", bed.node.pid())), "{words}");
    }
    drop(raw);
    bed.unharmed_but("/team/key", 200, 1).await;
}

/// Whether a look must notice any changed byte of a file. The name of who looked last is in LOCK; not every
/// byte of a catalog is of use; and what a kill left in staging is of none.
fn is_checked(file: &Path) -> bool {
    !["LOCK", "catalog", "tmp"].iter().any(|beside| file.starts_with(beside))
}

#[tokio::test]
async fn one_flipped_bit_in_every_kind_of_file_is_shown_and_repaired() {
    let base = filled().await;
    let (mut shown, mut catalogs) = (0, 0);
    for file in files(base.data_dir()) {
        let len = fs::metadata(base.data_dir().join(&file)).unwrap().len();
        for at in [0, len / 2].into_iter().filter(|at| *at < len) {
            let home = copy(&base);
            let path = home.data_dir().join(&file);
            let mut bytes = fs::read(&path).unwrap();
            bytes[usize::try_from(at).unwrap()] ^= 1;
            fs::write(&path, bytes).unwrap();
            let what = format!("byte {at} of {len} in {}", file.display());
            let looked = kura(&home, "verify").await;
            let found = looked.status.code() == Some(1);
            assert!(found || !is_checked(&file), "{what}: {}", said(&looked));
            shown += u64::from(found);
            catalogs += u64::from(found && file.starts_with("catalog"));
            let repaired = kura(&home, "verify --repair").await;
            assert_eq!(repaired.status.code(), Some(0), "{what}: {}", said(&repaired));
            assert_eq!(kura(&home, "verify").await.status.code(), Some(0), "{what}, repaired");
            comes_back(&home, 1, &what, at_stake(&file, at < 64)).await;
        }
    }
    assert!(shown > 10 && catalogs > 0, "{shown} were shown, {catalogs} of the catalog");
}
