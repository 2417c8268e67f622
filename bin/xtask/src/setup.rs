//! What the tests need besides Rust: installed where we may, named where we may not.

use std::{env, process::Command, time::Duration};

use crate::{failure::Failure, process, report, workspace::Workspace};

/// A program that some step calls.
struct Need {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "cc", package: "gcc", purpose: "the C code that ccache caches" },
    Need { program: "git", package: "git", purpose: "applying the patches of mutants" },
    Need { program: "ccache", package: "ccache", purpose: "a real client" },
    Need { program: "mkfs.btrfs", package: "btrfs-progs", purpose: "a disk with a quota" },
];

/// Far above what asking a program for its version takes.
const ASK_TIME_MAX: Duration = Duration::from_secs(60);

/// Installs what is missing, or says what to install.
///
/// # Errors
///
/// If something is missing that may not or cannot be installed.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    components(workspace)?;
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !on_path(need.program)).collect();
    if missing.is_empty() {
        report::line("nothing is missing");
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let name = |need: &&Need| format!("{} ({})", need.program, need.purpose);
    let names: Vec<String> = missing.iter().map(name).collect();
    if !is_root()? || !on_path("apt-get") {
        return Err(Failure::Missing {
            missing: names.join(", "),
            command: format!("apt-get install --no-install-recommends {}", packages.join(" ")),
        });
    }
    report::line(&format!("installing {}", names.join(", ")));
    // The package lists of a fresh machine are empty or old, so the first try may fail.
    if install(&packages).is_err() {
        process::pass_through(Command::new("apt-get").args(["update", "--quiet"]))?;
        install(&packages)?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    process::pass_through(&mut command)
}

/// rustfmt and clippy come with Rust's default profile but not with its minimal one.
fn components(workspace: &Workspace) -> Result<(), Failure> {
    for (word, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let asked = process::catch(&mut workspace.cargo(&[word, "--version"]), ASK_TIME_MAX)?;
        if !asked.status.success() {
            return Err(Failure::Missing {
                missing: format!("cargo {word}"),
                command: format!("rustup component add {component}"),
            });
        }
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn is_root() -> Result<bool, Failure> {
    Ok(process::output(Command::new("id").arg("-u"), ASK_TIME_MAX)?.trim() == "0")
}
