//! Archiving: what lies before the oldest kept snapshot goes elsewhere, a node starts without it, and
//! every verb either reads both or says politely what is missing.

use crate::pipeline_support::*;
use millrace::config::Config;
use millrace::engine::Limits;
use millrace::pipeline::Inline;
use millrace::replay::{Nobody, follow, limits_file, snapshot_store};
use millrace::session::SessionTable;
use millrace_journal::{Options, Writer};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const LAST: u64 = 16_000;
/// Snapshots are of these commands; segments of a mebibyte hold some 5,400 each.
const SNAPSHOTS: [u64; 3] = [3_000, 11_500, 15_000];

struct Place {
    _dir: TempDir,
    config: Config,
    archive: PathBuf,
}

impl Place {
    fn archived(&self) -> BTreeSet<u64> {
        segments(&self.archive)
    }

    fn left(&self) -> BTreeSet<u64> {
        segments(&self.config.dir)
    }

    fn millrace(&self, verb: &str, more: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .arg(verb)
            .args(if verb == "history" {
                &["sync"][..]
            } else {
                &[]
            })
            .arg("--dir")
            .arg(&self.config.dir)
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

    fn archive(&self, more: &[&str]) -> (i32, String, String) {
        let to = self.archive.to_str().unwrap();
        self.millrace("archive", &[&["--to", to], more].concat())
    }

    /// The same verb, with the archive named.
    fn with_archive(&self, verb: &str, more: &[&str]) -> (i32, String, String) {
        let archive = self.archive.to_str().unwrap();
        self.millrace(verb, &[&["--archive", archive], more].concat())
    }

    fn snapshot(&self, sequence: u64) -> PathBuf {
        snapshot_store::path_of(&self.config.dir, sequence)
    }

    /// What a node recovers: sequence, snapshot it began with, digest.
    fn recovered(&self) -> (u64, Option<u64>, [u8; 32]) {
        // A test beside this one may be starting a process: until that has become another program it holds
        // whatever locks this process held.
        let mut opened = Inline::open(&self.config);
        for _ in 0..200 {
            match &opened {
                Err(error) if error.to_string().contains("another process") => {}
                _ => break,
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            opened = Inline::open(&self.config);
        }
        let (inline, recovery) = opened.unwrap();
        (
            recovery.sequence,
            recovery.snapshot,
            inline.close().digest(),
        )
    }

    /// The archived segments, back where they were.
    fn give_back(&self) {
        for index in self.archived() {
            let name = name_of(index);
            std::fs::copy(self.archive.join(&name), self.config.dir.join(&name)).unwrap();
        }
    }
}

fn name_of(index: u64) -> String {
    format!("{index:016}.segment")
}

fn segments(dir: &Path) -> BTreeSet<u64> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let index = |name: &str| name.strip_suffix(".segment")?.parse().ok();
    entries
        .filter_map(|entry| index(entry.file_name().to_str()?))
        .collect()
}

fn set(indices: std::ops::RangeInclusive<u64>) -> BTreeSet<u64> {
    indices.collect()
}

/// A journal of 16,000 commands in three segments, with three snapshots.
fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        limits: Limits {
            transfers: 20_000,
            ..Limits::small()
        },
        ..small(&dir)
    };
    let archive = dir.path().join("archive");
    let options = Options {
        segment_bytes: 1 << 20,
        ..Options::default()
    };
    let (mut writer, _) = Writer::open(&config.dir, options).unwrap();
    for frame in opening() {
        writer.append(frame.bytes()).unwrap();
    }
    while writer.next_sequence() <= LAST {
        let id = u128::from(writer.next_sequence());
        writer.append(transfer(id, id).bytes()).unwrap();
        if id.is_multiple_of(1_000) {
            writer.commit().unwrap();
        }
    }
    writer.close().unwrap();
    limits_file::agree(&config.dir, &config.limits, true).unwrap();
    let mut engine = millrace::engine::Engine::new(&config.limits);
    let mut sessions = SessionTable::new(8);
    for sequence in SNAPSHOTS {
        let to = Some(sequence);
        follow(&config.dir, to, &mut engine, &mut sessions, &mut Nobody).unwrap();
        snapshot_store::write(&config.dir, &engine, &sessions).unwrap();
    }
    let place = Place {
        _dir: dir,
        config,
        archive,
    };
    assert_eq!(place.left(), set(1..=3), "three segments");
    place
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn verify_says_whether_a_node_starts_in_spite_of_damage() {
    let place = place();
    let verify = || {
        let (code, _, complaint) = place.millrace("verify", &[]);
        assert_eq!(code, 1, "{complaint}");
        complaint
    };
    // Damage behind the newest snapshot is met at a start.
    let newest = place.snapshot(15_000);
    let aside = newest.with_extension("aside");
    flip(&place.config.dir.join(name_of(2)));
    std::fs::rename(&newest, &aside).unwrap();
    std::fs::remove_file(place.snapshot(11_500)).unwrap();
    let complaint = verify();
    assert!(
        complaint.contains("; a node will not start on it; "),
        "{complaint}"
    );
    assert!(Inline::open(&place.config).is_err());
    // Before it, a start reads that segment no more.
    std::fs::rename(&aside, &newest).unwrap();
    let complaint = verify();
    assert!(
        complaint.contains("; a node still starts, with the snapshot of command 15,000, "),
        "{complaint}"
    );
    assert_eq!(place.recovered().1, Some(15_000));
    // Nor does it begin with a snapshot that is damaged itself.
    flip(&newest);
    let complaint = verify();
    assert!(
        complaint.contains("; a node will not start on it; "),
        "{complaint}"
    );
    assert!(Inline::open(&place.config).is_err());
}

