//! Snapshots: the state after one command, in a file, so that recovery replays only what follows.
//!
//! ```text
//! snapshot-<sequence, 20 digits>.mrs
//! 0        8        10        12             16         24             32              64             96
//! | magic  | format | release | header bytes | sequence | payload bytes| payload BLAKE3| engine digest| header BLAKE3 | payload ..
//! ```
//! The payload is the session table and then the engine, as each writes itself. A snapshot is
//! written under another name, synced, renamed and its name synced, so a file with a snapshot's
//! name is a whole one; it is hashed before it is believed all the same. It is only ever a
//! shortcut: where none is good, the journal is replayed from its start.

use super::snapshot_files::{Directory, SnapshotFiles};
use crate::background::Passing;
use crate::engine::{Engine, Limits};
use crate::protocol::RELEASE;
use crate::session::SessionTable;
use bytemuck::{Pod, Zeroable};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"MILLRSNP";
const FORMAT_VERSION: u16 = 1;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    format_version: u16,
    release: u16,
    header_bytes: u32,
    sequence: u64,
    payload_bytes: u64,
    payload_hash: [u8; 32],
    digest: [u8; 32],
    /// The journal it was made from: no other's snapshot is believed.
    journal_id: [u8; 16],
    /// BLAKE3 of the bytes before it.
    header_hash: [u8; 32],
}

const HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(HEADER_BYTES == 144);

impl Header {
    fn own_hash(&self) -> [u8; 32] {
        let bytes = bytemuck::bytes_of(self);
        *blake3::hash(&bytes[..HEADER_BYTES - 32]).as_bytes()
    }
}

/// A snapshot that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// The last command in it.
    pub sequence: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The engine's digest.
    pub digest: [u8; 32],
}

/// A snapshot that was read.
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// The last command in it.
    pub sequence: u64,
    /// The engine as it stood then.
    pub engine: Engine,
    /// The sessions as they stood then.
    pub sessions: SessionTable,
    /// The digest the engine had when it was written.
    pub digest: [u8; 32],
}

/// A snapshot could not be written.
#[derive(Debug)]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cannot write snapshot {}: {}",
            self.path.display(),
            self.source
        )
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// How a snapshot is written or read, and who hears how far that has come.
#[derive(Default)]
pub struct Passage<'a> {
    /// Bytes a second at most, piece by piece, leaving nothing in the system's memory: for a
    /// follower beside a node. `None`: as fast as it goes.
    pub per_second: Option<NonZeroU64>,
    /// Told the bytes that have passed and how many there will be, where that is known.
    pub heard: Option<&'a mut dyn FnMut(u64, Option<u64>)>,
}

impl Passage<'_> {
    fn tell(&mut self, passed: u64, of: Option<u64>) {
        if let Some(heard) = &mut self.heard {
            heard(passed, of);
        }
    }
}

/// The file of the snapshot after command `sequence`.
pub fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(name_of(sequence))
}

fn name_of(sequence: u64) -> String {
    format!("snapshot-{sequence:020}.mrs")
}

/// Writes the state after the engine's last command into `dir`, as fast as it goes.
pub fn write(dir: &Path, engine: &Engine, sessions: &SessionTable) -> Result<Written, WriteError> {
    write_with(dir, engine, sessions, &mut Passage::default())
}

/// As [`write()`], in the manner of `passage`.
pub fn write_with(
    dir: &Path,
    engine: &Engine,
    sessions: &SessionTable,
    passage: &mut Passage<'_>,
) -> Result<Written, WriteError> {
    let files = Directory {
        dir,
        per_second: passage.per_second,
    };
    write_by(&files, dir, engine, sessions, passage)
}

