//! What the victims write, and what must be left of it.

use millrace::bench::workload::{create_account, create_asset, create_participant, transfer};
use millrace::config::{Config, Durability};
use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::command::{AccountFlags, CommandKind};
use millrace::protocol::frame::CommandFrame;
use millrace::replay::{Nobody, follow};
use millrace::session::SessionTable;
use millrace_journal::storage::{MappedFiles, Storage};
use millrace_journal::{Options, Reader, Writer, recover_in, verify_in};
use millrace_tools::tracer::FORKING;
use std::path::Path;
use std::sync::Arc;
use std::sync::{PoisonError, RwLockReadGuard};
use tempfile::TempDir;

/// Records of one commit.
pub const BATCH: u64 = 3;

/// A directory in memory, where there is one: what a kill leaves is the page cache's affair.
pub fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// No victim is started while this is held, so no victim has a copy of a lock that is given back.
pub fn no_forks() -> RwLockReadGuard<'static, ()> {
    FORKING.read().unwrap_or_else(PoisonError::into_inner)
}

/// The record with this sequence: a length and bytes of its own.
pub fn payload(sequence: u64) -> Vec<u8> {
    let length = (sequence * 37 % 211) as usize;
    (0..length)
        .map(|byte| (sequence as u8).wrapping_mul(31).wrapping_add(byte as u8))
        .collect()
}

/// Segments of two pages, so that rolls come soon.
pub fn journal_options(disk: bool) -> Options {
    Options {
        segment_bytes: 8192,
        durability: match disk {
            true => millrace_journal::Durability::Disk,
            false => millrace_journal::Durability::Process,
        },
        ..Options::default()
    }
}

/// The journal in `storage` after a kill: it opens, holds at least what was acknowledged and at most
/// what was appended, every record once and as it was. Returns the last sequence.
pub fn judge(
    storage: &(impl Storage + Clone + 'static),
    acknowledged: u64,
    appended: u64,
    what: &str,
) -> u64 {
    let recovered = recover_in(storage, 1).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut reader = Reader::open_in(Arc::new(storage.clone())).unwrap();
    let mut count = 0;
    while let Some(record) = reader.next().unwrap() {
        count += 1;
        assert_eq!(record.sequence, count, "{what}");
        assert_eq!(record.payload, payload(count), "{what}");
    }
    assert_eq!(recovered.last_sequence, count, "{what}");
    assert!(
        (acknowledged..=appended).contains(&count),
        "{what}: {count} records, {acknowledged} acknowledged, {appended} appended"
    );
    let cut = recovered.cut.map_or(0, |cut| cut.records);
    assert_eq!(
        cut, 0,
        "{what}: a kill tears no record in the middle of others"
    );
    count
}

/// As [`judge`], on a directory; then the journal goes on and is sound.
pub fn judge_and_go_on(dir: &Path, acknowledged: u64, appended: u64, what: &str) {
    let storage = Files(Arc::new(MappedFiles::at(dir)));
    let count = judge(&storage, acknowledged, appended, what);
    let (mut writer, _) =
        Writer::open_in(Arc::new(storage.clone()), journal_options(true)).unwrap();
    for sequence in count + 1..=count + 30 {
        assert_eq!(writer.append(&payload(sequence)).unwrap(), sequence);
    }
    writer.close().unwrap();
    judge(&storage, count + 30, count + 30, what);
    verify_in(&storage, &mut |_, _| ()).unwrap();
}

/// A directory that can be shared.
#[derive(Clone, Debug)]
pub struct Files(pub Arc<MappedFiles>);

impl Storage for Files {
    fn path_of(&self, name: &str) -> std::path::PathBuf {
        self.0.path_of(name)
    }
    fn names(&self) -> std::io::Result<Vec<String>> {
        self.0.names()
    }
    fn lock(&self) -> std::io::Result<Box<dyn Send>> {
        self.0.lock()
    }
    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
    fn prepare(&self, name: &str, bytes: u64) -> std::io::Result<()> {
        self.0.prepare(name, bytes)
    }
    fn warm(&self, name: &str) -> std::io::Result<()> {
        self.0.warm(name)
    }
    fn open(
        &self,
        name: &str,
        access: millrace_journal::storage::Access,
    ) -> std::io::Result<Box<dyn millrace_journal::storage::SegmentFile>> {
        self.0.open(name, access)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }
    fn sync_names(&self) -> std::io::Result<()> {
        self.0.sync_names()
    }
}

/// The node that the pipeline's victim is.
pub fn config(dir: &Path, durability: Durability) -> Config {
    let mut config = Config::small(dir);
    config.durability = durability;
    config.journal.segment_bytes = 4 << 20;
    config.limits = Limits {
        accounts: 16,
        ..Limits::small()
    };
    config
}

/// What the pipeline's victim is given: openings, single transfers, and a batch longer than a slot.
pub fn commands() -> Vec<CommandFrame> {
    let mut commands = vec![
        create_asset(1, "EUR"),
        create_participant(1, "BANK"),
        create_account(1, 1, 1, AccountFlags::NONE),
        create_account(2, 1, 1, AccountFlags::NONE),
    ];
    commands.extend(
        (1..=3).map(|id| CommandFrame::new(CommandKind::Transfer, &transfer(id, 1, 2, id))),
    );
    commands.push(millrace::bench::workload::Transfers::new(2, 1).next_batch(12));
    commands.extend(
        (4..=5).map(|id| CommandFrame::new(CommandKind::Transfer, &transfer(id, 2, 1, id))),
    );
    commands
}

/// The state's digest after each command, from an engine that never met a disk.
pub fn digests() -> Vec<[u8; 32]> {
    let mut engine = Engine::new(&config(Path::new("."), Durability::Disk).limits);
    let mut outbox = Outbox::with_capacity(1024);
    let mut digests = vec![engine.digest()];
    for (sequence, command) in (1..).zip(&commands()) {
        outbox.clear();
        engine.apply(sequence, command.as_ref(), &mut outbox);
        digests.push(engine.digest());
    }
    digests
}

/// The journal of a pipeline after a kill: everything acknowledged is there, and the state that it
/// replays to is the one that so many commands lead to.
pub fn judge_state(dir: &Path, acknowledged: u64, digests: &[[u8; 32]], what: &str) -> u64 {
    let recovered =
        recover_in(&MappedFiles::at(dir), 1).unwrap_or_else(|error| panic!("{what}: {error}"));
    let config = config(dir, Durability::Disk);
    let (mut engine, mut sessions) = (
        Engine::new(&config.limits),
        SessionTable::new(config.sessions),
    );
    let followed = follow(dir, None, &mut engine, &mut sessions, &mut Nobody).unwrap();
    assert_eq!(followed.last_sequence, recovered.last_sequence, "{what}");
    let last = followed.last_sequence;
    assert!(
        last >= acknowledged,
        "{what}: {acknowledged} acknowledged, {last} there"
    );
    assert_eq!(
        engine.digest(),
        digests[last as usize],
        "{what}: digest after {last}"
    );
    engine.audit().unwrap();
    last
}