#[test]
fn what_lies_before_the_oldest_kept_snapshot_is_moved_and_a_node_starts_without_it() {
    let place = place();
    let whole = place.recovered();
    let events = place.millrace("replay", &["--events"]);
    assert_eq!((whole.0, whole.1, events.0), (LAST, Some(15_000), 0));

    let (code, out, _) = place.archive(&["--dry-run"]);
    assert_eq!(code, 0);
    assert!(out.contains("would move segments 1 to 2 "), "{out}");
    assert!(!place.archive.exists() && place.left() == set(1..=3));

    let originals: Vec<Vec<u8>> = (1..=2)
        .map(|index| std::fs::read(place.config.dir.join(name_of(index))).unwrap())
        .collect();
    let (code, out, complaint) = place.archive(&[]);
    assert_eq!((code, complaint.as_str()), (0, ""));
    assert!(out.contains("moved segments 1 to 2 "), "{out}");
    assert!(
        out.contains("of 2 snapshots kept, of command 11,500"),
        "{out}"
    );
    assert_eq!((place.archived(), place.left()), (set(1..=2), set(3..=3)));
    for (index, original) in (1..=2).zip(originals) {
        let moved = std::fs::read(place.archive.join(name_of(index))).unwrap();
        assert!(moved == original, "segment {index} is as it was");
    }
    let (code, out, _) = place.archive(&[]);
    assert_eq!(code, 0);
    assert!(out.contains("nothing to move"), "{out}");

    assert_eq!(place.recovered(), whole);
    // The newest snapshot is damaged: the other one that was kept does.
    flip(&place.snapshot(15_000));
    let (sequence, snapshot, digest) = place.recovered();
    assert_eq!((sequence, snapshot), (LAST, Some(11_500)));
    assert_eq!(digest, whole.2);
    // And with neither, a start says what is missing.
    flip(&place.snapshot(11_500));
    let refusal = Inline::open(&place.config)
        .err()
        .expect("refused")
        .to_string();
    assert!(refusal.contains("segments 1 to 2 of "), "{refusal}");
    assert!(
        refusal.contains("were archived: give them back"),
        "{refusal}"
    );
    place.give_back();
    let (sequence, _, digest) = place.recovered();
    assert_eq!((sequence, digest), (LAST, whole.2));
}

