//! The grammar of `kura inspect`.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{INSPECT, Invocation, exit_codes, given, json, with_settings};
use crate::inspect::Subject;

/// Where a copy of the catalog goes.
const COPY: &str = "The catalog is copied to a directory below TMPDIR (/tmp if that is not set), named \
                    kura-inspect-PROCESS-..., which takes as much room as the catalog and is removed at \
                    the end. What a look that was ended by Ctrl-C left there, the next one removes.";

/// The command and those below it.
pub(super) fn grammar() -> Command {
    Command::new(INSPECT)
        .about("Look at one part of a data directory, and change nothing")
        .long_about(
            "Look at one part of a data directory, and change nothing: no byte, no name, no time. RING, \
             segments and staging can be looked at while the node runs. The catalog cannot be opened \
             without a change, so that a copy of it is opened, below TMPDIR, and only while no node runs.",
        )
        .after_help(exit_codes())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(Command::new("ring").arg(json())).about(
            "Show both rings: their segments by age, with generation, size and promises, and what does \
             not fit the files",
        ))
        .subcommand(segment_grammar())
        .subcommand(record_grammar())
        .subcommand(catalog_grammar())
        .subcommand(
            with_settings(Command::new("staging").arg(json()))
                .about("Show the files of bodies in flight, and which of them are stale"),
        )
}

fn segment_grammar() -> Command {
    let target = Arg::new("target").value_name("SEGMENT").required(true).help(
        "A segment or an object of the pool, such as blobs/0000000000000001, or any file that is one",
    );
    let no_bodies = Arg::new("no-bodies")
        .long("no-bodies")
        .action(ArgAction::SetTrue)
        .help("Read the headers of records only, and no body");
    with_settings(Command::new("segment").arg(target).arg(no_bodies).arg(json()))
        .about("Show every record of a segment in order, what lies between, and where the log ends")
}

fn record_grammar() -> Command {
    let words =
        Arg::new("words").value_names(["NAMESPACE", "KEY"]).num_args(1..=2).required(true).help(
            "The name of an artifact as its path has it (KEY may be cas/DIGEST or ac/DIGEST), or a \
             place, as SEGMENT:OFFSET",
        );
    let scan = Arg::new("scan")
        .long("scan")
        .action(ArgAction::SetTrue)
        .help("Look for other records of it in every segment and object");
    with_settings(Command::new("record").arg(words).arg(scan).arg(json()))
        .about("Show where an artifact lies, and what each chunk of it is worth")
        .after_help(COPY)
}

fn catalog_grammar() -> Command {
    let keyspace = Arg::new("keyspace")
        .long("keyspace")
        .value_name("NAME")
        .help("Print rows of this keyspace instead: places, contents, feed, cursors or pledges");
    let limit = Arg::new("limit")
        .long("limit")
        .value_name("ROWS")
        .value_parser(value_parser!(usize))
        .default_value("100")
        .requires("keyspace")
        .help("Print so many rows at the most");
    with_settings(Command::new("catalog").arg(keyspace).arg(limit).arg(json()))
        .about(
            "Show what is in each keyspace of the catalog, its stamps, and how far the segments are \
             indexed",
        )
        .after_help(COPY)
}

/// What the words below the command ask for.
pub(super) fn understand((name, matches): (&str, &ArgMatches)) -> Option<Invocation> {
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    let subject = match name {
        "ring" => Subject::Ring,
        "segment" => Subject::Segment {
            target: text("target")?,
            with_bodies: !matches.get_flag("no-bodies"),
        },
        "record" => Subject::Record {
            words: matches.get_many("words").into_iter().flatten().cloned().collect(),
            scan: matches.get_flag("scan"),
        },
        "catalog" => Subject::Catalog {
            keyspace: text("keyspace"),
            limit: matches.get_one("limit").copied()?,
        },
        "staging" => Subject::Staging,
        _ => return None,
    };
    Some(Invocation::Inspect { given: given(matches), subject, json: matches.get_flag("json") })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::parse_words, *};

    #[test]
    fn each_part_can_be_asked_for() {
        let segment = |target: &str, with_bodies| {
            let target = target.to_owned();
            Subject::Segment { target, with_bodies }
        };
        let record = |words: &[&str], scan| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            Subject::Record { words, scan }
        };
        let catalog = |keyspace: Option<&str>, limit| {
            let keyspace = keyspace.map(str::to_owned);
            Subject::Catalog { keyspace, limit }
        };
        for (words, asked, is_json) in [
            ("ring", Subject::Ring, false),
            ("staging --json", Subject::Staging, true),
            ("segment blobs/1", segment("blobs/1", true), false),
            ("segment blobs/1 --no-bodies --json", segment("blobs/1", false), true),
            ("record team a/b --scan", record(&["team", "a/b"], true), false),
            ("record blobs/1:64", record(&["blobs/1:64"], false), false),
            ("catalog", catalog(None, 100), false),
            ("catalog --keyspace feed --limit 5", catalog(Some("feed"), 5), false),
        ] {
            let parsed = parse_words(&format!("kura inspect {words}")).unwrap();
            let Invocation::Inspect { subject, json, .. } = parsed else { panic!("{words}") };
            assert_eq!((subject, json), (asked, is_json), "{words}");
        }
    }
}
