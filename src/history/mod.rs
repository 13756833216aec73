//! History: what moved on every account, for as long as it is wanted, beside the node.
//!
//! ```text
//!   journal --replay::follow_on--> engine --postings--> Projector --batches--> Store (SQLite)
//!                                                                                 |
//!                                                 millrace history ... <-- Query--+
//! ```
//! A read model that a follower keeps: it is built from the journal alone, never asked by the node,
//! and may be deleted and built again (docs/adr/0007-history.md). Each batch of rows and the
//! sequence it ends with are one transaction, so whoever dies in the middle loses and doubles
//! nothing.

mod projector;
mod query;
mod schema;
mod store;
mod sync;
mod wide;

pub use query::{
    AccountRow, BalanceRow, BalancesFilter, Direction, History, LIMIT_MAX, TransferRow,
    TransfersFilter,
};
pub use schema::{FILE_NAME, FILL, cause_name};
pub use store::Options;
pub use sync::{Sync, Synced};

use crate::replay::FollowError;
use crate::replay::limits_file::LimitsError;
use millrace_journal::ReadError;
use std::path::PathBuf;

/// Why there is no history, or none to be had.
#[derive(Debug)]
pub enum HistoryError {
    /// There is none yet.
    Missing(PathBuf),
    /// The database could not be read or written.
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file is no history this release can use.
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Somebody else brings the same history up to date.
    Busy(PathBuf),
    /// The directory's limits could not be read.
    Limits(LimitsError),
    /// The snapshots could not be listed.
    Snapshots(std::io::Error),
    /// The journal could not be read.
    Read(ReadError),
    /// The journal could not be followed.
    Follow(FollowError),
}

impl std::fmt::Display for HistoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HistoryError::Missing(path) => write!(
                f,
                "there is no {} yet; make it with millrace history sync",
                path.display()
            ),
            HistoryError::Database { path, source } => write!(f, "{}: {source}", path.display()),
            HistoryError::Unusable { path, why } => write!(f, "{}: {why}", path.display()),
            HistoryError::Busy(path) => write!(
                f,
                "{}: another millrace history sync is at work",
                path.display()
            ),
            HistoryError::Limits(error) => error.fmt(f),
            HistoryError::Snapshots(error) => write!(f, "cannot list snapshots: {error}"),
            HistoryError::Read(error) => error.fmt(f),
            HistoryError::Follow(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HistoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HistoryError::Database { source, .. } => Some(source),
            HistoryError::Snapshots(error) => Some(error),
            HistoryError::Limits(error) => Some(error),
            HistoryError::Read(error) => Some(error),
            HistoryError::Follow(error) => Some(error),
            HistoryError::Missing(_) | HistoryError::Unusable { .. } | HistoryError::Busy(_) => {
                None
            }
        }
    }
}
