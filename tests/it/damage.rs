//! Broken directories, as an operator meets them: a node refuses with file, offset and sequence or cuts
//! what was never acknowledged, `verify` says what is wrong in a sentence, `journal` prints around it.

use crate::pipeline_support::*;
use millrace::config::Config;
use millrace::pipeline::Inline;
use millrace::replay::recovery::RecoverError;
use millrace::replay::snapshot_store;
use millrace_journal::{Defect, OpenError, Reader};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const TRANSFERS: u128 = 60;
const LAST: u64 = 5 + TRANSFERS as u64;

/// A journal of 65 commands, each acknowledged alone, with a snapshot after the 35th.
fn directory() -> (TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        durability: millrace::config::Durability::Disk,
        ..small(&dir)
    };
    let (mut inline, _) = Inline::open(&config).unwrap();
    let transfers = (1..=TRANSFERS).map(|id| transfer(id, id));
    for command in opening().into_iter().chain(transfers) {
        inline.execute(&command, &mut |_| ()).unwrap();
    }
    let engine = inline.close();
    assert_eq!(engine.sequence(), LAST);
    (dir, config)
}

fn millrace(verb: &str, dir: &Path, more: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args([verb, "--dir"])
        .arg(dir)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn segment(config: &Config) -> PathBuf {
    config.dir.join("0000000000000001.segment")
}

/// Where the frame of a command begins.
fn offset_of(config: &Config, sequence: u64) -> u64 {
    let mut reader = Reader::open(&config.dir).unwrap();
    reader.seek(sequence).unwrap();
    reader.next().unwrap().unwrap().offset
}

/// Changes bytes of a file.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn printed(out: &str) -> Vec<u64> {
    let sequence = |line: &str| line.split_whitespace().next()?.parse().ok();
    out.lines().filter_map(sequence).collect()
}

#[test]
fn damage_below_the_watermark_is_refused_explained_and_printed_around() {
    let (_dir, config) = directory();
    let offset = offset_of(&config, 20);
    change(&segment(&config), |bytes| bytes[offset as usize + 50] ^= 4);

    let refusal = Inline::open(&config).err().expect("refused");
    let RecoverError::Open(OpenError::Defect(Defect::Damaged(damage))) = &refusal else {
        panic!("{refusal}");
    };
    assert_eq!(
        (&damage.path, damage.offset, damage.sequence),
        (&segment(&config), offset, 20)
    );

    let (code, _, complaint) = millrace("verify", &config.dir, &[]);
    let sentence = format!(
        "millrace: unsound: {} is damaged at byte {offset} (sequence 20): the checksum does not match; \
         restore the file from a copy; a node will not start on it; `millrace journal` prints what can be \
         read around it\n",
        segment(&config).display()
    );
    assert_eq!((code, complaint), (1, sentence));

    let (code, out, complaint) = millrace("journal", &config.dir, &[]);
    let expected: Vec<u64> = (1..=LAST).filter(|sequence| *sequence != 20).collect();
    assert_eq!((code, printed(&out)), (1, expected));
    assert!(
        complaint.contains("commands 20 to 20 cannot be read"),
        "{complaint}"
    );
    assert!(complaint.ends_with("damaged at 1 place; what could be read around it is printed\n"));
    let (_, out, _) = millrace("journal", &config.dir, &["--from", "40", "--limit", "3"]);
    assert_eq!(printed(&out), [40, 41, 42]);
}

#[test]
fn a_zeroed_page_is_refused_and_what_lies_around_it_is_printed() {
    let (_dir, config) = directory();
    change(&segment(&config), |bytes| bytes[8192..12288].fill(0));
    let (code, _, complaint) = millrace("verify", &config.dir, &[]);
    assert!(code == 1 && complaint.contains("unsound: "), "{complaint}");
    let refusal = Inline::open(&config).err().expect("refused").to_string();
    assert!(
        refusal.contains(".segment is damaged at byte "),
        "{refusal}"
    );
    let (code, out, complaint) = millrace("journal", &config.dir, &[]);
    let printed = printed(&out);
    assert_eq!((code, printed.last()), (1, Some(&LAST)), "{complaint}");
    assert!(
        printed.len() as u64 > LAST - 35 && printed[0] == 1,
        "{printed:?}"
    );
}

