//! Millrace: the real-time core under an exchange and a payment system.
//!
//! One thread, one order of events, everything in memory, everything in a journal. Start with
//! docs/architecture.md; the binary's verbs are in [`cli`].

pub mod bench;
pub mod cli;
pub mod engine;
mod memory;
mod prefetch;
pub mod protocol;
