//! Who may depend on whom, read from the manifests.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::{no_findings, tree};

/// Each package of the workspace, and those of ours that it may build on.
const EDGES: &[(&str, &[&str])] = &[
    ("kura-core", &[]),
    ("kura-env", &[]),
    ("kura-node", &["kura-core", "kura-env"]),
    ("kura-host", &["kura-env"]),
    ("fault-injection", &["kura-env"]),
    ("sim-engine", &["kura-env"]),
    ("sim-storage", &["kura-env"]),
    (
        "sim",
        &["kura-core", "kura-env", "kura-node", "fault-injection", "sim-engine", "sim-storage"],
    ),
    ("kura", &["kura-core", "kura-env", "kura-node", "kura-host"]),
    ("kura-sim", &["sim"]),
    ("xtask", &[]),
    (
        "kura-tests",
        &[
            "kura-core",
            "kura-env",
            "kura-node",
            "kura-host",
            "fault-injection",
            "sim",
            "sim-engine",
            "sim-storage",
        ],
    ),
];

/// Edges for a package's own tests alone: a wrapper is shown over a simulated device, a link over a simulated network.
const TEST_EDGES: &[(&str, &[&str])] = &[("fault-injection", &["sim-engine", "sim-storage"])];

/// What may stand in `kura-core`: nothing that reads a clock, draws a number, waits or logs.
const PURE: &[&str] =
    &["bytes", "crc32c", "httparse", "percent-encoding", "serde", "sha2", "siphasher", "thiserror"];

/// Crates that reach for the world, and the only packages that may name them.
const WORLDLY: &[(&str, &[&str])] = &[
    ("fjall", &["kura-host"]),
    ("getrandom", &["kura-host"]),
    ("libc", &["kura-host"]),
    ("memmap2", &["kura-host"]),
    ("rand", &[]),
    ("rand_chacha", &["kura-host", "sim", "sim-engine", "sim-storage"]),
    ("reqwest", &[]),
    ("rustix", &["kura", "kura-host"]),
    ("tempfile", &["kura", "kura-host", "kura-tests", "xtask"]),
    ("tracing-subscriber", &["kura"]),
];

/// Packages that run in the simulator, and so may take from tokio only what needs no runtime.
const SIMULATED: &[&str] =
    &["kura-core", "kura-env", "kura-node", "fault-injection", "sim", "sim-engine", "sim-storage"];
const RUNTIME_FREE: &[&str] = &["io-util", "macros", "sync"];

/// Features that bring a runtime in by the back door.
const SMUGGLED: &[(&str, &[&str])] = &[
    ("axum", &["default", "http1", "http2", "tokio"]),
    ("hyper-util", &["client-legacy", "client-pool", "client-proxy", "full", "server-graceful"]),
    ("tonic", &["channel", "default", "router", "server", "transport"]),
];

struct Package {
    name: String,
    manifest: Table,
}

/// The dependencies of a package by name, of the given kinds and of every platform.
impl Package {
    fn dependencies(&self, kinds: &[&str]) -> Vec<(String, Value)> {
        let platforms = self.manifest.get("target").and_then(Value::as_table);
        let places = platforms.into_iter().flat_map(Table::values).filter_map(Value::as_table);
        let mut found = Vec::new();
        for place in places.chain([&self.manifest]) {
            for kind in kinds {
                let table = place.get(*kind).and_then(Value::as_table);
                found.extend(table.into_iter().flatten().map(|(n, v)| (n.clone(), v.clone())));
            }
        }
        found
    }

    fn all_dependencies(&self) -> Vec<(String, Value)> {
        self.dependencies(&["dependencies", "dev-dependencies", "build-dependencies"])
    }
}

fn packages() -> Vec<Package> {
    let root = tree::table("Cargo.toml");
    let members = root["workspace"]["members"].as_array().expect("the root lists its members");
    let members = members.iter().filter_map(Value::as_str);
    let read = |member: &str| {
        let manifest = tree::table(&format!("{member}/Cargo.toml"));
        let name = manifest["package"]["name"].as_str().expect("a package has a name").to_owned();
        Package { name, manifest }
    };
    members.map(read).collect()
}

