//! `kura dev`: a mesh on this machine, each node a process of its own, for as long as this one lives.
//!
//! 1. catch signals, choose a directory and ports, and check what the nodes would be told
//! 2. start all nodes: each has to know the ports of the others, so these are chosen before
//! 3. wait until all are ready, and say so
//! 4. on a signal close the pipes that the nodes watch, so that they drain, and kill what is left
//!
//! The pipes are closed by the system as well, when this process is killed. Nodes are in process
//! groups of their own, so that Ctrl-C reaches this process only.

mod mesh;
mod node;
mod text;

use std::{
    ffi::{OsStr, OsString},
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::runtime::Builder;

use self::{
    mesh::{Mesh, Stops},
    node::{Place, flags},
};
use crate::{complain, exit::Exit, settings::Settings, settings_are_bad};

/// Nodes that one machine is asked to run. More would mostly compete for its cores.
pub(crate) const NODES_MAX: u16 = 9;

/// What somebody wants to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many nodes.
    pub(crate) nodes: u16,
    /// Where the data stays; none if it goes with the mesh.
    pub(crate) directory: Option<PathBuf>,
    /// The port of the first node; 0 for free ones.
    pub(crate) port: u16,
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the directory {} cannot be made: {cause}", path.display())]
    Directory { path: PathBuf, cause: io::Error },
    #[error("there are no free ports on loopback: {0}")]
    Ports(io::Error),
    #[error("the program cannot find itself: {0}")]
    Program(io::Error),
    #[error("node-{number} cannot be started: {cause}")]
    Spawn { number: u16, cause: io::Error },
    #[error("the system gives no threads or file descriptors: {0}")]
    World(io::Error),
}

/// Runs a mesh until a signal, or until no node is left.
pub(crate) fn run(plan: &Plan, variables: &[(OsString, OsString)]) -> Exit {
    match prepare(plan, variables) {
        Ok(exit) => exit,
        Err(failure) => {
            complain(&format!("kura: {failure}\n"));
            Exit::Io
        }
    }
}

fn prepare(plan: &Plan, variables: &[(OsString, OsString)]) -> Result<Exit, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Failure::World)?;
    let stops = {
        let _inside = runtime.enter();
        Stops::catch().map_err(Failure::World)?
    };
    let home = Home::make(plan.directory.as_deref())?;
    let places = places(plan, home.path()).map_err(Failure::Ports)?;
    let is_set = |name: &str| {
        variables.iter().any(|(set, value)| set == OsStr::new(name) && !value.is_empty())
    };
    let flags: Vec<_> = places.iter().map(|place| flags(place, &places, is_set)).collect();
    for flags in &flags {
        if let Err(problems) = Settings::load(None, variables, flags) {
            return Ok(settings_are_bad(&problems));
        }
    }
    let program = std::env::current_exe().map_err(Failure::Program)?;
    let exit = runtime.block_on(async {
        let mut mesh = Mesh::default();
        for (place, flags) in places.iter().zip(&flags) {
            let started = mesh.start(&program, place, flags);
            started.map_err(|cause| Failure::Spawn { number: place.number, cause })?;
        }
        Ok(mesh.live(&places, &home, stops).await)
    })?;
    home.leave();
    Ok(exit)
}

/// The directory of the mesh.
enum Home {
    /// It stays.
    Kept(PathBuf),
    /// It goes, also when this process panics.
    Temporary(TempDir),
}

impl Home {
    fn make(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            Some(path) => {
                let failed = |cause| Failure::Directory { path: path.to_owned(), cause };
                std::fs::create_dir_all(path).map_err(failed)?;
                Ok(Self::Kept(path.to_owned()))
            }
            None => {
                let made = tempfile::Builder::new().prefix("kura-dev-").tempdir();
                let path = std::env::temp_dir();
                made.map(Self::Temporary).map_err(|cause| Failure::Directory { path, cause })
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }

    /// Removes what is not to be kept.
    fn leave(self) {
        match self {
            Self::Kept(_) => {}
            Self::Temporary(directory) => {
                let path = directory.path().to_owned();
                if let Err(error) = directory.close() {
                    complain(&format!("kura: {} cannot be removed: {error}\n", path.display()));
                }
            }
        }
    }
}

/// Where each node lives. A port can be taken by somebody else before its node has it; then that node
/// ends and says so.
fn places(plan: &Plan, directory: &Path) -> io::Result<Vec<Place>> {
    // All are held until all are chosen, so that no two are the same.
    let mut held = Vec::new();
    let mut choose = |preferred: u16| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, preferred))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        io::Result::Ok(port)
    };
    let disk_bytes = node::disk_bytes(directory);
    (0..plan.nodes)
        .map(|place| {
            let preferred = if plan.port == 0 { None } else { plan.port.checked_add(place) };
            Ok(Place {
                number: place + 1,
                directory: directory.join(format!("node-{}", place + 1)),
                port: choose(preferred.unwrap_or(0))?,
                internal_port: choose(0)?,
                capacity_bytes: node::capacity_bytes(disk_bytes, plan.nodes),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings::Key;

    fn plan(nodes: u16, port: u16) -> Plan {
        Plan { nodes, directory: None, port }
    }

    #[test]
    fn no_two_nodes_share_a_port_or_a_directory() {
        // The first is taken, so that the first node has to give way.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let places = places(&plan(NODES_MAX, port), Path::new("/data")).unwrap();
        let ports: BTreeSet<u16> =
            places.iter().flat_map(|place| [place.port, place.internal_port]).collect();
        assert_eq!(ports.len(), 2 * usize::from(NODES_MAX));
        assert!(!ports.contains(&port) && !ports.contains(&0));
        let directories: BTreeSet<_> = places.iter().map(|place| &place.directory).collect();
        assert_eq!(directories.len(), usize::from(NODES_MAX));
    }

    #[test]
    fn nodes_are_told_of_each_other_and_variables_win_where_they_may() {
        let places = places(&plan(3, 0), Path::new("/data")).unwrap();
        let peers: Vec<_> =
            places.iter().map(|place| format!("127.0.0.1:{}", place.internal_port)).collect();
        for place in &places {
            let given = flags(place, &places, |_| false);
            let config = Settings::load(None, &[], &given).unwrap().node_config();
            assert_eq!(config.listen.port(), place.port);
            let plane = config.peers.unwrap();
            assert_eq!(plane.listen.port(), place.internal_port);
            assert!(plane.listen.ip().is_loopback() && config.listen.ip().is_loopback());
            assert_eq!(plane.peers, peers);

            let given = flags(place, &places, |name| name == "KURA_CAS_CAPACITY_BYTES");
            let variables = [("KURA_CAS_CAPACITY_BYTES".into(), "10MiB".into())];
            let config = Settings::load(None, &variables, &given).unwrap().node_config();
            assert_eq!(config.store.capacity_bytes, Some(10 << 20));
            assert!(given.iter().all(|(key, _)| *key != Key::Segment), "it follows the capacity");
        }
    }

    #[test]
    fn a_small_disk_is_shared_and_a_large_one_not_taken_up() {
        const GIB: u64 = 1 << 30;
        for (disk, nodes, capacity) in [
            (Some(1000 * GIB), 3, 10 * GIB),
            (Some(30 * GIB), 3, 5 * GIB),
            (Some(12 << 20), 3, 5 << 20),
            (None, 1, 10 * GIB),
        ] {
            assert_eq!(node::capacity_bytes(disk, nodes), capacity);
        }
    }
}
