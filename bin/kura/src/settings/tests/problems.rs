//! What people read when something is wrong.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use super::{Key, Said};

use crate::settings::{Settings, SettingsFile, problem::Problem};

const PORT_ALLOWED: &str = "allowed: a whole number from 0 to 65535";
const IDLE_ALLOWED: &str = "allowed: a time from 100ms to 1h, such as \"30s\" or \"1500ms\"";
const SEGMENT_ALLOWED: &str =
    "allowed: a size from 1MiB to 4GiB, such as \"10GiB\", or a number of bytes";

#[test]
fn a_bad_value_in_a_file_names_line_key_value_and_what_is_allowed() {
    for (text, problem) in [
        ("[http]\nport = 65536\n", format!("kura.toml:2: http.port: found 65536, which is too high; {PORT_ALLOWED}")),
        ("\n\n[http]\nport = -1\n", format!("kura.toml:4: http.port: found -1, which is too low; {PORT_ALLOWED}")),
        ("[http]\nport = \"80\"\n", format!("kura.toml:2: http.port: found \"80\", which is not of the right type; {PORT_ALLOWED}")),
        ("[http]\nport = 0.5\n", format!("kura.toml:2: http.port: found a TOML float, which is not of the right type; {PORT_ALLOWED}")),
        ("[http]\nport = true\n", format!("kura.toml:2: http.port: found a TOML boolean, which is not of the right type; {PORT_ALLOWED}")),
        ("[http.port]\na = 1\n", format!("kura.toml:1: http.port: found a TOML table, which is not of the right type; {PORT_ALLOWED}")),
        ("[http]\nidle_timeout = 30\n", format!("kura.toml:2: http.idle_timeout: found 30, which has no unit; write \"30s\" or \"30ms\"; {IDLE_ALLOWED}")),
        ("[http]\nidle_timeout = \"1ms\"\n", format!("kura.toml:2: http.idle_timeout: found \"1ms\", which is too low; {IDLE_ALLOWED}")),
        ("[http]\nidle_timeout = \"2d\"\n", format!("kura.toml:2: http.idle_timeout: found \"2d\", whose unit \"d\" is not known; units are ms, s, m, h; {IDLE_ALLOWED}")),
        ("[store]\nsegment = 0xFFF\n", format!("kura.toml:2: store.segment: found 0xFFF, which is too low; {SEGMENT_ALLOWED}")),
        ("[store]\nsegment = \"1g\"\n", format!("kura.toml:2: store.segment: found \"1g\", whose unit can be read in two ways; write \"1GiB\" (1024) or \"1GB\" (1000); {SEGMENT_ALLOWED}")),
        ("[store]\nsegment = \"1.5GiB\"\n", format!("kura.toml:2: store.segment: found \"1.5GiB\", which is not whole; use a smaller unit; {SEGMENT_ALLOWED}")),
        ("[store]\nsegment = 99999999999999999999\n", format!("kura.toml:2: store.segment: found 99999999999999999999, which is too high; {SEGMENT_ALLOWED}")),
        ("[store]\ndurability = \"powerloss\"\n", "kura.toml:2: store.durability: found \"powerloss\", did you mean \"power-loss\"?; allowed: \"power-loss\" or \"process-crash\"".to_owned()),
        ("[store]\ndurability = \"none\"\n", "kura.toml:2: store.durability: found \"none\", which is none of them; allowed: \"power-loss\" or \"process-crash\"".to_owned()),
        ("[http]\nbind = \"localhost\"\n", "kura.toml:2: http.bind: found \"localhost\", which is not an IP address; allowed: an IPv4 or IPv6 address, such as \"127.0.0.1\" or \"::\"".to_owned()),
        ("[node]\ndata_dir = \"\"\n", "kura.toml:2: node.data_dir: found \"\", which is empty; allowed: a path, in UTF-8".to_owned()),
    ] {
        assert_eq!(Said::least().file(text).problems(), [problem], "{text}");
    }
}

