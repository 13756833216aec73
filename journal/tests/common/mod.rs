//! What the journal's tests share: deterministic payloads and short ways to write and read them.
#![allow(dead_code, reason = "every test file uses a part of this")]

use std::sync::Arc;

use millrace_journal::storage::{FaultyStorage, Storage};
use millrace_journal::{Durability, Options, Reader, Writer};

/// The smallest segments: one page of header, one of frames.
pub fn small() -> Options {
    Options {
        segment_bytes: 8192,
        durability: Durability::Disk,
        ..Options::default()
    }
}

/// The record with this sequence: a length and bytes of its own.
pub fn payload(sequence: u64) -> Vec<u8> {
    let length = (sequence * 37 % 211) as usize;
    (0..length)
        .map(|byte| (sequence as u8).wrapping_mul(31).wrapping_add(byte as u8))
        .collect()
}

/// Every record of a storage, checked to have the sequences 1, 2, 3 and so on.
pub fn payloads(storage: &(impl Storage + Clone + 'static)) -> Vec<Vec<u8>> {
    let mut reader = Reader::open_in(Arc::new(storage.clone())).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(record.sequence, found.len() as u64 + 1);
        found.push(record.payload.to_vec());
    }
    found
}

/// Appends the records `from..=to` and commits after each `batch`.
pub fn append(writer: &mut Writer, from: u64, to: u64, batch: u64) {
    for sequence in from..=to {
        assert_eq!(writer.append(&payload(sequence)).unwrap(), sequence);
        if sequence.is_multiple_of(batch) {
            writer.commit().unwrap();
        }
    }
}

/// A storage with the same files, all of them on its disk.
pub fn copy(storage: &FaultyStorage) -> FaultyStorage {
    let copied = FaultyStorage::new();
    for name in storage.names().unwrap() {
        copied.write_file(&name, &storage.read_file(&name));
    }
    copied
}
