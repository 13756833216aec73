//! The journal, damaged: real segments, changed as the input says, through every reader there is.
//!
//! - No reader panics.
//! - No record comes out that was not written, with that sequence and those bytes: neither of a
//!   reader, nor of a salvage, nor after an opening that cut or repaired.
//! - What `verify` finds in order reads to its end, and what opens is in order afterwards.

use crate::source::Source;
use crate::test_data;
use millrace_journal::storage::FaultyStorage;
use millrace_journal::{
    Defect, Durability, Fault, Options, ReadError, Reader, Salvage, Salvaged, Writer, verify_in,
};
use std::sync::{Arc, OnceLock};

/// A journal as it was written.
pub struct Base {
    /// Its directory's name.
    pub name: String,
    /// Its segments, first to last.
    pub segments: Vec<Vec<u8>>,
    /// Its records, first to last.
    pub records: Vec<Vec<u8>>,
}

/// The golden journals.
pub fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let release = test_data().join("golden/0.1.0");
        let dirs = std::fs::read_dir(&release).expect("golden journals");
        let mut dirs: Vec<_> = dirs.map(|entry| entry.expect("an entry").path()).collect();
        dirs.retain(|path| path.is_dir());
        dirs.sort();
        dirs.iter().map(|dir| base(dir)).collect()
    })
}

fn base(dir: &std::path::Path) -> Base {
    let read = |index: u64| std::fs::read(dir.join(name(index))).ok();
    let segments: Vec<Vec<u8>> = (1..).map_while(read).collect();
    let storage = store(&segments.iter().cloned().map(Some).collect::<Vec<_>>());
    let mut reader = Reader::open_in(Arc::new(storage)).expect("a golden journal");
    let mut records = Vec::new();
    while let Some(record) = reader.next().expect("a golden journal") {
        records.push(record.payload.to_vec());
    }
    Base {
        name: dir
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned(),
        segments,
        records,
    }
}

/// The file name of a segment.
pub fn name(index: u64) -> String {
    format!("{index:016}.segment")
}

/// A storage with these files; `None` is one that is missing.
pub fn store(segments: &[Option<Vec<u8>>]) -> FaultyStorage {
    let storage = FaultyStorage::new();
    for (index, bytes) in (1..).zip(segments) {
        if let Some(bytes) = bytes {
            storage.write_file(&name(index), bytes);
        }
    }
    storage
}

/// One input: which journal, what is done to it, and from where it is read.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let base = &bases()[source.below(bases().len())];
    let mut files: Vec<Option<Vec<u8>>> = base.segments.iter().cloned().map(Some).collect();
    let from = source.byte().into();
    while !source.is_empty() {
        damage(&mut source, &mut files);
    }
    let written = |sequence: u64, payload: &[u8], among: u64| {
        // A whole journal may have taken the place of another; then all of it has.
        let left = among & wrote(sequence, payload);
        assert_ne!(left, 0, "record {sequence} was not written");
        left
    };
    let storage = examine(&files, from, &written);
    is_in_order(&storage);
}

/// Which of the golden journals have a record of that sequence and these bytes, as a set of bits.
fn wrote(sequence: u64, payload: &[u8]) -> u64 {
    let index = usize::try_from(sequence - 1).expect("sequences of a small journal");
    let has = |base: &Base| {
        base.records
            .get(index)
            .is_some_and(|record| record == payload)
    };
    bases()
        .iter()
        .rev()
        .fold(0, |set, base| set << 1 | u64::from(has(base)))
}

/// Panics where a record (its sequence, its bytes) comes out that was not written. Given and
/// returned is which journals the records of one reading can be of, as a set of bits.
pub type Written<'a> = &'a dyn Fn(u64, &[u8], u64) -> u64;

