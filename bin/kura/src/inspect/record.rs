//! `kura inspect record`: where one artifact lies, and what every chunk of it is worth.

use kura_core::{
    address::Address,
    place::Place,
    record::{Artifact, CHUNK_BYTES, SegmentId},
};
use kura_env::CatalogError;
use kura_node::inspect::{
    BodyState, Lying, Name, Record, Sight, VersionParts, copies_of, lying_at, place_of, sight,
};
use serde_json::{Value, json};

use super::{
    Access, Failure, Verdict,
    segment::{record_as_json, segment_id, worth},
    show, show_json,
    text::{Side, hlc_time, path_of, size, table, verdict},
};

/// What was found of one artifact, or at one place.
#[derive(Default)]
struct Found {
    /// Which one was asked for.
    address: Option<Address>,
    /// Where the catalog says that it lies.
    place: Option<Place>,
    at: Option<(SegmentId, u64)>,
    lying: Option<Lying>,
    sight: Option<Sight>,
    /// By a scan of everything: where, and what.
    copies: Option<Vec<(SegmentId, Record)>>,
    notes: Vec<String>,
    problems: Vec<String>,
}

pub(super) async fn look(
    access: &Access,
    words: &[String],
    scan: bool,
    json: bool,
) -> Result<Verdict, Failure> {
    let mut found = Found::default();
    match words {
        [place] => found.at = Some(read_place(place)?),
        [namespace, key, ..] => {
            let address = read_name(namespace, key)?;
            find(access, &address, &mut found).await?;
            found.address = Some(address);
        }
        [] => return Err(Failure::NoPlace(String::new())),
    }
    if let Some((segment, offset)) = found.at {
        found.lying = Some(lying_at(&access.disk, segment, offset).await?);
        found.sight = Some(sight(&access.disk, segment).await?);
    }
    if scan {
        scan_for(access, &mut found).await?;
    }
    found.notes.extend(access.note_of_holder()?);
    found.judge();
    if json {
        show_json(&found.as_json())?
    } else {
        show(&found.as_text())?
    }
    Ok(Verdict::of(found.problems.is_empty()))
}

/// `SEGMENT:OFFSET`.
fn read_place(text: &str) -> Result<(SegmentId, u64), Failure> {
    let parts = text.rsplit_once(':');
    let place =
        parts.and_then(|(segment, offset)| Some((segment_id(segment)?, offset.parse().ok()?)));
    place.ok_or_else(|| Failure::NoPlace(text.to_owned()))
}

/// A name as the path of a client has it: the key is `cas/DIGEST`, `ac/DIGEST` or anything else.
fn read_name(namespace: &str, key: &str) -> Result<Address, Failure> {
    let name = format!("/{namespace}/{key}");
    Address::from_path(&name).map_err(|cause| Failure::NoName { name, cause })
}

/// Asks a copy of the catalog.
async fn find(access: &Access, address: &Address, found: &mut Found) -> Result<(), Failure> {
    let copy = match access.catalog().await {
        Err(Failure::Catalog(CatalogError::Damaged(cause))) => {
            found.problems.push(format!("the catalog is damaged: {cause}"));
            return Ok(());
        }
        opened => opened?,
    };
    let Some(copy) = copy else {
        found.notes.push("there is no catalog: the next start makes it".to_owned());
        return Ok(());
    };
    found.notes.push(copy.note());
    let asked = place_of(&copy.catalog, address).await;
    kura_env::Catalog::close(&copy.catalog).await;
    found.place = asked?;
    found.at = found.place.map(|place| (place.segment, place.offset));
    Ok(())
}

async fn scan_for(access: &Access, found: &mut Found) -> Result<(), Failure> {
    let lying = match &found.lying {
        Some(Lying::Here(record)) => Some(record.artifact.address.clone()),
        Some(Lying::NoFile | Lying::NoHeader(_) | Lying::NoRecord(_)) | None => None,
    };
    let Some(address) = found.address.clone().or(lying) else { return Ok(()) };
    let copies = copies_of(&access.disk, &address).await?;
    let each =
        copies.into_iter().flat_map(|(id, records)| records.into_iter().map(move |it| (id, it)));
    found.copies =
        Some(each.filter(|(id, record)| found.at != Some((*id, record.offset))).collect());
    Ok(())
}

