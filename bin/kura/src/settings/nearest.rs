//! The name that somebody probably meant.

/// How many edits may lie between what was written and what is suggested, as a share of the longer
/// of the two. Too low: obvious slips get no suggestion. Too high: suggestions are nonsense.
const EDITS_SHARE: (usize, usize) = (1, 3);

/// The name nearest to `written`, if one is near enough. Case does not count. Of equally near ones
/// the first.
pub(crate) fn among<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    names
        .into_iter()
        .filter_map(|name| {
            let edits = strsim::damerau_levenshtein(&written, &name.to_ascii_lowercase());
            let longer = written.chars().count().max(name.chars().count());
            (edits * EDITS_SHARE.1 <= longer * EDITS_SHARE.0).then_some((edits, name))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let names = ["store.capacity", "store.segment", "http.port"];
        for (written, nearest) in [
            ("store.capcity", Some("store.capacity")),
            ("store.capactiy", Some("store.capacity")),
            ("Store.Capacity", Some("store.capacity")),
            ("sotre.segments", Some("store.segment")),
            ("http.prot", Some("http.port")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(among(written, names), nearest, "{written:?}");
        }
    }
}