#[test]
fn a_bad_peer_or_region_names_the_entry_and_what_to_write() {
    let allowed = "allowed: host:port or http://host:port, separated by commas, such as \
                   \"kura-0:7443,kura-1:7443\"; in TOML also a list of strings";
    assert_eq!(
        Said::least().variable("KURA_PEERS", "a:1,b").problems(),
        [format!(
            "variable KURA_PEERS: mesh.peers: found \"a:1,b\", whose entry \"b\" has no port; write \
             \"b:7443\"; {allowed}"
        )]
    );
    assert_eq!(
        Said::least().file("[mesh]\npeers = [\"a:1\", \"::1\"]\n").problems(),
        [format!(
            "kura.toml:2: mesh.peers: found [\"a:1\", \"::1\"], whose entry \"::1\" is an IPv6 address \
             without brackets; write \"[ADDRESS]:PORT\"; {allowed}"
        )]
    );
    assert_eq!(
        Said::least().file("[mesh]\npeers = [1]\n").problems(),
        [format!(
            "kura.toml:2: mesh.peers: found a TOML array, which is not of the right type; {allowed}"
        )]
    );
    assert_eq!(
        Said::least().flag(Key::Region, "eu west").problems(),
        [
            "flag --region: mesh.region: found \"eu west\", which is not such a name; allowed: a name of \
          up to 64 letters, digits, '-', '_' and '.', in ASCII"
        ]
    );
}

#[test]
fn one_port_for_clients_and_peers_is_refused_where_peers_are_served() {
    let said = Said::least().flag(Key::Port, "7443");
    assert_eq!(said.settings().node_config().listen.port(), 7443);
    assert_eq!(
        said.variable("KURA_PEERS", "a:1").problems(),
        [
            "http.port = 7443 (flag --port) and mesh.internal_port = 7443 (default) are the same port; \
          give each a port of its own"
        ]
    );
    Said::least().flag(Key::Port, "0").flag(Key::PeerPort, "0").settings();
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    for (text, problem) in [
        (
            "[store]\ncapcity = 1\n",
            "kura.toml:2: unknown key store.capcity; did you mean store.capacity?",
        ),
        ("port = 80\n", "kura.toml:1: unknown key port; did you mean http.port?"),
        ("[store]\nport = 80\n", "kura.toml:2: unknown key store.port; did you mean http.port?"),
        ("[store]\ncolour = 1\n", "kura.toml:2: unknown key store.colour"),
        ("\n[stroe]\na = 1\n", "kura.toml:2: unknown section [stroe]; did you mean [store]?"),
        ("[peers]\na = 1\n", "kura.toml:1: unknown section [peers]"),
        ("http = 80\n", "kura.toml:1: http is a section; write [http] and its keys below"),
    ] {
        assert_eq!(Said::least().file(text).problems(), [problem], "{text}");
    }
}

