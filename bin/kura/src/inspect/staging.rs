//! `kura inspect staging`.

use kura_node::inspect::{StagedKind, StagedReport, StagingReport, staging};
use serde_json::json;

use super::{
    Access, Failure, Verdict,
    access::Hold,
    show, show_json,
    text::{Side, count, size, table, verdict},
};
use crate::settings::Settings;

pub(super) async fn look(
    access: &Access,
    settings: &Settings,
    json: bool,
) -> Result<Verdict, Failure> {
    let holder = match access.hold()? {
        Hold::Taken(holder) => Some(holder),
        Hold::Free { .. } => None,
    };
    let reports = staging(&access.disk, settings.staging_dir().is_some()).await?;
    let notes = notes(&reports, holder.as_deref());
    if json {
        show_json(&json!({ "directories": reports, "holder": holder, "notes": notes }))?;
    } else {
        let text: String =
            reports.iter().map(|report| as_text(report, settings, holder.is_some())).collect();
        show(&format!("{text}{}", verdict(&notes, &[])))?;
    }
    Ok(Verdict::Sound)
}

/// Who the files belong to, and what becomes of them.
fn notes(reports: &[StagingReport], holder: Option<&str>) -> Vec<String> {
    let of = |kind| {
        let files = reports.iter().flat_map(|report| &report.files);
        files.filter(move |file| file.kind == kind).count() as u64
    };
    let (parts, foreign) = (of(StagedKind::Part), of(StagedKind::Foreign));
    let mut notes = Vec::new();
    match holder {
        Some(holder) if parts > 0 => {
            notes.push(format!("{} in flight: {holder} runs", count(parts, "body")));
        }
        None if parts > 0 => {
            let parts = count(parts, "staging file");
            notes.push(format!("{parts} of an earlier life: the next start removes them"));
        }
        Some(_) | None => {}
    }
    if foreign > 0 {
        let foreign = count(foreign, "entry");
        notes.push(format!("{foreign} of other names: left alone by every start"));
    }
    notes
}

fn as_text(report: &StagingReport, settings: &Settings, is_in_use: bool) -> String {
    let StagingReport { dir, is_there, files } = report;
    let place = match settings.staging_dir() {
        Some(chosen) if *dir != "tmp" => format!("{dir}, in {}", chosen.display()),
        Some(_) | None => (*dir).to_owned(),
    };
    if !is_there {
        return format!("{place}: there is no such directory\n\n");
    }
    let held_bytes = files.iter().map(|file| file.allocated_bytes).sum();
    let mut out =
        format!("{place}: {} of {} on disk\n", count(files.len() as u64, "file"), size(held_bytes));
    if !files.is_empty() {
        let head = [
            ("NAME", Side::Left),
            ("KIND", Side::Left),
            ("LENGTH", Side::Right),
            ("ON DISK", Side::Right),
        ];
        out += &table(head, &files.iter().map(|file| row(file, is_in_use)).collect::<Vec<_>>());
    }
    out + "\n"
}

fn row(file: &StagedReport, is_in_use: bool) -> [String; 4] {
    let kind = match file.kind {
        StagedKind::Part if is_in_use => "in flight",
        StagedKind::Part => "stale",
        StagedKind::Lock => "lock",
        StagedKind::Foreign => "foreign",
    };
    [file.name.clone(), kind.to_owned(), size(file.len_bytes), size(file.allocated_bytes)]
}
