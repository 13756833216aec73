//! A process under ptrace: run instruction by instruction, stopped at every system call, killed there,
//! or lied to about what a call returned. What proofs of crash safety are made with.
//!
//! A victim cooperates: it calls [`obey`] before it starts threads, [`mark`] where the interesting part
//! begins and again where it ends, and says what it has acknowledged with [`acknowledge`]. Everything
//! else about it is as in life. All of a victim's threads are stopped at their calls.
//!
//! A tracer and its victim belong to one thread: the one that called [`Victim::spawn`].

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{PoisonError, RwLock};

/// A process that is traced; killed when dropped.
pub struct Victim {
    pid: Pid,
    /// The thread that obeys and marks.
    main: Pid,
    stdout: ChildStdout,
    said: Vec<u8>,
    acknowledged: u64,
    /// Every thread that was seen, and whether it is inside a system call.
    threads: HashMap<Pid, bool>,
    /// The thread that stopped last and has to be resumed.
    stopped: Option<Pid>,
    over: bool,
}

/// Held while a victim is started: for a moment it has a copy of every open file of this process, locks
/// included. Whoever takes a file's lock meanwhile and wants it free again, holds this to read.
pub static FORKING: RwLock<()> = RwLock::new(());

/// Of this thread's children, the threads that are traced included.
const ANY: WaitPidFlag = WaitPidFlag::__WALL.union(WaitPidFlag::__WNOTHREAD);

/// What a victim did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It came to a mark.
    Mark,
    /// One instruction was executed.
    Step,
    /// It is about to make a system call.
    Enters {
        /// The call's number.
        call: u64,
        /// Whether it is the thread that marks.
        is_main: bool,
    },
    /// A system call is done.
    Leaves,
    /// It ended with this code.
    Exited(i32),
    /// A signal ended it.
    Killed(Signal),
}