/// As [`write_with`], by the file calls of `files`. The journal is the one in `dir`.
pub fn write_by(
    files: &impl SnapshotFiles,
    dir: &Path,
    engine: &Engine,
    sessions: &SessionTable,
    passage: &mut Passage<'_>,
) -> Result<Written, WriteError> {
    let sequence = engine.sequence();
    let path = path_of(dir, sequence);
    // One name per process: two writers never share a half-written file.
    let draft = format!("snapshot-{}.draft", std::process::id());
    remove_abandoned_drafts(files);
    let drafted = write_draft(files, dir, &draft, engine, sessions, passage);
    let written = drafted.and_then(|(bytes, digest)| {
        files.rename(&draft, &name_of(sequence))?;
        files.sync_names()?;
        Ok(Written {
            path: path.clone(),
            sequence,
            bytes,
            digest,
        })
    });
    written.map_err(|source| {
        let _ = files.remove(&draft);
        WriteError { path, source }
    })
}

/// What writers that were killed left half-way. A draft that cannot be removed harms nobody.
fn remove_abandoned_drafts(files: &impl SnapshotFiles) {
    let is_abandoned = |name: &str| {
        let process = name.strip_prefix("snapshot-")?.strip_suffix(".draft")?;
        let process: u32 = process.parse().ok()?;
        Some(
            process == std::process::id() || !Path::new("/proc").join(process.to_string()).exists(),
        )
    };
    let names = files.names().unwrap_or_default();
    for name in names.iter().filter(|name| is_abandoned(name) == Some(true)) {
        let _ = files.remove(name);
    }
}

/// The id of the journal in `dir`.
fn journal_id(dir: &Path) -> io::Result<[u8; 16]> {
    let reader = millrace_journal::Reader::open(dir).map_err(io::Error::other)?;
    Ok(reader.journal_id())
}

fn write_draft<F: SnapshotFiles>(
    files: &F,
    dir: &Path,
    draft: &str,
    engine: &Engine,
    sessions: &SessionTable,
    passage: &mut Passage<'_>,
) -> io::Result<(u64, [u8; 32])> {
    let journal_id = journal_id(dir)?;
    let mut file = files.create(draft)?;
    let written = write_telling(&mut file, journal_id, engine, sessions, passage)?;
    files.sync(file)?;
    Ok(written)
}

/// Writes a snapshot for the journal of that id into `out`. Returns its bytes and the engine's digest.
pub fn write_to(
    out: &mut (impl Write + Seek),
    journal_id: [u8; 16],
    engine: &Engine,
    sessions: &SessionTable,
) -> io::Result<(u64, [u8; 32])> {
    write_telling(out, journal_id, engine, sessions, &mut Passage::default())
}

fn write_telling(
    out: &mut (impl Write + Seek),
    journal_id: [u8; 16],
    engine: &Engine,
    sessions: &SessionTable,
    passage: &mut Passage<'_>,
) -> io::Result<(u64, [u8; 32])> {
    let mut header = Header {
        magic: MAGIC,
        format_version: FORMAT_VERSION,
        release: RELEASE,
        header_bytes: HEADER_BYTES as u32,
        sequence: engine.sequence(),
        digest: engine.digest(),
        journal_id,
        ..Zeroable::zeroed()
    };
    out.write_all(bytemuck::bytes_of(&header))?;
    let mut payload = Hashing {
        inner: BufWriter::with_capacity(1 << 20, &mut *out),
        hasher: blake3::Hasher::new(),
        bytes: 0,
        passage,
    };
    sessions.write_snapshot(&mut payload)?;
    engine.write_snapshot(&mut payload)?;
    payload.flush()?;
    header.payload_bytes = payload.bytes;
    header.payload_hash = *payload.hasher.finalize().as_bytes();
    header.header_hash = header.own_hash();
    drop(payload);
    out.seek(SeekFrom::Start(0))?;
    out.write_all(bytemuck::bytes_of(&header))?;
    Ok((HEADER_BYTES as u64 + header.payload_bytes, header.digest))
}

struct Hashing<'a, 'b, W> {
    inner: W,
    hasher: blake3::Hasher,
    bytes: u64,
    passage: &'a mut Passage<'b>,
}

