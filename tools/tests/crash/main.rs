//! Kills at every instruction and at every system call, and system calls that fail: on real processes
//! and real files, under ptrace. docs/reliability.md has the counts.
//!
//! The test runs its own executable again as the victim; see [`victim`].

mod calls;
#[cfg(target_arch = "x86_64")]
mod commits;
mod judge;
#[cfg(target_arch = "x86_64")]
mod served;
mod steps;
mod victim;
