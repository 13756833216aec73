//! The simulated machine's clocks: they move when the seed says so, and only then.
//!
//! A stage takes its clocks as plain functions ([`Host`]), so they are kept per thread; one thread runs
//! one simulation at a time.

use millrace::pipeline::Host;
use millrace::protocol::units::Timestamp;
use std::cell::Cell;
use std::time::{Duration, Instant};

pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MILLISECOND;

thread_local! {
    static WALL: Cell<u64> = const { Cell::new(0) };
    static PASSED: Cell<u64> = const { Cell::new(0) };
    /// Only the distance to it is ever looked at.
    static BEGINNING: Instant = Instant::now();
}

/// Sets the wall clock, ns since the Unix epoch, and begins to count anew what has passed.
pub fn begin(wall: u64) {
    WALL.set(wall);
    PASSED.set(0);
}

/// The wall clock.
pub fn wall() -> u64 {
    WALL.get()
}

/// How much time has passed since the beginning, ns.
pub fn passed() -> u64 {
    PASSED.get()
}

/// Lets time pass.
pub fn pass(ns: u64) {
    WALL.set(WALL.get().saturating_add(ns));
    PASSED.set(PASSED.get() + ns);
}

/// Puts the wall clock forward or back while no time passes.
pub fn step(by: i64) {
    WALL.set(WALL.get().saturating_add_signed(by));
}

/// The machine that stages run on.
pub fn host() -> Host {
    Host {
        clock: || Timestamp(WALL.get()),
        now: || BEGINNING.with(|beginning| *beginning + Duration::from_nanos(PASSED.get())),
        say: |_| {},
    }
}
