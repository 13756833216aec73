//! The settlement side: payments and the queues they wait in.

pub(super) mod queue;
