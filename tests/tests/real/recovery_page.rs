//! `docs/recovery.md` as an operator would follow it: each section on a node that was damaged as the section
//! says, each command run in order, and what the page shows compared with what is printed.
//!
//! A line `# stop the node` does that. `kura serve` is waited for until it is ready, or to its end where the
//! page says `# ends with CODE`. `curl -s URL` is asked by the test, so that no curl is needed. All else is
//! run by the shell, in the directory that holds `data`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use kura_core::device::STALL_AFTER;
use kura_tests::{
    client::Client,
    ext4_disk::Ext4Disk,
    node::{Home, Kura, SMALL},
    skip::skip,
    small_disk::SmallDisk,
    wait::{A_MOMENT, until, within},
};

use crate::{
    bed::body,
    mesh::{free_ports, has_fetched},
    page::{Block, Step, blocks, normal, same},
};

/// The address of the node on the page.
const SHOWN_ADDR: &str = "127.0.0.1:4000";
/// The peer of the node on the page.
const SHOWN_PEER: &str = "kura-1:7443";
const KEYS: u64 = 6;
const SMALL_BYTES: usize = 20_000;
/// Large enough for the pool: over an eighth of a segment.
const LARGE_BYTES: usize = 2_100_000;

/// Every heading of the page below which there is a command.
const KNOWN: [&str; 10] = [
    "The disk is lost",
    "The catalog is damaged",
    "The disk is full",
    "The disk does not answer",
    "A file is damaged",
    "75: another process has the directory",
    "78: a bad setting",
    "74: the data directory cannot be used",
    "74: the data directory is of another version",
    "RING, IDENTITY or TOMBSTONES is damaged",
];

fn artifacts() -> Vec<(String, Bytes)> {
    let small = (0..KEYS).map(|n| (format!("/team/key-{n}"), body(n, SMALL_BYTES)));
    let entry = (format!("/team/ac/{:064x}", 7), body(50, SMALL_BYTES));
    small.chain([entry, ("/team/large".to_owned(), body(99, LARGE_BYTES))]).collect()
}

/// Where a section is followed.
struct Operator {
    home: Home,
    /// The directory that holds `data`.
    directory: PathBuf,
    node: Option<Kura>,
    /// What every `kura serve` is given beside the flags on the page.
    flags: Vec<String>,
    /// What stands for names on the page.
    names: Vec<(&'static str, String)>,
}

impl Operator {
    /// A node that holds the artifacts and does not run.
    async fn with_data() -> Self {
        let operator = Self::at(Home::default());
        let node = operator.home.start_small(&[]).await;
        put_all(&node).await;
        node.stop().await;
        operator
    }

    /// Nothing yet.
    fn at(home: Home) -> Self {
        let directory = home.data_dir().parent().expect("it lies in a directory").to_owned();
        let flags = SMALL.map(str::to_owned).into();
        Self { home, directory, node: None, flags, names: Vec::new() }
    }

    fn data(&self, path: &str) -> PathBuf {
        self.home.data_dir().join(path)
    }

    /// Changes one bit of a file.
    fn rot(&self, path: &str, at: usize) {
        let path = self.data(path);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
    }

    /// Runs the commands below a heading, and holds what they print against what is shown.
    async fn follow(&mut self, heading: &str) {
        let page = page();
        let mut followed = 0;
        for Block { steps, shown, .. } in page.iter().filter(|block| block.heading == heading) {
            let mut said = String::new();
            for step in steps {
                said += &self.take(step).await;
            }
            if let Some(shown) = shown {
                assert!(same(shown, &said), "{heading}: the page shows\n{shown}\nand not\n{said}");
            }
            followed += 1;
        }
        assert!(followed > 0, "the page has no commands below {heading:?}");
    }

    async fn take(&mut self, step: &Step) -> String {
        let Step { command, code } = step;
        let command =
            self.names.iter().fold(command.clone(), |it, (name, is)| it.replace(name, is));
        if command == "# stop the node" {
            self.node.take().expect("it runs").stop().await;
            return String::new();
        }
        if let Some(flags) = command.strip_prefix("kura serve ") {
            return self.serve(flags, *code).await;
        }
        if let Some(asked) = command.strip_prefix("curl -s ") {
            return self.ask(asked).await;
        }
        let addr = self.node.as_ref().map(|node| node.addr().to_string());
        let line = addr.iter().fold(command.clone(), |it, addr| it.replace(SHOWN_ADDR, addr));
        let program = PathBuf::from(self.home.command(&[]).get_program());
        let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
        let mut shell = Command::new("sh");
        shell.env_clear().env("PATH", path).current_dir(&self.directory);
        shell.args(["-eu", "-c", &format!("exec 2>&1; {line}")]);
        let output = tokio::task::spawn_blocking(move || shell.output());
        let output = within(&command, A_MOMENT, output).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(*code), "{command}: {said}");
        addr.iter().fold(said, |it, addr| it.replace(addr, SHOWN_ADDR))
    }

