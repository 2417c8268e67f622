//! Finding the `kura` to test, and building it where nobody has.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Where `cargo xtask test` says what it built.
const VARIABLE: &str = "KURA_BIN";

/// The program: the one that was named, or else one that is built now in the profile of whoever
/// asks.
pub(crate) fn kura() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| env::var_os(VARIABLE).map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let own = env::current_exe().expect("a running program has a path");
    // .../target/PROFILE/deps/NAME
    let directory = own.ancestors().nth(2).expect("cargo puts programs below its target directory");
    let name = directory.file_name().and_then(|name| name.to_str()).expect("a profile has a name");
    let profile = if name == "debug" { "dev" } else { name };
    let target = directory.parent().expect("a profile lies in a target directory");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "kura", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "kura does not compile; {VARIABLE} can name one that is there");
    directory.join("kura")
}
