//! A file system that becomes read-only under the node, as ext4 does at an error: reads go on, writes are
//! refused, and the next start on a sound one is like any other.

use kura_tests::{ext4_disk::Ext4Disk, node::Home, skip::skip};

use crate::{
    bed::body,
    kills::{judge_counters, stop_and_verify},
};

const NAME: &str = "a_file_system_that_became_read_only_is_read_and_not_written";
const KIB: usize = 1024;
/// To the ring, to the pool; each so often that some are read for the first time afterwards.
const LENS: [usize; 4] = [10 * KIB, 10 * KIB, 900 * KIB, 900 * KIB];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_became_read_only_is_read_and_not_written() {
    let disk = match Ext4Disk::mount(512) {
        Ok(disk) => disk,
        Err(reason) => return skip(NAME, &reason),
    };
    let home = Home::with_data_in(&disk.path().join("data"));
    let flags = ["--cas-capacity=256MiB", "--segment=4MiB"];
    let mut node = home.start(&flags).await;
    let artifacts = LENS.map(|len| body(len as u64, len));
    let path = |at: usize| format!("/team/{at}");
    for (at, body) in artifacts.iter().enumerate() {
        assert_eq!(node.put(&path(at), body.clone()).await.status, 201);
    }
    if let Err(reason) = disk.fail() {
        return skip(NAME, &reason);
    }
    for (at, len) in LENS.into_iter().enumerate() {
        let refused = node.put(&format!("/later/{at}"), body(100, len)).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{len} bytes");
    }
    for (at, body) in artifacts.iter().enumerate() {
        let answer = node.get(&path(at)).await;
        assert_eq!((answer.status, answer.body == *body), (200, true), "{} bytes", body.len());
    }
    for page in ["/up", "/ready", "/metrics", "/status"] {
        let status = node.get(page).await.status;
        assert!(status == 200 || page == "/ready", "{page}: {status}");
    }
    node.assert_alive();
    node.kill();

    disk.restore();
    let node = home.start(&flags).await;
    for (at, body) in artifacts.iter().enumerate() {
        assert_eq!(node.get(&path(at)).await.body, *body);
    }
    assert_eq!(node.put("/later/all-is-well", body(5, 900 * KIB)).await.status, 201);
    judge_counters(&node).await;
    stop_and_verify(&home, node).await;
}
