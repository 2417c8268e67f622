//! Staging in a directory of its own.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use kura_tests::node::Home;

use crate::bed::body;

/// The names of the files below `dir`, at any depth.
fn files_below(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            names.extend(files_below(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names.sort();
    names
}

/// Stores large bodies through `staging`, on which something of somebody else lies, and reads them
/// back before and after a start that finds what a crash can leave.
async fn large_bodies_come_through(staging: &Path, flags: &[&str]) {
    let home = Home::default();
    fs::create_dir_all(home.data_dir().join("tmp")).unwrap();
    fs::write(home.data_dir().join("tmp/00000000000000aa.part"), b"of an earlier life").unwrap();
    fs::write(staging.join("mine.part"), b"of somebody else").unwrap();
    let flags = [&["--tmp-dir", staging.to_str().unwrap()], flags].concat();
    let mut node = home.start_small(&flags).await;
    assert_eq!(home.staging_files(), 0, "what was staged in the data directory before");
    let bodies: Vec<_> = (1..4).map(|seed| body(seed, 3 << 20)).collect();
    for (number, body) in bodies.iter().enumerate() {
        assert_eq!(node.put(&format!("/a/{number}"), body.clone()).await.status, 201);
    }
    let pool = home.data_dir().join("pool");
    for round in ["before a start", "after it"] {
        for (number, body) in bodies.iter().enumerate() {
            assert_eq!(node.get(&format!("/a/{number}")).await.body, *body, "{round}");
        }
        let names = files_below(&pool);
        assert!(names.len() == 3 && names.iter().all(|it| it.ends_with(".blob")), "{names:?}");
        assert_eq!(files_below(staging), ["LOCK", "mine.part"], "{round}");
        assert_eq!(home.staging_files(), 0, "{round}");
        node.kill();
        if round == "after it" {
            break;
        }
        let ours = fs::read_dir(staging).unwrap().map(Result::unwrap);
        let ours = ours.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap();
        fs::write(ours.join("00000000000000ff.part"), b"in flight").unwrap();
        let dir = fs::read_dir(&pool).unwrap().next().unwrap().unwrap().path();
        fs::write(dir.join(format!("{}.copy", names[0])), b"half of it").unwrap();
        node = home.start_small(&flags).await;
        node.ready().await;
    }
}

#[tokio::test]
async fn large_bodies_get_their_place_from_a_directory_of_the_same_file_system() {
    let staging = tempfile::tempdir().unwrap();
    large_bodies_come_through(staging.path(), &[]).await;
}

#[tokio::test]
async fn large_bodies_are_copied_from_another_file_system_where_that_is_allowed() {
    let staging = tempfile::tempdir_in("/dev/shm").unwrap();
    let home = tempfile::tempdir().unwrap();
    let device = |path: &Path| path.metadata().unwrap().dev();
    if device(staging.path()) == device(home.path()) {
        eprintln!("skipped: both directories lie on one file system");
        return;
    }
    large_bodies_come_through(staging.path(), &["--tmp-dir-other-filesystem", "true"]).await;
}
