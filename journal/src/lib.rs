//! An append-only, memory-mapped, hash-chained journal of opaque records.
//!
//! One [`Writer`] appends records and commits them; any number of [`Reader`]s, in this process or
//! others, follow along or read from the beginning; [`verify`] checks every byte. Records are
//! bytes: what they mean is the caller's affair.
//!
//! ```text
//!   Writer --append--> mapped segment --commit--> disk         files:  0000000000000001.segment  full
//!     |                     ^    ^                                     0000000000000002.segment  being written
//!     | roll                |    |                                     spare                     the next one
//!   Preparer (zeros,     Reader  verify                                LOCK                      held by the writer
//!   labels, syncs)
//! ```
//!
//! The format, the commit and recovery rules and what is assumed of disks stand byte by byte in
//! docs/journal.md.
//!
//! **Invariants**
//! - Sequences are 1, 2, 3 and so on without gaps, over all segments and restarts.
//! - What [`Writer::commit`] reported durable is there after a crash, once, or [`Writer::open`]
//!   refuses with the place.
//! - A reader never returns a record that fails its checksum.
//! - No segment is ever removed but by [`archive`], which leaves it whole in another place.
//! - No file is ever sparse while mapped; a full disk is an error value, never a signal.

mod archive;
mod archived;
mod batch;
mod chain;
mod destination;
mod error;
mod evidence;
mod format;
mod lost_pages;
mod mapping;
mod open;
mod options;
mod preparer;
mod probe;
mod reader;
mod recovery;
mod salvage;
mod segment;
pub mod storage;
mod tail;
mod verify;
mod writer;

pub use archive::{ArchiveError, Moved, archivable, archive};
pub use archived::{Archived, missing};
pub use batch::Batch;
pub use destination::check_destination;
pub use error::{
    AppendError, CommitError, Damage, Defect, Fault, IoFault, OpenError, ReadError, Stopped,
};
pub use format::slot_bytes;
pub use lost_pages::report_lost_pages;
pub use mapping::Mapping;
pub use open::{judge, newest_release, recover_in};
pub use options::{Background, Durability, Options};
pub use probe::SyncCost;
pub use reader::{EndState, Reader, Record};
pub use recovery::{Cut, Recovered};
pub use salvage::{Salvage, Salvaged};
pub use verify::{Verified, verify, verify_in};
pub use writer::{Commit, Writer};