#[test]
fn every_verb_reads_both_or_says_what_is_archived() {
    let place = place();
    let events = place.millrace("replay", &["--events"]).1;
    let all = place.millrace("journal", &[]).1;
    let head = |out: &str| {
        let line = out.lines().find(|line| line.starts_with("chain head: "));
        line.expect("a chain head").to_owned()
    };
    let whole = place.millrace("verify", &[]);
    assert_eq!(place.archive(&[]).0, 0);

    let (code, out, _) = place.millrace("verify", &[]);
    assert_eq!((code, head(&out)), (0, head(&whole.1)), "{out}");
    assert!(
        out.contains("archived: segments 1 to 2, commands up to "),
        "{out}"
    );
    assert!(
        out.contains("replay begins with the snapshot of command 11,500"),
        "{out}"
    );
    assert!(out.ends_with("sound\n"), "{out}");
    let (code, out, _) = place.with_archive("verify", &[]);
    assert_eq!((code, head(&out)), (0, head(&whole.1)));
    assert!(out.contains("snapshots: 3 agree"), "{out}");

    let polite = "were archived: give them back, say where they are with --archive";
    for verb in [&["replay", "--events"][..], &["journal"], &["history"]] {
        let (code, out, complaint) = place.millrace(verb[0], &verb[1..]);
        assert_eq!((code, out.as_str()), (1, ""), "{verb:?}");
        assert!(complaint.contains(polite), "{verb:?}: {complaint}");
    }
    let (code, _, complaint) = place.millrace("replay", &["--to", "5000"]);
    assert!(code == 1 && complaint.contains(polite), "{complaint}");
    assert_eq!(place.millrace("replay", &["--to", "12000"]).0, 0);
    assert_eq!(place.with_archive("replay", &["--to", "5000"]).0, 0);
    assert_eq!(place.with_archive("replay", &["--events"]).1, events);
    assert_eq!(place.with_archive("journal", &[]).1, all);
    let (code, out, _) = place.millrace("journal", &["--from", "15999"]);
    assert_eq!((code, out.lines().count()), (0, 2));
    let (code, out, complaint) = place.with_archive("history", &[]);
    assert_eq!((code, complaint.as_str()), (0, ""));
    assert!(out.contains("history reaches command 16,000"), "{out}");

    place.give_back();
    let (code, out, _) = place.millrace("verify", &[]);
    assert_eq!((code, head(&out)), (0, head(&whole.1)));
    assert!(out.contains("snapshots: 3 agree"), "{out}");
    assert_eq!(place.millrace("replay", &["--events"]).1, events);
}

#[test]
fn nothing_is_moved_that_no_good_snapshot_stands_in_for() {
    let place = place();
    // Damaged ones do not count: the oldest of the two newest good ones is of command 3,000.
    flip(&place.snapshot(15_000));
    let (code, out, complaint) = place.archive(&[]);
    assert_eq!(code, 0);
    assert!(
        complaint.contains("does not count: its content"),
        "{complaint}"
    );
    assert!(out.contains("nothing to move"), "{out}");
    // With one kept it is of command 11,500.
    let (code, out, _) = place.archive(&["--keep", "1", "--dry-run"]);
    assert!(
        code == 0 && out.contains("would move segments 1 to 2"),
        "{out}"
    );
    for sequence in [3_000, 11_500] {
        flip(&place.snapshot(sequence));
    }
    let (code, out, complaint) = place.archive(&["--keep", "1"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        complaint.contains("nothing is moved: no good snapshot"),
        "{complaint}"
    );
    assert!(!place.archive.exists() && place.left() == set(1..=3));
}

#[test]
fn how_many_snapshots_are_kept_is_configured() {
    let place = place();
    let file = place.config.dir.with_extension("toml");
    for (keep, moves) in [(1, "would move segments 1 to 2"), (3, "nothing to move")] {
        std::fs::write(&file, format!("[snapshots]\nkeep = {keep}\n")).unwrap();
        let (code, out, _) = place.archive(&["--dry-run", "--config", file.to_str().unwrap()]);
        assert!(code == 0 && out.contains(moves), "{keep}: {out}");
    }
    std::fs::write(&file, "[snapshots]\nkeep = 0\n").unwrap();
    let (code, ..) = place.archive(&["--config", file.to_str().unwrap()]);
    assert_eq!(code, 2);
}

#[test]
fn a_segment_that_is_not_sound_and_a_place_that_is_taken_are_refused() {
    let place = place();
    let segment = place.config.dir.join(name_of(2));
    flip(&segment);
    let (code, _, complaint) = place.archive(&[]);
    assert!(
        code == 1 && complaint.contains("is damaged at byte"),
        "{complaint}"
    );
    assert_eq!((place.archived(), place.left()), (set(1..=1), set(2..=3)));
    flip(&segment);
    std::fs::write(place.archive.join(name_of(2)), "something else").unwrap();
    let (code, _, complaint) = place.archive(&[]);
    assert!(
        code == 1 && complaint.contains("is there already"),
        "{complaint}"
    );
    assert_eq!(place.left(), set(2..=3));
    std::fs::remove_file(place.archive.join(name_of(2))).unwrap();
    assert_eq!(place.archive(&[]).0, 0);
    assert_eq!((place.archived(), place.left()), (set(1..=2), set(3..=3)));
    let own = place.config.dir.to_str().unwrap();
    let (code, _, complaint) = place.millrace("archive", &["--to", own]);
    assert!(code != 0, "{complaint}");
}

#[test]
fn what_is_missing_without_having_been_archived_is_missing() {
    let place = place();
    std::fs::remove_file(place.config.dir.join(name_of(1))).unwrap();
    let (code, _, complaint) = place.archive(&[]);
    assert!(code == 1 && complaint.contains("is missing"), "{complaint}");
    let refusal = Inline::open(&place.config)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        refusal.contains("is missing although later segments"),
        "{refusal}"
    );

    let place = self::place();
    assert_eq!(place.archive(&[]).0, 0);
    let note = place.config.dir.join("archived");
    flip(&note);
    let refusal = Inline::open(&place.config)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        refusal.contains("the note on archived segments"),
        "{refusal}"
    );
    flip(&note);
    // A note that was copied from elsewhere, or an older one: the chain does not continue it.
    std::fs::rename(place.config.dir.join(name_of(3)), place.archive.join("3")).unwrap();
    let refusal = Inline::open(&place.config)
        .err()
        .expect("refused")
        .to_string();
    assert!(refusal.contains("is missing"), "{refusal}");
}

