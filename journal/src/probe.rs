//! What one small sync costs on this disk, measured at start.
//!
//! A file system that keeps a segment in large folios writes 2 MiB for every sync of a few records,
//! ten times slower than need be, and nothing else shows it. The probe makes a scratch file the way
//! segments are made, changes one page and asks the kernel how much that made dirty.

use std::io;
use std::time::Instant;

use crate::error::IoFault;
use crate::format::PROBE_NAME;
use crate::storage::{Access, Storage};

/// Large enough for the kernel to use its largest folios.
const SCRATCH_BYTES: u64 = 4 << 20;
/// Eight records of a usual size.
const RECORDS: usize = 8;
const RECORD_BYTES: usize = 160;

/// What a sync of eight small records costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncCost {
    /// Bytes that the records made the kernel write: some pages. More than 64 KiB means large
    /// folios or worse; `None` where the system does not tell.
    pub device_bytes: Option<u64>,
    /// Duration of the sync in nanoseconds.
    pub sync_ns: u64,
}

pub(crate) fn sync_cost(storage: &dyn Storage) -> Result<SyncCost, IoFault> {
    let measured = measure(storage);
    // The scratch file goes whatever happened; should that fail, the next probe overwrites it.
    let _ = storage.remove(PROBE_NAME);
    measured.map_err(|error| {
        IoFault::new(
            "probe the disk with",
            storage.path_of(PROBE_NAME),
            error,
            "check the space and the disk",
        )
    })
}

fn measure(storage: &dyn Storage) -> io::Result<SyncCost> {
    storage.prepare(PROBE_NAME, SCRATCH_BYTES)?;
    let file = storage.open(PROBE_NAME, Access::Write)?;
    // In the middle, where a large folio would reach far in both directions.
    let start = file.mapping().len() / 2;
    let before = bytes_dirtied();
    for record in 0..RECORDS {
        // SAFETY: the scratch file is this function's alone.
        unsafe {
            file.mapping()
                .put(start + record * RECORD_BYTES, &[0xA5; RECORD_BYTES])
        };
    }
    let clock = Instant::now();
    file.sync(start..start + RECORDS * RECORD_BYTES)?;
    let sync_ns = clock.elapsed().as_nanos() as u64;
    let device_bytes = before.and_then(|before| Some(bytes_dirtied()? - before));
    Ok(SyncCost {
        device_bytes,
        sync_ns,
    })
}

/// `write_bytes` of this thread: Linux counts pages there as they become dirty. Of the thread, not
/// of the process: the preparer is writing zeros meanwhile.
fn bytes_dirtied() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("write_bytes: ")?.trim().parse().ok())
}
