//! Records in, the same records out: sizes, pieces, segments, restarts, the lock, a follower beside the writer.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{payload, payloads, small};
use millrace_journal::storage::MemoryStorage;
use millrace_journal::{
    AppendError, Defect, Durability, EndState, OpenError, Options, ReadError, Reader, Writer,
    slot_bytes, verify, verify_in,
};
use proptest::prelude::*;

const MIB: Options = Options {
    segment_bytes: 1 << 20,
    durability: Durability::Disk,
    writer_release: 7,
    record_bytes_max: 1 << 20,
    check_from: 1,
};

#[test]
fn records_come_back_from_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, recovered) = Writer::open(dir.path(), MIB).unwrap();
    assert!(recovered.created);
    for number in 1..=1000 {
        assert_eq!(writer.append(&payload(number)).unwrap(), number);
    }
    let commit = writer.commit().unwrap();
    assert_eq!((commit.durable_sequence, commit.records), (1000, 1000));
    let head = writer.chain_head();
    writer.close().unwrap();

    let mut reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.last_sequence(), 1000);
    for number in 1..=1000 {
        let record = reader.next().unwrap().unwrap();
        assert_eq!(
            (record.sequence, record.payload),
            (number, &payload(number)[..])
        );
        assert!(record.payload.as_ptr().addr().is_multiple_of(16));
    }
    assert!(reader.next().unwrap().is_none());
    assert_eq!(reader.end_state().unwrap(), EndState::Clean);
    assert_eq!(reader.bytes_read(), reader.bytes_total());

    let verified = verify(dir.path(), &mut |_, _| ()).unwrap();
    assert_eq!(
        (verified.records, verified.chain_head, verified.live),
        (1000, head, false)
    );
}

#[test]
fn a_journal_goes_on_after_a_restart_with_the_same_fingerprint() {
    let storage = Arc::new(MemoryStorage::new());
    let mut head = None;
    for round in 0..20 {
        let (mut writer, recovered) = Writer::open_in(storage.clone(), small()).unwrap();
        assert_eq!(recovered.last_sequence, round * 37);
        assert_eq!(recovered.cut, None);
        if let Some(head) = head {
            assert_eq!(writer.chain_head(), head);
        }
        for number in 1..=37 {
            writer.append(&payload(round * 37 + number)).unwrap();
        }
        head = Some(writer.chain_head());
        writer.close().unwrap();
    }
    assert_eq!(payloads(&*storage.clone()).len(), 740);
    let verified = verify_in(&*storage, &mut |_, _| ()).unwrap();
    assert_eq!(Some(verified.chain_head), head);
    assert!(verified.segments > 10);
}
