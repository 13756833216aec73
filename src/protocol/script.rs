//! JSON lines in: one object per line, `"cmd"` names the command. Parsing follows the field tables
//! of the protocol, so a field added to a body is at once a field of the script language.
//!
//! `"at"` (ns since the Unix epoch) sets `received_at` and stays for the lines that follow;
//! `"user"` says who asks. `"seq"` is accepted and ignored, so that what `millrace journal --json`
//! prints runs again. Everything else must be a field of the command.

use super::command::{CommandKind, ITEMS_MAX, TransferFlags};
use super::frame::{CommandFrame, HEADER_BYTES};
use super::units::Timestamp;
use super::wire::{Field, Text16, WireType};
use serde_json::{Map, Value};

/// Longest line taken, bytes: a full batch of transfers with every field fits.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Proposals within proposals that a line can say. None is ever approved: only administrative
/// commands can be proposed.
pub(super) const PROPOSED_DEPTH_MAX: usize = 4;

/// Turns lines into command frames; remembers the last `at`.
#[derive(Clone, Debug, Default)]
pub struct ScriptParser {
    at: Timestamp,
}

impl ScriptParser {
    /// A parser whose clock stands at `at`.
    pub fn new(at: Timestamp) -> ScriptParser {
        ScriptParser { at }
    }

    /// The command in `line`, stamped and validated; `None` for a blank line. The error is a
    /// sentence without the line number.
    pub fn parse(&mut self, line: &str) -> Result<Option<CommandFrame>, String> {
        if line.trim().is_empty() {
            return Ok(None);
        }
        let Strict(value) = serde_json::from_str(line).map_err(|error| bad_json(&error))?;
        let Value::Object(mut object) = value else {
            return Err("a line is a JSON object such as {\"cmd\":\"tick\",\"at\":1}".into());
        };
        let kind = take_kind(&mut object)?;
        object.remove("seq");
        let at = match object.remove("at") {
            Some(value) => Timestamp(u64::try_from(integer("at", &value)?).map_err(|_| {
                "field \"at\" is nanoseconds since the Unix epoch, 0 to 2^64-1".to_string()
            })?),
            None => self.at,
        };
        let user = match object.remove("user") {
            Some(value) => u64::try_from(integer("user", &value)?)
                .map_err(|_| "field \"user\" is a number from 0 to 2^64-1".to_string())?,
            None => 0,
        };
        let mut frame = frame_of(kind, object, PROPOSED_DEPTH_MAX)?;
        frame.header_mut().received_at = at.0;
        frame.header_mut().user = user;
        frame.as_ref().decode().map_err(|error| error.to_string())?;
        self.at = at;
        Ok(Some(frame))
    }
}

fn bad_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("not JSON: {what} at column {}", error.column())
}

