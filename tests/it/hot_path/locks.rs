//! No lock and no shared cell on the hot path, by the words of its source; and whatever the rest of the
//! pipeline and the journal hold of the kind is listed in docs/performance.md with why no command takes it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a command goes: the engine and the stages around it. Shared counts (`Arc`) are taken when a
/// stage is made, and only read from then on.
const HOT: &[&str] = &[
    "src/engine",
    "src/pipeline/executor.rs",
    "src/pipeline/ingress.rs",
    "src/pipeline/inline.rs",
    "src/pipeline/journaler.rs",
    "src/pipeline/responder.rs",
    "src/pipeline/window.rs",
    "src/prefetch.rs",
    "src/ring_file.rs",
    "src/session.rs",
    "journal/src/chain.rs",
    "journal/src/tail.rs",
    "journal/src/writer.rs",
];

/// What stands around it and is reachable from there.
const AROUND: &[&str] = &[
    "src/pipeline",
    "src/telemetry",
    "src/gateway",
    "journal/src",
];

/// What waits for another thread, or may.
const LOCKS: &[&str] = &[
    "Barrier", "Condvar", "LazyLock", "Mutex", "OnceLock", "RwLock", "mpsc",
];

/// What is counted or borrowed at run time, or belongs to a thread.
const CELLS: &[&str] = &["Rc", "RefCell", "thread_local"];

#[test]
fn the_hot_path_holds_no_lock_and_no_shared_cell() {
    let mut files = 0;
    for file in HOT.iter().flat_map(|place| sources(place)) {
        let words = words_of(&file);
        for word in LOCKS.iter().chain(CELLS) {
            assert!(
                !words.contains(&word.to_string()),
                "{} holds {word}",
                file.display()
            );
        }
        files += 1;
    }
    assert!(files > 60, "{files} files are looked at");
}

#[test]
fn every_lock_around_the_hot_path_is_accounted_for() {
    let page = fs::read_to_string(root().join("docs/performance.md")).unwrap();
    let section = page
        .split("\n## Hot path audit")
        .nth(1)
        .expect("the section");
    let section = section.split("\n## ").next().unwrap();
    for file in AROUND.iter().flat_map(|place| sources(place)) {
        let words = words_of(&file);
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        for word in LOCKS {
            assert!(
                !words.contains(&word.to_string())
                    || section
                        .lines()
                        .any(|line| line.contains(&format!("`{name}`")) && line.contains(word)),
                "{name} holds a {word} that docs/performance.md does not explain"
            );
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A source file, or all below a folder.
fn sources(place: &str) -> Vec<PathBuf> {
    let place = root().join(place);
    if place.is_file() {
        return vec![place];
    }
    let mut files = Vec::new();
    collect(&place, &mut files);
    assert!(!files.is_empty(), "{} has no source", place.display());
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.unwrap().path();
        let is_tests = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_tests {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") && !is_tests {
            files.push(path);
        }
    }
}

/// The words of a file's code, without comments and tests.
fn words_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code = code.lines().map(|line| line.split("//").next().unwrap());
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.flat_map(|line| line.split(|c| !is_part(c)))
        .map(str::to_owned)
        .collect()
}
