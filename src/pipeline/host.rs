//! What the stages and the gateway take from the machine around them: its clocks, and where they say
//! what an operator should read. A simulation puts its own in their place.

use crate::protocol::units::Timestamp;
use crate::telemetry;
use std::time::Instant;

/// The machine, as stages see it.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The wall clock, which may jump and step back.
    pub clock: fn() -> Timestamp,
    /// A clock that only goes forward, for waits.
    pub now: fn() -> Instant,
    /// Says a sentence to the operator.
    pub say: fn(&str),
}

impl Default for Host {
    fn default() -> Host {
        Host {
            clock: telemetry::clock,
            now: Instant::now,
            say: |sentence| eprintln!("millrace: {sentence}"),
        }
    }
}