/// A JSON value in which no object names a field twice: which of two amounts was meant?
struct Strict(Value);

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Strict, D::Error> {
        input.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> serde::de::Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if object.contains_key(&name) {
                let name = shortened(&name);
                return Err(serde::de::Error::custom(format!(
                    "field \"{name}\" stands twice"
                )));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// What was written, short enough for one line.
fn shortened(text: &str) -> String {
    // What is wrong with a line is said in one line.
    let printable = |c: char| if c.is_control() { '?' } else { c };
    let text: String = text.chars().map(printable).collect();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn take_kind(object: &mut Map<String, Value>) -> Result<CommandKind, String> {
    let name = match object.remove("cmd") {
        Some(Value::String(name)) => name,
        Some(_) => return Err("field \"cmd\" is a command's name".into()),
        None => return Err("field \"cmd\" is missing".into()),
    };
    CommandKind::ALL
        .iter()
        .copied()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| format!("unknown command \"{}\"", shortened(&name)))
}

fn frame_of(
    kind: CommandKind,
    mut object: Map<String, Value>,
    depth: usize,
) -> Result<CommandFrame, String> {
    let mut items = Vec::new();
    if kind == CommandKind::Propose {
        let proposed = proposed_frame(&mut object, depth)?;
        let body = proposed.as_ref().body;
        if body.len() > ITEMS_MAX * 16 {
            return Err("propose: field \"command\" is too long to be proposed".into());
        }
        let proposed = CommandKind::ALL
            .iter()
            .find(|kind| **kind as u16 == proposed.header().kind);
        object.insert(
            "kind".into(),
            proposed.map_or("", |kind| kind.name()).into(),
        );
        object.insert("count".into(), Value::from(body.len() / 16));
        items.extend_from_slice(body);
    } else if let Some(list) = kind.items() {
        let Some(Value::Array(values)) = object.remove(list.name) else {
            return Err(format!("{kind}: field \"{}\" is a list", list.name));
        };
        if values.is_empty() || values.len() > ITEMS_MAX {
            return Err(format!(
                "{kind}: \"{}\" takes 1 to {ITEMS_MAX} entries",
                list.name
            ));
        }
        object.insert("count".into(), Value::from(values.len()));
        for (index, value) in values.into_iter().enumerate() {
            let item = match value {
                Value::Object(item) => item,
                // A list of plain ids may be written as such.
                plain => Map::from_iter([("id".to_string(), plain)]),
            };
            let name = format!("{kind}[{index}]");
            check_transfer(kind, &name, &item)?;
            write_fields(&name, list.fields, list.size, item, &mut items)?;
        }
    } else {
        check_transfer(kind, kind.name(), &object)?;
    }
    let mut body = Vec::new();
    write_fields(
        kind.name(),
        kind.fields(),
        kind.body_size(),
        object,
        &mut body,
    )?;
    debug_assert!((HEADER_BYTES + body.len() + items.len()).is_multiple_of(16));
    Ok(CommandFrame::from_parts(kind, &body, &items))
}

/// The command that a proposal carries: an object like a line, without its time and user.
fn proposed_frame(object: &mut Map<String, Value>, depth: usize) -> Result<CommandFrame, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err("propose: too many proposals within proposals".into());
    };
    let Some(Value::Object(mut proposed)) = object.remove("command") else {
        return Err("propose: field \"command\" is a command such as {\"cmd\":\"set_phase\",\"phase\":\"open\"}".into());
    };
    let kind = take_kind(&mut proposed).map_err(|why| format!("propose: {why}"))?;
    frame_of(kind, proposed, depth).map_err(|why| format!("propose: {why}"))
}

fn check_transfer(
    kind: CommandKind,
    name: &str,
    object: &Map<String, Value>,
) -> Result<(), String> {
    let flags = object.get("flags").and_then(Value::as_array);
    let flags = flags.into_iter().flatten().filter_map(Value::as_str);
    let flags = flags.filter_map(|flag| code_of(TransferFlags::NAMES, flag));
    let flags = TransferFlags(flags.fold(0, |bits, bit| bits | bit as u16));
    let is_final = object.get("final") == Some(&Value::Bool(true));
    let needed = needed_fields(kind, flags, is_final);
    match needed.iter().find(|field| !object.contains_key(**field)) {
        Some(field) => Err(format!("{name}: field \"{field}\" is missing")),
        None => Ok(()),
    }
}

/// Fields that a line has to name although they have a default. Who posts or voids a pending
/// transfer may leave out accounts and amount; a balancing transfer and a final capture may leave
/// out the amount and take all there is.
pub(super) fn needed_fields(
    kind: CommandKind,
    flags: TransferFlags,
    is_final: bool,
) -> &'static [&'static str] {
    match kind {
        CommandKind::Transfer | CommandKind::Transfers if flags.resolves() => &[],
        CommandKind::Transfer | CommandKind::Transfers if flags.is_balancing() => {
            &["debit_account", "credit_account"]
        }
        CommandKind::Transfer | CommandKind::Transfers => {
            &["debit_account", "credit_account", "amount"]
        }
        CommandKind::Capture if is_final => &[],
        CommandKind::Increment | CommandKind::Capture | CommandKind::Refund => &["amount"],
        _ => &[],
    }
}

fn write_fields(
    name: &str,
    fields: &[Field],
    size: usize,
    mut object: Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let start = out.len();
    out.resize(start + size, 0);
    for field in fields {
        if matches!(field.wire, WireType::Pad) {
            continue;
        }
        let value = match (object.remove(field.name), field.default) {
            (Some(Value::Null), _) if is_removable(name, field) => u128::MAX,
            (Some(value), _) => {
                field_value(field, &value).map_err(|why| format!("{name}: {why}"))?
            }
            (None, Some(default)) => default,
            (None, None) => return Err(format!("{name}: field \"{}\" is missing", field.name)),
        };
        let at = start + field.offset;
        out[at..at + field.size].copy_from_slice(&value.to_le_bytes()[..field.size]);
    }
    match object.keys().next() {
        Some(unknown) => Err(format!("{name}: unknown field \"{}\"", shortened(unknown))),
        None => Ok(()),
    }
}

