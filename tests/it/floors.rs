//! Arrows only go down: who may import whom (docs/architecture.md). Reads the `use` lines and paths
//! of the source, so a new arrow upwards fails here before anyone reviews it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the root crate with the modules it may name.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("telemetry", &["protocol"]),
    ("memory", &[]),
    ("background", &[]),
    ("ring_file", &[]),
    ("prefetch", &[]),
    ("engine", &["protocol", "memory", "prefetch"]),
    ("session", &["protocol"]),
    ("solver", &[]),
    ("config", &["engine", "protocol", "pipeline", "ring_file"]),
    (
        "pipeline",
        &[
            "protocol",
            "engine",
            "session",
            "telemetry",
            "replay",
            "config",
        ],
    ),
    (
        "replay",
        &[
            "protocol",
            "engine",
            "session",
            "pipeline",
            "config",
            "prefetch",
            "background",
        ],
    ),
    ("history", &["protocol", "engine", "session", "replay"]),
    (
        "gateway",
        &["protocol", "pipeline", "telemetry", "config", "ring_file"],
    ),
    ("client", &["protocol", "ring_file"]),
    (
        "node",
        &[
            "protocol",
            "engine",
            "pipeline",
            "replay",
            "gateway",
            "config",
            "telemetry",
            "session",
        ],
    ),
    ("process", &[]),
    ("doctor", &["config", "pipeline"]),
    (
        "proposer",
        &[
            "protocol", "engine", "session", "replay", "client", "solver",
        ],
    ),
    (
        "bench",
        &[
            "protocol",
            "engine",
            "pipeline",
            "config",
            "gateway",
            "client",
            "telemetry",
            "replay",
            "session",
            "process",
        ],
    ),
    (
        "study",
        &["protocol", "engine", "bench", "solver", "proposer"],
    ),
    (
        "demo",
        &[
            "protocol",
            "engine",
            "client",
            "config",
            "replay",
            "telemetry",
            "bench",
            "process",
        ],
    ),
];

/// Rooms of the engine do not know each other; what they may share is listed.
const ROOMS: &[(&str, &[&str])] = &[
    ("ledger.rs", &["index", "postings"]),
    ("window.rs", &["index"]),
    ("deadlines.rs", &["index"]),
    ("transfers.rs", &["deadlines", "index", "window"]),
    ("authorisations.rs", &["deadlines", "index", "window"]),
    ("reference_data.rs", &["index"]),
    // An instrument's row is kept in a registry, like an asset's.
    ("instruments.rs", &["band", "index", "reference_data"]),
    ("business_day.rs", &[]),
    ("collateral.rs", &["index"]),
    ("index.rs", &[]),
    ("outbox.rs", &[]),
    ("postings.rs", &[]),
    ("limits.rs", &[]),
    ("settlement", &["deadlines", "index", "window"]),
    // Tables are written and read the same way everywhere.
    ("matching", &["Limits", "band", "deadlines", "snapshot"]),
];

#[test]
fn imports_only_go_down() {
    for (module, allowed) in MAY_IMPORT {
        let named = imports(&sources(&root().join("src"), module), "crate::");
        for other in &named {
            let known = MAY_IMPORT.iter().any(|(name, _)| name == other);
            assert!(
                !known || other == module || allowed.contains(&other.as_str()),
                "{module} imports {other}: no arrow of docs/architecture.md goes there"
            );
        }
    }
    let listed: BTreeSet<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    for module in modules() {
        let is_top = matches!(module.as_str(), "cli" | "lib" | "main");
        assert!(
            is_top || listed.contains(module.as_str()),
            "{module} has no floor"
        );
    }
}

#[test]
fn rooms_do_not_know_each_other() {
    for (room, allowed) in ROOMS {
        let files = sources(&root().join("src/engine"), room.trim_end_matches(".rs"));
        for other in imports(&files, "crate::engine::") {
            let own = room.trim_end_matches(".rs") == other;
            assert!(
                own || allowed.contains(&other.as_str()),
                "room {room} imports {other}"
            );
        }
        if room.ends_with(".rs") {
            for other in imports(&files, "super::") {
                assert!(
                    allowed.contains(&other.as_str()),
                    "room {room} imports {other}"
                );
            }
        }
    }
}

#[test]
fn the_engine_is_pure() {
    let files = sources(&root().join("src"), "engine");
    assert!(files.len() > 15);
    for file in files {
        // Tests may do what they like.
        if file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let text = code_of(&file);
        for word in [
            "std::time",
            "Instant",
            "SystemTime",
            "std::thread",
            "std::fs",
            "std::net",
            "HashMap",
            "HashSet",
            "f32",
            "f64",
            "unsafe {",
            "println!",
        ] {
            assert!(!text.contains(word), "{} holds {word}", file.display());
        }
    }
    let head = fs::read_to_string(root().join("src/engine/mod.rs")).unwrap();
    assert!(head.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn the_journal_knows_nothing_of_ours() {
    let manifest = fs::read_to_string(root().join("journal/Cargo.toml")).unwrap();
    assert!(!manifest.contains("path ="));
    for file in sources(&root().join("journal"), "src") {
        assert!(!code_of(&file).contains("millrace::"), "{}", file.display());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn modules() -> Vec<String> {
    let entries = fs::read_dir(root().join("src")).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "rs"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect()
}

/// Every source file of a module: `name.rs`, and all below `name/`.
fn sources(parent: &Path, name: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let file = parent.join(name).with_extension("rs");
    if file.is_file() {
        files.push(file);
    }
    let mut folders = vec![parent.join(name)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "{name} has no source");
    files
}

/// The text of a file without comments and without its inline tests.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines()
        .map(|line| line.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The first name after `prefix` wherever it stands.
fn imports(files: &[PathBuf], prefix: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for file in files {
        for rest in code_of(file).split(prefix).skip(1) {
            if let Some(list) = rest.strip_prefix('{') {
                let list = list.split("};").next().unwrap();
                named.extend(list.split(',').map(|item| first_word(item.trim())));
            } else {
                named.insert(first_word(rest));
            }
        }
    }
    named.remove("");
    named
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}
