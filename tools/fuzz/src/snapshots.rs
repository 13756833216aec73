//! Snapshots: the file a node begins from, and the state that is in it.
//!
//! - No bytes make the reader panic, or take memory that a count asks for and no row fills.
//! - A file that is not byte for byte what was written is not used, and said why.
//! - A state whose hash is right although its rows are not (forged, or written by mistake) is
//!   refused, or its audit can be asked.
//! - A good one goes on with commands of every kind.

use crate::journal::{Base, bases};
use crate::source::Source;
use crate::{commands, test_data};
use millrace::engine::{Engine, Limits, Outbox};
use millrace::replay::{limits_file, snapshot_store};
use millrace::session::SessionTable;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

/// Bytes of the header of the file.
const HEADER_BYTES: usize = 144;
const SESSIONS: u32 = 64;

/// A golden directory, copied to where files may be written.
struct Place {
    path: PathBuf,
    snapshot: Vec<u8>,
    limits: Limits,
}

/// Removed when the process ends; the files in it are for one input at a time.
fn places() -> &'static Mutex<(tempfile::TempDir, Vec<Place>)> {
    static PLACES: OnceLock<Mutex<(tempfile::TempDir, Vec<Place>)>> = OnceLock::new();
    PLACES.get_or_init(|| {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let places = bases().iter().map(|base| place(scratch.path(), base));
        let places = places.collect();
        Mutex::new((scratch, places))
    })
}

fn place(scratch: &std::path::Path, base: &Base) -> Place {
    let from = test_data().join("golden/0.1.0").join(&base.name);
    let to = scratch.join(&base.name);
    std::fs::create_dir(&to).expect("a scratch directory");
    for (index, bytes) in (1..).zip(&base.segments) {
        std::fs::write(to.join(crate::journal::name(index)), bytes).expect("a scratch file");
    }
    let (_, snapshot) = snapshot_store::list(&from).expect("golden").remove(0);
    Place {
        path: to.join(snapshot.file_name().expect("a name")),
        snapshot: std::fs::read(snapshot).expect("golden"),
        limits: limits_file::load(&from).expect("golden"),
    }
}

/// The payload of the snapshot of golden journal `at`: the state without its file.
pub fn payload(at: usize) -> Vec<u8> {
    let places = places().lock().unwrap_or_else(|poison| poison.into_inner());
    places.1[at].snapshot[HEADER_BYTES..].to_vec()
}

/// One input: whether the file or the state is changed, which, and how.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let is_state = !source.byte().is_multiple_of(4);
    let places = places().lock().unwrap_or_else(|poison| poison.into_inner());
    let place = &places.1[source.below(places.1.len())];
    let mut bytes = place.snapshot.clone();
    if is_state {
        bytes.drain(..HEADER_BYTES);
    }
    while !source.is_empty() {
        change(&mut source, &mut bytes);
    }
    if is_state {
        state(&bytes, place);
    } else {
        file(&bytes, place);
    }
}

fn file(bytes: &[u8], place: &Place) {
    std::fs::write(&place.path, bytes).expect("a scratch file");
    let dir = place.path.parent().expect("a directory");
    let found = snapshot_store::load_newest(dir, u64::MAX, &place.limits, SESSIONS);
    let (loaded, notes) = found.expect("the directory can be listed");
    match loaded {
        Some(loaded) => {
            assert_eq!(
                bytes, place.snapshot,
                "a snapshot that nobody wrote is used"
            );
            assert_eq!(loaded.engine.digest(), loaded.digest);
            loaded.engine.audit().expect("a sound snapshot");
        }
        None => {
            assert_ne!(
                bytes, place.snapshot,
                "a good snapshot is not used: {notes:?}"
            );
            assert!(
                matches!(&notes[..], [why] if why.contains("is not used: ")),
                "{notes:?}"
            );
        }
    }
    snapshot_store::newest_sequence(dir);
}

fn state(bytes: &[u8], place: &Place) {
    let limits = &place.limits;
    let mut input = bytes;
    let Ok(sessions) = SessionTable::read_snapshot(SESSIONS, &mut input) else {
        return;
    };
    assert!(sessions.len() <= SESSIONS as usize);
    let mut engine = match Engine::read_snapshot(limits, &mut input) {
        Ok(engine) => engine,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let audit = engine.audit();
    let mut again = Vec::new();
    engine
        .write_snapshot(&mut again)
        .expect("memory does not fail");
    let digest = engine.digest();
    if bytes != &place.snapshot[HEADER_BYTES..] {
        return;
    }
    audit.expect("a sound state");
    let copy = Engine::read_snapshot(limits, &mut &again[..]).expect("just written");
    assert_eq!(copy.digest(), digest);
    let mut outbox = Outbox::with_capacity(64);
    for command in commands::samples() {
        outbox.clear();
        engine.apply(engine.sequence() + 1, command.as_ref(), &mut outbox);
        engine.audit().expect("a sound state");
    }
}

/// Does one thing to the bytes.
fn change(source: &mut Source<'_>, bytes: &mut Vec<u8>) {
    let what = source.byte();
    let at = usize::from(source.u16());
    if bytes.is_empty() {
        bytes.extend_from_slice(source.rest());
        return;
    }
    let at = at % bytes.len();
    // Rows are made of words.
    let word = at / 4 * 4;
    match what % 9 {
        0 | 1 => bytes[at] ^= source.byte().max(1),
        2 => bytes.truncate(at),
        3 => {
            let value = source.odd_u64().to_le_bytes();
            let upto = bytes.len().min(word + 8);
            bytes[word..upto].copy_from_slice(&value[..upto - word]);
        }
        4 => {
            let value = (source.odd_u64() as u32).to_le_bytes();
            let upto = bytes.len().min(word + 4);
            bytes[word..upto].copy_from_slice(&value[..upto - word]);
        }
        5 => {
            let few = source.take(8);
            bytes.splice(word..word, few.iter().copied());
        }
        6 => {
            let upto = bytes.len().min(word + usize::from(source.byte()));
            bytes.drain(word..upto);
        }
        7 => {
            let length = usize::from(source.byte()) % 64 * 4;
            let to = usize::from(source.u16()) % bytes.len() / 4 * 4;
            let length = length.min(bytes.len() - word).min(bytes.len() - to);
            bytes.copy_within(word..word + length, to);
        }
        _ => bytes[word..]
            .iter_mut()
            .take(4)
            .for_each(|byte| *byte = 0xFF),
    }
}