/// The features that a package asks of a dependency, the workspace's share included.
fn features(name: &str, asked: &Value) -> BTreeSet<String> {
    let root = tree::table("Cargo.toml");
    let shared = root["workspace"]["dependencies"].get(name);
    let listed = |value: &Value| {
        let list = value.get("features").and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut features: BTreeSet<String> =
        shared.into_iter().chain([asked]).flat_map(listed).collect();
    let off = |value: &Value| value.get("default-features").and_then(Value::as_bool) == Some(false);
    if !shared.is_some_and(off) && !off(asked) {
        features.insert("default".to_owned());
    }
    features
}

/// The edges of a package, of the given kinds, that none of the tables allows.
fn forbidden(package: &Package, kinds: &[&str], tables: &[&[(&str, &[&str])]]) -> Vec<String> {
    let ours = |name: &str| EDGES.iter().any(|(package, _)| *package == name);
    let rows = tables.iter().copied().flatten().filter(|(name, _)| *name == package.name);
    let allowed: BTreeSet<&str> = rows.flat_map(|(_, row)| row.iter().copied()).collect();
    let names = package.dependencies(kinds).into_iter().map(|(name, _)| name);
    let forbidden = names.filter(|name| ours(name) && !allowed.contains(name.as_str()));
    forbidden.map(|name| format!("{} -> {name}", package.name)).collect()
}

#[test]
fn edges_between_packages_are_the_allowed_ones() {
    let mut findings = Vec::new();
    for package in packages() {
        if !EDGES.iter().any(|(name, _)| *name == package.name) {
            findings.push(format!("{} has no row in the table of edges", package.name));
        }
        findings.extend(forbidden(&package, &["dependencies", "build-dependencies"], &[EDGES]));
        findings.extend(forbidden(&package, &["dev-dependencies"], &[EDGES, TEST_EDGES]));
    }
    no_findings("edges that docs/architecture.md does not allow:", &findings);
}

#[test]
fn the_production_binary_holds_no_simulation() {
    let packages: BTreeMap<String, Package> =
        packages().into_iter().map(|package| (package.name.clone(), package)).collect();
    let mut pending = vec!["kura".to_owned()];
    let mut reached = BTreeSet::new();
    while let Some(name) = pending.pop() {
        let Some(package) = packages.get(&name) else { continue };
        if reached.insert(name) {
            let kinds = ["dependencies", "build-dependencies"];
            pending.extend(package.dependencies(&kinds).into_iter().map(|(name, _)| name));
        }
    }
    let node: BTreeSet<String> = ["kura", "kura-core", "kura-env", "kura-host", "kura-node"]
        .map(str::to_owned)
        .into_iter()
        .collect();
    assert_eq!(reached, node);
}

#[test]
fn core_builds_on_pure_crates_only() {
    let packages = packages();
    let core = packages.iter().find(|package| package.name == "kura-core").expect("there is one");
    let used = core.dependencies(&["dependencies", "build-dependencies"]);
    let impure = used.iter().map(|(name, _)| name.clone()).filter(|n| !PURE.contains(&n.as_str()));
    no_findings("kura-core can do nothing but decide:", &impure.collect::<Vec<_>>());
}

#[test]
fn crates_that_reach_for_the_world_stay_where_they_belong() {
    let worldly: BTreeMap<&str, &[&str]> = WORLDLY.iter().copied().collect();
    let mut findings = Vec::new();
    for package in packages() {
        for (name, _) in package.all_dependencies() {
            let homes = worldly.get(name.as_str());
            if homes.is_some_and(|homes| !homes.contains(&package.name.as_str())) {
                findings.push(format!("{} -> {name}", package.name));
            }
        }
    }
    no_findings("the world is reached through the seams:", &findings);
}

#[test]
fn what_is_simulated_brings_no_runtime_along() {
    let smuggled: BTreeMap<&str, &[&str]> = SMUGGLED.iter().copied().collect();
    let mut findings = Vec::new();
    for package in packages().iter().filter(|p| SIMULATED.contains(&p.name.as_str())) {
        for (name, asked) in package.all_dependencies() {
            for feature in features(&name, &asked) {
                let forbidden = if name == "tokio" {
                    !RUNTIME_FREE.contains(&feature.as_str())
                } else {
                    smuggled.get(name.as_str()).is_some_and(|f| f.contains(&feature.as_str()))
                };
                if forbidden {
                    findings.push(format!("{} asks {name} for {feature}", package.name));
                }
            }
        }
    }
    no_findings("these features need tokio's runtime:", &findings);
}

#[test]
fn versions_are_stated_once_and_pinned() {
    let mut findings = Vec::new();
    for package in packages() {
        // The proof of mutants gives its copy of the workspace another version, in one place.
        if package.manifest["package"]["version"].get("workspace").is_none() {
            findings.push(format!("{}: its version is not the workspace's", package.name));
        }
        for (name, asked) in package.all_dependencies() {
            if asked.get("workspace").and_then(Value::as_bool) != Some(true) {
                findings.push(format!("{}: {name} is not `workspace = true`", package.name));
            }
        }
    }
    let paths = tree::paths();
    if !paths.iter().any(|path| path == "Cargo.lock") {
        findings.push("Cargo.lock is ignored".to_owned());
    }
    let root = tree::table("Cargo.toml");
    let shared = root["workspace"]["dependencies"].as_table().expect("a table");
    for (name, value) in shared {
        let version = value.as_str().or_else(|| value.get("version").and_then(Value::as_str));
        let ours = value.get("path").is_some();
        if !ours && version.is_none_or(|version| version.contains('*')) {
            findings.push(format!("{name} has no version"));
        }
    }
    no_findings("a build of today must be a build of tomorrow:", &findings);
}

#[test]
fn all_packages_share_the_lints() {
    let root = tree::table("Cargo.toml");
    let shared = root["workspace"]["lints"].as_table().expect("a table").clone();
    let mut in_host = shared.clone();
    in_host["rust"]["unsafe_code"] = Value::from("allow");
    let mut findings = Vec::new();
    for package in packages() {
        let lints = package.manifest.get("lints").and_then(Value::as_table);
        let inherited = lints.and_then(|lints| lints.get("workspace")).is_some();
        // A package can inherit the table or write its own; one entry alone cannot be replaced.
        let equal = package.name == "kura-host" && lints == Some(&in_host);
        if !inherited && !equal {
            findings.push(package.name);
        }
    }
    no_findings("the lints differ from the workspace's (in kura-host, by unsafe_code):", &findings);
}

#[test]
fn exceptions_from_the_strict_lints_are_the_known_ones() {
    let places = [
        "bin/clippy.toml",
        "clippy.toml",
        "kura/host/clippy.toml",
        "sim/turmoil/clippy.toml",
        "tests/clippy.toml",
    ];
    let found: Vec<String> =
        tree::paths().into_iter().filter(|path| path.ends_with("clippy.toml")).collect();
    assert_eq!(found, places);

    let thresholds = |path: &str| {
        let table = tree::table(path).into_iter();
        table.filter(|(key, _)| !key.starts_with("disallowed")).collect::<Vec<_>>()
    };
    for place in places {
        assert_eq!(thresholds(place), thresholds("clippy.toml"), "{place}");
    }
}

#[test]
fn the_strict_lints_name_what_the_seams_replace() {
    let lints = tree::text("clippy.toml");
    let paths = [
        "std::collections::HashMap",
        "std::collections::HashSet",
        "std::time::Instant",
        "std::time::SystemTime",
        "std::thread::spawn",
        "std::thread::sleep",
        "std::env::var",
        "std::fs::read",
        "std::fs::write",
        "std::fs::File",
        "tokio::spawn",
        "tokio::time::sleep",
        "tokio::time::timeout",
        "tokio::net::TcpStream",
        "tokio::fs::File",
        "tokio::task::spawn_blocking",
        "rand::rng",
    ];
    for path in paths {
        assert!(lints.contains(&format!("path = \"{path}\"")), "clippy.toml allows {path}");
    }
}
