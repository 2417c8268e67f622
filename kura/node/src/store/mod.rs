//! The store: a ring of segments that is the log, and a catalog that is only an index over it.
