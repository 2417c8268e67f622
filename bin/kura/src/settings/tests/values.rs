//! What is in force, given what was said.

use std::time::Duration;

use kura_node::config::Durability;

use super::{Key, Said, in_force};
use crate::settings::{SETTINGS, problem::Origin, setting::DefaultValue};

const FILE: &str = "[node]\ndata_dir = \"/from/file\"\n[http]\nport = 1\nbind = \"::1\"\n";

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let default = Said::least();
    let file = default.clone().file(FILE);
    let variable = file.clone().variable("KURA_PORT", "2");
    let flag = variable.clone().flag(Key::Port, "3");
    for (said, value, origin) in [
        (default, "4000", "default"),
        (file, "1", "kura.toml:4"),
        (variable, "2", "variable KURA_PORT"),
        (flag, "3", "flag --port"),
    ] {
        let in_force = in_force(&said.settings(), Key::Port);
        assert_eq!(in_force, (value.to_owned(), origin.to_owned()));
    }
}

#[test]
fn sources_add_up() {
    let said = Said::default().file(FILE).variable("KURA_IDLE_TIMEOUT_MS", "1500");
    let settings = said.flag(Key::Segment, "64MiB").settings();
    for (key, value, origin) in [
        (Key::DataDir, "\"/from/file\"", "kura.toml:2"),
        (Key::Bind, "\"::1\"", "kura.toml:5"),
        (Key::IdleTimeout, "\"1500ms\"", "variable KURA_IDLE_TIMEOUT_MS"),
        (Key::Segment, "\"64MiB\"", "flag --segment"),
        (Key::HeaderTimeout, "\"10s\"", "default"),
    ] {
        assert_eq!(in_force(&settings, key), (value.to_owned(), origin.to_owned()));
    }
}

#[test]
fn only_the_data_directory_is_needed() {
    let settings = Said::default().variable("KURA_DATA_DIR", "/data").settings();
    for setting in &SETTINGS {
        match (&setting.default, settings.entry(setting.key)) {
            (DefaultValue::Required { .. }, entry) => {
                assert_eq!(setting.key, Key::DataDir);
                assert_eq!(entry.unwrap().origin, Origin::Variable("KURA_DATA_DIR"));
            }
            (DefaultValue::Fixed(value), entry) => assert_eq!(&entry.unwrap().value, value),
            (DefaultValue::Derived { .. }, Some(entry)) => {
                assert_eq!(entry.origin, Origin::Default)
            }
            (DefaultValue::Derived { .. }, None) => {
                assert!(matches!(setting.key, Key::Capacity | Key::StagingDir));
            }
        }
    }
}

#[test]
fn a_node_is_told_the_documented_defaults() {
    let config = Said::least().settings().node_config();
    assert_eq!(config.listen.to_string(), "0.0.0.0:4000");
    assert_eq!(config.drain_timeout, Duration::from_millis(30_000));
    assert_eq!(config.store.capacity_bytes, None);
    assert_eq!(config.store.segment_bytes, 512 << 20);
    assert_eq!(config.store.staging_bytes_max, 8 << 30);
    assert_eq!(config.store.memory_bytes_max, 256 << 20);
    assert_eq!(config.store.memory_body_bytes_max, 256 << 10);
    assert_eq!(config.store.durability, Durability::PowerLoss);
    assert_eq!(config.surface.idle_timeout, Duration::from_secs(30));
    assert_eq!(config.surface.header_timeout, Duration::from_secs(10));
    assert!(config.surface.date_header);
    assert!(config.peers.is_none(), "a node alone listens on one port");
}

#[test]
fn peers_or_a_port_for_them_make_a_peer_plane() {
    let peers = |said: Said| said.settings().node_config().peers.unwrap();
    let of_peers = peers(Said::least().variable("KURA_PEERS", "a:1, http://b:2/"));
    assert_eq!(of_peers.peers, ["a:1", "b:2"]);
    assert_eq!(of_peers.listen.to_string(), "0.0.0.0:7443");
    assert_eq!(of_peers.region, "default");
    assert_eq!(of_peers.peer_wait, Duration::from_secs(60));
    assert_eq!(of_peers.pass_timeout, Duration::from_secs(1800));
    assert_eq!(of_peers.read_through, Duration::ZERO);
    assert_eq!(of_peers.bandwidth_bytes_per_second, 512 << 20);
    let rules = of_peers.primary.rules;
    assert_eq!((rules.min_age.as_secs(), rules.lag_max.as_secs()), (600, 30));
    let of_port = peers(Said::least().flag(Key::PeerPort, "7443"));
    assert_eq!(of_port.peers, [""; 0]);
    assert_eq!(of_port.listen.to_string(), "0.0.0.0:7443");
    let of_file = peers(Said::least().file("[mesh]\npeers = [\"a:1\", \"b:2\"]\n"));
    assert_eq!(of_file.peers, ["a:1", "b:2"]);
    assert!(Said::least().flag(Key::Peers, "").settings().node_config().peers.is_none());
}

