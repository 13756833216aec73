//! JSON lines: scripts, and what a node prints.
//!
//! - No line makes the parser panic, and what is wrong is said in one line.
//! - What parses prints as a line that parses to the same bytes.
//!
//! The first byte chooses: lines as they stand in the input, or lines made of the field tables with
//! values of the input, which parse more often.

use crate::source::Source;
use millrace::protocol::command::CommandKind;
use millrace::protocol::frame::{CommandFrame, CommandRef};
use millrace::protocol::json;
use millrace::protocol::script::ScriptParser;
use millrace::protocol::units::Timestamp;
use millrace::protocol::wire::{Field, WireType};
use std::fmt::Write as _;

/// One input: lines.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let mut parser = ScriptParser::default();
    if source.byte().is_multiple_of(2) {
        let text = String::from_utf8_lossy(source.rest());
        for line in text.lines() {
            check(&mut parser, line);
        }
        return;
    }
    while !source.is_empty() {
        let mut line = String::new();
        command(&mut source, &mut line, 0);
        check(&mut parser, &line);
    }
}

fn check(parser: &mut ScriptParser, line: &str) {
    match parser.parse(line) {
        Ok(None) => assert!(line.trim().is_empty()),
        Ok(Some(frame)) => prints_and_parses(frame.as_ref()),
        Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{why:?}"),
    }
}

/// A command that came of a line prints as a line that makes the same bytes.
pub fn prints_and_parses(command: CommandRef<'_>) {
    let mut printed = String::new();
    json::write_command(&mut printed, Some(7), command);
    let mut expected = CommandFrame::copy_of(command);
    // Who it came from is not the line's to say.
    expected.header_mut().session = 0;
    expected.header_mut().client_sequence = 0;
    match ScriptParser::new(Timestamp(1)).parse(&printed) {
        Ok(Some(again)) => assert_eq!(again, expected, "{printed}"),
        other => panic!("{printed}\nparses to {other:?}"),
    }
}

/// A command that may hold what no line can say (a reserved flag, an empty list, a code that is no
/// text) prints, and what its line does say is a command that prints and parses.
pub fn prints(command: CommandRef<'_>) {
    let mut printed = String::new();
    json::write_command(&mut printed, Some(7), command);
    is_json(&printed);
    if let Ok(Some(said)) = ScriptParser::default().parse(&printed) {
        prints_and_parses(said.as_ref());
    }
}

/// What is printed is one JSON object.
pub fn is_json(line: &str) {
    // The parser of scripts says first what is no JSON.
    if let Err(why) = ScriptParser::default().parse(line) {
        assert!(!why.starts_with("not JSON"), "{why}: {line}");
    }
}

/// Writes the line of a command of any kind.
fn command(source: &mut Source<'_>, line: &mut String, depth: u8) {
    let kind = source.one_of(CommandKind::ALL);
    let _ = write!(line, "{{\"cmd\":\"{kind}\"");
    if depth == 0 && source.chance(32) {
        let _ = write!(
            line,
            ",\"at\":{},\"user\":{}",
            source.odd_u64(),
            source.byte()
        );
    }
    if kind == CommandKind::Propose {
        if depth < 3 {
            line.push_str(",\"command\":");
            command(source, line, depth + 1);
        }
        fields(source, line, kind.fields(), &["count", "kind"]);
    } else if let Some(items) = kind.items() {
        fields(source, line, kind.fields(), &["count"]);
        let _ = write!(line, ",\"{}\":[", items.name);
        for item in 0..source.below(5) {
            let start = line.len();
            fields(source, line, items.fields, &[]);
            // Its first field comes with a comma in front.
            let open = if item > 0 { ",{" } else { "{" };
            line.replace_range(start..line.len().min(start + 1), open);
            line.push('}');
        }
        line.push(']');
    } else {
        fields(source, line, kind.fields(), &[]);
    }
    line.push('}');
}

fn fields(source: &mut Source<'_>, line: &mut String, fields: &[Field], but: &[&str]) {
    for field in fields {
        let is_written = field.default.is_none() || source.chance(96);
        if matches!(field.wire, WireType::Pad) || but.contains(&field.name) || !is_written {
            continue;
        }
        let _ = write!(line, ",\"{}\":", field.name);
        value(source, line, field);
    }
}

fn value(source: &mut Source<'_>, line: &mut String, field: &Field) {
    if source.chance(4) {
        line.push_str(source.one_of(&["null", "-1", "1.5", "\"\"", "[]", "true", "1e400"]));
        return;
    }
    let text = match field.wire {
        WireType::Unsigned if source.chance(16) => format!("\"{}\"", source.u128()),
        WireType::Unsigned if source.chance(4) => {
            "\"00000000-0000-4000-8000-00000000000f\"".to_string()
        }
        WireType::Unsigned if source.chance(32) => source.odd_u64().to_string(),
        WireType::Unsigned => source.byte().to_string(),
        WireType::Signed if source.chance(16) => format!("\"{}\"", source.u128() as i128),
        WireType::Signed if source.chance(32) => (source.odd_u64() as i64).to_string(),
        WireType::Signed => (source.byte() as i8).to_string(),
        WireType::Bool => source.byte().is_multiple_of(2).to_string(),
        WireType::Text => {
            let letters = [
                "A",
                "EUR",
                "\\\"",
                "\\u0041",
                " ",
                "~",
                "0123456789abcdef",
                "ä",
            ];
            format!("\"{}{}\"", source.one_of(&letters), source.one_of(&letters))
        }
        WireType::Enum(names) => format!("\"{}\"", source.one_of(names).0),
        WireType::Flags(names) => {
            let count = source.below(4);
            let set: Vec<String> = (0..count)
                .map(|_| format!("\"{}\"", source.one_of(names).0))
                .collect();
            format!("[{}]", set.join(","))
        }
        WireType::Digest | WireType::Pad => "0".to_string(),
    };
    line.push_str(&text);
}
