//! One bit in every kind of file, and every file gone: the node starts by itself, serves no wrong byte, and
//! lost at most what lay in the damaged place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use hyper::Method;
use kura_tests::{
    client::Client,
    node::{Home, SMALL},
};

use crate::bed::{body, cas_path};

const KIB: usize = 1024;
/// Bodies of the ring. Some are put to content addresses, some to plain keys, some are action results.
const SMALL_BODIES: u64 = 30;
/// Large enough for the pool: over an eighth of a segment.
const LARGE_BODIES: u64 = 3;

/// Where every kind of file lies.
const KINDS: [&str; 9] =
    ["LOCK", "IDENTITY", "RING", "STAMP", "blobs/", "entries/", "pool/", "catalog/", "tmp/"];

/// Everything that was put, by its path.
fn artifacts() -> Vec<(String, Bytes)> {
    let small = (0..SMALL_BODIES).map(|n| {
        let body = body(n, 20 * KIB);
        let path = match n % 3 {
            0 => cas_path(&body),
            1 => format!("/team/key-{n}"),
            _ => format!("/team/ac/{n:064x}"),
        };
        (path, body)
    });
    let large = (0..LARGE_BODIES).map(|n| (format!("/team/large-{n}"), body(100 + n, 2100 * KIB)));
    small.chain(large).collect()
}

/// Fills a data directory, and stops its node. A staging file lies there, as a kill leaves one.
pub(crate) async fn filled() -> Home {
    let home = Home::default();
    let node = home.start_small(&[]).await;
    let mut client = Client::connect(node.addr()).await;
    for (path, body) in artifacts() {
        assert_eq!(client.put(&path, body).await.status, 201, "{path}");
    }
    node.stop().await;
    fs::write(home.data_dir().join("tmp/0000000000000001.part"), body(7, 20 * KIB)).unwrap();
    home
}

pub(crate) fn copy(from: &Home) -> Home {
    let home = Home::default();
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([from.data_dir(), home.data_dir()])
        .status();
    assert!(copied.unwrap().success());
    home
}

/// Every file below, by its path from `root`.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// How many artifacts may be missing when this file was damaged.
pub(crate) fn at_stake(file: &Path, is_header: bool) -> usize {
    let dir = file.components().next().unwrap().as_os_str().to_str().unwrap();
    match dir {
        // The header of a segment is what makes the rest of it readable.
        "blobs" | "entries" if is_header => artifacts().len(),
        "blobs" | "entries" | "pool" => 1,
        _ => 0,
    }
}

/// Starts the node so often and reads everything each time: whole, or a miss, and of those no more than
/// `may_miss`. Then it takes a body in.
pub(crate) async fn comes_back(home: &Home, starts: u32, what: &str, may_miss: usize) {
    for start in 1..=starts {
        let what = format!("{what}, start {start}");
        let node = home.start(&SMALL).await;
        let mut client = Client::connect(node.addr()).await;
        let mut missing = 0;
        for (path, body) in artifacts() {
            match client.try_send(Method::GET, &path, Bytes::new()).await {
                Ok(answer) if answer.status == 200 => {
                    assert!(answer.body == body, "{what}: other bytes at {path}");
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 404, "{what}: {path}");
                    missing += 1;
                }
                // A chunk that is not what was written breaks the answer off.
                Err(_) => {
                    missing += 1;
                    client = Client::connect(node.addr()).await;
                }
            }
        }
        assert!(missing <= may_miss, "{what}: {missing} of {may_miss} are missing");
        assert_eq!(client.put("/team/later", "later").await.status, 201, "{what}");
        assert_eq!(client.get("/team/later").await.text(), "later", "{what}");
        node.stop().await;
    }
}

#[tokio::test]
async fn one_flipped_bit_in_every_kind_of_file_costs_no_more_than_it_hit() {
    let base = filled().await;
    let files = files(base.data_dir());
    for kind in KINDS {
        assert!(files.iter().any(|file| file.to_str().unwrap().starts_with(kind)), "no {kind}");
    }
    let mut flipped = 0;
    for file in files {
        let len = fs::metadata(base.data_dir().join(&file)).unwrap().len();
        // The first bytes, a place behind them, the middle, the end.
        let mut places = vec![0, 40, len / 2, len.saturating_sub(1)];
        places.retain(|place| *place < len);
        places.dedup();
        for at in places {
            let home = copy(&base);
            let path = home.data_dir().join(&file);
            let mut bytes = fs::read(&path).unwrap();
            bytes[usize::try_from(at).unwrap()] ^= 1;
            fs::write(&path, bytes).unwrap();
            let what = format!("byte {at} of {len} in {}", file.display());
            comes_back(&home, 1, &what, at_stake(&file, at < 64)).await;
            flipped += 1;
        }
    }
    assert!(flipped > 30, "{flipped} places: the directory holds less than it should");
}

#[tokio::test]
async fn every_file_may_be_gone() {
    let base = filled().await;
    for file in files(base.data_dir()) {
        let home = copy(&base);
        fs::remove_file(home.data_dir().join(&file)).unwrap();
        let what = format!("without {}", file.display());
        comes_back(&home, 2, &what, at_stake(&file, true)).await;
    }
    let home = copy(&base);
    fs::remove_dir_all(home.data_dir().join("catalog")).unwrap();
    comes_back(&home, 2, "without a catalog", 0).await;
}
