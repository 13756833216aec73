//! What the journal costs, measured: `cargo bench -p millrace-journal`, or a smoke run with `--
//! --test`.
//!
//! Every section prints its own yardstick from the same run where there is one. The disk sections
//! use the directory in `JOURNAL_BENCH_DIR`, or the system's directory for temporary files: be sure
//! it is on the disk that matters.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_journal::storage::MemoryStorage;
use millrace_journal::{
    Durability, OpenError, Options, Reader, Recovered, Writer, slot_bytes, verify,
};

const PAYLOAD: [u8; 128] = [0x5A; 128];

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let scale = if quick { 1000 } else { 1 };
    let dir = tempfile::tempdir_in(bench_dir()).expect("a directory for the bench");

    prepared_appends(
        "memory",
        Writer::open_in(Arc::new(MemoryStorage::new()), process()),
        scale,
    );
    let files = Writer::open(&dir.path().join("prepared"), process());
    prepared_appends("files, process", files, scale);
    let options = Options {
        durability: Durability::Disk,
        ..Options::default()
    };
    let files = Writer::open(&dir.path().join("untouched"), options);
    prepared_appends("files, disk, no commits", files, scale);
    sustained_appends(&dir.path().join("sustained"), 12_000_000 / scale);
    single_commits(&dir.path().join("single"), 4_000 / scale.min(100));
    batches(&dir.path().join("batches"), 2_000_000 / scale);
}

fn bench_dir() -> PathBuf {
    std::env::var_os("JOURNAL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn process() -> Options {
    Options {
        durability: Durability::Process,
        ..Options::default()
    }
}

/// The append alone, into segments that were ready before the clock ran: twice what is left of the
/// current segment and the spare behind it.
fn prepared_appends(name: &str, opened: Result<(Writer, Recovered), OpenError>, scale: u64) {
    let (mut writer, _) = opened.expect("a writer");
    for (round, segments) in [("first", 2), ("again", 1)] {
        wait_for_space(&writer, segments);
        let records = (writer.space_left() / slot_bytes(128) as u64 - 2) / scale;
        report(&format!("append 128 B, {name}, {round}"), records, || {
            timed_appends(&mut writer, records, u64::MAX)
        });
    }
}

/// Faster than the disk: the writer waits for spares, and every byte is written twice.
fn sustained_appends(dir: &Path, records: u64) {
    let (mut writer, _) = Writer::open(dir, process()).expect("a writer");
    wait_for_space(&writer, 2);
    report("append 128 B, files, process, sustained", records, || {
        timed_appends(&mut writer, records, 256)
    });
    let commits = samples(1000, || {
        writer.append(&PAYLOAD).expect("room");
        let clock = Instant::now();
        black_box(writer.commit().expect("a commit"));
        clock.elapsed()
    });
    print_percentiles("commit, process", commits);
    writer.close().expect("a clean end");
    reads(dir, records);
}

/// Appends with a commit after each batch; one sample per batch of 64 appends, divided by 64.
fn timed_appends(writer: &mut Writer, records: u64, batch: u64) -> Vec<Duration> {
    let mut samples = Vec::with_capacity((records / 64) as usize);
    for group in 0..records / 64 {
        let clock = Instant::now();
        for _ in 0..64 {
            black_box(writer.append(black_box(&PAYLOAD)).expect("room"));
        }
        samples.push(clock.elapsed() / 64);
        if ((group + 1) * 64).is_multiple_of(batch) {
            writer.commit().expect("a commit");
        }
    }
    samples
}

fn reads(dir: &Path, records: u64) {
    let mut reader = Reader::open(dir).expect("a reader");
    let clock = Instant::now();
    let (mut count, mut bytes) = (0u64, 0u64);
    while let Some(record) = reader.next().expect("a sound journal") {
        count += 1;
        bytes += black_box(record.payload).len() as u64;
    }
    let took = clock.elapsed();
    assert!(count >= records / 64 * 64 && bytes == count * 128);
    let (rate, gigabytes) = (
        count as f64 / took.as_secs_f64(),
        reader.bytes_read() as f64 / 1e9,
    );
    println!(
        "read: {:.1} M records/s, {:.2} GB/s",
        rate / 1e6,
        gigabytes / took.as_secs_f64()
    );

    let clock = Instant::now();
    let verified = verify(dir, &mut |_, _| ()).expect("a sound journal");
    println!(
        "verify: {:.2} GB/s",
        verified.bytes as f64 / 1e9 / clock.elapsed().as_secs_f64()
    );

    let clock = Instant::now();
    let (_writer, recovered) = Writer::open(dir, process()).expect("a sound journal");
    let took = clock.elapsed();
    println!(
        "open: {:.1} ms for {:.2} GB",
        took.as_secs_f64() * 1e3,
        recovered.bytes as f64 / 1e9
    );
}

/// One record, one sync, beside the disk's own speed: an overwrite of 4 KiB and an fdatasync, turn
/// about.
fn single_commits(dir: &Path, rounds: u64) {
    let options = Options {
        durability: Durability::Disk,
        ..Options::default()
    };
    let (mut writer, _) = Writer::open(dir, options).expect("a writer");
    wait_for_space(&writer, 2);
    println!("probe: {:?}", writer.probe_sync_cost().expect("a probe"));
    let path = dir.join("probe");
    let raw = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .expect("a raw file");
    raw.write_all_at(&vec![1; 4 << 20], 0).expect("raw blocks");
    raw.sync_all().expect("a raw sync");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let clock = Instant::now();
        writer.append(&[0x5A; 192]).expect("room");
        writer.commit().expect("a commit");
        ours.push(clock.elapsed());
        let clock = Instant::now();
        raw.write_all_at(&[round as u8; 4096], round % 1024 * 4096)
            .expect("a raw write");
        raw.sync_data().expect("a raw sync");
        theirs.push(clock.elapsed());
    }
    print_percentiles("append + commit of one 192 B record, disk", ours);
    print_percentiles("  beside it: pwrite of 4 KiB + fdatasync", theirs);
}

