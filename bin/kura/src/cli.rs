//! The command line: its grammar, with one flag for each setting of the table.

mod inspect;

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{PathBufValueParser, StringValueParser},
    value_parser,
};

use crate::{
    ask::NodeUrl,
    dev::{NODES_MAX, Plan},
    exit,
    inspect::Subject,
    scrub::Order,
    settings::{Key, SETTINGS, render},
    status::Question,
};

/// The name of the command that runs a node.
pub(crate) const SERVE: &str = "serve";

/// The flag of [`SERVE`] that makes the end of standard input a signal to drain.
pub(crate) const EXIT_WITH_PARENT: &str = "exit-with-parent";

const CONFIG: &str = "config";
const DEV: &str = "dev";
const SCRUB: &str = "scrub";
const STATUS: &str = "status";
const VERIFY: &str = "verify";
const INSPECT: &str = "inspect";

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// Run a node.
    Serve {
        /// With these settings.
        given: GivenSettings,
        /// Until standard input ends, at the latest.
        exit_with_parent: bool,
    },
    /// Run a mesh on this machine.
    Dev(Plan),
    /// Ask nodes how they are.
    Status(Question),
    /// Have a node read all that it holds.
    Scrub(Order),
    /// Look at a data directory whose node does not run.
    Verify {
        /// That of these settings.
        given: GivenSettings,
        /// Print JSON.
        json: bool,
        /// Make right what is wrong.
        repair: bool,
    },
    /// Look at one part of a data directory, and change nothing.
    Inspect {
        /// That of these settings.
        given: GivenSettings,
        /// Which part.
        subject: Subject,
        /// Print JSON.
        json: bool,
    },
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
        Some((SERVE, matches)) => Some(Invocation::Serve {
            given: given(matches),
            exit_with_parent: matches.get_flag(EXIT_WITH_PARENT),
        }),
        Some((DEV, matches)) => Some(Invocation::Dev(plan(matches))),
        Some((STATUS, matches)) => Some(Invocation::Status(question(matches))),
        Some((SCRUB, matches)) => Some(Invocation::Scrub(order(matches))),
        Some((VERIFY, matches)) => Some(Invocation::Verify {
            given: given(matches),
            json: matches.get_flag("json"),
            repair: matches.get_flag("repair"),
        }),
        Some((INSPECT, matches)) => matches.subcommand().and_then(inspect::understand),
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
    Command::new("kura")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A build cache next to the builds that need it")
        .after_help(exit_codes())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve_grammar())
        .subcommand(dev_grammar())
        .subcommand(status_grammar())
        .subcommand(scrub_grammar())
        .subcommand(verify_grammar())
        .subcommand(inspect::grammar())
        .subcommand(config_grammar())
}

fn serve_grammar() -> Command {
    let exit_with_parent =
        Arg::new(EXIT_WITH_PARENT).long(EXIT_WITH_PARENT).action(ArgAction::SetTrue).hide(true);
    with_settings(Command::new(SERVE).arg(exit_with_parent))
        .about("Run a node")
        .long_about(
            "Run a node until SIGTERM, SIGINT or SIGUSR1, and then finish what is in flight. A \
             second SIGTERM or SIGINT stops at once.\n\nPrints one line to standard output when \
             it listens: `listening on http://ADDRESS`. The log goes to standard error.",
        )
        .after_help(exit_codes())
}

