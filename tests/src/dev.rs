//! A `kura dev` of one's own: started, read, stopped in every way, and never left behind.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    process, program,
    wait::{A_MOMENT, until},
};

/// How long a mesh may take to be ready on a machine that is busy with other things.
const READY_TIME_MAX: Duration = Duration::from_secs(60);

/// A running `kura dev`. Killed when it is dropped, and its nodes with it.
pub struct Dev {
    child: Child,
    /// Holds what it says, and the temporary directories that it makes.
    directory: TempDir,
    nodes: Vec<u32>,
}

impl Dev {
    /// Starts it with these flags, on free ports, and waits until it says that all are ready.
    pub async fn start(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let file =
            |name: &str| fs::File::create(directory.path().join(name)).expect("a file can be made");
        fs::create_dir(directory.path().join("tmp")).expect("there is room for a directory");
        let mut command = std::process::Command::new(program::kura());
        command
            .env_clear()
            .env("TMPDIR", directory.path().join("tmp"))
            // More than warnings, so that nodes have something to say when nobody listens any more.
            .env("KURA_LOG", "info")
            .args(["dev", "--port=0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"));
        let child = command.spawn().expect("kura can be started");
        let mut dev = Self { child, directory, nodes: Vec::new() };
        until("the mesh is ready", READY_TIME_MAX, async || {
            dev.assert_alive();
            dev.stdout().contains(" ready, after ").then_some(())
        })
        .await;
        dev.nodes = process::children(dev.child.id());
        dev
    }

    /// What it has printed.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has complained about, its nodes included.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    /// Where the nodes listen, as it prints them.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let said = self.stdout();
        let lines = said.lines().filter_map(|line| line.strip_prefix("  node-"));
        let urls = lines.filter_map(|line| line.split_once("http://"));
        urls.map(|(_, addr)| addr.parse().expect("a node has an address")).collect()
    }

    /// The process ids of the nodes, as they were when all were ready.
    #[must_use]
    pub fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    /// Waits until no node is left.
    pub async fn nodes_are_gone(&self) {
        until("the nodes are gone", A_MOMENT, async || {
            let left = self.nodes.iter().any(|pid| process::is_running(*pid));
            (!left).then_some(())
        })
        .await;
    }

    /// What lies where temporary directories are made.
    #[must_use]
    pub fn temporaries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.tmp()).expect("the directory is there");
        entries.map(|entry| entry.expect("it can be listed").path()).collect()
    }

    fn tmp(&self) -> PathBuf {
        Path::join(self.directory.path(), "tmp")
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        process::signal(self.child.id(), name);
    }

    /// Waits for it to end.
    pub async fn ended(&mut self) -> ExitStatus {
        until("kura dev ends", A_MOMENT, async || self.child.try_wait().expect("it is our child"))
            .await
    }

    /// Fails if it has ended.
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("it is our child");
        assert_eq!(ended, None, "kura dev should go on: {}", self.stderr());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Both fail only if the process is gone and has been waited for. Its nodes follow it.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- kura dev said:\n{}\n{}\n---", self.stdout(), self.stderr());
        }
    }
}