fn batches(dir: &Path, records: u64) {
    let options = Options {
        durability: Durability::Disk,
        ..Options::default()
    };
    let (mut writer, _) = Writer::open(dir, options).expect("a writer");
    wait_for_space(&writer, 2);
    let (clock, mut commits) = (Instant::now(), Vec::new());
    for _ in 0..records / 1000 {
        for _ in 0..1000 {
            writer.append(&[0x5A; 128]).expect("room");
        }
        let clock = Instant::now();
        writer.commit().expect("a commit");
        commits.push(clock.elapsed());
    }
    let rate = (records / 1000 * 1000) as f64 / clock.elapsed().as_secs_f64();
    println!(
        "batches of 1000 x 128 B, disk: {:.2} M records/s",
        rate / 1e6
    );
    print_percentiles("  their commits", commits);
}

/// Waits until as much is prepared as so many empty segments hold.
fn wait_for_space(writer: &Writer, segments: u64) {
    while writer.space_left() < segments * ((64 << 20) - 4096) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn report(name: &str, records: u64, run: impl FnOnce() -> Vec<Duration>) {
    let clock = Instant::now();
    let samples = run();
    let per_record = clock.elapsed().as_nanos() as f64 / records as f64;
    println!(
        "{name}: {per_record:.1} ns/record, {:.1} M/s",
        1e3 / per_record
    );
    print_percentiles("  by groups of 64", samples);
}

fn samples(count: usize, mut once: impl FnMut() -> Duration) -> Vec<Duration> {
    (0..count).map(|_| once()).collect()
}

fn print_percentiles(name: &str, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let Some(last) = samples.len().checked_sub(1) else {
        return;
    };
    let at = |share: f64| samples[(last as f64 * share) as usize];
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    println!(
        "{name}: p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}, max {:?}",
        samples[last]
    );
}
