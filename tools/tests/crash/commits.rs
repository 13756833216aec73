//! What a group commit asks of the system: at `disk` one fdatasync whatever the number of commands it
//! covers, at `process` nothing. Counted by the calls of a pipeline's thread under ptrace.

use crate::judge::directory;
use crate::victim::spawn;
use millrace_tools::tracer::Event;

/// Of the x86-64 system calls.
const FDATASYNC: u64 = 75;
const TGKILL: u64 = 234;
/// What `raise` does before it: it asks who it is, and blocks signals.
const RAISES: [u64; 3] = [14, 39, 186];

/// The calls that the thread makes which runs the pipeline, from the first mark to the second.
fn calls(role: &str) -> Vec<u64> {
    let dir = directory();
    let mut victim = spawn(dir.path(), role);
    let mut calls = Vec::new();
    loop {
        match victim.run_to_call() {
            Event::Enters { call, is_main } => calls.extend(is_main.then_some(call)),
            Event::Leaves => {}
            Event::Mark => break,
            other => panic!("{role}: {other:?}"),
        }
    }
    victim.kill();
    // A mark is a signal that the thread sends to itself: the calls of that come last.
    let sends = calls.iter().rposition(|call| *call == TGKILL);
    let begins = calls[..sends.expect("it marks")]
        .iter()
        .rposition(|call| !RAISES.contains(call));
    calls.truncate(begins.map_or(0, |last| last + 1));
    calls
}

#[test]
fn a_group_commit_at_disk_is_one_fdatasync_whatever_its_size() {
    for (groups, size) in [(20, 1), (20, 48), (3, 400)] {
        let calls = calls(&format!("commits 1 {groups} {size}"));
        assert_eq!(calls, vec![FDATASYNC; groups], "{size} commands a commit");
    }
}

#[test]
fn a_group_commit_at_process_asks_the_system_for_nothing() {
    assert_eq!(calls("commits 0 20 48"), Vec::<u64>::new());
}
