//! `kura inspect segment`: a line for each record, as they are read, so that a segment of any size takes no
//! memory.

use std::path::Path;

use kura_core::record::{Area, Flow, SegmentId};
use kura_env::{Disk, DiskError, DiskErrorKind, DiskPath, File};
use kura_host::HostDisk;
use kura_node::inspect::{BodyState, Item, Name, Record, SegmentHead, VersionParts, walk};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{
    Access, Failure, Verdict, show,
    text::{count, hlc_time, path_of, size, verdict},
};

/// Bytes of text that are printed at once.
const PRINT_BYTES: usize = 64 * 1024;

pub(super) async fn look(
    access: &Access,
    target: &str,
    with_bodies: bool,
    json: bool,
) -> Result<Verdict, Failure> {
    let (file, id) = open(access, target).await?;
    let (len_bytes, held_bytes) = (file.len().await?, file.allocated_bytes().await?);
    let mut page = Page { json, out: String::new(), failed: None, sum: Sum::default() };
    if !json {
        let name = id.map_or(target.to_owned(), |id| id.to_string());
        page.out = format!("{name}: {len_bytes} bytes, {} on disk\n", size(held_bytes));
    }
    walk(&*file, id, with_bodies, &mut |item| page.item(item)).await?;
    let notes: Vec<String> = access.note_of_holder()?.into_iter().collect();
    page.end(&notes)
}