fn dev_grammar() -> Command {
    Command::new(DEV)
        .about("Run a mesh of nodes on this machine, without configuration")
        .long_about(
            "Run a mesh of nodes on this machine, without configuration, until Ctrl-C. Each is a \
             process of its own, listens on loopback only, and fetches what is written at the \
             others. They end when this command does, however it ends. One that ends by itself is \
             reported and not started again; the others go on.\n\nKURA_* variables hold for every \
             node, but for addresses, ports, peers, the data directory and the time of a drain. \
             Unless they say otherwise, a node takes up to 10GiB, and all of them together half \
             of the disk.",
        )
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("NUMBER")
                .value_parser(value_parser!(u16).range(1..=NODES_MAX.into()))
                .default_value("3")
                .help("How many nodes"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_parser(PathBufValueParser::new())
                .help("Keep the data here, one directory a node [default: removed at the end]"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .value_parser(value_parser!(u16))
                .default_value("4000")
                .help(
                    "The port of the first node; the others take those that follow. Where one is \
                     taken, a free one; with 0, free ones all over",
                ),
        )
}

fn status_grammar() -> Command {
    Command::new(STATUS)
        .about("Ask nodes how they are")
        .long_about(
            "Ask nodes how they are: whether they take work and why not, how far they are behind \
             their peers, and what room they have. Each has 5 s to answer.",
        )
        .after_help(exit_codes())
        .arg(
            Arg::new("nodes")
                .value_name("URL")
                .num_args(0..)
                .value_parser(value_parser!(NodeUrl))
                .default_value("http://127.0.0.1:4000")
                .help("The public address of a node, as http://HOST:PORT or HOST:PORT"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print the answers as they came, in one list; with --watch, a line a look"),
        )
        .arg(
            Arg::new("watch")
                .long("watch")
                .action(ArgAction::SetTrue)
                .help("Look again every second, until Ctrl-C"),
        )
}

fn scrub_grammar() -> Command {
    Command::new(SCRUB)
        .about("Have a node read all that it holds, to find what its disk lost")
        .long_about(
            "Have a node read all that it holds, at its `store.scrub_rate`, and wait until it has. \
             What cannot be read whole is a miss from then on, and the node asks its peers for it. \
             If such a pass is under way, it goes on. Ctrl-C ends the waiting, and not the pass.",
        )
        .after_help(exit_codes())
        .arg(
            Arg::new("node")
                .value_name("URL")
                .value_parser(value_parser!(NodeUrl))
                .default_value("http://127.0.0.1:4000")
                .help("The public address of the node, as http://HOST:PORT or HOST:PORT"),
        )
        .arg(
            Arg::new("no-wait")
                .long("no-wait")
                .action(ArgAction::SetTrue)
                .help("Do not wait for the end of the pass"),
        )
}

fn order(matches: &ArgMatches) -> Order {
    let node = matches.get_one::<NodeUrl>("node").expect("it has a default").clone();
    Order { node, no_wait: matches.get_flag("no-wait") }
}

fn verify_grammar() -> Command {
    let repair = Arg::new("repair").long("repair").action(ArgAction::SetTrue).help(
        "Make right what was found: do what a start would do, take away the rows that lead to damage, \
         and look again",
    );
    with_settings(Command::new(VERIFY).arg(json()).arg(repair))
        .about("Look at a data directory whose node does not run, and repair it")
        .long_about(
            "Look at a data directory whose node does not run: RING, every record and body, every \
             row of the index, and what holds which bytes. Reads all of it, and changes nothing \
             but the catalog's own journal, which is replayed when it is opened. What a stop may \
             leave and the next start clears up is a note; anything else is a problem.\n\nWith \
             --repair, damaged artifacts become misses, damaged large objects and a damaged catalog go \
             to quarantine/, and what counts no more is evicted. Nothing that is sound is given up. \
             Give it the settings of the node.",
        )
        .after_help(exit_codes())
}

fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print what was found as JSON")
}

fn config_grammar() -> Command {
    Command::new(CONFIG)
        .about("Print settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("example").about("Print a file with every setting and its default"),
        )
        .subcommand(with_settings(
            Command::new("show").about("Print what is in force, and where each value comes from"),
        ))
        .subcommand(Command::new("docs").about("Print what every setting means, as Markdown"))
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

fn plan(matches: &ArgMatches) -> Plan {
    Plan {
        nodes: matches.get_one("nodes").copied().unwrap_or(1),
        directory: matches.get_one("dir").cloned(),
        port: matches.get_one("port").copied().unwrap_or(0),
    }
}

fn question(matches: &ArgMatches) -> Question {
    Question {
        nodes: matches.get_many("nodes").into_iter().flatten().cloned().collect(),
        json: matches.get_flag("json"),
        watch: matches.get_flag("watch"),
    }
}

fn exit_codes() -> String {
    let lines: Vec<_> =
        exit::TABLE.iter().map(|(code, meaning)| format!("  {code:<8} {meaning}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Understands a line without quotes.
    pub(crate) fn parse_words(words: &str) -> Result<Invocation, clap::Error> {
        parse(words.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn each_command_is_recognised() {
        let none = || GivenSettings { file: None, flags: vec![] };
        let serve = |given, exit_with_parent| Invocation::Serve { given, exit_with_parent };
        let status = |nodes: &[&str], json, watch| {
            let nodes = nodes.iter().map(|node| node.parse().unwrap()).collect();
            Invocation::Status(Question { nodes, json, watch })
        };
        for (words, invocation) in [
            ("kura serve", serve(none(), false)),
            ("kura serve --exit-with-parent", serve(none(), true)),
            ("kura dev", Invocation::Dev(Plan { nodes: 3, directory: None, port: 4000 })),
            (
                "kura dev --nodes 9 --dir a --port 0",
                Invocation::Dev(Plan { nodes: 9, directory: Some("a".into()), port: 0 }),
            ),
            ("kura status", status(&["127.0.0.1:4000"], false, false)),
            ("kura status a:1 http://b:2 --json --watch", status(&["a:1", "b:2"], true, true)),
            ("kura verify --json", Invocation::Verify { given: none(), json: true, repair: false }),
            (
                "kura verify --repair",
                Invocation::Verify { given: none(), json: false, repair: true },
            ),
            ("kura config example", Invocation::ConfigExample),
            ("kura config show", Invocation::ConfigShow(none())),
            ("kura config docs", Invocation::ConfigDocs),
            (
                "kura serve --config a.toml --port 1 --cas-capacity=-5",
                serve(
                    GivenSettings {
                        file: Some(PathBuf::from("a.toml")),
                        flags: vec![(Key::Port, "1".to_owned()), (Key::Capacity, "-5".to_owned())],
                    },
                    false,
                ),
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
            ("kura dev --nodes 0", ErrorKind::ValueValidation),
            ("kura dev --nodes 10", ErrorKind::ValueValidation),
            ("kura status https://a", ErrorKind::ValueValidation),
            ("kura inspect", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("kura inspect record", ErrorKind::MissingRequiredArgument),
            ("kura inspect record a b c", ErrorKind::TooManyValues),
            ("kura inspect catalog --limit x --keyspace feed", ErrorKind::ValueValidation),
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
