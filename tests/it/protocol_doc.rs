//! docs/protocol.md carries the byte map of every frame. The map is written from the source; this
//! test fails when the two part ways, and `MILLRACE_BLESS=1 cargo test protocol_doc` mends it.

use millrace::protocol::command::CommandKind;
use millrace::protocol::event::EventKind;
use millrace::protocol::frame::{COMMAND_HEADER_FIELDS, EVENT_HEADER_FIELDS};
use millrace::protocol::reason::{CancelReason, Reason};
use millrace::protocol::session::{SESSION_MESSAGES, SessionError};
use millrace::protocol::wire::{Field, WireType};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const MARK: &str = "<!-- From here on this file is written by tests/it/protocol_doc.rs. -->";

#[test]
fn byte_map_in_the_docs_is_the_source() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md");
    let (prose, written) = text.split_once(MARK).expect("the mark is there");
    let map = byte_map();
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(path, format!("{prose}{MARK}\n{map}")).expect("writable");
    } else {
        assert!(
            written.trim_start() == map.trim_start(),
            "docs/protocol.md is not what the source says: \
             run MILLRACE_BLESS=1 cargo test protocol_doc and read the difference"
        );
    }
}

#[test]
fn codes_are_never_used_twice() {
    for names in [
        CommandKind::NAMES,
        EventKind::NAMES,
        Reason::NAMES,
        CancelReason::NAMES,
    ] {
        let mut by_code = BTreeMap::new();
        for (name, code) in names {
            assert_eq!(by_code.insert(*code, *name), None, "code {code}");
        }
    }
}

fn byte_map() -> String {
    let mut out = String::from("\n## Headers\n\n### Command header\n\n");
    rows(&mut out, COMMAND_HEADER_FIELDS, false);
    out += "\n### Event header\n\n";
    rows(&mut out, EVENT_HEADER_FIELDS, false);
    out += "\n## Commands\n\nCodes from 1,024 on are queries.\n";
    for kind in CommandKind::ALL {
        let (name, code, size) = (kind.name(), *kind as u16, kind.body_size());
        let _ = write!(
            out,
            "\n### `{name}`\n\nKind {code}, body `{}`, {size} bytes",
            kind.body_name()
        );
        match kind.items() {
            None => out += ".\n\n",
            Some(items) => {
                let (list, size) = (items.name, items.size);
                let _ = write!(out, ", then `{list}`: `count` entries of {size} bytes.\n\n");
            }
        }
        rows(&mut out, kind.fields(), true);
        if let Some(items) = kind.items().filter(|items| items.name != "transfers") {
            let _ = write!(out, "\nEach entry of `{}`:\n\n", items.name);
            rows(&mut out, items.fields, true);
        }
    }
    out += "\n## Events\n";
    for kind in EventKind::ALL {
        let (name, code, size) = (kind.name(), *kind as u16, kind.body_size());
        let _ = write!(
            out,
            "\n### `{name}`\n\nKind {code}, body `{}`, {size} bytes.\n\n",
            kind.body_name()
        );
        rows(&mut out, kind.fields(), true);
    }
    out += "\n## Session messages\n\nA 16-byte header (length, kind, release, 8 zero bytes), then the body.\n";
    for (code, name, fields) in SESSION_MESSAGES {
        let _ = write!(out, "\n### `{name}`\n\nKind {code:#06x}.\n\n");
        rows(&mut out, fields, false);
    }
    out += "\n## Codes\n";
    for (title, names) in [
        ("Reasons", Reason::NAMES),
        ("Reasons of a cancelled order", CancelReason::NAMES),
        ("Session errors", SessionError::NAMES),
    ] {
        let _ = write!(out, "\n### {title}\n\n| code | name |\n|---|---|\n");
        for (name, code) in names {
            let _ = writeln!(out, "| {code} | `{name}` |");
        }
    }
    out += "\n### Coded fields\n\n| type | values |\n|---|---|\n";
    for (type_name, names) in coded_types() {
        let values: Vec<String> = names
            .iter()
            .map(|(name, code)| format!("{code} {name}"))
            .collect();
        let _ = writeln!(out, "| `{type_name}` | {} |", values.join(", "));
    }
    out
}

fn rows(out: &mut String, fields: &[Field], with_default: bool) {
    *out += if with_default {
        "| offset | bytes | field | type | left out | what |\n|---|---|---|---|---|---|\n"
    } else {
        "| offset | bytes | field | type | what |\n|---|---|---|---|---|\n"
    };
    for field in fields {
        let reserved = matches!(field.wire, WireType::Pad);
        let name = if reserved {
            "-".into()
        } else {
            format!("`{}`", field.name)
        };
        let type_name = if reserved { "zero" } else { field.type_name };
        let _ = write!(
            out,
            "| {} | {} | {name} | {type_name} |",
            field.offset, field.size
        );
        if with_default {
            let _ = write!(out, " {} |", default_of(field));
        }
        let _ = writeln!(out, " {} |", field.doc.trim());
    }
}

fn default_of(field: &Field) -> String {
    let named = |names: &[(&str, u16)], value: u128| {
        let found = names.iter().find(|(_, code)| u128::from(*code) == value);
        found.map_or("none".into(), |(name, _)| (*name).to_string())
    };
    match (field.default, field.wire) {
        (None, _) => String::new(),
        (Some(value), WireType::Enum(names)) => named(names, value),
        (Some(0), WireType::Flags(_)) => "none".into(),
        (Some(value), WireType::Bool) => (value != 0).to_string(),
        (Some(value), WireType::Signed) => (value as i64).to_string(),
        (Some(u128::MAX), _) => "2^128-1".into(),
        (Some(value), _) => value.to_string(),
    }
}

fn coded_types() -> BTreeMap<&'static str, &'static [(&'static str, u16)]> {
    let mut types = BTreeMap::new();
    let commands = CommandKind::ALL.iter().map(|kind| kind.fields());
    let events = EventKind::ALL.iter().map(|kind| kind.fields());
    let messages = SESSION_MESSAGES.iter().map(|(_, _, fields)| *fields);
    for field in commands.chain(events).chain(messages).flatten() {
        if let WireType::Enum(names) | WireType::Flags(names) = field.wire
            && !matches!(
                field.type_name,
                "CommandKind" | "Reason" | "CancelReason" | "SessionError"
            )
        {
            types.insert(field.type_name, names);
        }
    }
    types
}