impl<W: Write> Write for Hashing<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        self.passage.tell(self.bytes, None);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The snapshots in `dir`, newest first.
pub fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let sequence = entry.file_name().to_str().and_then(|name| {
            let digits = name.strip_prefix("snapshot-")?.strip_suffix(".mrs")?;
            digits.parse::<u64>().ok()
        });
        if let Some(sequence) = sequence {
            found.push((sequence, entry.path()));
        }
    }
    found.sort_unstable_by_key(|(sequence, _)| std::cmp::Reverse(*sequence));
    Ok(found)
}

/// The command of the newest snapshot in `dir` whose header is good, 0 where there is none.
pub fn newest_sequence(dir: &Path) -> u64 {
    let snapshots = list(dir).unwrap_or_default();
    let good = snapshots.into_iter().find_map(|(_, path)| {
        File::open(path)
            .and_then(|mut file| sequence_in(&mut file))
            .ok()
    });
    good.unwrap_or(0)
}

/// Sets aside for good the snapshots in `dir` of commands beyond `last_sequence`, where the journal ends,
/// and returns a sentence about each. They were made of a tail that a power loss took; once the journal has
/// grown past them with other commands, nothing would tell.
pub fn set_aside_ahead(dir: &Path, last_sequence: u64) -> io::Result<Vec<String>> {
    let mut notes = Vec::new();
    for (sequence, path) in list(dir)? {
        if sequence > last_sequence {
            fs::rename(&path, path.with_extension("mrs.ahead"))?;
            notes.push(format!(
                "snapshot {} is not used and set aside: it is of command {sequence}, the journal ends at {last_sequence}",
                path.display()
            ));
        }
    }
    if !notes.is_empty() {
        File::open(dir)?.sync_all()?;
    }
    Ok(notes)
}

/// The newest good snapshot in `dir` of a command up to `last_sequence`, and a sentence about each
/// newer one that was passed over.
pub fn load_newest(
    dir: &Path,
    last_sequence: u64,
    limits: &Limits,
    session_capacity: u32,
) -> io::Result<(Option<Loaded>, Vec<String>)> {
    let mut passage = Passage::default();
    load_newest_with(dir, last_sequence, limits, session_capacity, &mut passage)
}

/// As [`load_newest`], in the manner of `passage`.
pub fn load_newest_with(
    dir: &Path,
    last_sequence: u64,
    limits: &Limits,
    session_capacity: u32,
    passage: &mut Passage<'_>,
) -> io::Result<(Option<Loaded>, Vec<String>)> {
    let mut passed_over = Vec::new();
    for (sequence, path) in list(dir)? {
        let why = if sequence > last_sequence {
            format!("it is of command {sequence}, the journal ends at {last_sequence}")
        } else {
            match load_with(&path, limits, session_capacity, passage) {
                Ok(loaded) => return Ok((Some(loaded), passed_over)),
                Err(error) => error.to_string(),
            }
        };
        passed_over.push(format!("snapshot {} is not used: {why}", path.display()));
    }
    Ok((None, passed_over))
}

/// The command of the snapshot in the file at `path`, if it is whole and of that journal.
pub fn check(path: &Path, journal_id: [u8; 16]) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let header = read_sound(&mut file, || Ok(journal_id), &mut Passage::default())?;
    Ok(header.sequence)
}

/// The header of the snapshot in `input`, every byte of it hashed.
fn read_sound(
    input: &mut (impl Read + Seek),
    journal_id: impl FnOnce() -> io::Result<[u8; 16]>,
    passage: &mut Passage<'_>,
) -> io::Result<Header> {
    let header = read_header(input)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut Told::new(input, 0, &header, passage))?;
    if *hasher.finalize().as_bytes() != header.payload_hash {
        return Err(damaged("its content does not match its hash"));
    }
    if header.journal_id != journal_id()? {
        return Err(damaged("it belongs to another journal"));
    }
    Ok(header)
}