#[test]
fn every_setting_reaches_the_node() {
    let said = Said::least()
        .variable("KURA_DRAIN_COMPLETION_TIMEOUT_MS", "1001")
        .variable("KURA_BIND", "::1")
        .variable("KURA_PORT", "0")
        .variable("KURA_MAX_CONNECTIONS", "7")
        .variable("KURA_IDLE_TIMEOUT_MS", "1002")
        .variable("KURA_HEADER_TIMEOUT_MS", "1003")
        .variable("KURA_DRAIN_BODY_MAX_BYTES", "1004")
        .variable("KURA_RETRY_AFTER_MS", "1005")
        .variable("KURA_PEERS", "c:3")
        .variable("KURA_INTERNAL_PORT", "1007")
        .variable("KURA_REGION", "eu-1")
        .variable("KURA_SYNC_PEER_WAIT_MS", "1008")
        .variable("KURA_BOOTSTRAP_TIMEOUT_MS", "1009")
        .variable("KURA_REPLICATION_BANDWIDTH_LIMIT_BYTES_PER_SECOND", "1010")
        .variable("KURA_SYNC_READ_THROUGH_MS", "1011")
        .variable("KURA_PRIMARY_MIN_AGE_MS", "1012")
        .variable("KURA_PRIMARY_LAG_MAX_MS", "1013")
        .variable("KURA_CAS_CAPACITY_BYTES", "64MiB")
        .variable("KURA_SEGMENT_BYTES", "2MiB")
        .variable("KURA_MAX_BODY_BYTES", "1MiB")
        .variable("KURA_DURABILITY", "process-crash")
        .variable("KURA_TMP_DIR_MAX_BYTES", "3MiB")
        .variable("KURA_MEMORY_MAX_BYTES", "4MiB")
        .variable("KURA_MEMORY_BODY_BYTES", "1006")
        .variable("KURA_LOG", "warn,kura_node=debug")
        .variable("KURA_LOG_FORMAT", "json");
    let settings = said.settings();
    assert_eq!(settings.log_filter(), "warn,kura_node=debug");
    assert!(settings.log_is_json());
    assert_eq!(settings.data_dir(), std::path::Path::new("/data"));

    let config = settings.node_config();
    assert_eq!(config.drain_timeout, Duration::from_millis(1001));
    assert_eq!(config.listen.to_string(), "[::1]:0");
    assert_eq!(config.surface.connections_max, 7);
    assert_eq!(config.surface.idle_timeout, Duration::from_millis(1002));
    assert_eq!(config.surface.header_timeout, Duration::from_millis(1003));
    assert_eq!(config.surface.drain_body_bytes_max, 1004);
    assert_eq!(config.surface.retry_after, Duration::from_millis(1005));
    assert_eq!(config.store.capacity_bytes, Some(64 << 20));
    assert_eq!(config.store.segment_bytes, 2 << 20);
    assert_eq!(config.store.body_bytes_max, 1 << 20);
    assert_eq!(config.store.durability, Durability::ProcessCrash);
    assert_eq!(config.store.staging_bytes_max, 3 << 20);
    assert_eq!(config.store.memory_bytes_max, 4 << 20);
    assert_eq!(config.store.memory_body_bytes_max, 1006);
    let peers = config.peers.unwrap();
    assert_eq!(peers.listen.to_string(), "[::1]:1007");
    assert_eq!(peers.peers, ["c:3"]);
    assert_eq!(peers.region, "eu-1");
    assert_eq!(peers.peer_wait, Duration::from_millis(1008));
    assert_eq!(peers.pass_timeout, Duration::from_millis(1009));
    assert_eq!(peers.read_through, Duration::from_millis(1011));
    assert_eq!(peers.bandwidth_bytes_per_second, 1010);
    let rules = peers.primary.rules;
    assert_eq!((rules.min_age.as_millis(), rules.lag_max.as_millis()), (1012, 1013));
}

#[test]
fn the_segment_follows_a_small_capacity() {
    for (capacity, segment) in [
        ("100GiB", 512 << 20),
        ("2560MiB", 512 << 20),
        ("1GiB", (1 << 30) / 5 / 4096 * 4096),
        ("5MiB", 1 << 20),
    ] {
        let settings = Said::least().flag(Key::Capacity, capacity).settings();
        assert_eq!(settings.node_config().store.segment_bytes, segment, "{capacity}");
    }
}

#[test]
fn the_largest_body_follows_staging() {
    let largest = |said: Said| said.settings().node_config().store.body_bytes_max;
    assert_eq!(largest(Said::least()), 4 << 30);
    assert_eq!(largest(Said::least().flag(Key::StagingMax, "10MiB")), 5 << 20);
}

#[test]
fn empty_and_foreign_variables_are_left_alone() {
    let said = Said::least()
        .variable("KURA_PORT", "")
        .variable("PORT", "80")
        .variable("KURAPORT", "80")
        .variable("kura_port", "80");
    let settings = said.settings();
    assert_eq!(in_force(&settings, Key::Port).1, "default");
    assert_eq!(settings.warnings(), []);
}

#[test]
fn an_unknown_variable_is_a_warning_that_names_the_nearest() {
    for (name, nearest) in [
        ("KURA_CAS_CAPACITY_BYTE", Some("KURA_CAS_CAPACITY_BYTES")),
        ("KURA_LOGFORMAT", Some("KURA_LOG_FORMAT")),
        ("KURA_SOMETHING_ELSE_ALTOGETHER", None),
    ] {
        let settings = Said::least().variable(name, "secret").settings();
        let warnings: Vec<_> = settings.warnings().iter().map(ToString::to_string).collect();
        let suggestion = nearest.map(|it| format!("; did you mean {it}?")).unwrap_or_default();
        let expected = format!(
            "variable {name} is not a setting and is ignored{suggestion}; all of KURA_* are reserved"
        );
        assert_eq!(warnings, [expected]);
    }
}

#[test]
fn numbers_in_a_file_may_have_any_radix() {
    for (text, value) in [
        ("[store]\nsegment = 0x200000\n", "\"2MiB\""),
        ("[store]\nsegment = 2_097_152\n", "\"2MiB\""),
        ("[store]\nsegment = \"2097152\"\n", "\"2MiB\""),
        ("store.segment = \"2 MiB\"\n", "\"2MiB\""),
        ("store = { segment = \"2MiB\" }\n", "\"2MiB\""),
    ] {
        assert_eq!(in_force(&Said::least().file(text).settings(), Key::Segment).0, value, "{text}");
    }
}