impl Found {
    /// Says what is wrong.
    fn judge(&mut self) {
        if let (Some((segment, offset)), Some(lying)) = (self.at, &self.lying) {
            let at = format!("{segment} at byte {offset}");
            let wrong = match lying {
                Lying::NoFile => Some(format!("{segment} has no file")),
                Lying::NoHeader(why) => Some(format!("{segment} has no header: {why}")),
                Lying::NoRecord(why) => Some(format!("there is no artifact in {at}: {why}")),
                Lying::Here(record) => self.judge_record(record),
            };
            self.problems.extend(wrong);
        }
        match self.sight {
            Some(Sight::OutOfRing) => {
                self.notes.push("the segment is in no ring: what lies in it is a miss".to_owned());
            }
            Some(Sight::Unknown) => self.problems.push("RING cannot be read".to_owned()),
            Some(Sight::Counts) | None => {}
        }
    }

    fn judge_record(&self, record: &Record) -> Option<String> {
        let Artifact { address, digest, .. } = &record.artifact;
        if self.address.as_ref().is_some_and(|asked| asked != address) {
            return Some(format!("what lies there is another artifact, {}", path_of(address)));
        }
        if self.place.is_some_and(|place| place.digest != *digest) {
            return Some("what lies there has another digest than the catalog says".to_owned());
        }
        let bad = !matches!(record.body, BodyState::Whole | BodyState::Unchecked);
        bad.then(|| format!("its body is {}", worth(&record.body)))
    }

    fn as_text(&self) -> String {
        let mut out = String::new();
        if let Some(address) = &self.address {
            out += &match &self.place {
                Some(place) => in_catalog(address, place),
                None => format!("{}: a miss, the catalog has no row of it\n", path_of(address)),
            };
        }
        if let (Some((segment, offset)), Some(Lying::Here(record))) = (self.at, &self.lying) {
            out += &in_segment(segment, offset, record);
        }
        match self.copies.as_deref() {
            Some([]) => out += "a scan of all segments and objects found no other record of it\n",
            Some(copies) => out += &others(copies),
            None => {}
        }
        out + &verdict(&self.notes, &self.problems)
    }

    fn as_json(&self) -> Value {
        let place = self.place.map(|place| {
            json!({
                "segment": place.segment.to_string(), "offset": place.offset,
                "header_bytes": place.header_bytes, "body_bytes": place.body_bytes,
                "sequence": place.sequence, "version": VersionParts::from(place.version),
                "digest": place.digest.to_string(),
            })
        });
        let lying = match &self.lying {
            Some(Lying::Here(record)) => record_as_json(record),
            Some(Lying::NoFile | Lying::NoHeader(_) | Lying::NoRecord(_)) | None => Value::Null,
        };
        let copy = |(id, record): &(SegmentId, Record)| json!({ "segment": id.to_string(), "record": record_as_json(record) });
        json!({
            "name": self.address.as_ref().map(Name::from), "place": place,
            "segment": self.at.map(|(segment, _)| segment.to_string()), "lying": lying,
            "in_ring": self.sight.map(|sight| sight == Sight::Counts),
            "copies": self.copies.as_ref().map(|copies| copies.iter().map(copy).collect::<Value>()),
            "notes": self.notes, "problems": self.problems,
        })
    }
}

fn in_catalog(address: &Address, place: &Place) -> String {
    let Place { segment, offset, body_bytes, sequence, version, .. } = place;
    format!(
        "{}: by the catalog in {segment} at byte {offset}, {} of sequence {sequence}, version of {} by \
         node {:016x}\n",
        path_of(address),
        size(*body_bytes),
        hlc_time(version.time),
        version.node
    )
}

