//! What the tests need besides Rust: installed where we may, named where we may not.

use std::{env, ffi::OsStr, path::Path, process::Command, time::Duration};

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

/// Where an administrator's programs lie. A user's PATH need not name them.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Far above what asking a program for its version takes.
const ASK_TIME_MAX: Duration = Duration::from_secs(60);

/// Installs what is missing, or says what to install.
///
/// # Errors
///
/// If something is missing that may not or cannot be installed.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    components(workspace)?;
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !is_installed(need.program)).collect();
    if missing.is_empty() {
        report::line("nothing is missing");
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let name = |need: &&Need| format!("{} ({})", need.program, need.purpose);
    let names: Vec<String> = missing.iter().map(name).collect();
    if !is_root()? || !is_installed("apt-get") {
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

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    lies_in(&path, program, Path::is_file)
}

/// Whether a program is in a directory of `path`, or in one of the system.
fn lies_in(path: &OsStr, program: &str, is_file: impl Fn(&Path) -> bool) -> bool {
    let system = SYSTEM_DIRECTORIES.map(Into::into);
    env::split_paths(path).chain(system).any(|directory| is_file(&directory.join(program)))
}

fn is_root() -> Result<bool, Failure> {
    Ok(process::output(Command::new("id").arg("-u"), ASK_TIME_MAX)?.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_the_system_is_found_whatever_the_path_names() {
        let finds = |path: &str, at: &str| {
            lies_in(OsStr::new(path), "mkfs.btrfs", |file| file == Path::new(at))
        };
        assert!(finds("/usr/bin:/opt/bin", "/opt/bin/mkfs.btrfs"));
        assert!(finds("/usr/bin", "/usr/sbin/mkfs.btrfs"));
        assert!(finds("", "/sbin/mkfs.btrfs"));
        assert!(!finds("/usr/bin", "/opt/bin/mkfs.btrfs"));
        assert!(!finds("/usr/bin", "/usr/sbin/mkfs.ext4"));
    }
}