/// `null` removes a limit.
pub(super) fn is_removable(command: &str, field: &Field) -> bool {
    field.name == "amount"
        && (command == CommandKind::SetBilateralLimit.name()
            || command == CommandKind::SetMultilateralLimit.name())
}

/// The value of `field` as the low bytes of an integer.
fn field_value(field: &Field, value: &Value) -> Result<u128, String> {
    let name = field.name;
    match field.wire {
        WireType::Unsigned => {
            let number = integer(name, value)?;
            if field.size < 16 && number >> (8 * field.size) != 0 {
                return Err(format!(
                    "field \"{name}\" is larger than {}",
                    type_range(field)
                ));
            }
            Ok(number)
        }
        WireType::Signed => signed(field, value),
        WireType::Bool => match value {
            Value::Bool(yes) => Ok(u128::from(*yes)),
            _ => Err(format!("field \"{name}\" is true or false")),
        },
        WireType::Text => match value {
            Value::String(text) => Text16::new(text)
                .map(|text| u128::from_le_bytes(text.0))
                .ok_or_else(|| {
                    format!("field \"{name}\" is at most 16 printable ASCII characters")
                }),
            _ => Err(format!("field \"{name}\" is text")),
        },
        WireType::Enum(names) => {
            let text = match value {
                Value::String(text) => text.clone(),
                // A switch is written as true or false.
                Value::Bool(yes) => yes.to_string(),
                _ => return Err(format!("field \"{name}\" is one of {}", list_names(names))),
            };
            code_of(names, &text)
                .ok_or_else(|| format!("field \"{name}\" is one of {}", list_names(names)))
        }
        WireType::Flags(names) => {
            let Value::Array(values) = value else {
                return Err(format!(
                    "field \"{name}\" is a list of {}",
                    list_names(names)
                ));
            };
            values.iter().try_fold(0, |bits, flag| {
                let bit = flag.as_str().and_then(|text| code_of(names, text));
                bit.map(|bit| bits | bit)
                    .ok_or_else(|| format!("field \"{name}\" is a list of {}", list_names(names)))
            })
        }
        WireType::Digest | WireType::Pad => Err(format!("field \"{name}\" cannot be set")),
    }
}

fn code_of(names: &[(&str, u16)], text: &str) -> Option<u128> {
    names
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, code)| u128::from(*code))
}

fn list_names(names: &[(&str, u16)]) -> String {
    names
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn type_range(field: &Field) -> String {
    format!("2^{}-1", 8 * field.size)
}

/// A JSON integer, a decimal string, or the text of a UUID.
fn integer(name: &str, value: &Value) -> Result<u128, String> {
    let bad = || {
        format!(
            "field \"{name}\" is an integer from 0 on (beyond 2^53 as a decimal string), or a UUID"
        )
    };
    match value {
        Value::Number(number) => number.as_u64().map(u128::from).ok_or_else(bad),
        Value::String(text) if text.contains('-') => uuid(text).ok_or_else(bad),
        Value::String(text) => decimal(text).ok_or_else(bad),
        _ => Err(bad()),
    }
}

/// Digits only: no sign, no blank.
fn decimal(text: &str) -> Option<u128> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `8-4-4-4-12` hexadecimal digits, most significant first.
fn uuid(text: &str) -> Option<u128> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    if lengths != [8, 4, 4, 4, 12] || !text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&groups.concat(), 16).ok()
}

fn signed(field: &Field, value: &Value) -> Result<u128, String> {
    let number = match value {
        Value::Number(number) => number.as_i64().map(i128::from),
        Value::String(text) => text
            .strip_prefix('-')
            .unwrap_or(text)
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten(),
        _ => None,
    };
    let bits = 8 * field.size as u32;
    number
        .filter(|n| bits == 128 || (*n >= -(1 << (bits - 1)) && *n < 1 << (bits - 1)))
        .map(|n| n as u128)
        .ok_or_else(|| {
            format!(
                "field \"{}\" is an integer from -2^{} to 2^{}-1",
                field.name,
                bits - 1,
                bits - 1
            )
        })
}