fn in_segment(segment: SegmentId, offset: u64, record: &Record) -> String {
    let Artifact { address, body_bytes, digest, sequence, replica, .. } = &record.artifact;
    let origin = if *replica { "from a peer" } else { "from a client" };
    let mut out = format!(
        "{segment}:{offset} holds {}, {body_bytes} bytes {origin}, sequence {sequence}\n  SHA-256 \
         {digest}\n",
        path_of(address)
    );
    let head = [("CHUNKS", Side::Left), ("FROM BYTE", Side::Right), ("CHECK", Side::Left)];
    let rows: Vec<[String; 3]> = runs(record)
        .into_iter()
        .map(|(first, last, check)| {
            let from = record.body_offset() + (first * CHUNK_BYTES) as u64;
            let chunks =
                if first == last { first.to_string() } else { format!("{first} to {last}") };
            [chunks, from.to_string(), check.to_owned()]
        })
        .collect();
    if !rows.is_empty() {
        out += &table(head, &rows);
    }
    out
}

/// Chunks that stand in a row and are worth the same: the first, the last, and what they are worth.
fn runs(record: &Record) -> Vec<(usize, usize, &'static str)> {
    let mut runs: Vec<(usize, usize, &'static str)> = Vec::new();
    for number in 0..record.artifact.chunk_sums.len() {
        let check = match &record.body {
            BodyState::Unchecked => "unread",
            BodyState::Unreadable(_) => "unreadable",
            BodyState::Damaged(damaged) if damaged.contains(&number) => "DAMAGED",
            BodyState::Damaged(_) | BodyState::Whole => "whole",
        };
        match runs.last_mut() {
            Some((_, last, before)) if *before == check => *last = number,
            Some(_) | None => runs.push((number, number, check)),
        }
    }
    runs
}

fn others(copies: &[(SegmentId, Record)]) -> String {
    let row = |(id, record): &(SegmentId, Record)| {
        let Artifact { body_bytes, sequence, version, .. } = &record.artifact;
        let at = format!("{id}:{}", record.offset);
        [
            at,
            body_bytes.to_string(),
            sequence.to_string(),
            hlc_time(version.time),
            worth(&record.body),
        ]
    };
    let rows: Vec<_> = copies.iter().map(row).collect();
    let head = [
        ("OTHER RECORD", Side::Left),
        ("LENGTH", Side::Right),
        ("SEQUENCE", Side::Right),
        ("VERSION", Side::Left),
        ("BODY", Side::Left),
    ];
    table(head, &rows)
}

#[cfg(test)]
mod tests {
    use kura_core::{
        digest::Digest,
        record::{Area, Version},
    };

    use super::*;

    #[test]
    fn a_place_is_a_segment_and_an_offset() {
        let segment = SegmentId::new(Area::Entries, 5);
        let read = |text: &str| read_place(text).ok();
        assert_eq!(read("entries/0000000000000005:64"), Some((segment, 64)));
        assert_eq!(read("entries/0000000000000005.seg:64"), Some((segment, 64)));
        for wrong in
            ["entries/0000000000000005", "entries/5:64", "key:64", "entries/0000000000000005:x"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn chunks_of_one_worth_that_stand_in_a_row_are_one_line() {
        let record = |body| Record {
            offset: 64,
            header_bytes: 100,
            artifact: Artifact {
                address: Address::from_path("/a/b").unwrap(),
                body_bytes: 6 * CHUNK_BYTES as u64,
                digest: Digest::of(b""),
                sequence: 1,
                version: Version::default(),
                replica: false,
                chunk_sums: vec![0; 6],
            },
            body,
        };
        assert_eq!(runs(&record(BodyState::Whole)), [(0, 5, "whole")]);
        let damaged = runs(&record(BodyState::Damaged(vec![0, 3, 4])));
        let lines = [(0, 0, "DAMAGED"), (1, 2, "whole"), (3, 4, "DAMAGED"), (5, 5, "whole")];
        assert_eq!(damaged, lines);
    }
}