#[test]
fn a_history_that_has_not_read_them_keeps_the_segments() {
    let place = place();
    assert_eq!(place.millrace("history", &[]).0, 0);
    assert_eq!(place.archive(&["--dry-run"]).0, 0);
    // One that ends earlier: as if it had been synced when the journal was shorter.
    let database = rusqlite::Connection::open(place.config.dir.join("history.db")).unwrap();
    database
        .execute_batch("UPDATE meta SET value = 11000 WHERE name = 'sequence'")
        .unwrap();
    drop(database);
    let (code, _, complaint) = place.archive(&[]);
    assert_eq!(code, 1);
    assert!(complaint.contains("the history in "), "{complaint}");
    assert!(complaint.contains("has to reach 11,500"), "{complaint}");
    assert_eq!(place.left(), set(1..=3));
}

#[test]
fn a_node_goes_on_while_its_journal_is_archived() {
    let place = place();
    let (mut inline, _) = Inline::open(&place.config).unwrap();
    let archive = std::thread::scope(|scope| {
        let archive = scope.spawn(|| place.archive(&[]));
        let mut id = u128::from(LAST);
        while !archive.is_finished() {
            id += 1;
            inline.execute(&transfer(id, 1), &mut |_| ()).unwrap();
        }
        archive.join().unwrap()
    });
    assert_eq!(archive.0, 0, "{}", archive.2);
    inline.execute(&transfer(1 << 60, 1), &mut |_| ()).unwrap();
    let engine = inline.close();
    assert!(place.left().is_disjoint(&place.archived()));
    let (sequence, _, digest) = place.recovered();
    assert_eq!((sequence, digest), (engine.sequence(), engine.digest()));
    assert_eq!(place.with_archive("verify", &[]).0, 0);
}

