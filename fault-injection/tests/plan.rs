//! Plans as text.

use fault_injection::{
    CatalogFault, CrashKind, CrashMoment, Cut, DiskFault, Fault, FaultId, KeepUnsynced, Plan, What,
    When,
};

fn one_of_each() -> Plan {
    let power_loss = CrashKind::PowerLoss { keep: KeepUnsynced::Sampled };
    let matching = |label: &str, nth| When::EffectMatching { label: label.to_owned(), nth };
    let rows = [
        (When::Effect(17), What::Crash { kind: power_loss, moment: CrashMoment::Within }),
        (
            When::AtMillis(1500),
            What::Crash { kind: CrashKind::Sigkill, moment: CrashMoment::After },
        ),
        (matching("append blobs/*.seg", 3), What::DiskError { kind: DiskFault::NoSpace }),
        (matching("append *", 1), What::ShortAppend { kind: DiskFault::Io }),
        (matching("read *", 2), What::Stall { millis: 250 }),
        (matching("catalog commit", 9), What::CatalogError { kind: CatalogFault::NoSpace }),
        (matching("connect *", 1), What::NetRefuse),
        (matching("connect *", 2), What::NetCut { after_bytes: 4096, how: Cut::Reset }),
        (matching("accept *", 2), What::NetStall { after_bytes: 10, millis: 40_000 }),
    ];
    let fault = |(id, (when, what))| Fault {
        id: FaultId(id),
        node: "node-1".to_owned(),
        when,
        what,
        times: if id == 3 { 4 } else { 1 },
    };
    Plan { faults: (1..).zip(rows).map(fault).collect() }
}

#[test]
fn a_plan_is_printed_one_line_a_fault() {
    let expected = "\
#1 node-1 at effect 17: crash within it (power loss, what is kept is drawn)
#2 node-1 from 1500 ms: crash after it (SIGKILL)
#3 node-1 at \"append blobs/*.seg\" number 3: fails (no space left on device (ENOSPC)), 4 times
#4 node-1 at \"append *\" number 1: writes a part, then fails (input/output error (EIO))
#5 node-1 at \"read *\" number 2: takes 250 ms longer
#6 node-1 at \"catalog commit\" number 9: the catalog is full
#7 node-1 at \"connect *\" number 1: connection refused
#8 node-1 at \"connect *\" number 2: reset after 4096 bytes
#9 node-1 at \"accept *\" number 2: pauses 40000 ms after 10 bytes
";
    assert_eq!(one_of_each().to_string(), expected);
}

#[test]
fn a_plan_survives_being_written_down() {
    let text = toml::to_string(&one_of_each()).unwrap();
    assert_eq!(toml::from_str::<Plan>(&text).unwrap(), one_of_each(), "{text}");
}

#[test]
fn a_plan_may_be_written_by_hand() {
    let text = r#"
        [[faults]]
        id = 1
        node = "a"
        when = { effect = 3 }
        what = { crash = { kind = "sigkill" } }
    "#;
    let fault = Fault {
        id: FaultId(1),
        node: "a".to_owned(),
        when: When::Effect(3),
        what: What::Crash { kind: CrashKind::Sigkill, moment: CrashMoment::After },
        times: 1,
    };
    assert_eq!(toml::from_str::<Plan>(text).unwrap().faults, [fault]);
    assert!(toml::from_str::<Plan>(&text.replace("id", "nr")).is_err(), "unknown keys are refused");
}

#[test]
fn a_fault_can_be_left_out_and_the_others_stay() {
    let without = one_of_each().without(FaultId(4));
    assert_eq!(without.faults.len(), 8);
    assert!(without.faults.iter().all(|fault| fault.id != FaultId(4)));
}