/// The snapshot in the file at `path`, hashed before it is believed.
pub fn load(path: &Path, limits: &Limits, session_capacity: u32) -> io::Result<Loaded> {
    load_with(path, limits, session_capacity, &mut Passage::default())
}

/// As [`load`], in the manner of `passage`.
pub fn load_with(
    path: &Path,
    limits: &Limits,
    session_capacity: u32,
    passage: &mut Passage<'_>,
) -> io::Result<Loaded> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // It is read again right after it was hashed: until then its pages stay.
    let mut first = Passing::kept(File::open(path)?, 0, passage.per_second);
    let header = read_sound(&mut first, || journal_id(dir), passage)?;
    let mut second = Passing::new(first.into_file(), 0, passage.per_second);
    read_hashed(
        &mut second,
        &header,
        path,
        limits,
        session_capacity,
        passage,
    )
}

/// The snapshot in `input`, which `path` names, of the journal that `journal_id` is the id of; hashed
/// before it is believed.
pub fn read_from(
    input: &mut (impl Read + Seek),
    path: &Path,
    journal_id: impl FnOnce() -> io::Result<[u8; 16]>,
    limits: &Limits,
    session_capacity: u32,
) -> io::Result<Loaded> {
    let mut passage = Passage::default();
    let header = read_sound(input, journal_id, &mut passage)?;
    read_hashed(input, &header, path, limits, session_capacity, &mut passage)
}

fn read_hashed(
    input: &mut (impl Read + Seek),
    header: &Header,
    path: &Path,
    limits: &Limits,
    session_capacity: u32,
    passage: &mut Passage<'_>,
) -> io::Result<Loaded> {
    input.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    let told = Told::new(input, header.payload_bytes, header, passage);
    let mut payload = BufReader::with_capacity(1 << 20, told);
    let sessions = SessionTable::read_snapshot(session_capacity, &mut payload)?;
    let engine = Engine::read_snapshot(limits, &mut payload)?;
    if engine.sequence() != header.sequence {
        return Err(damaged(
            "its engine stands at another command than its header",
        ));
    }
    Ok(Loaded {
        path: path.to_owned(),
        sequence: header.sequence,
        engine,
        sessions,
        digest: header.digest,
    })
}

/// The command of the snapshot in `input`, where its header is good.
pub fn sequence_in(input: &mut (impl Read + Seek)) -> io::Result<u64> {
    Ok(read_header(input)?.sequence)
}

/// A payload on its way in: it passes twice, to be hashed and to be read.
struct Told<'a, 'b, R> {
    inner: R,
    left: u64,
    passed: u64,
    of: u64,
    passage: &'a mut Passage<'b>,
}

impl<'a, 'b, R> Told<'a, 'b, R> {
    fn new(inner: R, passed: u64, header: &Header, passage: &'a mut Passage<'b>) -> Self {
        Told {
            inner,
            left: header.payload_bytes,
            passed,
            of: header.payload_bytes * 2,
            passage,
        }
    }
}

impl<R: Read> Read for Told<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut into[..room])?;
        self.left -= read as u64;
        self.passed += read as u64;
        self.passage.tell(self.passed, Some(self.of));
        Ok(read)
    }
}

fn read_header(input: &mut (impl Read + Seek)) -> io::Result<Header> {
    let mut header = Header::zeroed();
    input
        .read_exact(bytemuck::bytes_of_mut(&mut header))
        .map_err(|_| damaged("it is too short"))?;
    if header.magic != MAGIC {
        return Err(damaged("it is no snapshot"));
    }
    if header.format_version > FORMAT_VERSION || header.release > RELEASE {
        return Err(damaged("a newer release wrote it"));
    }
    if header.header_hash != header.own_hash() || header.header_bytes != HEADER_BYTES as u32 {
        return Err(damaged("its header does not match its hash"));
    }
    let length = input.seek(SeekFrom::End(0))?;
    input.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    if length != HEADER_BYTES as u64 + header.payload_bytes {
        return Err(damaged("it does not have the length its header says"));
    }
    Ok(header)
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