#[test]
fn a_copy_is_a_file_of_its_own() {
    let place = place();
    let whole = place.recovered();
    std::fs::create_dir(&place.archive).unwrap();
    let (own, there) = (
        place.config.dir.join(name_of(1)),
        place.archive.join(name_of(1)),
    );
    for more in [&[][..], &["--dry-run"]] {
        std::os::unix::fs::symlink(&own, &there).unwrap();
        let (code, out, complaint) = place.archive(more);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(complaint.contains("is a link or no file"), "{complaint}");
        std::fs::remove_file(&there).unwrap();
    }
    std::fs::hard_link(&own, &there).unwrap();
    let (code, _, complaint) = place.archive(&[]);
    assert_eq!(code, 1);
    assert!(
        complaint.contains("own file under another name"),
        "{complaint}"
    );
    std::fs::remove_file(&there).unwrap();
    // The name on the way, too: nothing is written through it.
    let draft = place.archive.join(format!("{}.draft", name_of(1)));
    let before = std::fs::read(place.config.dir.join(name_of(3))).unwrap();
    std::os::unix::fs::symlink(place.config.dir.join(name_of(3)), draft).unwrap();
    // One that was copied by hand is taken.
    std::fs::copy(
        place.config.dir.join(name_of(2)),
        place.archive.join(name_of(2)),
    )
    .unwrap();
    let (code, _, complaint) = place.archive(&[]);
    assert_eq!((code, complaint.as_str()), (0, ""));
    assert!(std::fs::read(place.config.dir.join(name_of(3))).unwrap() == before);
    assert_eq!((place.archived(), place.left()), (set(1..=2), set(3..=3)));
    assert_eq!(place.recovered(), whole);
    // The directory itself by another name.
    let link = place.archive.with_extension("link");
    std::os::unix::fs::symlink(&place.config.dir, &link).unwrap();
    let (code, _, complaint) = place.millrace("archive", &["--to", link.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(
        complaint.contains("is the journal's own directory"),
        "{complaint}"
    );
}

#[test]
fn verify_with_an_archive_that_lacks_segments_is_unsound() {
    let place = place();
    // Nothing was archived: an archive with nothing in it lacks nothing.
    std::fs::create_dir(&place.archive).unwrap();
    assert_eq!(place.with_archive("verify", &[]).0, 0);
    assert_eq!(place.archive(&[]).0, 0);
    assert_eq!(place.with_archive("verify", &[]).0, 0);
    let refused = |archive: &Path, names: &str| {
        let (code, out, complaint) =
            place.millrace("verify", &["--archive", archive.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (1, ""));
        let wanted = format!("unsound: {names} of ");
        assert!(complaint.contains(&wanted), "{complaint}");
        let wanted = format!("were archived and are not in {}", archive.display());
        assert!(complaint.contains(&wanted), "{complaint}");
    };
    let elsewhere = tempfile::tempdir().unwrap();
    refused(elsewhere.path(), "segments 1 to 2");
    refused(&place.config.dir, "segments 1 to 2");
    std::fs::remove_file(place.archive.join(name_of(2))).unwrap();
    refused(&place.archive, "segments 2 to 2");
    assert_eq!(place.millrace("verify", &[]).0, 0);
}

#[test]
fn a_directory_of_a_node_or_of_another_journal_is_no_archive() {
    let place = place();
    std::fs::create_dir(&place.archive).unwrap();
    let snapshot = snapshot_store::path_of(Path::new(""), 7);
    for name in [
        "LOCK",
        "spare",
        "archived",
        "limits.toml",
        snapshot.to_str().unwrap(),
    ] {
        std::fs::write(place.archive.join(name), "").unwrap();
        for more in [&[][..], &["--dry-run"]] {
            let (code, out, complaint) = place.archive(more);
            assert_eq!((code, out.as_str()), (1, ""), "{name}");
            assert!(complaint.contains(name), "{complaint}");
            assert!(complaint.contains("no place for an archive"), "{complaint}");
        }
        std::fs::remove_file(place.archive.join(name)).unwrap();
    }
    let other = self::place();
    for name in [name_of(1), name_of(3)] {
        let to = place.archive.join(&name);
        std::fs::copy(other.config.dir.join(name), &to).unwrap();
        let (code, out, complaint) = place.archive(&[]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(
            complaint.contains("is a segment of another journal"),
            "{complaint}"
        );
        std::fs::remove_file(to).unwrap();
    }
    assert_eq!(place.left(), set(1..=3));
    assert_eq!(place.archive(&[]).0, 0);
}

#[test]
fn a_dry_run_refuses_what_the_run_refuses() {
    let place = place();
    let file = place.archive.with_extension("file");
    std::fs::write(&file, "").unwrap();
    for to in [place.archive.join("below"), file.join("below"), file] {
        let to = to.to_str().unwrap();
        let dry = place.millrace("archive", &["--to", to, "--dry-run"]);
        assert_eq!(dry.0, 1, "{dry:?}");
        assert!(dry.2.contains(to), "{dry:?}");
        assert_eq!(place.millrace("archive", &["--to", to]), dry);
    }
    assert_eq!(place.left(), set(1..=3));
}

#[test]
fn one_archive_of_a_directory_runs_at_a_time() {
    let place = place();
    let held = std::fs::File::open(&place.config.dir).unwrap();
    held.try_lock().unwrap();
    let (code, out, complaint) = place.archive(&[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        complaint.contains("another archive of or to "),
        "{complaint}"
    );
    assert_eq!(place.left(), set(1..=3));
    held.unlock().unwrap();
    let other = place.archive.with_extension("other");
    let codes = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            place
                .millrace("archive", &["--to", other.to_str().unwrap()])
                .0
        });
        [place.archive(&[]).0, second.join().unwrap()]
    });
    assert!(codes.contains(&0), "{codes:?}");
    let mut all = place.archived();
    all.append(&mut segments(&other));
    assert_eq!((all, place.left()), (set(1..=2), set(3..=3)));
    assert_eq!(place.recovered().0, LAST);
}
