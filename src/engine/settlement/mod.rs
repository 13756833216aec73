//! The settlement side: payments and the queues they wait in, what bounds them beside money, and
//! the algorithms that settle together what cannot settle alone.

mod bilateral;
mod bits;
mod bounds;
pub(super) mod desk;
mod greedy;
mod gridlock;
pub(super) mod groups;
mod lane;
pub(super) mod limits;
pub(super) mod memory;
pub(super) mod netting;
pub(super) mod payment;
pub(super) mod queue;
pub(super) mod roll;
pub(super) mod saved;
mod seats;
pub(super) mod switches;
pub(super) mod together;
pub(super) mod worklist;
