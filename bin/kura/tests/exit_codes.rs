//! The program itself, as far as no node is needed: what it prints where, and how it ends.

use std::{
    os::unix::fs::MetadataExt,
    process::{Command, Output},
};

/// Runs `kura` with nothing in its environment but `variables`.
fn kura(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kura"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().expect("the program can be run")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("what it prints is text")
}

#[test]
fn a_command_line_that_cannot_be_understood_ends_with_64() {
    for arguments in [&["sevre"][..], &["serve", "--prot", "1"], &[], &["config"]] {
        let output = kura(arguments, &[]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert!(text(&output.stderr).contains("Usage: kura"), "{arguments:?}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let output = kura(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains("kura"), "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn bad_settings_end_with_78_and_are_all_named() {
    let variables = [("KURA_PORT", "http"), ("KURA_IDLE_TIMEOUT_MS", "-1")];
    for command in [&["serve"][..], &["config", "show"]] {
        let arguments = [command, &["--durability", "maybe"]].concat();
        let output = kura(&arguments, &variables);
        assert_eq!(output.status.code(), Some(78));
        assert_eq!(text(&output.stdout), "");
        let lines: Vec<_> = text(&output.stderr).lines().collect();
        assert_eq!(lines[0], "kura: 4 problems with the settings:");
        assert!(lines[1].starts_with("  variable KURA_IDLE_TIMEOUT_MS: "), "{lines:?}");
        assert!(lines[2].starts_with("  variable KURA_PORT: "), "{lines:?}");
        assert!(lines[3].starts_with("  flag --durability: "), "{lines:?}");
        assert!(lines[4].starts_with("  node.data_dir is not set"), "{lines:?}");
        assert_eq!(lines.len(), 5);
    }
}

#[test]
fn the_example_printed_can_be_shown_with_where_each_value_comes_from() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kura.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, kura(&["config", "example"], &[]).stdout).unwrap();

    let variables = [("KURA_LOG", "debug"), ("KURA_LOGG", "x")];
    let output = kura(&["config", "show", "--config", file, "--port", "0"], &variables);
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("data_dir = \"/var/lib/kura\"").contains(&format!("  # {file}:")), "{shown}");
    assert!(line("port = 0").ends_with("  # flag --port"), "{shown}");
    assert!(line("filter = \"debug\"").ends_with("  # variable KURA_LOG"), "{shown}");
    assert!(line("idle_timeout = \"30s\"").ends_with("  # default"), "{shown}");
    assert!(text(&output.stderr).contains("variable KURA_LOGG is not a setting"), "{output:?}");
}

#[test]
fn a_data_directory_that_cannot_be_made_ends_with_74() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("data");
    let output = kura(&["serve", "--port", "0", "--data-dir", below.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(74));
    let said = text(&output.stderr);
    let expected = format!(
        "kura: the data directory {} cannot be made; make it for this user, or choose another: ",
        below.display()
    );
    assert!(said.starts_with(&expected), "{said}");
}

/// Two directories on different file systems, if this machine has such a pair to write to.
fn two_file_systems() -> Option<(tempfile::TempDir, tempfile::TempDir)> {
    let here = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).ok()?;
    let there = tempfile::tempdir_in("/dev/shm").ok()?;
    let device = |dir: &tempfile::TempDir| dir.path().metadata().map(|it| it.dev()).ok();
    (device(&here)? != device(&there)?).then_some((here, there))
}

#[test]
fn staging_on_another_file_system_is_refused_with_78_and_leaves_nothing() {
    let Some((data, staging)) = two_file_systems() else {
        eprintln!("skipped: no two file systems to write to");
        return;
    };
    let (data, there) = (data.path().to_str().unwrap(), staging.path().to_str().unwrap());
    let variables = [("KURA_DATA_DIR", data), ("KURA_TMP_DIR", there), ("KURA_PORT", "0")];
    let output = kura(&["serve"], &variables);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = text(&output.stderr);
    for part in [there, data, "variable KURA_TMP_DIR", "staging.other_filesystem = true"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(staging.path().read_dir().unwrap().count(), 0);
}
