//! A `kura serve` of one's own: started, watched, stopped in every way, and never left behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{
    client::{Answer, Client},
    process, program,
    wait::{A_MOMENT, until, within},
};

/// A ring that is small enough for any disk and takes bodies of up to about 16 MiB.
pub const SMALL: [&str; 2] = ["--cas-capacity=160MiB", "--segment=16MiB"];

/// What a failing test shows of a node's log.
const LOG_LINES_SHOWN: usize = 60;

/// Loopback, and a port that the system chooses.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where a node lives; outlasts the processes that run in it.
pub struct Home {
    data_dir: PathBuf,
    /// Where its nodes listen; port 0 is one that the system chooses for each.
    listen: SocketAddr,
    /// Holds the logs, and the data directory unless that lies elsewhere.
    directory: TempDir,
}

impl Default for Home {
    fn default() -> Self {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        Self { data_dir: directory.path().join("data"), listen: ANYWHERE, directory }
    }
}

impl Home {
    /// A home whose nodes all listen on `addr`.
    #[must_use]
    pub fn at(addr: SocketAddr) -> Self {
        Self { listen: addr, ..Self::default() }
    }

    /// A home whose data directory is `data_dir`.
    #[must_use]
    pub fn with_data_in(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), ..Self::default() }
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A place for files that belong to no node.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// How many staging files there are.
    #[must_use]
    pub fn staging_files(&self) -> usize {
        let entries = fs::read_dir(self.data_dir.join("tmp"));
        entries.expect("the node has made its staging directory").count()
    }

    /// The command that runs a node here.
    #[must_use]
    pub fn command(&self, flags: &[&str]) -> Command {
        let (ip, port) = (self.listen.ip(), self.listen.port());
        let mut command = Command::new(program::kura());
        command
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .arg("serve")
            .args([&format!("--bind={ip}"), &format!("--port={port}"), "--data-dir"])
            .arg(&self.data_dir)
            .args(flags)
            .stdin(Stdio::null());
        command
    }

    /// Starts a node and waits for nothing.
    #[must_use]
    pub fn spawn(&self, flags: &[&str]) -> Kura {
        let log_path = self.path("kura.log");
        let log = fs::File::options().create(true).append(true).open(&log_path);
        let mut command = self.command(flags);
        command.stdout(Stdio::piped()).stderr(log.expect("the log can be written"));
        let mut child = command.spawn().expect("kura can be started");
        let said = Some(first_line(&mut child));
        Kura { child, addr: self.listen, log_path, said }
    }

    /// Starts a node and waits until it listens.
    pub async fn launch(&self, flags: &[&str]) -> Kura {
        let mut node = self.spawn(flags);
        node.listens().await;
        node
    }

    /// Starts a node and waits until it is ready.
    pub async fn start(&self, flags: &[&str]) -> Kura {
        let node = self.launch(flags).await;
        node.ready().await;
        node
    }

    /// Starts a node with [`SMALL`] and more flags, and waits until it is ready.
    pub async fn start_small(&self, flags: &[&str]) -> Kura {
        self.start(&[&SMALL, flags].concat()).await
    }
}

/// Runs `kura` with these arguments and nothing in its environment, to its end.
pub async fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(program::kura());
    command.env_clear().args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = within("kura ends by itself", A_MOMENT, output).await;
    output.expect("nothing panics there").expect("kura can be started")
}

/// The first line that the process prints; nothing if it prints none.
fn first_line(child: &mut Child) -> oneshot::Receiver<String> {
    let (sender, receiver) = oneshot::channel();
    let stdout = child.stdout.take().expect("its output is piped");
    std::thread::spawn(move || {
        let mut line = String::new();
        if BufReader::new(stdout).read_line(&mut line).is_ok() {
            // Nobody waits any more if the test has failed meanwhile.
            sender.send(line).ok();
        }
    });
    receiver
}

/// A running `kura serve`. Killed when it is dropped; a test that fails shows its log.
pub struct Kura {
    child: Child,
    /// Known once it listens.
    addr: SocketAddr,
    log_path: PathBuf,
    said: Option<oneshot::Receiver<String>>,
}

impl Kura {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it and its predecessors in the same home have logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log_path).unwrap_or_default()
    }

    /// Waits until it says where it listens.
    async fn listens(&mut self) {
        let said = self.said.take().expect("it says so once");
        let line = within("the line that says where kura listens", A_MOMENT, said).await;
        let line = line.unwrap_or_default();
        match line.trim_end().strip_prefix("listening on http://").map(str::parse) {
            Some(Ok(addr)) => self.addr = addr,
            Some(Err(_)) | None => panic!("kura said {line:?} and not where it listens"),
        }
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        until("the node is ready", A_MOMENT, async || {
            (self.get("/ready").await.status == 200).then_some(())
        })
        .await;
    }

    /// Asks for a path, on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        Client::connect(self.addr).await.get(path).await
    }

    /// Stores a body, on a connection of its own.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        Client::connect(self.addr).await.put(path, body).await
    }

    /// A page of JSON.
    pub async fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_slice(&self.get(path).await.body).expect("the page is JSON")
    }

    /// What `/status` says of staging, in bytes.
    pub async fn staging_bytes(&self) -> u64 {
        let status = self.json("/status").await;
        status["staging"]["in_use_bytes"].as_u64().expect("/status tells of staging")
    }

    /// The value of one series of `/metrics`, by its whole name with labels.
    pub async fn metric(&self, series: &str) -> u64 {
        let text = self.get("/metrics").await.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {series} in\n{text}"));
        value.parse().expect("a counter is a whole number")
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        process::signal(self.child.id(), "TERM");
    }

    /// Sends SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("it has not been waited for");
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        until("kura ends", limit, async || self.child.try_wait().expect("it is our child")).await
    }

    /// Sends SIGTERM and waits for a clean end.
    pub async fn stop(mut self) {
        self.terminate();
        let status = self.ended(A_MOMENT).await;
        assert_eq!(status.code(), Some(0), "a drain ends with 0");
    }

    /// Fails if the process has ended.
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("it is our child");
        assert_eq!(ended, None, "kura should go on");
    }
}

impl Drop for Kura {
    fn drop(&mut self) {
        // Both fail only if the process is gone and has been waited for.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- the end of kura's log:\n{}\n---", shown.join("\n"));
        }
    }
}