/// Reads the files in every way there is, and opens them; returns what they are then.
pub fn examine(files: &[Option<Vec<u8>>], from: u64, written: Written<'_>) -> Arc<FaultyStorage> {
    let storage = Arc::new(store(files));
    let read = read(&storage, written);
    seek(&storage, from, written);
    salvage(&storage, from, written);
    match verify_in(&*storage, &mut |_, _| ()) {
        Ok(verified) => {
            assert_eq!(
                read.as_ref().ok(),
                Some(&verified.last_sequence),
                "verify is content"
            );
            assert_eq!(verified.records, verified.last_sequence);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    open(&storage, written);
    storage
}

/// The last sequence that comes out from the front.
fn read(storage: &Arc<FaultyStorage>, written: Written<'_>) -> Result<u64, ReadError> {
    let mut reader = Reader::open_in(storage.clone())?;
    let (mut last, mut among) = (0, u64::MAX);
    while let Some(record) = reader.next()? {
        last += 1;
        assert_eq!(record.sequence, last, "in order, from the first");
        among = written(record.sequence, record.payload, among);
    }
    assert!(reader.last_sequence() >= last && reader.bytes_total() >= reader.bytes_read());
    reader.end_state()?;
    Ok(last)
}

fn seek(storage: &Arc<FaultyStorage>, from: u64, written: Written<'_>) {
    let Ok(mut reader) = Reader::open_in(storage.clone()) else {
        return;
    };
    if reader.seek(from).is_ok() {
        assert_eq!(reader.next_sequence(), from);
        let mut among = u64::MAX;
        while let Ok(Some(record)) = reader.next() {
            among = written(record.sequence, record.payload, among);
        }
    }
}

fn salvage(storage: &Arc<FaultyStorage>, from: u64, written: Written<'_>) {
    let Ok(mut salvage) = Salvage::open_in(storage.clone(), from) else {
        return;
    };
    let (mut steps, mut among) = (0, u64::MAX);
    while let Ok(Some(step)) = salvage.next() {
        match step {
            Salvaged::Record(record) => among = written(record.sequence, record.payload, among),
            Salvaged::Lost(defect) => assert!(!defect.to_string().is_empty()),
        }
        steps += 1;
        assert!(steps < 100_000, "a salvage comes to an end");
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 8 << 10,
        durability: Durability::Process,
        writer_release: u16::MAX,
        ..Options::default()
    }
}

fn open(storage: &Arc<FaultyStorage>, written: Written<'_>) {
    let (mut writer, recovered) = match Writer::open_in(storage.clone(), options()) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let left = read(storage, written).expect("what opens can be read");
    assert_eq!(left, recovered.last_sequence);
    writer.append(b"the next").expect("there is room");
    writer.commit().expect("memory does not fail");
    drop(writer);
    assert!(read(storage, &|_, _, _| 0).is_ok_and(|last| last == left + 1));
}

/// What opened is sound afterwards.
fn is_in_order(storage: &Arc<FaultyStorage>) {
    let opens = Writer::open_in(storage.clone(), options()).is_ok();
    match verify_in(&**storage, &mut |_, _| ()) {
        Ok(_) => {}
        // Bytes between label, link and frames are nobody's; only verify looks at them.
        Err(ReadError::Defect(Defect::Damaged(damage))) if damage.what == Fault::NotZero => {}
        Err(error) => assert!(!opens, "it opens, but {error}"),
    }
}

/// Does one thing to the files.
fn damage(source: &mut Source<'_>, files: &mut Vec<Option<Vec<u8>>>) {
    let what = source.byte();
    let file = source.below(files.len());
    let other = source.below(files.len());
    match what % 12 {
        0 | 1 => files[file] = None,
        2 => files.swap(file, other),
        3 => files[file] = files[other].clone(),
        4 => {
            // A segment of another journal.
            let base = &bases()[source.below(bases().len())];
            files[file] = Some(base.segments[source.below(base.segments.len())].clone());
        }
        5 => {
            let len = source.u16();
            if let Some(bytes) = &mut files[file] {
                // Files are cut and grown in whole words here, as the seam's storage keeps them.
                bytes.resize(usize::from(len) / 8 * 8, 0);
            }
        }
        6 => {
            files.truncate(file.max(1));
        }
        _ => {
            let at = source.u16();
            let length = source.byte();
            let Some(bytes) = &mut files[file] else {
                return;
            };
            if bytes.is_empty() {
                return;
            }
            let at = usize::from(at) % bytes.len();
            overwrite(source, what, &mut bytes[at..], length);
        }
    }
}

fn overwrite(source: &mut Source<'_>, what: u8, bytes: &mut [u8], length: u8) {
    let length = bytes.len().min(usize::from(length) + 1);
    match what % 12 {
        7 | 8 => bytes[0] ^= source.byte().max(1),
        9 => bytes[..length].fill(0),
        10 => bytes.copy_within(..length, bytes.len() - length),
        // All that follows: a tail that never reached the disk.
        11 if length > 128 => bytes.fill(0),
        _ => {
            let noise = source.take(length);
            bytes[..noise.len()].copy_from_slice(noise);
        }
    }
}
