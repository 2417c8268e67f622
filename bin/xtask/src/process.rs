//! Running other programs: passing their output through, or catching it under a time limit.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use crate::failure::Failure;

/// What a program left behind.
pub(crate) struct Caught {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote to its standard output.
    pub(crate) stdout: String,
    /// What it wrote to its standard error.
    pub(crate) stderr: String,
}

/// The command line as one would type it, the program without its directory.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = [program].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a program whose output goes straight to the terminal.
///
/// # Errors
///
/// If it cannot be started or ends with an error.
pub(crate) fn pass_through(command: &mut Command) -> Result<(), Failure> {
    let status =
        command.status().map_err(|source| Failure::Start { line: line(command), source })?;
    if status.success() { Ok(()) } else { Err(failed(command, status)) }
}

/// Runs a program to its end, however it ends, and catches what it prints.
///
/// # Errors
///
/// If it cannot be started, or is still running after `limit`; it is killed then.
pub(crate) fn catch(command: &mut Command, limit: Duration) -> Result<Caught, Failure> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Failure::Start { line: line(command), source })?;
    let deadline = Instant::now() + limit;
    let streams = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    match (text_before(deadline, &streams.0), text_before(deadline, &streams.1)) {
        (Some(stdout), Some(stderr)) => Ok(Caught { status: end(child, command)?, stdout, stderr }),
        (None, _) | (_, None) => {
            // If it died a moment ago there is nothing left to kill.
            drop(child.kill());
            end(child, command)?;
            Err(Failure::Stuck { line: line(command), limit })
        }
    }
}

/// Runs a program that must succeed, and gives what it printed.
///
/// # Errors
///
/// As [`catch`], and if it ends with an error.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String, Failure> {
    let caught = catch(command, limit)?;
    if caught.status.success() {
        Ok(caught.stdout)
    } else {
        crate::report::line(caught.stderr.trim_end());
        Err(failed(command, caught.status))
    }
}

/// The failure of a program that ended with `status`.
pub(crate) fn failed(command: &Command, status: ExitStatus) -> Failure {
    Failure::Command { line: line(command), status: status.to_string() }
}

fn end(mut child: Child, command: &Command) -> Result<ExitStatus, Failure> {
    child.wait().map_err(|source| Failure::Start { line: line(command), source })
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before an error is still worth showing.
            drop(stream.read_to_end(&mut bytes));
        }
        // Nobody listens any more once the time limit has passed.
        drop(sender.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    receiver
}

fn text_before(deadline: Instant, stream: &Receiver<String>) -> Option<String> {
    stream.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_and_the_status_are_caught() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo out; echo err >&2; exit 3"]);
        let caught = catch(&mut shell, Duration::from_secs(60)).unwrap();
        assert_eq!((caught.stdout.as_str(), caught.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(caught.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let mut sleeper = Command::new("sleep");
        sleeper.arg("600");
        let outcome = catch(&mut sleeper, Duration::from_millis(50));
        assert!(matches!(outcome, Err(Failure::Stuck { .. })));
    }
}