impl Victim {
    /// Starts a process and brings it to its first mark.
    #[allow(
        clippy::zombie_processes,
        reason = "whoever traces it waits for it: see `wait` and `end`"
    )]
    pub fn spawn(command: &mut Command) -> Victim {
        let forking = FORKING.write().unwrap_or_else(PoisonError::into_inner);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
        let stdout = child.stdout.take().expect("a pipe");
        rustix::io::ioctl_fionbio(&stdout, true).expect("a pipe that does not block");
        let pid = Pid::from_raw(child.id() as i32);
        let main = match waitpid(None, Some(ANY)).expect("a child to wait for") {
            WaitStatus::Stopped(thread, Signal::SIGSTOP) => thread,
            other => panic!("the victim does not obey: {other:?}"),
        };
        // The files are closed a little after the fork is over.
        drop(forking);
        let mut victim = Victim {
            pid,
            main,
            stdout,
            said: Vec::new(),
            acknowledged: 0,
            threads: HashMap::from([(main, false)]),
            stopped: Some(main),
            over: false,
        };
        let options = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE;
        ptrace::setoptions(main, options).expect("ptrace");
        loop {
            match victim.run_to_call() {
                Event::Mark => return victim,
                Event::Enters { .. } | Event::Leaves => {}
                other => panic!("the victim came to no mark: {other:?}"),
            }
        }
    }

    /// Starts a program that knows nothing of being traced: any program, unchanged. It stands at its very
    /// first instruction; what it says on stdout is not read.
    #[allow(
        clippy::zombie_processes,
        reason = "whoever traces it waits for it: see `wait` and `end`"
    )]
    pub fn spawn_program(command: &mut Command) -> Victim {
        let forking = FORKING.write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from)) };
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
        let stdout = child.stdout.take().expect("a pipe");
        rustix::io::ioctl_fionbio(&stdout, true).expect("a pipe that does not block");
        let pid = Pid::from_raw(child.id() as i32);
        match waitpid(pid, Some(WaitPidFlag::__WALL)).expect("a child to wait for") {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            other => panic!("the program does not start: {other:?}"),
        }
        drop(forking);
        let options = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE;
        ptrace::setoptions(pid, options).expect("ptrace");
        Victim {
            pid,
            main: pid,
            stdout,
            said: Vec::new(),
            acknowledged: 0,
            threads: HashMap::from([(pid, false)]),
            stopped: Some(pid),
            over: false,
        }
    }

    /// What it has said on stdout since this was asked last.
    pub fn said(&mut self) -> String {
        let mut bytes = [0; 4096];
        let mut said = Vec::new();
        while let Ok(count) = self.stdout.read(&mut bytes) {
            if count == 0 {
                break;
            }
            said.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The name of the thread that stopped last.
    pub fn thread_name(&self) -> String {
        let thread = self.stopped.unwrap_or(self.pid);
        let path = format!("/proc/{}/task/{thread}/comm", self.pid);
        let name = std::fs::read_to_string(path).unwrap_or_default();
        name.trim().to_string()
    }

    /// The file that the call being entered is about: its first argument, the fifth of an `mmap`. Empty where
    /// that is none.
    #[cfg(target_arch = "x86_64")]
    pub fn file(&self) -> String {
        let thread = self.stopped.unwrap_or(self.pid);
        const MMAP: u64 = 9;
        let number =
            ptrace::getregs(thread).map_or(u64::MAX, |registers| match registers.orig_rax {
                MMAP => registers.r8,
                _ => registers.rdi,
            });
        let link = std::fs::read_link(format!("/proc/{}/fd/{number}", self.pid));
        link.map(|path| path.display().to_string())
            .unwrap_or_default()
    }

    /// Asks it to end (SIGTERM); go on with [`Victim::run_to_call`] until it has.
    pub fn ask_to_end(&self) {
        let _ = kill(self.pid, Signal::SIGTERM);
    }

    /// Runs it until one of its threads enters or leaves a system call.
    pub fn run_to_call(&mut self) -> Event {
        if let Some(thread) = self.stopped.take() {
            // A thread that died meanwhile has nothing to be resumed.
            let _ = ptrace::syscall(thread, None);
        }
        self.wait()
    }

    /// Executes one instruction of the thread that came to the mark. The others stand still from their
    /// next system call on.
    pub fn step(&mut self) -> Event {
        let thread = self.stopped.take().expect("a stopped thread");
        ptrace::step(thread, None).expect("ptrace");
        loop {
            match waitpid(thread, Some(WaitPidFlag::__WALL)).expect("waitpid") {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                    self.stopped = Some(thread);
                    return Event::Step;
                }
                WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                    self.stopped = Some(thread);
                    return Event::Mark;
                }
                WaitStatus::Exited(_, code) => {
                    self.over = true;
                    return Event::Exited(code);
                }
                WaitStatus::Signaled(_, signal, _) => {
                    self.over = true;
                    return Event::Killed(signal);
                }
                _ => ptrace::step(thread, None).expect("ptrace"),
            }
        }
    }

    /// Makes the call that is being entered fail with `errno` instead of being made.
    #[cfg(target_arch = "x86_64")]
    pub fn fail_call(&mut self, errno: i32) -> Event {
        let thread = self.stopped.expect("a stopped thread");
        let mut registers = ptrace::getregs(thread).expect("ptrace");
        // No such call: the kernel does nothing.
        registers.orig_rax = u64::MAX;
        ptrace::setregs(thread, registers).expect("ptrace");
        ptrace::syscall(thread, None).expect("ptrace");
        loop {
            match waitpid(thread, Some(WaitPidFlag::__WALL)).expect("waitpid") {
                WaitStatus::PtraceSyscall(_) => break,
                WaitStatus::Stopped(_, signal) => ptrace::syscall(thread, signal).expect("ptrace"),
                other => panic!("the call did not come back: {other:?}"),
            }
        }
        let mut registers = ptrace::getregs(thread).expect("ptrace");
        registers.rax = i64::from(-errno) as u64;
        ptrace::setregs(thread, registers).expect("ptrace");
        self.threads.insert(thread, false);
        Event::Leaves
    }

    /// Kills it where it stands, as `kill -9` does.
    pub fn kill(mut self) -> u64 {
        self.end();
        self.acknowledged()
    }

    /// The highest number that it has acknowledged so far.
    pub fn acknowledged(&mut self) -> u64 {
        let mut bytes = [0; 4096];
        loop {
            match self.stdout.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => self.said.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if let Some(end) = self.said.iter().rposition(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(&self.said[..end]).into_owned();
            self.said.drain(..=end);
            let numbers = text
                .lines()
                .filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
            self.acknowledged = numbers.fold(self.acknowledged, u64::max);
        }
        self.acknowledged
    }

    fn end(&mut self) {
        if self.over {
            return;
        }
        let _ = kill(self.pid, Signal::SIGKILL);
        while !self.over {
            match waitpid(None, Some(ANY)) {
                Ok(status) => self.over = ended(status).is_some_and(|(pid, _)| pid == self.pid),
                Err(_) => self.over = true,
            }
        }
    }

    fn wait(&mut self) -> Event {
        loop {
            let status = waitpid(None, Some(ANY)).expect("a child to wait for");
            if let Some((pid, event)) = ended(status) {
                if pid == self.pid {
                    self.over = true;
                    return event;
                }
                self.threads.remove(&pid);
                continue;
            }
            match status {
                WaitStatus::PtraceSyscall(thread) => {
                    self.stopped = Some(thread);
                    let inside = self.threads.entry(thread).or_default();
                    *inside = !*inside;
                    return if *inside {
                        Event::Enters {
                            call: call_of(thread),
                            is_main: thread == self.main,
                        }
                    } else {
                        Event::Leaves
                    };
                }
                WaitStatus::Stopped(thread, Signal::SIGSTOP) => {
                    if thread == self.main {
                        self.stopped = Some(thread);
                        return Event::Mark;
                    }
                    // How a new thread says hello.
                    self.threads.insert(thread, false);
                    let _ = ptrace::syscall(thread, None);
                }
                WaitStatus::Stopped(thread, signal) => {
                    let _ = ptrace::syscall(thread, signal);
                }
                WaitStatus::PtraceEvent(thread, ..) => {
                    let _ = ptrace::syscall(thread, None);
                }
                other => panic!("what is {other:?}?"),
            }
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.end();
    }
}

fn ended(status: WaitStatus) -> Option<(Pid, Event)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((pid, Event::Exited(code))),
        WaitStatus::Signaled(pid, signal, _) => Some((pid, Event::Killed(signal))),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
fn call_of(thread: Pid) -> u64 {
    ptrace::getregs(thread).map_or(u64::MAX, |registers| registers.orig_rax)
}

#[cfg(not(target_arch = "x86_64"))]
fn call_of(_thread: Pid) -> u64 {
    u64::MAX
}

/// For the victim: be traced by whoever started this process. Comes first.
pub fn obey() {
    ptrace::traceme().expect("ptrace is allowed here");
    mark();
}

/// For the victim: the interesting part begins, or ends.
pub fn mark() {
    raise(Signal::SIGSTOP).expect("a signal");
}

/// For the victim: everything up to `number` is safe.
pub fn acknowledge(number: u64) {
    let mut out = std::io::stdout().lock();
    let line = format!("\nack {number}\n");
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .expect("somebody listens");
}
