//! The other engine: a program of its own, because it needs a build of its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;

use crate::Failure;

/// What the nodes of a run run on.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Engine {
    /// The simulator's own world: exact links, every scenario.
    #[default]
    Own,
    /// turmoil: another executor and another TCP, small forms of some scenarios.
    Turmoil,
}

/// The program, and how it comes to be.
const PROGRAM: &str = "turmoil/debug/kura-sim-turmoil";
const BUILD: &str = "RUSTFLAGS=\"--cfg tokio_unstable\" CARGO_TARGET_DIR=target/turmoil \\\n    \
                     cargo build --manifest-path sim/turmoil/Cargo.toml";

/// Hands a run over to the twin. `own` says which arguments were given that it does not know.
pub(crate) fn run(
    scenario: &str,
    seed: u64,
    (json, twice): (bool, bool),
    own: &[(&str, bool)],
) -> Result<u8, Failure> {
    if let Some((flag, _)) = own.iter().find(|(_, given)| *given) {
        return Err(Failure::Usage(format!("{flag} has no meaning for --engine turmoil")));
    }
    let unbuilt =
        || Failure::Usage(format!("the turmoil twin is not built; build it with\n    {BUILD}"));
    let program = program().ok_or_else(unbuilt)?;
    let mut command = Command::new(&program);
    command.args(["run", scenario, "--seed", &seed.to_string()]);
    command.args(json.then_some("--json")).args(twice.then_some("--twice"));
    let name = program.display().to_string();
    let status = command.status().map_err(|error| Failure::Io(name.clone(), error))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.ok_or_else(|| Failure::Usage(format!("{name} was ended: {status}")))
}

/// The twin beside this program: `target/PROFILE/kura-sim` and `target/turmoil`.
fn program() -> Option<PathBuf> {
    let target = env::current_exe().ok()?.ancestors().nth(2).map(Path::to_owned)?;
    Some(target.join(PROGRAM)).filter(|program| program.is_file())
}
