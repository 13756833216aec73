//! What an operator runs beside a node. `millrace-torture` kills a node under load, over and over,
//! and compares what its clients were told with what its journal holds.

pub mod torture;