    /// Starts the node with the flags of the page, and waits until it is ready or ends.
    async fn serve(&mut self, flags: &str, code: i32) -> String {
        let page = flags.strip_prefix("--data-dir data").expect("the page names the directory");
        let flags = self.flags.iter().map(String::as_str).chain(page.split_whitespace());
        let flags: Vec<&str> = flags.collect();
        if code == 0 {
            assert!(self.node.is_none(), "the page has not said to stop the node");
            self.node = Some(self.home.start(&flags).await);
            return String::new();
        }
        let mut command = self.home.command(&flags);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = within("kura ends by itself", A_MOMENT, output).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(code), "kura serve {}: {said}", flags.join(" "));
        // What is no line of the log, which begins with the time.
        let lines = said.lines().filter(|line| !line.starts_with("20"));
        lines.map(|line| format!("{line}\n")).collect::<String>().replace(self.path(), "data")
    }

    fn path(&self) -> &str {
        self.home.data_dir().to_str().expect("a path for tests is text")
    }

    /// `URL`, or `URL | grep ^START`.
    async fn ask(&self, asked: &str) -> String {
        let (url, start) = asked.split_once(" | grep ^").unwrap_or((asked, ""));
        let path = url.strip_prefix("http://").and_then(|url| url.strip_prefix(SHOWN_ADDR));
        let node = self.node.as_ref().expect("the page has said to start the node");
        let text = node.get(path.expect("the page asks its node")).await.text();
        text.lines()
            .filter(|line| line.starts_with(start))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// All artifacts are served as they were put, but for `lost`, which are misses.
    async fn has_all_but(&self, lost: &[&str]) {
        let node = self.node.as_ref().expect("the section ends with a node that serves");
        let mut client = Client::connect(node.addr()).await;
        for (path, body) in artifacts() {
            let answer = client.get(&path).await;
            if lost.contains(&path.as_str()) {
                assert_eq!(answer.status, 404, "{path}");
            } else {
                assert!(answer.status == 200 && answer.body == body, "{path}: {}", answer.status);
            }
        }
    }
}

async fn put_all(node: &Kura) {
    let mut client = Client::connect(node.addr()).await;
    for (path, body) in artifacts() {
        assert_eq!(client.put(&path, body).await.status, 201, "{path}");
    }
}

fn page() -> Vec<Block> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs");
    blocks(&fs::read_to_string(docs.join("recovery.md")).unwrap())
}

