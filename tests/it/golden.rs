//! Golden journals: directories that past releases wrote, replayed to the digests they had then, for
//! ever. tests/data/golden/README.md says what they are and how those of a release are made.

use millrace::config::Config;
use millrace::engine::{Engine, Limits};
use millrace::pipeline::{Host, Inline, Parts, ReplyWindow};
use millrace::protocol::RELEASE;
use millrace::protocol::command::CommandKind;
use millrace::protocol::frame::{CommandFrame, CommandRef, EventSlot};
use millrace::protocol::json::EventPrinter;
use millrace::protocol::script::ScriptParser;
use millrace::replay::{Nobody, Watcher, follow, limits_file, snapshot_store};
use millrace::session::SessionTable;
use millrace_journal::storage::MappedFiles;
use millrace_journal::{Options, Writer, verify};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a directory was when it was written: one fact a line, `digest SEQUENCE HEX` and `chain HEX`.
const FACTS: &str = "golden.txt";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden")
}

/// The directories below `dir`, in order.
fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[test]
fn journals_of_all_releases_replay_to_the_digests_they_had() {
    let (mut journals, mut commands) = (0, 0);
    for dir in directories(&golden())
        .iter()
        .flat_map(|release| directories(release))
    {
        commands += check(&dir).unwrap_or_else(|why| {
            panic!(
                "{}: {why}\nA release that is out keeps its journals and their digests for ever; one that is \
                 not out yet makes them again:\n  cargo test --test it -- --ignored golden::make",
                dir.display()
            )
        });
        journals += 1;
    }
    println!("{journals} golden journals, {commands} commands: every digest as it was");
    assert!(journals > 0 && commands > 0, "there are golden journals");
}