#[test]
fn a_torn_tail_is_called_one_and_cut() {
    let (_dir, config) = directory();
    let offset = offset_of(&config, LAST);
    change(&segment(&config), |bytes| bytes[offset as usize + 70] ^= 4);
    let (code, _, complaint) = millrace("verify", &config.dir, &[]);
    let start = format!(
        "millrace: unsound: {} ends in a torn tail at byte {offset} (sequence {LAST}): ",
        segment(&config).display()
    );
    assert!(code == 1 && complaint.starts_with(&start), "{complaint}");
    let (code, out, complaint) = millrace("journal", &config.dir, &["--from", "60"]);
    assert_eq!((code, printed(&out).last()), (0, Some(&(LAST - 1))));
    assert!(complaint.contains("a torn tail follows"), "{complaint}");
    let (inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!(recovery.sequence, LAST - 1);
    assert!(
        recovery.notes[0].contains("cut a torn tail at sequence 65"),
        "{:?}",
        recovery.notes
    );
    inline.close();
    let (code, out, complaint) = millrace("verify", &config.dir, &[]);
    assert_eq!(
        (code, out.lines().last()),
        (0, Some("sound")),
        "{complaint}"
    );
}

type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn files_cut_short_grown_swapped_and_foreign_are_named() {
    let (_other, other) = directory();
    let foreign = std::fs::read(segment(&other)).unwrap();
    let cases: [(&str, &str, Change); 5] = [
        ("cut short", "bytes and should have", &|bytes| {
            bytes.truncate(1 << 20)
        }),
        ("cut to nothing", "bytes and should have", &|bytes| {
            bytes.clear()
        }),
        ("grown", "bytes and should have", &|bytes| {
            bytes.resize(bytes.len() + 4096, 0)
        }),
        ("its label lost", "is not a journal segment", &|bytes| {
            bytes[..4096].fill(0)
        }),
        ("its link hurt", "is damaged at byte 512", &|bytes| {
            bytes[540] ^= 1
        }),
    ];
    for (what, why, break_it) in cases {
        let (_dir, config) = directory();
        change(&segment(&config), break_it);
        let refusal = Inline::open(&config).err().expect(what).to_string();
        let named = refusal.contains(&segment(&config).display().to_string());
        assert!(named && refusal.contains(why), "{what}: {refusal}");
        let (code, _, complaint) = millrace("verify", &config.dir, &[]);
        assert!(code == 1 && complaint.contains(why), "{what}: {complaint}");
        let (code, _, complaint) = millrace("journal", &config.dir, &[]);
        assert!(code == 1 && complaint.contains(why), "{what}: {complaint}");
    }
    // A second segment from another journal, and one that is the first under another name.
    for bytes in [foreign, std::fs::read(segment(&other)).unwrap()] {
        let (_dir, config) = directory();
        std::fs::write(config.dir.join("0000000000000002.segment"), bytes).unwrap();
        let refusal = Inline::open(&config).err().expect("refused").to_string();
        assert!(
            refusal.contains("0000000000000002.segment is a segment "),
            "{refusal}"
        );
        assert_eq!(millrace("verify", &config.dir, &[]).0, 1);
    }
}

#[test]
fn every_flipped_byte_of_a_snapshot_is_seen() {
    let (_dir, config) = directory();
    assert_eq!(millrace("snapshot", &config.dir, &["--fast"]).0, 0);
    let path = snapshot_store::path_of(&config.dir, LAST);
    let sound = std::fs::read(&path).unwrap();
    let load = || snapshot_store::load(&path, &config.limits, config.sessions);
    let digest = load().unwrap().digest;
    let mut flips = 0;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let put = |offset: usize, byte: u8| {
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte], offset as u64).unwrap();
    };
    for (offset, byte) in sound.iter().enumerate() {
        for mask in [0x01, 0x80, 0xFF] {
            put(offset, byte ^ mask);
            assert!(
                load().is_err(),
                "a flip with {mask:#x} at {offset} goes unseen"
            );
            flips += 1;
        }
        put(offset, *byte);
    }
    println!("{flips} flips in a snapshot: all seen");
    assert_eq!(load().unwrap().digest, digest);
    drop(file);

    // Cut anywhere or grown it is no better.
    for length in [0, 1, 143, 144, 145, sound.len() / 2, sound.len() - 1] {
        std::fs::write(&path, &sound[..length]).unwrap();
        assert!(load().is_err(), "{length} bytes");
    }
    change(&path, |bytes| {
        *bytes = sound.clone();
        bytes.push(0);
    });
    assert!(load().is_err());

    // A node passes it over, says so, and replays; verify calls the directory unsound.
    let (inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!((recovery.snapshot, recovery.replayed), (None, LAST));
    let note = &recovery.notes[0];
    assert!(
        note.contains("is not used: it does not have the length its header says"),
        "{note}"
    );
    assert_eq!(inline.close().digest(), digest);
    let (code, _, complaint) = millrace("verify", &config.dir, &[]);
    assert!(
        code == 1 && complaint.contains("unsound: snapshot "),
        "{complaint}"
    );
}

#[test]
fn a_snapshot_of_another_journal_is_passed_over() {
    let ((_dir, config), (_other, other)) = (directory(), directory());
    assert_eq!(millrace("snapshot", &other.dir, &["--fast"]).0, 0);
    let name = snapshot_store::path_of(Path::new(""), LAST);
    std::fs::copy(other.dir.join(&name), config.dir.join(&name)).unwrap();
    let (_inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!(recovery.snapshot, None);
    assert!(
        recovery.notes[0].contains("it belongs to another journal"),
        "{:?}",
        recovery.notes
    );
}

/// A label with another release, its checksum right.
fn write_release(config: &Config, release: u16) {
    change(&segment(config), |bytes| {
        bytes[10..12].copy_from_slice(&release.to_le_bytes());
        let sum = crc32c(&bytes[..92]);
        bytes[92..96].copy_from_slice(&sum.to_le_bytes());
    });
}

/// Castagnoli's polynomial, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32| (sum >> 1) ^ (0x82F6_3B78 * (sum & 1));
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum))
    })
}

#[test]
fn a_journal_of_a_newer_release_is_refused_politely_and_left_alone() {
    let (_dir, config) = directory();
    write_release(&config, millrace::protocol::RELEASE + 1);
    let before = std::fs::read(segment(&config)).unwrap();
    let refusal = Inline::open(&config).err().expect("refused").to_string();
    let polite = format!(
        "release {} wrote {}, this is release {}: use that release or a later one",
        millrace::protocol::RELEASE + 1,
        segment(&config).display(),
        millrace::protocol::RELEASE
    );
    assert_eq!(refusal, polite);
    for verb in ["verify", "replay", "snapshot", "journal"] {
        let (code, _, complaint) = millrace(verb, &config.dir, &[]);
        assert_eq!(code, 1, "{verb}");
        assert!(
            complaint.contains("use that release or a later one"),
            "{verb}: {complaint}"
        );
    }
    let (code, _, complaint) = millrace("serve", &config.dir, &["--listen", "127.0.0.1:0"]);
    assert!(
        code == 1 && complaint.contains("use that release"),
        "{complaint}"
    );
    assert_eq!(std::fs::read(segment(&config)).unwrap(), before);
}
