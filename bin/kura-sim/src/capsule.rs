//! What a failing run leaves behind: everything that is needed to understand and to repeat it.

use std::{
    fs,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use sim::{run::Options, scenario::Document};

use crate::{
    Failure,
    execute::{Timed, execute},
};

/// Writes the capsule of a run below `out`. The journal comes from a second run, which is returned
/// to be compared: it has to be the same.
pub(crate) fn leave(
    out: &Path,
    document: Arc<Document>,
    timed: &Timed,
    (mut options, replay): (Options, &str),
) -> Result<(PathBuf, Timed), Failure> {
    let report = &timed.report;
    let directory = out.join(format!("{}-{}", report.scenario, report.seed));
    let failed = |path: &Path, error| Failure::Io(path.display().to_string(), error);
    fs::create_dir_all(&directory).map_err(|error| failed(&directory, error))?;
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))
    };
    let verdict = serde_json::to_string_pretty(timed)
        .map_err(|error| Failure::Io("verdict.json".to_owned(), error.into()))?;
    write("verdict.json", &verdict)?;
    let plan = toml::to_string_pretty(&report.plan)
        .map_err(|error| Failure::Usage(format!("the plan cannot be written: {error}")))?;
    write("plan.toml", &plan)?;
    write("timeline.txt", &report.timeline)?;
    write("replay.txt", &format!("{replay}\n"))?;
    let journal = directory.join("journal");
    let file = fs::File::create(&journal).map_err(|error| failed(&journal, error))?;
    let mut file = BufWriter::new(file);
    // The recorder must not fail in the middle of a run: a journal that ends early shows it.
    options.recorder = Some(Box::new(move |line| drop(writeln!(file, "{line}"))));
    let journalled = execute(document, report.seed, options)?;
    Ok((directory, journalled))
}
