//! Millrace: the real-time core under an exchange and a payment system.
//!
//! One thread, one order of events, everything in memory, everything in a journal. Start with
//! docs/architecture.md; the binary's verbs are in [`cli`].

pub mod background;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod engine;
pub mod gateway;
pub mod history;
pub mod memory;
pub mod node;
pub mod pipeline;
mod prefetch;
pub mod process;
pub mod proposer;
pub mod protocol;
pub mod replay;
pub mod ring_file;
pub mod session;
pub mod solver;
pub mod study;
pub mod telemetry;
