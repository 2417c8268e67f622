//! Suites that cross crates. There is nothing to import: each lies in `tests/` of this package.
