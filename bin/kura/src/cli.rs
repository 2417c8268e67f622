//! The command line: its grammar, with one flag for each setting of the table.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{PathBufValueParser, StringValueParser},
};

use crate::{
    exit,
    settings::{Key, SETTINGS, render},
};

/// The name of the command that runs a node.
pub(crate) const SERVE: &str = "serve";

const CONFIG: &str = "config";

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// Run a node.
    Serve(GivenSettings),
    /// Print an example file.
    ConfigExample,
    /// Print what is in force.
    ConfigShow(GivenSettings),
    /// Print the page about settings.
    ConfigDocs,
}

/// What the command line says about settings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GivenSettings {
    /// The file.
    pub(crate) file: Option<PathBuf>,
    /// The flags that were given.
    pub(crate) flags: Vec<(Key, String)>,
}

/// Understands the command line; the first argument is the name of the program.
///
/// # Errors
///
/// What clap says, which includes being asked for help or the version.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Invocation, clap::Error> {
    let mut grammar = grammar();
    let matches = grammar.try_get_matches_from_mut(arguments)?;
    let invocation = match matches.subcommand() {
        Some((SERVE, matches)) => Some(Invocation::Serve(given(matches))),
        Some((CONFIG, matches)) => match matches.subcommand() {
            Some(("example", _)) => Some(Invocation::ConfigExample),
            Some(("show", matches)) => Some(Invocation::ConfigShow(given(matches))),
            Some(("docs", _)) => Some(Invocation::ConfigDocs),
            _ => None,
        },
        _ => None,
    };
    let missing = clap::error::ErrorKind::MissingSubcommand;
    invocation.ok_or_else(|| grammar.error(missing, "a command is needed"))
}

fn grammar() -> Command {
    let config = Command::new(CONFIG)
        .about("Print settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("example").about("Print a file with every setting and its default"),
        )
        .subcommand(with_settings(
            Command::new("show").about("Print what is in force, and where each value comes from"),
        ))
        .subcommand(Command::new("docs").about("Print what every setting means, as Markdown"));
    Command::new("kura")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A build cache next to the builds that need it")
        .after_help(exit_codes())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(
            Command::new(SERVE)
                .about("Run a node")
                .long_about(
                    "Run a node until SIGTERM, SIGINT or SIGUSR1, and then finish what is in flight. \
                     A second SIGTERM or SIGINT stops at once.\n\nPrints one line to standard \
                     output when it listens: `listening on http://ADDRESS`. The log goes to \
                     standard error.",
                )
                .after_help(exit_codes()),
        ))
        .subcommand(config)
}

fn with_settings(command: Command) -> Command {
    let file = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .help("Read settings from this TOML file; variables and flags win over it");
    let flags = SETTINGS.iter().map(|setting| {
        Arg::new(setting.flag)
            .long(setting.flag)
            .value_name(setting.kind.placeholder())
            .action(ArgAction::Set)
            // What is wrong with a value is reported together with everything else that is wrong.
            .value_parser(StringValueParser::new())
            .allow_hyphen_values(true)
            .help(render::flag_help(setting))
    });
    command.arg(file).args(flags)
}

fn given(matches: &ArgMatches) -> GivenSettings {
    let flags = SETTINGS.iter().filter_map(|setting| {
        matches.get_one::<String>(setting.flag).map(|value| (setting.key, value.clone()))
    });
    GivenSettings { file: matches.get_one(CONFIG).cloned(), flags: flags.collect() }
}

fn exit_codes() -> String {
    let lines: Vec<_> =
        exit::TABLE.iter().map(|(code, meaning)| format!("  {code:<8} {meaning}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Invocation, clap::Error> {
        parse(words.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn each_command_is_recognised() {
        let none = || GivenSettings { file: None, flags: vec![] };
        for (words, invocation) in [
            ("kura serve", Invocation::Serve(none())),
            ("kura config example", Invocation::ConfigExample),
            ("kura config show", Invocation::ConfigShow(none())),
            ("kura config docs", Invocation::ConfigDocs),
            (
                "kura serve --config a.toml --port 1 --cas-capacity=-5",
                Invocation::Serve(GivenSettings {
                    file: Some(PathBuf::from("a.toml")),
                    flags: vec![(Key::Port, "1".to_owned()), (Key::Capacity, "-5".to_owned())],
                }),
            ),
        ] {
            assert_eq!(parse_words(words).unwrap(), invocation, "{words}");
        }
    }

    #[test]
    fn what_is_not_a_command_is_refused() {
        use clap::error::ErrorKind;
        for (words, kind) in [
            ("kura sevre", ErrorKind::InvalidSubcommand),
            ("kura serve --prot 1", ErrorKind::UnknownArgument),
            ("kura serve --port 1 --port 2", ErrorKind::ArgumentConflict),
            ("kura serve --port", ErrorKind::InvalidValue),
            ("kura serve extra", ErrorKind::UnknownArgument),
        ] {
            assert_eq!(parse_words(words).unwrap_err().kind(), kind, "{words}");
        }
    }

    #[test]
    fn help_names_every_flag_and_exit_code() {
        let help = parse_words("kura serve --help").unwrap_err().to_string();
        for setting in &SETTINGS {
            assert!(help.contains(&format!("--{} ", setting.flag)), "{}", setting.flag);
        }
        for (code, _) in exit::TABLE {
            assert!(help.contains(&format!("\n  {code} ")), "{code}");
        }
    }
}
