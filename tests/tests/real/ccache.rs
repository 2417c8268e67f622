//! A real compiler cache: ccache compiles a C project against a node, in each of its layouts, and
//! through the death of the node in the middle of a build.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use kura_tests::{node::Home, proxy::Proxy, skip::skip, wait::within};
use tempfile::TempDir;

use crate::project;

/// How long a build of the project may take on a machine that is busy with other things.
const BUILD_TIME_MAX: Duration = Duration::from_secs(180);

/// Compilers at once.
const JOBS: usize = 2;

/// What ccache writes for each compilation: the result, and the manifest that leads to it.
pub(crate) const WRITES_PER_SOURCE: u64 = 2;

/// What ccache counts, by its own names.
type Counts = BTreeMap<String, u64>;

/// The project, and everything that its builds leave behind.
pub(crate) struct Workshop {
    directory: TempDir,
    sources: Vec<String>,
}

/// One build: what ccache counted and what the compiler, or the cache, gave.
pub(crate) struct Build {
    counts: Counts,
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
}

impl Build {
    fn count(&self, name: &str) -> u64 {
        *self.counts.get(name).unwrap_or_else(|| panic!("ccache does not count {name}"))
    }

    /// Fails unless ccache has counted exactly this.
    fn assert_counts(&self, what: &str, expected: &[(&str, u64)]) {
        let found: Vec<(&str, u64)> =
            expected.iter().map(|(name, _)| (*name, self.count(name))).collect();
        assert_eq!(found, expected, "{what}");
    }

    /// Fails unless nothing was found, and everything written.
    pub(crate) fn assert_all_written(&self) {
        let all = u64::try_from(self.objects.len()).unwrap();
        self.assert_counts(
            "the first build writes everything",
            &[
                ("cache_miss", all),
                ("remote_storage_write", WRITES_PER_SOURCE * all),
                ("remote_storage_hit", 0),
                ("remote_storage_error", 0),
                ("remote_storage_timeout", 0),
            ],
        );
    }

    /// Fails unless everything that `first` has made was found, and is the same.
    pub(crate) fn assert_all_found(&self, first: &Self) {
        let all = u64::try_from(self.objects.len()).unwrap();
        self.assert_counts(
            "a later build finds everything",
            &[
                ("cache_miss", 0),
                ("direct_cache_hit", all),
                ("remote_storage_hit", all),
                ("remote_storage_miss", 0),
                ("remote_storage_read_hit", WRITES_PER_SOURCE * all),
                ("remote_storage_read_miss", 0),
                ("remote_storage_error", 0),
                ("remote_storage_timeout", 0),
            ],
        );
        assert_eq!(self.objects, first.objects, "what was found is what was compiled");
    }
}

pub(crate) fn has_ccache() -> bool {
    Command::new("ccache").arg("--version").output().is_ok_and(|output| output.status.success())
}

pub(crate) fn storage(addr: SocketAddr, layout: &str) -> String {
    // ccache gives up on a connection after 100 ms, unless told otherwise.
    format!("http://{addr}/team|layout={layout}|connect-timeout=20000|operation-timeout=20000")
}

impl Workshop {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = project::write(directory.path());
        Self { directory, sources }
    }

    /// Compiles the first `count` sources with an empty local cache, so that whatever is found is
    /// found at the node.
    pub(crate) async fn build(&self, storage: &str, flag: &str, count: usize) -> Build {
        let local = tempfile::tempdir().unwrap();
        let objects = tempfile::tempdir().unwrap();
        let compiler = Compiler {
            project: self.directory.path().to_owned(),
            local: local.path().to_owned(),
            objects: objects.path().to_owned(),
            storage: storage.to_owned(),
            flag: flag.to_owned(),
        };
        let sources = self.sources[..count].to_vec();
        let work = tokio::task::spawn_blocking(move || compiler.build(&sources));
        within("the project is compiled", BUILD_TIME_MAX, work).await.unwrap()
    }
}

/// How one build calls ccache.
struct Compiler {
    project: PathBuf,
    local: PathBuf,
    objects: PathBuf,
    storage: String,
    flag: String,
}

impl Compiler {
    /// ccache with no settings but those given here.
    fn ccache(&self) -> Command {
        let mut command = Command::new("ccache");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .env("HOME", &self.local)
            .env("TMPDIR", &self.objects)
            .env("CCACHE_DIR", &self.local)
            .env("CCACHE_CONFIGPATH", self.local.join("none.conf"))
            .env("CCACHE_REMOTE_STORAGE", &self.storage)
            .current_dir(&self.project);
        command
    }

    fn compile(&self, source: &str) {
        let object = self.objects.join(source).with_extension("o");
        let mut command = self.ccache();
        command.args(["gcc", &self.flag, "-c", source, "-o"]).arg(object);
        let output = command.output().expect("ccache can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{source}: {said}");
    }