#[test]
fn every_command_on_the_page_belongs_to_a_section_that_is_followed_here() {
    let page = page();
    let headings: BTreeSet<&str> = page.iter().map(|block| block.heading.as_str()).collect();
    assert_eq!(headings, BTreeSet::from(KNOWN));
    assert!(page.iter().all(|block| !block.steps.is_empty()), "a block without a command");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_an_empty_disk_fetches_what_its_peer_has() {
    let ports = free_ports(2);
    let plane = |number: usize| format!("--internal-port={}", ports[number]);
    let peer = Home::default();
    // Itself, so that it has a peer plane and waits for nobody.
    let peers = format!("--peers=127.0.0.1:{}", ports[1]);
    let peer = peer.launch(&[&SMALL[..], &[&plane(1), &peers]].concat()).await;
    peer.ready().await;
    put_all(&peer).await;
    let mut operator = Operator::at(Home::default());
    operator.flags.push(plane(0));
    operator.names.push((SHOWN_PEER, format!("127.0.0.1:{}", ports[1])));
    operator.follow("The disk is lost").await;
    let node = operator.node.as_ref().unwrap();
    has_fetched(node.addr(), artifacts().len() as u64).await;
    operator.has_all_but(&[]).await;
}

#[tokio::test]
async fn a_damaged_catalog_is_made_again() {
    let mut operator = Operator::with_data().await;
    operator.rot("catalog/version", 3);
    operator.follow("The catalog is damaged").await;
    operator.has_all_but(&[]).await;
}

#[tokio::test]
async fn a_full_disk_is_looked_into_and_relieved() {
    let disk = match SmallDisk::mount(192) {
        Ok(disk) => disk,
        Err(reason) => return skip("a_full_disk_is_looked_into_and_relieved", &reason),
    };
    let mut operator = Operator::at(Home::with_data_in(&disk.path().join("data")));
    operator.flags = ["--cas-capacity=64MiB", "--segment=8MiB"].map(str::to_owned).into();
    let flags: Vec<&str> = operator.flags.iter().map(String::as_str).collect();
    let node = operator.home.start(&flags).await;
    put_all(&node).await;
    disk.fill();
    until("writes are refused", A_MOMENT, async || {
        (node.put("/team/refused", body(1, SMALL_BYTES)).await.status == 503).then_some(())
    })
    .await;
    operator.node = Some(node);
    operator.follow("The disk is full").await;
    let node = operator.node.as_ref().unwrap();
    until("writes come back", A_MOMENT, async || {
        (node.put("/team/later", "later").await.status == 201).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_answer_is_told_and_comes_back() {
    let mut disk = match Ext4Disk::mount(512) {
        Ok(disk) => disk,
        Err(reason) => {
            return skip("a_disk_that_does_not_answer_is_told_and_comes_back", &reason);
        }
    };
    let mut operator = Operator::at(Home::with_data_in(&disk.path().join("data")));
    let node = operator.home.start(&["--cas-capacity=256MiB", "--segment=8MiB"]).await;
    put_all(&node).await;
    let frozen_for = STALL_AFTER * 2;
    if let Err(reason) = disk.freeze(frozen_for) {
        return skip("a_disk_that_does_not_answer_is_told_and_comes_back", &reason);
    }
    let refused = node.put("/team/refused", body(1, SMALL_BYTES)).await;
    assert!(refused.status == 503 && refused.text().contains("disk-stalled"), "{}", refused.text());
    operator.node = Some(node);
    operator.follow("The disk does not answer").await;
    assert!(disk.is_frozen(), "the page was followed while the disk did not answer");
    until("the thaw", frozen_for, async || (!disk.is_frozen()).then_some(())).await;
    let node = operator.node.as_ref().unwrap();
    until("the node is ready again", A_MOMENT, async || {
        (node.get("/ready").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(node.put("/team/later", "later").await.status, 201);
}

#[tokio::test]
async fn a_damaged_file_is_found_and_costs_one_artifact() {
    let mut operator = Operator::with_data().await;
    // In the body of the second of the records, which are as long as one another.
    operator.rot("blobs/0000000000000001.seg", 64 + SMALL_BYTES * 3 / 2);
    operator.follow("A file is damaged").await;
    operator.has_all_but(&["/team/key-1"]).await;
}

#[tokio::test]
async fn a_second_node_in_the_directory_is_told_who_has_it() {
    let mut operator = Operator::with_data().await;
    operator.node = Some(operator.home.start_small(&[]).await);
    operator.follow("75: another process has the directory").await;
    operator.has_all_but(&[]).await;
}

#[tokio::test]
async fn a_bad_setting_is_told() {
    Operator::with_data().await.follow("78: a bad setting").await;
}

#[tokio::test]
async fn a_data_directory_that_is_a_file_is_told() {
    let mut operator = Operator::at(Home::default());
    fs::write(operator.home.data_dir(), "a file").unwrap();
    operator.follow("74: the data directory cannot be used").await;
}

#[tokio::test]
async fn a_data_directory_of_another_version_is_refused_until_it_is_gone() {
    let mut operator = Operator::with_data().await;
    fs::write(operator.data("IDENTITY"), r#"{"format":9,"node":5,"incarnation":6}"#).unwrap();
    operator.follow("74: the data directory is of another version").await;
    let all = artifacts();
    let lost: Vec<&str> = all.iter().map(|(path, _)| path.as_str()).collect();
    operator.has_all_but(&lost).await;
}

#[tokio::test]
async fn a_damaged_ring_is_made_again() {
    let mut operator = Operator::with_data().await;
    operator.rot("RING", 20);
    operator.follow("RING, IDENTITY or TOMBSTONES is damaged").await;
    operator.has_all_but(&[]).await;
}

#[test]
fn numbers_and_widths_do_not_matter_and_words_do() {
    let text = "LENGTH     ON DISK\n 58.9KiB   16MiB of b32a7ce58c066b5a17a5b1db167a31c0\n";
    assert_eq!(normal(text), ["LENGTH ON DISK", "0 0 of 0"]);
    assert_eq!(normal("Sat, 21 Nov 2026 20:13:16 GMT, 5 s"), ["DATE, 0 s"]);
    assert!(same("...\nb 1\n...\nd", "a\nb 2\nc\nc\nd\n"));
    assert!(same("a", "a\n") && same("...\na", "a"));
    assert!(
        !same("a", "a\nb") && !same("a\nb", "a") && !same("...\na", "b") && !same("a\n...\nb", "a")
    );
}
