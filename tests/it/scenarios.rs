//! Scenario tables: commands in, events out. Each file under tests/data/scenarios is a script whose
//! lines begin with `>` for a command and `<` for an expected event. An expected event is either
//! JSON, all of whose fields the event must have, or words: the event's name, then `field=value`.
//! A command followed by no `<` line must not be refused. `#` lines say what is being told.
//!
//! After every command the audit runs over the whole state, and at the end the state must come
//! back from a snapshot with the same digest.

use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::json::EventPrinter;
use millrace::protocol::script::ScriptParser;
use serde_json::{Map, Value};
use std::path::Path;

#[test]
fn every_scenario_plays_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .expect("scenario folder")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut failures = String::new();
    for file in &files {
        if let Err(why) = play(&std::fs::read_to_string(file).expect("readable")) {
            failures += &format!("{}: {why}\n", file.file_name().unwrap().to_string_lossy());
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn play(text: &str) -> Result<(), String> {
    let mut player = Player::new();
    let mut events: Option<(usize, Vec<Value>)> = None;
    let mut expected = 0;
    for (number, line) in text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
    {
        let at = |why: String| format!("line {number}: {why}");
        if let Some(command) = line.strip_prefix('>') {
            if let Some((line, events)) = events.take() {
                settle_accounts(line, expected, &events)?;
            }
            events = Some((number, player.execute(command).map_err(at)?));
            expected = 0;
        } else if let Some(want) = line.strip_prefix('<') {
            let (_, all) = events
                .as_ref()
                .ok_or_else(|| at("no command before it".into()))?;
            let got = all
                .get(expected)
                .ok_or_else(|| at(format!("no such event; all there are: {all:?}")))?;
            expected += 1;
            let want = wanted(want.trim()).map_err(at)?;
            for (field, value) in &want {
                if got.get(field).unwrap_or(&Value::Null) != value {
                    return Err(at(format!("wanted {field}={value}, got {got}")));
                }
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            return Err(at("a line begins with >, < or #".into()));
        }
    }
    if let Some((line, events)) = events {
        settle_accounts(line, expected, &events)?;
    }
    player.round_trip()
}

/// Either every event was expected, or none was and none is a refusal.
fn settle_accounts(line: usize, expected: usize, events: &[Value]) -> Result<(), String> {
    if expected == events.len() {
        return Ok(());
    }
    if expected > 0 {
        return Err(format!(
            "line {line}: {} more events: {:?}",
            events.len() - expected,
            &events[expected..]
        ));
    }
    let is_refusal = |event: &&Value| {
        let name = event["event"].as_str().unwrap_or_default();
        let status = event["status"].as_str().unwrap_or("created");
        name.ends_with("rejected") || status != "created"
    };
    match events.iter().find(is_refusal) {
        Some(event) => Err(format!("line {line}: refused: {event}")),
        None => Ok(()),
    }
}

/// `trade price=5 quantity=2` or `{"event":"trade","price":5}`.
fn wanted(text: &str) -> Result<Map<String, Value>, String> {
    if text.starts_with('{') {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return value
            .as_object()
            .cloned()
            .ok_or_else(|| "not an object".into());
    }
    let mut words = text.split_whitespace();
    let mut fields = Map::new();
    let name = words.next().ok_or("an event has a name")?;
    fields.insert("event".into(), Value::from(name));
    for word in words {
        let (field, value) = word.split_once('=').ok_or("field=value")?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        fields.insert(field.into(), value);
    }
    Ok(fields)
}

struct Player {
    engine: Engine,
    parser: ScriptParser,
    outbox: Outbox,
    printer: EventPrinter,
}

impl Player {
    fn new() -> Player {
        Player {
            engine: Engine::new(&Limits::small()),
            parser: ScriptParser::default(),
            outbox: Outbox::with_capacity(16),
            printer: EventPrinter::default(),
        }
    }

    fn execute(&mut self, line: &str) -> Result<Vec<Value>, String> {
        let frame = self.parser.parse(line)?.ok_or("an empty command")?;
        let command = frame.as_ref();
        let digest_before = self.engine.digest();
        if command.kind().expect("parsed").is_query() {
            self.engine.query(command, &mut self.outbox);
            assert_eq!(
                self.engine.digest(),
                digest_before,
                "a query changed something"
            );
        } else {
            let sequence = self.engine.sequence() + 1;
            self.engine.apply(sequence, command, &mut self.outbox);
        }
        let mut text = String::new();
        for event in self.outbox.events() {
            assert!(event.event().is_some(), "every event decodes");
            self.printer.print(&mut text, event);
        }
        self.outbox.clear();
        self.engine.audit()?;
        let events: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("events are JSON"))
            .collect();
        let is_refused = |event: &Value| event["event"] == "rejected";
        if events.iter().any(is_refused) {
            assert_eq!(
                self.engine.digest(),
                digest_before,
                "a refusal changed something: {line}"
            );
        }
        Ok(events)
    }

    fn round_trip(&self) -> Result<(), String> {
        let mut bytes = Vec::new();
        self.engine.write_snapshot(&mut bytes).expect("memory");
        let again = Engine::read_snapshot(&Limits::small(), &mut bytes.as_slice())
            .map_err(|error| error.to_string())?;
        again.audit()?;
        if again.digest() != self.engine.digest() {
            return Err("the state read back from a snapshot has another digest".into());
        }
        Ok(())
    }
}
