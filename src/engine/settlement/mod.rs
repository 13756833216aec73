//! The settlement side: payments and the queues they wait in.

pub(super) mod gridlock;
pub(super) mod queue;