    fn build(&self, sources: &[String]) -> Build {
        std::thread::scope(|scope| {
            for job in 0..JOBS {
                let own = sources.iter().skip(job).step_by(JOBS);
                scope.spawn(move || own.for_each(|source| self.compile(source)));
            }
        });
        Build { counts: self.counts(), objects: objects(&self.objects, sources) }
    }

    fn counts(&self) -> Counts {
        let output = self.ccache().arg("--print-stats").output().expect("ccache can be started");
        let text = String::from_utf8(output.stdout).expect("statistics are text");
        let pair = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }
}

fn objects(directory: &Path, sources: &[String]) -> BTreeMap<String, Vec<u8>> {
    let read = |source: &String| {
        let object = fs::read(directory.join(source).with_extension("o"));
        (source.clone(), object.expect("the compiler has made it"))
    };
    sources.iter().map(read).collect()
}

/// Compiles twice, each time with an empty local cache: all written, then all found.
async fn twice(workshop: &Workshop, storage: &str, count: usize) {
    let first = workshop.build(storage, "-O1", count).await;
    first.assert_all_written();
    workshop.build(storage, "-O1", count).await.assert_all_found(&first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ccache_finds_at_the_node_all_that_it_stored_in_every_layout() {
    if !has_ccache() {
        let name = "ccache_finds_at_the_node_all_that_it_stored_in_every_layout";
        return skip(name, "ccache is not installed");
    }
    let home = Home::default();
    let node = home.start_small(&[]).await;
    let workshop = Workshop::new();
    twice(&workshop, &storage(node.addr(), "subdirs"), project::SOURCES).await;
    // Layouts name the same things differently, so these begin with nothing.
    twice(&workshop, &storage(node.addr(), "flat"), 6).await;
    twice(&workshop, &storage(node.addr(), "bazel"), 6).await;
    let stored = node.metric("kura_store_puts_total").await;
    assert_eq!(stored, WRITES_PER_SOURCE * u64::try_from(project::SOURCES + 6 + 6).unwrap());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_in_the_middle_of_a_build_serves_all_that_it_acknowledged() {
    if !has_ccache() {
        let name = "a_node_killed_in_the_middle_of_a_build_serves_all_that_it_acknowledged";
        return skip(name, "ccache is not installed");
    }
    let home = Home::default();
    let mut node = home.start_small(&[]).await;
    let proxy = Proxy::start(node.addr()).await;
    let workshop = Workshop::new();
    let storage = storage(proxy.addr(), "subdirs");
    twice(&workshop, &storage, project::SOURCES).await;
    let before = proxy.acknowledged().len();

    // A third build with another flag, so that it writes. The node dies twice on the way: once to come
    // back at once, and once to stay away until the build is over.
    let third = workshop.build(&storage, "-O2", project::SOURCES);
    let deaths = async {
        proxy.acknowledged_at_least(before + project::SOURCES / 4).await;
        node.kill();
        node = home.start_small(&[]).await;
        proxy.retarget(node.addr());
        proxy.acknowledged_at_least(before + project::SOURCES * 3 / 4).await;
        node.kill();
    };
    let (third, ()) =
        tokio::join!(third, within("writes are acknowledged", BUILD_TIME_MAX, deaths));
    third.assert_counts(
        "the third build finds nothing",
        &[("cache_miss", third.objects.len() as u64), ("remote_storage_hit", 0)],
    );
    assert!(proxy.unanswered() > 0, "the deaths came after the build");

    node = home.start_small(&[]).await;
    proxy.retarget(node.addr());
    let acknowledged = proxy.acknowledged();
    let sequences: BTreeSet<u64> = acknowledged.iter().map(|write| write.sequence).collect();
    assert_eq!(sequences.len(), acknowledged.len(), "no two changes have one place in the order");
    // The last acknowledged body counts where a key was written twice.
    let expected: BTreeMap<_, _> =
        acknowledged.iter().map(|write| (write.path.clone(), write.body.clone())).collect();
    for (path, body) in &expected {
        let answer = node.get(path).await;
        assert_eq!(answer.status, 200, "{path} was acknowledged and is gone");
        assert_eq!(answer.body, body, "{path} is not what was acknowledged");
    }

    let written: BTreeSet<&String> =
        acknowledged[before..].iter().map(|write| &write.path).collect();
    let fourth = workshop.build(&storage, "-O2", project::SOURCES).await;
    let hits = fourth.count("remote_storage_read_hit");
    assert!(hits >= written.len() as u64, "{hits} of {} acknowledged are hit", written.len());
    assert_eq!(fourth.count("remote_storage_error"), 0);
    assert_eq!(fourth.objects, third.objects, "what was found is what was compiled");
    node.stop().await;
}
