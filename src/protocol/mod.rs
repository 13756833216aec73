//! The language of the house: units, commands, events, reasons, and the bytes they travel in.
//!
//! A command has the same bytes in the socket, the ring slot, the journal and the engine's hand.
//! Doors (sockets, scripts) translate into them once; nobody copies them into another form. (A long
//! command lies in the journal with its zero words folded away: [`record`].)
//! The byte map is docs/protocol.md. This floor knows no thread, socket, clock or file.

pub mod command;
pub mod event;
pub mod frame;
pub mod json;
pub mod reason;
pub mod record;
pub mod script;
pub mod session;
pub mod units;
pub mod wire;

/// The release of the protocol and engine that writes a frame. A node refuses a journal written by
/// a newer one, and a client of a newer one is refused at logon.
pub const RELEASE: u16 = 1;
