//! The journal alone: appends into a prepared segment, and durable appends beside the raw disk.

use super::histogram;
use super::yardstick::RawAppend;
use hdrhistogram::Histogram;
use millrace_journal::{Durability, Options, Writer};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a record: a transfer.
pub const RECORD_BYTES: usize = 160;
/// Records between two commits: one busy ring batch.
const BATCH: u64 = 256;

/// Appends without waiting for the disk.
pub struct Appended {
    /// Records.
    pub records: u64,
    /// The time the appends and commits took.
    pub elapsed: Duration,
    /// Nanoseconds per append, every 64th measured.
    pub latency: Histogram<u64>,
}

/// Appends `records` records into one prepared segment under policy `process`.
pub fn append(dir: &Path, records: u64) -> Result<Appended, String> {
    let slot = millrace_journal::slot_bytes(RECORD_BYTES) as u64;
    let segment_bytes = ((records + BATCH) * slot + (1 << 20)).next_multiple_of(1 << 20);
    let options = Options {
        segment_bytes: segment_bytes.min(2 << 30),
        durability: Durability::Process,
        ..Options::default()
    };
    let (mut writer, _) = Writer::open(dir, options).map_err(|error| error.to_string())?;
    let record = [0x5a; RECORD_BYTES];
    let mut latency = histogram();
    let started = Instant::now();
    for number in 0..records {
        let is_sample = number % 64 == 0;
        let before = is_sample.then(Instant::now);
        writer.append(&record).map_err(|error| error.to_string())?;
        if let Some(before) = before {
            latency.saturating_record(before.elapsed().as_nanos() as u64);
        }
        if number % BATCH == BATCH - 1 {
            writer.commit().map_err(|error| error.to_string())?;
        }
    }
    writer.commit().map_err(|error| error.to_string())?;
    let elapsed = started.elapsed();
    writer.close().map_err(|error| error.to_string())?;
    Ok(Appended {
        records,
        elapsed,
        latency,
    })
}

/// Durable appends, ours and raw, in turn.
pub struct Durable {
    /// Append and commit of one record, ns.
    pub ours: Histogram<u64>,
    /// Raw append and fdatasync of as many bytes, ns.
    pub raw: Histogram<u64>,
}

/// Measures `rounds` durable appends of one record, each beside a raw one, so that a disk in a bad
/// mood is so for both.
pub fn durable(dir: &Path, rounds: usize) -> Result<Durable, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut raw = RawAppend::prepare(dir, RECORD_BYTES).map_err(text)?;
    let (mut writer, _) =
        Writer::open(&dir.join("journal"), Options::default()).map_err(|e| e.to_string())?;
    let record = [0x5a; RECORD_BYTES];
    let mut measured = Durable {
        ours: histogram(),
        raw: histogram(),
    };
    for _ in 0..rounds {
        let started = Instant::now();
        writer.append(&record).map_err(|error| error.to_string())?;
        writer.commit().map_err(|error| error.to_string())?;
        measured
            .ours
            .saturating_record(started.elapsed().as_nanos() as u64);
        measured.raw.saturating_record(raw.append().map_err(text)?);
    }
    writer.close().map_err(|error| error.to_string())?;
    Ok(measured)
}
