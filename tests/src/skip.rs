//! Tests that cannot run where they are.

/// Says so in the words that `cargo xtask test` looks for. The test returns behind it.
#[allow(clippy::print_stdout, reason = "the words are read from the standard output of the suite")]
pub fn skip(name: &str, reason: &str) {
    println!("SKIPPED {name}: {reason}");
}
