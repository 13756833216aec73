//! Fuzz targets: everything in Millrace that reads bytes it did not write, each as a function from
//! bytes to nothing that panics where a promise is broken.
//!
//! ```text
//!   corpus/NAME/*  --.
//!   mutants, noise --+--> `Target::run`(&[u8])  panics: the input is written down
//! ```
//!
//! A target decodes its bytes with a [`source::Source`], so that most bytes mean something: an index
//! into the golden journals, a small account number, the boundary at which a stream is cut. It never
//! reads a clock or another random number, so an input that failed fails again.

pub mod client;
pub mod commands;
pub mod frames;
pub mod harness;
pub mod journal;
pub mod lines;
pub mod mutate;
pub mod sealed;
pub mod seeds;
pub mod settings;
pub mod snapshots;
pub mod source;

use std::path::{Path, PathBuf};

/// One door through which bytes come in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its test, and of its directory in the corpus.
    pub name: &'static str,
    /// Inputs longer than this are cut, bytes.
    pub len_max: usize,
    /// Takes one input; panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "frames",
        len_max: 4_096,
        run: frames::run,
    },
    Target {
        name: "lines",
        len_max: 4_096,
        run: lines::run,
    },
    Target {
        name: "journal",
        len_max: 1_024,
        run: journal::run,
    },
    Target {
        name: "sealed",
        len_max: 1_024,
        run: sealed::run,
    },
    Target {
        name: "snapshots",
        len_max: 1_024,
        run: snapshots::run,
    },
    Target {
        name: "commands",
        len_max: 4_096,
        run: commands::run,
    },
    Target {
        name: "settings",
        len_max: 8_192,
        run: settings::run,
    },
    Target {
        name: "client",
        len_max: 2_048,
        run: client::run,
    },
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// The directory of the kept inputs of `target`.
pub fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// The data that the project's other tests use.
pub fn test_data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data")
}
