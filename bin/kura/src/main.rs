//! `kura`: runs a node or a mesh of them, asks how nodes are, looks at their data and repairs it, and
//! prints settings. The only place that reads arguments and the environment; both are handed on as
//! plain data.

mod ask;
mod cli;
mod dev;
mod exit;
mod inspect;
mod logging;
mod scrub;
mod serve;
mod settings;
mod signals;
mod staging;
mod status;
mod verify;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use crate::{
    cli::{GivenSettings, Invocation},
    exit::Exit,
    serve::World,
    settings::{Problem, Settings, page, render},
};

fn main() -> ExitCode {
    // What a panic has to say, its hook has said.
    let exit = std::panic::catch_unwind(start).unwrap_or(Exit::Internal);
    ExitCode::from(exit.code())
}

fn start() -> Exit {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    // A node hears signals before it does anything else. Other commands just end by them.
    let world = arguments.get(1).is_some_and(|word| word == cli::SERVE).then(World::begin);
    match cli::parse(arguments) {
        Ok(Invocation::Serve { given, exit_with_parent }) => match load(&given, &variables) {
            Ok(settings) => {
                serve::run(world.unwrap_or_else(World::begin), &settings, exit_with_parent)
            }
            Err(exit) => exit,
        },
        Ok(Invocation::Dev(plan)) => dev::run(&plan, &variables),
        Ok(Invocation::Status(question)) => status::run(&question),
        Ok(Invocation::Scrub(order)) => scrub::run(&order),
        Ok(Invocation::Verify { given, json, repair }) => match load(&given, &variables) {
            Ok(settings) => verify::run(&settings, json, repair),
            Err(exit) => exit,
        },
        Ok(Invocation::Inspect { given, subject, json }) => match load(&given, &variables) {
            Ok(settings) => inspect::run(&settings, &subject, json),
            Err(exit) => exit,
        },
        Ok(Invocation::ConfigShow(given)) => match load(&given, &variables) {
            Ok(settings) => show(&settings),
            Err(exit) => exit,
        },
        Ok(Invocation::ConfigExample) => print(&render::example()),
        Ok(Invocation::ConfigDocs) => print(&page::page()),
        Err(error) => not_understood(&error),
    }
}

/// Understands the settings, or says on standard error all that is wrong with them.
fn load(given: &GivenSettings, variables: &[(OsString, OsString)]) -> Result<Settings, Exit> {
    let loaded = Settings::load(given.file.as_deref(), variables, &given.flags);
    loaded.map_err(|problems| settings_are_bad(&problems))
}

/// Says on standard error all that is wrong with settings.
pub(crate) fn settings_are_bad(problems: &[Problem]) -> Exit {
    let lines: String = problems.iter().map(|problem| format!("  {problem}\n")).collect();
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    complain(&format!("kura: {count} {noun} with the settings:\n{lines}"));
    Exit::Config
}

fn show(settings: &Settings) -> Exit {
    for warning in settings.warnings() {
        complain(&format!("kura: {warning}\n"));
    }
    print(&render::effective(settings))
}

/// Prints help, which somebody asked for, or what is wrong with the command line.
fn not_understood(error: &clap::Error) -> Exit {
    match error.print() {
        Ok(()) if error.use_stderr() => Exit::Usage,
        Ok(()) => Exit::Clean,
        Err(_) => Exit::Io,
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Exit {
    try_print(text).err().unwrap_or(Exit::Clean)
}

/// Writes to standard output.
///
/// # Errors
///
/// How to end, because nothing more can be written.
pub(crate) fn try_print(text: &str) -> Result<(), Exit> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Exit::Clean),
        Err(error) => {
            complain(&format!("kura: standard output cannot be written: {error}\n"));
            Err(Exit::Io)
        }
    }
}

/// Writes to standard error. Where that fails there is nobody left to tell.
pub(crate) fn complain(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}
