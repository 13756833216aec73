//! A little of the live torture: every kind of round, twice over two journals. `millrace-torture` does
//! thousands (docs/reliability.md has its table); `MILLRACE_TORTURE_ROUNDS` does more of them here.

use millrace_tools::torture::{Kind, Plan, run};
use std::path::{Path, PathBuf};

/// The node's binary, which `cargo test` of the workspace builds beside this test's directory.
fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("our own name");
    let beside = own.parent().and_then(Path::parent).expect("target");
    let binary = beside.join("millrace");
    assert!(
        binary.is_file(),
        "{} is not there: cargo build first",
        binary.display()
    );
    binary
}

#[test]
fn nothing_is_lost_doubled_invented_or_changed_whatever_is_done_to_a_node() {
    let kinds = Kind::ALL.len() as u32;
    let rounds = std::env::var("MILLRACE_TORTURE_ROUNDS");
    let rounds = rounds.map_or(kinds, |rounds| rounds.parse().expect("a number"));
    let plan = Plan {
        binary: binary(),
        rounds,
        rounds_per_journal: kinds.div_ceil(2),
        clients: 2,
        durability: None,
        seed: 1,
        transfers: 1 << 16,
        kinds: Vec::new(),
        talks: false,
    };
    let dir = tempfile::tempdir().expect("a directory");
    let report = run(&plan, dir.path()).unwrap_or_else(|why| panic!("{why}"));
    let table = report.render(false);
    println!("{table}");
    assert!(report.is_clean(), "{table}");
    assert_eq!(report.rounds(), u64::from(rounds));
    assert!(report.found.answered > 1_000, "{table}");
    assert!(report.found.watched > 100, "{table}");
    assert!(report.cuts > 0 && report.kills > 4, "{table}");
    assert_eq!(report.jumps == 0, !report.skipped.is_empty(), "{table}");
}