/// The file of a segment of the data directory, and which it is; or any file.
async fn open(
    access: &Access,
    target: &str,
) -> Result<(Arc<dyn File>, Option<SegmentId>), Failure> {
    if let Some(id) = segment_id(target) {
        let opened = access.disk.open(&DiskPath::new(&id.path())).await;
        match opened {
            Err(DiskError { kind: DiskErrorKind::NotFound, .. }) => {}
            opened => return Ok((opened?, Some(id))),
        }
    }
    let path = Path::new(target);
    let (Some(dir), Some(name), true) = (path.parent(), path.file_name(), path.is_file()) else {
        return Err(Failure::NoSegment(target.to_owned()));
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let disk = HostDisk::read_only(dir, 1).map_err(Failure::World)?;
    let name = name.to_str().filter(|name| name.bytes().all(is_plain));
    let name = name.ok_or_else(|| Failure::NoSegment(target.to_owned()))?;
    Ok((disk.open(&DiskPath::new(name)).await?, None))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The segment of this name: `blobs/0000000000000001`, as it is shown everywhere, or the path of its file
/// below the data directory.
pub(super) fn segment_id(text: &str) -> Option<SegmentId> {
    let (area, rest) = text.split_once('/')?;
    let area = Area::ALL.into_iter().find(|it| it.dir() == area)?;
    let number = rest.rsplit_once('/').map_or(rest, |(_, name)| name);
    let digits = number.split('.').next().unwrap_or_default();
    let id = SegmentId::new(area, u64::from_str_radix(digits, 16).ok()?);
    [id.to_string(), id.path()].contains(&text.to_owned()).then_some(id)
}

/// What was seen.
#[derive(Default)]
struct Sum {
    records: u64,
    body_bytes: u64,
    skips: u64,
    gaps: u64,
    damaged: u64,
    problems: Vec<String>,
    end: Option<String>,
}

/// The text as far as it is not printed yet.
struct Page {
    json: bool,
    out: String,
    failed: Option<Failure>,
    sum: Sum,
}

impl Page {
    fn item(&mut self, item: Item) {
        self.sum.add(&item);
        if self.json {
            self.out += &format!("{}\n", as_json(&item));
        } else {
            self.out += &as_text(&item);
        }
        if self.out.len() >= PRINT_BYTES && self.failed.is_none() {
            self.failed = show(&std::mem::take(&mut self.out)).err();
        }
        if self.failed.is_some() {
            self.out.clear();
        }
    }

    fn end(self, notes: &[String]) -> Result<Verdict, Failure> {
        let Self { json, mut out, failed, sum } = self;
        if let Some(failed) = failed {
            return Err(failed);
        }
        if json {
            let Sum { records, body_bytes, skips, gaps, damaged, problems, .. } = &sum;
            let sum = json!({
                "what": "sum", "records": records, "body_bytes": body_bytes, "skips": skips,
                "gaps": gaps, "damaged": damaged, "notes": notes, "problems": problems,
            });
            out += &format!("{sum}\n");
        } else {
            out += &sum.as_text(notes);
        }
        show(&out)?;
        Ok(Verdict::of(sum.problems.is_empty()))
    }
}

impl Sum {
    fn add(&mut self, item: &Item) {
        match item {
            Item::Header(_) => {}
            Item::NoHeader(why) => self.problems.push(format!("it has no header: {why}")),
            Item::Record(record) => {
                self.records += 1;
                self.body_bytes += record.artifact.body_bytes;
                if !matches!(record.body, BodyState::Whole | BodyState::Unchecked) {
                    self.damaged += 1;
                }
            }
            Item::Skip { .. } => self.skips += 1,
            Item::Gap { .. } => self.gaps += 1,
            Item::End { offset, len_bytes, why, .. } => {
                let left = len_bytes.saturating_sub(*offset);
                self.end = Some(match why {
                    None => format!("the log ends at byte {offset}, as the file does"),
                    Some(why) => format!(
                        "the log ends at byte {offset}; the {left} bytes behind are no record: {why}"
                    ),
                });
            }
        }
        if let Item::End { .. } = item {
            if self.damaged > 0 {
                let damaged = count(self.damaged, "damaged body");
                self.problems.push(format!(
                    "{damaged}: `kura inspect record SEGMENT:OFFSET` shows which chunks, and `kura \
                     verify --repair` makes the artifact a miss"
                ));
            }
            if self.gaps > 0 {
                self.problems.push(format!("{} between records", count(self.gaps, "gap")));
            }
        }
    }

    fn as_text(&self, notes: &[String]) -> String {
        let Self { records, body_bytes, skips, problems, end, .. } = self;
        let mut out = String::new();
        if let Some(end) = end {
            let (records, skips) = (count(*records, "record"), count(*skips, "skip record"));
            out += &format!("\n{records} with {} of bodies, {skips}\n{end}\n", size(*body_bytes));
        }
        out + &verdict(notes, problems)
    }
}

fn flow(flow: Flow) -> &'static str {
    match flow {
        Flow::Live => "live",
        Flow::CatchUp => "catch-up",
    }
}

/// What a body is worth, in a word or two.
pub(super) fn worth(body: &BodyState) -> String {
    match body {
        BodyState::Unchecked => "unread".to_owned(),
        BodyState::Whole => "whole".to_owned(),
        BodyState::Damaged(chunks) if chunks.len() == 1 => {
            format!("damaged in chunk {}", chunks[0])
        }
        BodyState::Damaged(chunks) => format!("damaged in {} chunks", chunks.len()),
        BodyState::Unreadable(_) => "unreadable".to_owned(),
    }
}

fn as_text(item: &Item) -> String {
    match item {
        Item::Header(SegmentHead { id, flow: it, age, base_sequence, first_offset }) => {
            let (it, age) = (flow(*it), hlc_time(*age));
            format!(
                "{it} segment {id} of {age}, from sequence {base_sequence}; records from byte \
                 {first_offset}\n\n{:>12}  {:<8}  {:>12}  {:>10}  {:<29}  {:<8}  NAME\n",
                "OFFSET", "KIND", "LENGTH", "SEQUENCE", "VERSION", "BODY"
            )
        }
        Item::NoHeader(_) | Item::End { .. } => String::new(),
        Item::Record(record) => {
            let Record { offset, artifact, body, .. } = &**record;
            let kind = if artifact.replica { "replica" } else { "artifact" };
            format!(
                "{offset:>12}  {kind:<8}  {:>12}  {:>10}  {:<29}  {:<8}  {}\n",
                artifact.body_bytes,
                artifact.sequence,
                hlc_time(artifact.version.time),
                worth(body).split(' ').next().unwrap_or_default(),
                path_of(&artifact.address)
            )
        }
        Item::Skip { offset, end } => {
            let length = end - offset;
            format!("{offset:>12}  skip      {length:>12}  passes over what a crash left\n")
        }
        Item::Gap { offset, end, why, .. } => {
            let length = end - offset;
            format!("{offset:>12}  GAP       {length:>12}  no record: {why}\n")
        }
    }
}

fn as_json(item: &Item) -> Value {
    match item {
        Item::Header(SegmentHead { id, flow: it, age, base_sequence, first_offset }) => json!({
            "what": "header", "segment": id.to_string(), "flow": flow(*it), "age": age,
            "base_sequence": base_sequence, "first_offset": first_offset,
        }),
        Item::NoHeader(why) => json!({ "what": "no_header", "why": why.to_string() }),
        Item::Record(record) => record_as_json(record),
        Item::Skip { offset, end } => json!({ "what": "skip", "offset": offset, "end": end }),
        Item::Gap { offset, end, why, is_read } => json!({
            "what": "gap", "offset": offset, "end": end, "why": why.to_string(),
            "is_read": is_read,
        }),
        Item::End { offset, len_bytes, why, is_read } => json!({
            "what": "end", "offset": offset, "len_bytes": len_bytes, "is_read": is_read,
            "why": why.as_ref().map(ToString::to_string),
        }),
    }
}

/// A record as JSON.
pub(super) fn record_as_json(record: &Record) -> Value {
    let Record { offset, header_bytes, artifact, body } = record;
    let damaged_chunks = match body {
        BodyState::Damaged(chunks) => chunks.clone(),
        BodyState::Unchecked | BodyState::Whole | BodyState::Unreadable(_) => Vec::new(),
    };
    json!({
        "what": "record", "offset": offset, "header_bytes": header_bytes,
        "name": Name::from(&artifact.address), "body_bytes": artifact.body_bytes,
        "digest": artifact.digest.to_string(), "sequence": artifact.sequence,
        "version": VersionParts::from(artifact.version), "replica": artifact.replica,
        "body": match body {
            BodyState::Unchecked => "unchecked",
            BodyState::Whole => "whole",
            BodyState::Damaged(_) => "damaged",
            BodyState::Unreadable(_) => "unreadable",
        },
        "damaged_chunks": damaged_chunks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_known_by_its_name_and_by_its_file() {
        let blob = SegmentId::new(Area::Blobs, 0x1a);
        let object = SegmentId::new(Area::Pool, 0x1234);
        for (text, id) in [
            ("blobs/000000000000001a", Some(blob)),
            ("blobs/000000000000001a.seg", Some(blob)),
            ("pool/0000000000001234", Some(object)),
            ("pool/34/0000000000001234.blob", Some(object)),
            ("pool/35/0000000000001234.blob", None),
            ("blobs/1a", None),
            ("blobs/000000000000001A", None),
            ("blobs/000000000000001a.blob", None),
            ("quarantine/pool/0000000000001234.blob", None),
            ("nothing", None),
        ] {
            assert_eq!(segment_id(text), id, "{text}");
        }
    }
}