/// Whether a transfer with these flags names the accounts and amount of its pending transfer.
pub fn resolves_pending(flags: TransferFlags) -> bool {
    flags.any(TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::Command;
    use crate::protocol::json;

    fn parse(line: &str) -> Result<CommandFrame, String> {
        ScriptParser::default()
            .parse(line)
            .map(|frame| frame.expect("not blank"))
    }

    #[test]
    fn a_transfer_line_becomes_its_bytes() {
        let frame = parse(
            r#"{"cmd":"transfer","id":"00000000-0000-0000-0000-0000000000ff","debit_account":1,
                "credit_account":2,"amount":"340282366920938463463374607431768211455","code":7}"#,
        )
        .unwrap();
        match frame.as_ref().decode().unwrap() {
            Command::Transfer(transfer) => {
                assert_eq!(transfer.id.0, 255);
                assert_eq!(transfer.debit_account.0, 1);
                assert_eq!(transfer.amount.0, u128::MAX);
                assert_eq!(transfer.code, 7);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_in_one_sentence() {
        for (line, why) in [
            ("{", "not JSON: EOF while parsing an object at column 1"),
            (
                "[1]",
                "a line is a JSON object such as {\"cmd\":\"tick\",\"at\":1}",
            ),
            ("{\"at\":1}", "field \"cmd\" is missing"),
            (r#"{"cmd":"fly"}"#, "unknown command \"fly\""),
            (
                r#"{"cmd":"tick","at":1,"at":2}"#,
                "not JSON: field \"at\" stands twice at column 28",
            ),
            (r#"{"cmd":"tick","x":1}"#, "tick: unknown field \"x\""),
            (
                r#"{"cmd":"cancel_payment"}"#,
                "cancel_payment: field \"id\" is missing",
            ),
            (
                r#"{"cmd":"query_account","account":1.5}"#,
                "query_account: field \"account\" is an integer from 0 on (beyond 2^53 as a \
                 decimal string), or a UUID",
            ),
            (
                r#"{"cmd":"create_participant","participant":4294967296,"code":"A"}"#,
                "create_participant: field \"participant\" is larger than 2^32-1",
            ),
            (
                r#"{"cmd":"set_phase","phase":"lunch"}"#,
                "set_phase: field \"phase\" is one of closed, sod, liquidity, open, cut1, cut2, \
                 eod1, eod2, recon",
            ),
            (
                r#"{"cmd":"transfer","id":1,"debit_account":1,"credit_account":2}"#,
                "transfer: field \"amount\" is missing",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), why, "{line}");
        }
    }

    #[test]
    fn every_command_prints_as_a_line_that_parses_to_the_same_bytes() {
        for line in [
            r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#,
            r#"{"cmd":"create_account","account":9007199254740993,"participant":1,"asset":1,"flags":["settlement"],"credit_line":5}"#,
            r#"{"cmd":"transfers","transfers":[{"id":1,"debit_account":1,"credit_account":2,"amount":3,"flags":["linked"]},{"id":2,"debit_account":1,"credit_account":2,"amount":3}]}"#,
            r#"{"cmd":"set_bilateral_limit","account":1,"counterparty":2,"amount":null}"#,
            r#"{"cmd":"set_liquidity_saving","entry_offset":true,"bypass":false}"#,
            r#"{"cmd":"propose_batch","payments":[1,2,3]}"#,
            r#"{"cmd":"replace_order","participant":1,"client_order_id":7,"price":-5}"#,
            r#"{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":1,"side":"buy","type":"market","quantity":5,"time_in_force":"ioc"}"#,
        ] {
            let frame = parse(line).unwrap_or_else(|why| panic!("{line}: {why}"));
            let mut printed = String::new();
            json::write_command(&mut printed, None, frame.as_ref());
            assert_eq!(parse(&printed).unwrap(), frame, "{printed}");
        }
    }

    #[test]
    fn at_stays_until_it_is_set_again() {
        let mut parser = ScriptParser::default();
        let mut at = |line| parser.parse(line).unwrap().unwrap().header().received_at;
        assert_eq!(at(r#"{"cmd":"tick"}"#), 0);
        assert_eq!(at(r#"{"cmd":"tick","at":5}"#), 5);
        assert_eq!(at(r#"{"cmd":"query_digest"}"#), 5);
    }
}
