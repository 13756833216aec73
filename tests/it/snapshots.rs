//! Snapshots written by a follower: slowly beside a node or as fast as it goes, they are the same.

use crate::pipeline_support::*;
use millrace::config::Config;
use millrace::engine::Engine;
use millrace::node::Node;
use millrace::pipeline::Inline;
use millrace::replay::snapshot_store::{self, Passage};
use millrace::replay::{Nobody, follow};
use millrace::session::SessionTable;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::Command;

/// A directory after some transfers, and its state.
fn place() -> (tempfile::TempDir, Config, Engine, SessionTable) {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    for id in 1..=500 {
        run_inline(&mut inline, &[transfer(id, 1)]);
    }
    inline.close();
    let (mut engine, mut sessions) = (Engine::new(&config.limits), SessionTable::new(8));
    follow(&config.dir, None, &mut engine, &mut sessions, &mut Nobody).unwrap();
    (dir, config, engine, sessions)
}

#[test]
fn a_paced_snapshot_is_the_one_that_is_written_at_once_and_both_say_how_far_they_are() {
    let (_dir, config, engine, sessions) = place();
    let at_once = snapshot_store::write(&config.dir, &engine, &sessions).unwrap();
    let bytes = std::fs::read(&at_once.path).unwrap();
    let payload = bytes.len() as u64 - 144;
    std::fs::remove_file(&at_once.path).unwrap();

    let mut written = Vec::new();
    let mut passage = Passage {
        per_second: NonZeroU64::new(1 << 30),
        heard: Some(&mut |passed, of| {
            assert_eq!(of, None);
            written.push(passed);
        }),
    };
    let paced = snapshot_store::write_with(&config.dir, &engine, &sessions, &mut passage).unwrap();
    assert_eq!(paced, at_once);
    assert!(std::fs::read(&paced.path).unwrap() == bytes);
    assert_eq!(written.last(), Some(&payload));
    assert!(written.is_sorted());

    for per_second in [None, NonZeroU64::new(1 << 30)] {
        let mut read = Vec::new();
        let mut passage = Passage {
            per_second,
            heard: Some(&mut |passed, of| {
                assert_eq!(of, Some(payload * 2), "it is hashed, then read");
                read.push(passed);
            }),
        };
        let (loaded, notes) = snapshot_store::load_newest_with(
            &config.dir,
            paced.sequence,
            &config.limits,
            8,
            &mut passage,
        )
        .unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(loaded.unwrap().engine.digest(), engine.digest());
        assert_eq!(read.last(), Some(&(payload * 2)));
        assert!(read.is_sorted());
    }
}

fn snapshot(dir: &Path, more: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["snapshot", "--dir"])
        .arg(dir)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_follower_stands_back_beside_a_node_and_one_in_a_hurry_writes_the_same() {
    let (_dir, config, engine, _) = place();
    let node = Node::start(&config).unwrap();
    let (code, said, complaint) = snapshot(&config.dir, &["--pace", "500"]);
    assert_eq!((code, complaint.as_str()), (0, ""), "{said}");
    let (loaded, _) =
        snapshot_store::load_newest(&config.dir, u64::MAX, &config.limits, 8).unwrap();
    let loaded = loaded.unwrap();
    assert_eq!(loaded.engine.digest(), engine.digest());
    node.stop();
    let bytes = std::fs::read(&loaded.path).unwrap();
    std::fs::remove_file(&loaded.path).unwrap();
    let (code, _, complaint) = snapshot(&config.dir, &["--fast"]);
    assert_eq!((code, complaint.as_str()), (0, ""));
    // A node that ends may have ticked once more.
    let (again, _) = snapshot_store::load_newest(&config.dir, u64::MAX, &config.limits, 8).unwrap();
    let again = again.unwrap();
    assert_eq!(again.digest, loaded.digest);
    assert!(again.sequence > loaded.sequence || std::fs::read(&again.path).unwrap() == bytes);
}

#[test]
fn a_pace_of_nothing_or_a_pace_in_a_hurry_is_refused() {
    let (_dir, config, ..) = place();
    for more in [&["--pace", "0"][..], &["--fast", "--pace", "5"]] {
        let (code, _, complaint) = snapshot(&config.dir, more);
        assert_eq!(code, 2, "{complaint}");
    }
    assert!(snapshot_store::list(&config.dir).unwrap().is_empty());
}
