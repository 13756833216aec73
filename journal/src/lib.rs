//! An append-only journal.