#[test]
fn bad_variables_and_flags_are_named_as_such() {
    let variable = |name: &str, value: &str| Said::least().variable(name, value).problems();
    assert_eq!(
        variable("KURA_PORT", "tcp://10.0.0.1:4000"),
        [format!(
            "variable KURA_PORT: http.port: found \"tcp://10.0.0.1:4000\", which Kubernetes sets for \
             a service of that name; set `enableServiceLinks: false` on the pod, or name the service \
             otherwise; {PORT_ALLOWED}"
        )]
    );
    assert_eq!(
        variable("KURA_IDLE_TIMEOUT_MS", "1"),
        [format!(
            "variable KURA_IDLE_TIMEOUT_MS: http.idle_timeout: found \"1\", which is too low; {IDLE_ALLOWED}"
        )]
    );
    assert_eq!(
        Said::least().flag(Key::Port, "http").problems(),
        [format!(
            "flag --port: http.port: found \"http\", which is not a whole number; {PORT_ALLOWED}"
        )]
    );
    assert_eq!(
        Said::least().flag(Key::IdleTimeout, "30").problems(),
        [format!(
            "flag --idle-timeout: http.idle_timeout: found \"30\", which has no unit; write \"30s\" or \"30ms\"; {IDLE_ALLOWED}"
        )]
    );
    let mut said = Said::least();
    said.variables.push(("KURA_LOG".into(), OsString::from_vec(vec![0xff])));
    assert_eq!(said.problems(), ["variable KURA_LOG: not UTF-8"]);
    let filter = Said::least().flag(Key::LogFilter, "kura=loud").problems().remove(0);
    assert!(
        filter.starts_with("flag --log: log.filter: found \"kura=loud\", which is not a filter ("),
        "{filter}"
    );
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_their_places() {
    let said = Said::default()
        .file("[store]\nsegment = 1\ncapcity = 2\n[http]\nport = -1\nbind = \"x\"\n[log]\nformat = \"text\"\n")
        .variable("KURA_DURABILITY", "maybe")
        .flag(Key::MemoryMax, "1MiB")
        .flag(Key::MemoryBody, "2MiB")
        .flag(Key::HeaderTimeout, "soon");
    let problems = said.problems();
    let starts: Vec<_> =
        problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(
        starts,
        [
            "kura.toml:2",
            "kura.toml:3",
            "kura.toml:5",
            "kura.toml:6",
            "variable KURA_DURABILITY",
            "flag --header-timeout",
            "node.data_dir is not set; set the variable KURA_DATA_DIR, or --data-dir on the command \
             line, or `data_dir = \"/var/lib/kura\"` under [node] in the file given with --config",
            "staging.memory_max = \"1MiB\" (flag --memory-max) and staging.memory_body = \"2MiB\" (flag \
             --memory-body) do not go together",
        ],
    );
}

#[test]
fn a_bad_value_is_reported_even_where_a_flag_wins() {
    let said = Said::least().file("[http]\nport = -1\n").flag(Key::Port, "1");
    assert_eq!(said.problems().len(), 1);
}

#[test]
fn settings_that_do_not_go_together_name_both_places() {
    for (said, problem) in [
        (
            Said::least().flag(Key::MaxBody, "6MiB").variable("KURA_TMP_DIR_MAX_BYTES", "10485760"),
            "staging.disk_max = \"10MiB\" (variable KURA_TMP_DIR_MAX_BYTES) and store.max_body = \
             \"6MiB\" (flag --max-body) do not go together: the largest body may have half of \
             staging, because bodies of clients and of peers get a half each; raise \
             staging.disk_max or lower store.max_body",
        ),
        (
            Said::least().flag(Key::MemoryBody, "512MiB"),
            "staging.memory_max = \"256MiB\" (default) and staging.memory_body = \"512MiB\" (flag \
             --memory-body) do not go together: not even one such body would fit half of the \
             memory, and bodies of clients and of peers get a half each; raise \
             staging.memory_max or lower staging.memory_body",
        ),
    ] {
        assert_eq!(said.problems(), [problem]);
    }
}

#[test]
fn settings_at_the_very_limit_of_each_other_are_accepted() {
    Said::least().flag(Key::Capacity, "5MiB").flag(Key::Segment, "512MiB").settings();
    Said::least().flag(Key::MaxBody, "5MiB").flag(Key::StagingMax, "10MiB").settings();
    Said::least().flag(Key::MemoryBody, "512KiB").flag(Key::MemoryMax, "1MiB").settings();
}

#[test]
fn a_file_that_is_not_toml_is_reported_by_line_and_nothing_is_concluded_from_it() {
    for (text, lines) in [
        ("[http]\nport = \n", vec!["kura.toml:2"]),
        ("[http]\nport = 1\nport = 2\n", vec!["kura.toml:3"]),
        ("[http\nport = 1\n[log]\nfilter = \"info\n", vec!["kura.toml:1", "kura.toml:4"]),
    ] {
        // In conflict with the default of a setting that the file may have meant to set.
        let problems = Said::default().file(text).flag(Key::MemoryBody, "512MiB").problems();
        let starts: Vec<_> =
            problems.iter().map(|problem| problem.split(": not TOML: ").next().unwrap()).collect();
        assert_eq!(starts, lines, "{problems:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_other_problems() {
    let flags = [(Key::Port, "x".to_owned())];
    let problems = Settings::load(Some(Path::new("/nowhere/kura.toml")), &[], &flags).unwrap_err();
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].starts_with("/nowhere/kura.toml: cannot be read: No such file"), "{texts:?}");
    assert!(texts[1].starts_with("flag --port: "), "{texts:?}");
}

#[test]
fn a_file_that_is_endless_or_not_text_is_refused() {
    let endless = SettingsFile::read(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(endless, Problem::FileTooLong { .. }), "{endless}");

    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("kura.toml");
    std::fs::write(&path, b"[http]\nport = 1\n# \xff\n").unwrap();
    let not_text = SettingsFile::read(&path).unwrap_err().to_string();
    let expected = format!("{}:3: not UTF-8; a configuration is TOML, in UTF-8", path.display());
    assert_eq!(not_text, expected);
}
