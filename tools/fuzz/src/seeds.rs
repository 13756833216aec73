//! The seeds of the corpus: inputs made of the scenarios and the golden journals, so that a run
//! begins at what the product is for. Beside them the corpus keeps the inputs that broke something
//! once.

use crate::journal::bases;
use crate::{commands, test_data};
use millrace::config::Config;
use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::frame::CommandFrame;
use millrace::protocol::record::Folder;
use millrace::protocol::script::ScriptParser;
use millrace::protocol::session::{Hello, Resend, encode};
use millrace::replay::limits_file;
use std::path::PathBuf;

/// A kept input: its target, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, text) in scenarios() {
        of_scenario(&name, &text, &mut seeds);
    }
    for (at, base) in bases().iter().enumerate() {
        let at = at as u8;
        seeds.push(("journal", base.name.clone(), vec![at, 1]));
        seeds.push((
            "journal",
            format!("{}_flip", base.name),
            vec![at, 3, 7, 0, 0, 0, 0x12, 0, 1],
        ));
        seeds.push(("snapshots", format!("{}_file", base.name), vec![0, at]));
        seeds.push(("snapshots", format!("{}_state", base.name), vec![1, at]));
    }
    let straight: Vec<u8> = [1, 2]
        .into_iter()
        .chain([0; 6])
        .chain((0..200).map(|at| at % 13))
        .collect();
    seeds.push(("sealed", "straight".into(), straight));
    seeds.push(("sealed", "empty".into(), Vec::new()));
    settings(&mut seeds);
    for manner in 0..8 {
        let mut said = vec![manner, 0, 0, 0, 0, 0];
        said.extend((0..160u32).map(|at| (at * 7 + u32::from(manner)) as u8));
        seeds.push(("client", format!("manner_{manner}"), said));
    }
    for world in 0..4u8 {
        let bytes = (0..600u32).map(|at| (at * at * 31 + at * 7 + u32::from(world)) as u8 & 0x7F);
        let input: Vec<u8> = [world, 0, 9].into_iter().chain(bytes).collect();
        seeds.push(("commands", format!("world_{world}"), input));
    }
    seeds
}

/// The scenarios' lines, by name.
fn scenarios() -> Vec<(String, String)> {
    let dir = std::fs::read_dir(test_data().join("scenarios")).expect("scenarios");
    let mut paths: Vec<PathBuf> = dir.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(path).expect("a scenario");
        let lines = text.lines().filter_map(|line| line.strip_prefix("> "));
        (name, lines.flat_map(|line| [line, "\n"]).collect())
    };
    paths.into_iter().map(read).collect()
}

fn of_scenario(name: &str, text: &str, seeds: &mut Vec<Seed>) {
    let mut parser = ScriptParser::default();
    let frames: Vec<CommandFrame> = text
        .lines()
        .map(|line| parser.parse(line).expect(line).expect("a command"))
        .collect();
    seeds.push(("lines", name.into(), [&[0], text.as_bytes()].concat()));
    seeds.push(("commands", name.into(), literals(&frames)));
    if frames.len() < 24 {
        seeds.push(("frames", name.into(), stream(&frames)));
    }
}

/// The commands of a scenario as an input of `commands`.
fn literals(frames: &[CommandFrame]) -> Vec<u8> {
    let mut input = vec![commands::world::EMPTY, 0, 8];
    let mut folder = Folder::default();
    for frame in frames {
        folder.begin(frame.header());
        folder.put(frame.as_ref().body);
        let record = folder.finish();
        input.push(commands::LITERAL);
        input.extend((record.len() as u16).to_le_bytes());
        input.extend_from_slice(record);
    }
    input
}

/// A session: its commands as a client sends them, and their events as a node answers.
fn stream(frames: &[CommandFrame]) -> Vec<u8> {
    let mut input = vec![0, 17, 200];
    input.extend(encode(&Hello {
        session: 7,
        replies_seen: 0,
    }));
    let mut engine = Engine::new(&Limits::small());
    let mut outbox = Outbox::with_capacity(64);
    for frame in frames {
        input.extend_from_slice(frame.bytes());
        if !frame.as_ref().kind().expect("valid").is_query() {
            engine.apply(engine.sequence() + 1, frame.as_ref(), &mut outbox);
        }
    }
    input.extend(encode(&Resend {
        from: 1,
        _reserved: Default::default(),
    }));
    for event in outbox.events().iter().take(12) {
        input.extend_from_slice(event.frame());
    }
    input
}

fn settings(seeds: &mut Vec<Seed>) {
    let config = [&[0], Config::example().as_bytes()].concat();
    seeds.push(("settings", "config_example".into(), config));
    let written = limits_file::text_of(&Limits::small()).expect("plain numbers");
    seeds.push((
        "settings",
        "limits_small".into(),
        [&[1], written.as_bytes()].concat(),
    ));
    let older = "accounts = 256\ntransfers = 512\n";
    seeds.push((
        "settings",
        "limits_older".into(),
        [&[2], older.as_bytes()].concat(),
    ));
}
