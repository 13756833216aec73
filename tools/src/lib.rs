//! What an operator runs beside a node. `millrace-torture` does to a node whatever can happen to one,
//! over and over, and compares what its clients were told with what its journal holds.
//!
//! [`simulator`] runs a whole node and its clients in one thread, from one seed.
//! [`tracer`] holds a process under ptrace, for proofs that kill at every instruction and every call.

pub mod simulator;
pub mod torture;
#[cfg(target_os = "linux")]
pub mod tracer;
