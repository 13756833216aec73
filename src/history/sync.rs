//! Bringing a history up to its journal.

use super::HistoryError;
use super::projector::{Projector, hash_of};
use super::store::{Batch, Options, Store};
use crate::engine::{Engine, Take};
use crate::protocol::frame::CommandRef;
use crate::protocol::record::unfold;
use crate::replay::{Nobody, follow, follow_on, limits_file, snapshot_store};
use crate::session::SessionTable;
use millrace_journal::storage::MappedFiles;
use millrace_journal::{ReadError, Reader};
use std::path::Path;

/// Sessions a follower keeps track of: as many as any node may.
const SESSIONS: u32 = 65_536;

/// What a sync has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The last command in the history.
    pub sequence: u64,
    /// Movements in it.
    pub rows: u64,
}

/// A follower that keeps a history.
pub struct Sync {
    store: Store,
    batch: Batch,
    batch_rows: usize,
    one_batch: bool,
    engine: Engine,
    sessions: SessionTable,
    reader: Reader,
}

impl Sync {
    /// Opens the journal and the history in `dir` and brings an engine to where the history ends.
    pub fn open(dir: &Path, options: Options) -> Result<Sync, HistoryError> {
        Sync::open_with(dir, MappedFiles::at(dir), options)
    }

    /// The same, where the journal is read from `files`: with an archive beside it.
    pub fn open_with(
        dir: &Path,
        files: MappedFiles,
        options: Options,
    ) -> Result<Sync, HistoryError> {
        let limits = limits_file::load(dir).map_err(HistoryError::Limits)?;
        let mut reader = Reader::open(files.clone()).map_err(HistoryError::Read)?;
        let (store, batch) = Store::open(dir, reader.journal_id(), options)?;
        let at = store.position().sequence;
        check_position(&mut reader, &store)?;
        let (loaded, _) = snapshot_store::load_newest(dir, at, &limits, SESSIONS)
            .map_err(HistoryError::Snapshots)?;
        let (mut engine, mut sessions) = match loaded {
            Some(loaded) => (loaded.engine, loaded.sessions),
            None => (Engine::new(&limits), SessionTable::new(SESSIONS)),
        };
        engine.take_memory(Take::AsTouched);
        follow(files, Some(at), &mut engine, &mut sessions, &mut Nobody)
            .map_err(HistoryError::Follow)?;
        engine.record_postings(true);
        Ok(Sync {
            store,
            batch,
            batch_rows: options.batch_rows,
            one_batch: false,
            engine,
            sessions,
            reader,
        })
    }

    /// Where the journal ended when it was opened, about.
    pub fn journal_end(&self) -> u64 {
        self.reader.last_sequence()
    }

    /// Where the history stands.
    pub fn synced(&self) -> Synced {
        Synced {
            sequence: self.store.position().sequence,
            rows: self.store.rows(),
        }
    }

    /// Whether [`Sync::run`] ends after its next transaction, in the middle of the journal; open it
    /// anew to go on.
    pub fn stop_after_a_batch(&mut self, yes: bool) {
        self.one_batch = yes;
    }

    /// The most movements that waited for a transaction at once: what bounds its memory.
    pub fn most_rows_held(&self) -> usize {
        self.batch.most()
    }

    /// The engine as it stands after the last command projected.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Projects what the journal holds now behind the history's end. `listener` hears the last
    /// sequence about ten times a second and says whether to go on. May be called again when the
    /// journal has grown; after a stop or an error open it anew.
    pub fn run(&mut self, listener: &mut dyn FnMut(u64) -> bool) -> Result<Synced, HistoryError> {
        let mut projector =
            Projector::new(&mut self.store, &mut self.batch, self.batch_rows, listener);
        projector.stop_after_a_batch(self.one_batch);
        let followed = follow_on(
            &mut self.reader,
            None,
            &mut self.engine,
            &mut self.sessions,
            &mut projector,
        );
        if let Some(error) = projector.error.take() {
            return Err(error);
        }
        if !projector.was_stopped() {
            followed.map_err(HistoryError::Follow)?;
        }
        projector.flush()?;
        Ok(self.synced())
    }
}

/// Whether the journal still holds the command that the history ends with; leaves the reader behind
/// it. After a power loss under the policy `process`, or with a restored copy, it may not.
fn check_position(reader: &mut Reader, store: &Store) -> Result<(), HistoryError> {
    let position = store.position();
    if position.sequence == 0 {
        // It may have been archived.
        return reader.seek(1).map_err(HistoryError::Read);
    }
    let parted = || HistoryError::Unusable {
        path: store.path().to_owned(),
        why: format!(
            "it holds command {}, which the journal does not hold like that; delete it and sync again",
            position.sequence
        ),
    };
    match reader.seek(position.sequence) {
        Err(ReadError::NoSuchSequence { .. }) => return Err(parted()),
        other => other.map_err(HistoryError::Read)?,
    }
    let record = reader.next().map_err(HistoryError::Read)?;
    let record = record.ok_or_else(parted)?;
    let mut words = Vec::new();
    let length = unfold(record.payload, &mut words).map_err(|_| parted())?;
    let command = CommandRef::from_bytes(&bytemuck::cast_slice(&words)[..length]);
    if hash_of(command.map_err(|_| parted())?) != position.command {
        return Err(parted());
    }
    Ok(())
}
