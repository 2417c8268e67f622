//! The simulated world's upper half: scenarios, the runner, clients, invariants and verdicts.
//!
//! `scenario` says what is run, `run` runs it, `client` asks the nodes, `court`, `history` and `deletes`
//! keep what they were told, `invariants` judge, and `report` is what it came to. Nothing here touches a
//! file, a thread or the time of day: programs do.

pub mod body;
pub mod client;
pub mod court;
pub mod deletes;
pub mod draw;
pub mod gone;
pub mod history;
pub mod holdings;
pub mod image;
pub mod invariants;
pub mod report;
pub mod run;
pub mod scenario;

#[cfg(test)]
mod tests {
    const DOCS: &str = include_str!("../../docs/simulation.md");

    #[test]
    fn the_docs_hold_the_schema_and_the_invariants_as_the_code_has_them() {
        for section in crate::scenario::markdown().split("\n\n").filter(|part| !part.is_empty()) {
            assert!(DOCS.contains(section), "see `kura-sim schema`; not in the docs:\n{section}");
        }
        assert!(DOCS.contains(&crate::invariants::markdown()), "see `kura-sim schema`");
        assert_eq!(DOCS.matches("| invariant |").count(), 1, "one table of invariants");
    }

    #[test]
    fn the_first_scenario_of_the_docs_has_ten_lines_and_passes() {
        let from = DOCS.find("```toml\n").expect("the docs hold a scenario") + "```toml\n".len();
        let text = &DOCS[from..from + DOCS[from..].find("```").expect("it ends")];
        assert_eq!(text.trim_end().lines().count(), 10, "{text}");
        let document = crate::scenario::read("first.toml", text).expect("it is sound");
        let report = crate::run::run(&document, 3, crate::run::Options::default());
        let report = report.expect("its names lead somewhere");
        assert!(matches!(report.verdict, crate::report::Verdict::Pass), "{:?}", report.verdict);
        assert_eq!(report.faults_fired["crash.power-loss"], 1, "power failed");
    }
}
