//! No system call on the hot path: the engine, and the whole pipeline at `process` within a segment, run
//! under a filter that ends the process at its first call. A contended lock is one, too.
//!
//! The filter cannot be taken off again, so each test starts itself once more as a process of its own and
//! looks how that ended.

use super::{Sent, WARM, engine, mix, pipeline};
use millrace::engine::Outbox;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, PoisonError, mpsc};

const CHILD: &str = "MILLRACE_UNDER_FILTER";

/// What a child ends with that came to its end under the filter.
const DONE: i32 = 77;

/// Rounds under the filter: some ten thousand commands.
const ROUNDS: u64 = 80;

/// Runs `work` in a process of its own, which is this test once more; `work` does not return.
fn in_a_process(test: &str, work: impl FnOnce()) -> ExitStatus {
    if std::env::var_os(CHILD).is_some() {
        work();
        unreachable!("it ends under the filter");
    }
    let own = std::env::current_exe().expect("our own name");
    let name = format!("hot_path::calls::{test}");
    let arguments = [&name, "--exact", "--nocapture", "--test-threads=1"];
    let mut command = Command::new(own);
    let output = command.args(arguments).env(CHILD, "1").output();
    let output = output.expect("a process");
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output.status
}

/// From here on this thread may do nothing but say something on stderr and end the process: any other call
/// kills it.
fn confine() {
    let load = |offset: u32| libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    };
    let unless = |k: u32, yes: u8, no: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: yes,
        jf: no,
        k,
    };
    let answer = |k: u32| libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k,
    };
    // The call's number stands first in what a filter sees, its first argument 16 bytes on.
    let (number, first_argument) = (0, if cfg!(target_endian = "big") { 20 } else { 16 });
    let mut filter = [
        load(number),
        unless(libc::SYS_exit_group as u32, 4, 0),
        unless(libc::SYS_write as u32, 0, 2),
        load(first_argument),
        unless(libc::STDERR_FILENO as u32, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls read their arguments only; the program and its filter outlive the second.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program),
            0,
            "{}",
            std::io::Error::last_os_error()
        );
    }
}

/// Ends this process without another call.
fn done() -> ! {
    // SAFETY: it only ends the process.
    unsafe { libc::_exit(DONE) }
}

/// A warm engine and all commands it is to execute under the filter, then `behind`.
fn run_engine(behind: impl FnOnce()) {
    let (mut engine, mut outbox): (_, Outbox) = engine(ROUNDS + WARM);
    for frame in mix::rounds(0, WARM) {
        super::apply(&mut engine, &frame, &mut outbox);
    }
    let frames = mix::rounds(WARM, ROUNDS);
    assert!(frames.len() > 10_000);
    confine();
    for frame in &frames {
        super::apply(&mut engine, frame, &mut outbox);
    }
    behind();
    done();
}

/// The same with a pipeline.
fn run_pipeline(behind: impl FnOnce()) {
    if !clock_is_read_without_a_call() {
        eprintln!("this machine's clock is a system call: nothing to prove here");
        done();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut inline = pipeline(dir.path(), ROUNDS + WARM);
    let mut sent = Sent::new();
    sent.load(&mix::rounds(0, WARM));
    sent.run(&mut inline);
    sent.load(&mix::rounds(WARM, ROUNDS));
    // What the journal does in the background is over.
    std::thread::sleep(std::time::Duration::from_millis(200));
    std::fs::remove_dir_all(dir.path()).expect("nobody needs its name");
    confine();
    let events = sent.run(&mut inline);
    assert!(events > 10_000);
    behind();
    done();
}

/// Whether the system lets a process read the clock by itself: the stages do so once per batch.
fn clock_is_read_without_a_call() -> bool {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(source).unwrap_or_default();
    matches!(
        source.trim(),
        "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "arch_sys_counter"
    )
}

/// A call, as small as they come.
fn call() {
    // SAFETY: it only asks.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGSYS)
}

#[test]
fn a_warm_engine_makes_no_system_call() {
    let status = in_a_process("a_warm_engine_makes_no_system_call", || run_engine(|| ()));
    assert_eq!(status.code(), Some(DONE), "{status}");
}

#[test]
fn one_system_call_behind_the_engine_ends_it() {
    let test = "one_system_call_behind_the_engine_ends_it";
    let status = in_a_process(test, || run_engine(call));
    assert!(killed(status), "{status}");
}

#[test]
fn a_warm_pipeline_at_process_makes_no_system_call() {
    let test = "a_warm_pipeline_at_process_makes_no_system_call";
    let status = in_a_process(test, || run_pipeline(|| ()));
    assert_eq!(status.code(), Some(DONE), "{status}");
}

#[test]
fn a_lock_that_another_thread_holds_ends_a_pipeline() {
    let test = "a_lock_that_another_thread_holds_ends_a_pipeline";
    let status = in_a_process(test, || {
        static LOCK: Mutex<()> = Mutex::new(());
        let (holds, held) = mpsc::channel();
        std::thread::spawn(move || {
            let _held = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
            holds.send(()).expect("somebody waits");
            std::thread::sleep(std::time::Duration::from_secs(60));
        });
        held.recv().expect("it says so");
        run_pipeline(|| drop(LOCK.lock()));
    });
    assert!(
        killed(status) || !clock_is_read_without_a_call(),
        "{status}"
    );
}
