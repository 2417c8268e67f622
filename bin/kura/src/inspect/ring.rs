//! `kura inspect ring`.

use kura_node::inspect::{MemberReport, RingPart, RingReport, ring};

use super::{
    Access, Failure, Verdict, show, show_json,
    text::{NOTHING, Side, hlc_time, size, table, time, verdict},
};
use crate::settings::Settings;

pub(super) async fn look(
    access: &Access,
    settings: &Settings,
    json: bool,
) -> Result<Verdict, Failure> {
    let store = settings.node_config().store;
    let mut report = ring(&access.disk, (store.capacity_bytes, store.segment_bytes)).await?;
    report.notes.extend(access.note_of_holder()?);
    if json {
        show_json(&serde_json::to_value(&report).expect("a report is plain data"))?;
    } else {
        show(&as_text(&report))?;
    }
    Ok(Verdict::of(report.problems.is_empty()))
}

fn as_text(report: &RingReport) -> String {
    let RingReport { rings, sequence_ceiling, hlc, promised_objects, notes, problems } = report;
    let mut out = String::new();
    if !rings.is_empty() {
        let saved = hlc_time(*hlc);
        out +=
            &format!("every sequence lies below {sequence_ceiling}; latest version: {saved}\n\n");
    }
    for ring in rings {
        out += &part(ring);
    }
    if !promised_objects.is_empty() {
        let row = |(id, until): &(String, u64)| [id.clone(), time(*until)];
        let rows: Vec<_> = promised_objects.iter().map(row).collect();
        let head = [("PROMISED OBJECT", Side::Left), ("UNTIL", Side::Left)];
        out += &format!("{}\n", table(head, &rows));
    }
    out + &verdict(notes, problems)
}

fn part(ring: &RingPart) -> String {
    let RingPart { area, horizon_sequence, segments_max, segment_bytes, members } = ring;
    let room = match (segments_max, segment_bytes) {
        (Some(max), Some(bytes)) => {
            format!("{} of {max} segments of {}", members.len(), size(*bytes))
        }
        _ => format!("{} segments", members.len()),
    };
    let head = format!("{area}: {room}, the eldest first; horizon {horizon_sequence}\n");
    if members.is_empty() {
        return format!("{head}\n");
    }
    let columns = [
        ("SEGMENT", Side::Left),
        ("GENERATION", Side::Left),
        ("FLOW", Side::Left),
        ("STATE", Side::Left),
        ("LENGTH", Side::Right),
        ("ON DISK", Side::Right),
        ("AGE", Side::Left),
        ("FROM SEQUENCE", Side::Right),
        ("PROMISED UNTIL", Side::Left),
    ];
    let rows: Vec<_> = members.iter().map(row).collect();
    format!("{head}{}\n", table(columns, &rows))
}

fn row(member: &MemberReport) -> [String; 9] {
    let known = |bytes: Option<u64>| bytes.map_or(NOTHING.to_owned(), size);
    let state = match (member.len_bytes, member.is_full) {
        (None, _) => "no file",
        (Some(_), true) => "full",
        (Some(_), false) => "open",
    };
    [
        member.segment.clone(),
        member.generation.to_owned(),
        member.flow.to_owned(),
        state.to_owned(),
        known(member.len_bytes),
        known(member.allocated_bytes),
        hlc_time(member.age),
        member.base_sequence.to_string(),
        time(member.promised_until_ms),
    ]
}
