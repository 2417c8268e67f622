//! `kura inspect catalog`: a copy of the catalog, in numbers or row by row.

use kura_env::{Catalog as _, CatalogError};
use kura_node::{
    inspect::{CatalogReport, KeyspaceReport, WatermarkReport, catalog, catalog_rows},
    store::KEYSPACES,
};
use serde_json::{Value, json};

use super::{
    Access, Failure, Verdict,
    access::CatalogCopy,
    show, show_json,
    text::{NOTHING, Side, size, table, verdict},
};

pub(super) async fn look(access: &Access, json: bool) -> Result<Verdict, Failure> {
    let Some(copy) = open(access, json).await? else { return Ok(Verdict::Sound) };
    let looked = catalog(&access.disk, &copy.catalog).await;
    copy.catalog.close().await;
    let mut report = match looked.map_err(Failure::from) {
        Err(Failure::Catalog(CatalogError::Damaged(cause))) => return damaged(&cause, json),
        looked => looked?,
    };
    report.notes.push(copy.note());
    if json {
        show_json(&serde_json::to_value(&report).expect("a report is plain data"))?;
    } else {
        show(&as_text(&report))?;
    }
    Ok(Verdict::of(report.problems.is_empty()))
}

pub(super) async fn look_at_rows(
    access: &Access,
    keyspace: &str,
    limit: usize,
    json: bool,
) -> Result<Verdict, Failure> {
    let known = KEYSPACES.map(|space| space.0);
    if !known.contains(&keyspace) {
        let (name, known) = (keyspace.to_owned(), known.join(", "));
        return Err(Failure::NoKeyspace { name, known });
    }
    let Some(copy) = open(access, json).await? else { return Ok(Verdict::Sound) };
    let read = catalog_rows(&copy.catalog, keyspace, limit).await;
    copy.catalog.close().await;
    let rows = match read {
        Err(CatalogError::Damaged(cause)) => return damaged(&cause, json),
        rows => rows?.unwrap_or_default(),
    };
    let lines = rows.iter().map(|row| match (row, json) {
        (Ok(row), false) => format!("{row}\n"),
        (Ok(row), true) => format!("{}\n", json!(row)),
        (Err(key), false) => format!("a row that cannot be read, under {key}\n"),
        (Err(key), true) => format!("{}\n", json!({ "row": Value::Null, "key": key })),
    });
    show(&lines.collect::<String>())?;
    Ok(Verdict::of(rows.iter().all(Result::is_ok)))
}

/// A copy, open; `None` after it was said that there is no catalog.
async fn open(access: &Access, json: bool) -> Result<Option<CatalogCopy>, Failure> {
    let opened = access.catalog().await;
    if let Err(Failure::Catalog(CatalogError::Damaged(cause))) = &opened {
        return damaged(cause, json).and(Err(Failure::Output(crate::exit::Exit::Unsound)));
    }
    let copy = opened?;
    if copy.is_none() {
        let note = "there is no catalog: the next start makes it from the segments".to_owned();
        report(&[note], &[], json)?;
    }
    Ok(copy)
}

fn damaged(cause: &str, json: bool) -> Result<Verdict, Failure> {
    let problem = format!(
        "{cause}; the next start sets the catalog aside and makes it again, and so does `kura verify \
         --repair`"
    );
    report(&[], &[problem], json)?;
    Ok(Verdict::Unsound)
}

fn report(notes: &[String], problems: &[String], json: bool) -> Result<(), Failure> {
    match json {
        true => show_json(&json!({ "notes": notes, "problems": problems })),
        false => show(&verdict(notes, problems)),
    }
}

fn as_text(report: &CatalogReport) -> String {
    let CatalogReport { saved_stamp, worth, keyspaces, watermarks, notes, problems } = report;
    let mut out = match saved_stamp {
        Some(stamp) => {
            format!("STAMP: catalog {}, {} synced commits\n", stamp.catalog, stamp.count)
        }
        None => "STAMP: none\n".to_owned(),
    };
    out += &format!("the catalog is {worth}\n\n");
    let head = [
        ("KEYSPACE", Side::Left),
        ("ROWS", Side::Right),
        ("BYTES", Side::Right),
        ("STAMP", Side::Left),
    ];
    out += &table(head, &keyspaces.iter().map(keyspace).collect::<Vec<_>>());
    if !watermarks.is_empty() {
        let head = [
            ("SEGMENT", Side::Left),
            ("PLACES", Side::Right),
            ("CONTENTS", Side::Right),
            ("FEED", Side::Right),
            ("FILE", Side::Right),
        ];
        let rows: Vec<_> = watermarks.iter().map(watermark).collect();
        out += &format!("\nindexed up to byte:\n{}", table(head, &rows));
    }
    format!("{out}\n{}", verdict(notes, problems))
}

fn keyspace(report: &KeyspaceReport) -> [String; 4] {
    let KeyspaceReport { name, rows, bytes, stamp, .. } = report;
    let stamp = stamp.as_ref().map(|stamp| format!("{}, {}", stamp.catalog, stamp.count));
    let stamp = stamp.unwrap_or_else(|| NOTHING.to_owned());
    [(*name).to_owned(), rows.to_string(), size(*bytes), stamp]
}

fn watermark(report: &WatermarkReport) -> [String; 5] {
    let WatermarkReport { segment, offsets, len_bytes } = report;
    let shown = |offset: Option<u64>| offset.map_or(NOTHING.to_owned(), |it| it.to_string());
    let [places, contents, feed] = offsets.map(shown);
    [segment.clone(), places, contents, feed, shown(*len_bytes)]
}