/// Reads a golden directory in every way a node and its verbs do; returns its commands.
fn check(dir: &Path) -> Result<u64, String> {
    let facts = std::fs::read_to_string(dir.join(FACTS)).map_err(|error| error.to_string())?;
    let verified = verify(dir, &mut |_, _| ()).map_err(|error| error.to_string())?;
    expect(&facts, &format!("chain {}", hex(&verified.chain_head)))?;
    let limits = limits_file::load(dir).map_err(|error| error.to_string())?;

    // From the first command on.
    let mut watcher = Digests {
        facts: &facts,
        known: sequences(&facts),
        seen: 0,
    };
    let (mut engine, mut sessions) = (Engine::new(&limits), SessionTable::new(1_024));
    let followed = follow(dir, None, &mut engine, &mut sessions, &mut watcher)
        .map_err(|error| error.to_string())?;
    if watcher.seen != watcher.known.len() {
        return Err(format!(
            "{} of {} digests seen",
            watcher.seen,
            watcher.known.len()
        ));
    }
    engine.audit()?;

    // From the snapshot on.
    let last = followed.last_sequence;
    let (loaded, notes) = snapshot_store::load_newest(dir, last, &limits, 1_024)
        .map_err(|error| error.to_string())?;
    let mut loaded = loaded.ok_or_else(|| format!("no good snapshot: {notes:?}"))?;
    expect(
        &facts,
        &format!(
            "digest {} {}",
            loaded.sequence,
            hex(&loaded.engine.digest())
        ),
    )?;
    follow(
        dir,
        None,
        &mut loaded.engine,
        &mut loaded.sessions,
        &mut Nobody,
    )
    .map_err(|error| error.to_string())?;
    expect(
        &facts,
        &format!("digest {last} {}", hex(&loaded.engine.digest())),
    )?;

    // As a node that starts on it, and goes on.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_name() != FACTS {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let (mut inline, recovery) =
        Inline::open(&config(copy.path(), limits)).map_err(|error| error.to_string())?;
    if recovery.sequence != last || !recovery.notes.is_empty() {
        return Err(format!("a node starts otherwise: {recovery:?}"));
    }
    let tick = ScriptParser::default()
        .parse(r#"{"cmd":"tick","at":18000000000000000000}"#)?
        .expect("a command");
    inline
        .execute(&tick, &mut |_| ())
        .map_err(|error| error.to_string())?;
    if inline.close().sequence() != last + 1 {
        return Err("it does not go on".into());
    }
    Ok(last)
}

fn expect(facts: &str, fact: &str) -> Result<(), String> {
    match facts.lines().any(|line| line == fact) {
        true => Ok(()),
        false => Err(format!("it should say: {fact}, but it says:\n{facts}")),
    }
}

fn sequences(facts: &str) -> BTreeSet<u64> {
    let digests = facts
        .lines()
        .filter_map(|line| line.strip_prefix("digest "));
    digests
        .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

struct Digests<'a> {
    facts: &'a str,
    known: BTreeSet<u64>,
    seen: usize,
}

impl Watcher for Digests<'_> {
    fn command(
        &mut self,
        sequence: u64,
        _command: CommandRef<'_>,
        _events: &[EventSlot],
        engine: &Engine,
    ) -> Result<(), String> {
        if self.known.contains(&sequence) {
            self.seen += 1;
            expect(
                self.facts,
                &format!("digest {sequence} {}", hex(&engine.digest())),
            )?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn config(dir: &Path, limits: Limits) -> Config {
    Config {
        limits,
        ..Config::small(dir)
    }
}

/// The smallest segments there are, so that journals have several.
const SEGMENT_BYTES: u64 = 8 << 10;

/// Makes the golden journals of this release: of the scenarios under tests/data/scenarios, those
/// that together use every command and yield every event that any of them does.
#[test]
#[ignore = "writes tests/data/golden"]
fn make() {
    let dir = golden().join(env!("CARGO_PKG_VERSION"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let scenarios = golden().with_file_name("scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(scenarios)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let stories: Vec<(PathBuf, Vec<CommandFrame>, BTreeSet<String>)> = files
        .into_iter()
        .map(|file| {
            let commands = commands_in(&file);
            let features = features(&commands);
            (file, commands, features)
        })
        .collect();
    let mut missing: BTreeSet<&String> = stories
        .iter()
        .flat_map(|(_, _, features)| features)
        .collect();
    for kind in CommandKind::ALL.iter().filter(|kind| !kind.is_query()) {
        assert!(
            missing.contains(&kind.to_string()),
            "no scenario uses {kind}"
        );
    }
    // The one that brings most first, and so on.
    while !missing.is_empty() {
        let gain =
            |features: &BTreeSet<String>| features.iter().filter(|it| missing.contains(it)).count();
        let (file, commands, features) = stories
            .iter()
            .max_by_key(|(_, _, features)| gain(features))
            .unwrap();
        write_golden(&dir.join(file.file_stem().unwrap()), commands);
        missing.retain(|feature| !features.contains(*feature));
    }
}

fn commands_in(file: &Path) -> Vec<CommandFrame> {
    let mut parser = ScriptParser::default();
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix('>'));
    let frames = lines.map(|line| parser.parse(line).expect(line).expect("a command"));
    frames
        .filter(|frame| !frame.as_ref().kind().unwrap().is_query())
        .collect()
}

/// The names of the commands used, and of the events they yield.
fn features(commands: &[CommandFrame]) -> BTreeSet<String> {
    let mut engine = Engine::new(&Limits::small());
    let mut outbox = millrace::engine::Outbox::with_capacity(64);
    let mut printer = EventPrinter::default();
    let mut features = BTreeSet::new();
    for (sequence, command) in (1..).zip(commands) {
        features.insert(command.as_ref().kind().unwrap().to_string());
        outbox.clear();
        engine.apply(sequence, command.as_ref(), &mut outbox);
        let mut text = String::new();
        outbox
            .events()
            .iter()
            .for_each(|event| printer.print(&mut text, event));
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            features.insert(format!("event {}", event["event"].as_str().unwrap()));
        }
    }
    features
}

fn write_golden(dir: &Path, commands: &[CommandFrame]) {
    std::fs::create_dir(dir).unwrap();
    let limits = Limits::small();
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        writer_release: RELEASE,
        ..Options::default()
    };
    let storage = Arc::new(MappedFiles::create(dir).unwrap());
    let (writer, _) = Writer::open_in(storage, options).unwrap();
    limits_file::agree(dir, &limits, true).unwrap();
    let parts = Parts {
        engine: Engine::new(&limits),
        sessions: SessionTable::new(1_024),
        writer,
        journal_dir: dir.to_owned(),
        segment_bytes: SEGMENT_BYTES,
        window: ReplyWindow::new(2, 0),
        host: Host::default(),
    };
    let mut inline = Inline::assemble(parts, &config(dir, limits.clone()).ring_sizes());
    for command in commands {
        inline.execute(command, &mut |_| ()).unwrap();
    }
    let last = inline.close().sequence();
    // A snapshot in the middle, and a digest every so often.
    let (mut engine, mut sessions) = (Engine::new(&limits), SessionTable::new(1_024));
    let mut facts = String::new();
    let steps = 4.min(last);
    for step in 1..=steps {
        let to = last * step / steps;
        follow(dir, Some(to), &mut engine, &mut sessions, &mut Nobody).unwrap();
        let _ = writeln!(facts, "digest {to} {}", hex(&engine.digest()));
        if step == steps.div_ceil(2) {
            snapshot_store::write(dir, &engine, &sessions).unwrap();
        }
    }
    let verified = verify(dir, &mut |_, _| ()).unwrap();
    let _ = writeln!(facts, "chain {}", hex(&verified.chain_head));
    std::fs::write(dir.join(FACTS), facts).unwrap();
    for leftover in ["LOCK", "spare"] {
        let _ = std::fs::remove_file(dir.join(leftover));
    }
}
