//! JSON lines out: events, and commands as scripts write them. Integers up to 2^53 are JSON
//! numbers, beyond that decimal strings; a field that holds its default is left out.

use super::command::{CommandKind, Items, TransferFlags};
use super::event::EventKind;
use super::frame::{CommandRef, EventSlot};
use super::reason::Reason;
use super::script::{PROPOSED_DEPTH_MAX, is_removable, needed_fields};
use super::wire::{Field, WireType};
use std::fmt::Write as _;

/// Prints events as lines. A book, a queue and a group span several events and make one line.
#[derive(Debug, Default)]
pub struct EventPrinter {
    open: Option<OpenLine>,
    /// A proposal whose command is still coming.
    proposal: Option<OpenProposal>,
}

/// A proposal's line without its end, and its command as far as it has come.
#[derive(Debug)]
struct OpenProposal {
    head: String,
    kind: Option<CommandKind>,
    parts: u32,
    body: Vec<u8>,
}

/// A line whose lists are still coming.
#[derive(Debug)]
struct OpenLine {
    head: String,
    /// What the entries of its lists come as.
    entries: Option<EventKind>,
    lists: Vec<(&'static str, String)>,
    left: u32,
}

impl EventPrinter {
    /// Appends to `out` the line that `event` ends, if it ends one. What this release does not
    /// understand is an event of its own, called `unknown`.
    pub fn print(&mut self, out: &mut String, event: &EventSlot) {
        let kind = event.kind().filter(|_| event.event().is_some());
        if let Some(proposal) = &mut self.proposal
            && kind == Some(EventKind::ProposedCommand)
        {
            proposal.add(event.body());
            if let Some(proposal) = self.proposal.take_if(|proposal| proposal.parts == 0) {
                out.push_str(&proposal.head);
                write_proposed(out, proposal.kind, &proposal.body, PROPOSED_DEPTH_MAX);
                out.push_str("}\n");
            }
            return;
        }
        if let Some(open) = &mut self.open
            && kind.is_some()
            && kind == open.entries
        {
            open.add(event.body());
        } else {
            self.open = Some(OpenLine::new(kind, event));
        }
        if let Some(line) = self.open.take_if(|line| line.left == 0) {
            if kind == Some(EventKind::Proposal) {
                self.proposal = OpenProposal::new(&line.head, event.body());
            }
            if self.proposal.is_none() {
                line.write(out);
            }
        }
    }
}

impl OpenProposal {
    /// `None` where no command follows.
    fn new(head: &str, body: &[u8]) -> Option<OpenProposal> {
        let value = |name| number_of(EventKind::Proposal.fields(), name, body);
        let parts = value("parts") as u32;
        (parts > 0).then(|| OpenProposal {
            head: head.to_string(),
            kind: CommandKind::from_code(value("kind") as u16),
            parts,
            body: Vec::new(),
        })
    }

    fn add(&mut self, body: &[u8]) {
        let fields = EventKind::ProposedCommand.fields();
        let bytes = fields.iter().find(|field| field.name == "bytes");
        let length = number_of(fields, "length", body) as usize;
        let bytes = bytes.map_or(&[][..], |field| &body[field.offset..][..field.size]);
        self.body
            .extend_from_slice(&bytes[..length.min(bytes.len())]);
        self.parts -= 1;
    }
}

impl OpenLine {
    fn new(kind: Option<EventKind>, event: &EventSlot) -> OpenLine {
        let mut head = String::new();
        let name = kind.map_or("unknown", EventKind::name);
        let _ = write!(
            head,
            "{{\"seq\":{},\"event\":\"{name}\"",
            event.header.sequence
        );
        let mut line = OpenLine {
            head,
            entries: None,
            lists: Vec::new(),
            left: 0,
        };
        let body = event.body();
        match kind {
            None => {
                let _ = write!(line.head, ",\"kind\":{}", event.header.kind);
            }
            Some(kind @ EventKind::Book) => {
                line.open(kind, &["bids", "asks"], &["bids", "asks"], body);
            }
            Some(kind @ EventKind::Queue) => line.open(kind, &["payments"], &["count"], body),
            Some(kind @ EventKind::Group) => line.open(kind, &["legs"], &["count"], body),
            Some(kind) => {
                for field in kind.fields() {
                    // One says how many events make the line, the other which id it names.
                    let is_silent = matches!(
                        (kind, field.name),
                        (EventKind::Proposal, "parts") | (EventKind::Rejected, "by_order_id")
                    );
                    if !is_silent {
                        write_field(&mut line.head, name, field, body);
                    }
                }
                if kind == EventKind::Rejected {
                    write_own_id(&mut line.head, body);
                }
            }
        }
        line
    }

    /// Opens `lists`, whose entries are counted by the fields `counts` of the head.
    fn open(&mut self, kind: EventKind, lists: &[&'static str], counts: &[&str], body: &[u8]) {
        for field in kind.fields() {
            if counts.contains(&field.name) {
                self.left = self.left.saturating_add(raw(field, body) as u32);
            } else {
                write_field(&mut self.head, "", field, body);
            }
        }
        self.entries = Some(match kind {
            EventKind::Book => EventKind::BookLevel,
            _ => EventKind::Payment,
        });
        self.lists = lists.iter().map(|name| (*name, String::new())).collect();
    }

    /// Adds a book level to its side's list, or a payment to the queue or the group.
    fn add(&mut self, body: &[u8]) {
        let mut entry = String::new();
        let at = if self.entries == Some(EventKind::BookLevel) {
            let value = |name| number_of(EventKind::BookLevel.fields(), name, body);
            let price = value("price") as i64;
            let (quantity, orders) = (value("quantity"), value("orders"));
            let _ = write!(entry, "[{price},{quantity},{orders}]");
            value("side") as usize
        } else {
            write_fields(&mut entry, "", EventKind::Payment.fields(), body, &[]);
            // The first field comes with a comma in front: make it the opening brace.
            entry.replace_range(..1, "{");
            entry.push('}');
            0
        };
        let list = &mut self.lists[at].1;
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&entry);
        self.left -= 1;
    }

    fn write(&self, out: &mut String) {
        out.push_str(&self.head);
        for (name, entries) in &self.lists {
            let _ = write!(out, ",\"{name}\":[{entries}]");
        }
        out.push_str("}\n");
    }
}

/// A rejected command's id under its own name (`account`, `order_id` ...), besides `id`.
fn write_own_id(out: &mut String, body: &[u8]) {
    let fields = EventKind::Rejected.fields();
    let code = number_of(fields, "cmd", body) as u16;
    let Some(kind) = CommandKind::from_code(code) else {
        return;
    };
    let reason = Reason::from_code(number_of(fields, "reason", body) as u16);
    let own = match (kind, reason, number_of(fields, "by_order_id", body)) {
        // It names several, and the reason says which of them is meant.
        (CommandKind::MassCancel, Some(Reason::InstrumentNotFound), _) => Some("instrument"),
        (CommandKind::MassCancel, Some(Reason::SessionNotFound), _) => Some("session"),
        (_, _, 0) => own_id_field(kind),
        _ => Some("order_id"),
    };
    if let Some(name) = own.filter(|name| *name != "id") {
        let _ = write!(out, ",\"{name}\":");
        write_integer(out, number_of(fields, "id", body));
    }
}

/// The field of a command that a refusal names.
pub fn own_id_field(kind: CommandKind) -> Option<&'static str> {
    match kind {
        CommandKind::CancelOrder | CommandKind::ReplaceOrder | CommandKind::QueryOrder => {
            Some("client_order_id")
        }
        CommandKind::CancelOnDisconnect => Some("session"),
        CommandKind::Tick
        | CommandKind::QueryDigest
        | CommandKind::QueryProposals
        | CommandKind::QueryThrottles
        | CommandKind::QueryDay
        | CommandKind::SchedulePhase
        | CommandKind::ExtendPhase
        | CommandKind::SetFourEyes
        | CommandKind::Propose
        | CommandKind::Transfers
        | CommandKind::PlaceOrderList
        | CommandKind::SetPhase
        | CommandKind::SetLiquiditySaving
        | CommandKind::RunLiquiditySaving
        | CommandKind::ProposeBatch => None,
        _ => kind.fields().first().map(|field| field.name),
    }
}

/// Appends one command as the script line that would send it, with its sequence if it has one.
pub fn write_command(out: &mut String, sequence: Option<u64>, command: CommandRef<'_>) {
    out.push('{');
    if let Some(sequence) = sequence {
        let _ = write!(out, "\"seq\":{sequence},");
    }
    let Some(kind) = command.kind() else {
        let _ = write!(
            out,
            "\"cmd\":\"unknown\",\"kind\":{}}}",
            command.header.kind
        );
        return;
    };
    let _ = write!(out, "\"cmd\":\"{}\",\"at\":", kind.name());
    write_integer(out, u128::from(command.header.received_at));
    if command.header.user != 0 {
        let _ = write!(out, ",\"user\":{}", command.header.user);
    }
    write_body(out, kind, command.body, PROPOSED_DEPTH_MAX);
    out.push('}');
}

/// The fields of a command and its list. `depth` bounds the proposals within proposals.
fn write_body(out: &mut String, kind: CommandKind, body: &[u8], depth: usize) {
    let (head, list) = body.split_at(kind.body_size());
    match kind.items() {
        None => {
            let needed = needed_of(kind, kind.fields(), head);
            write_fields(out, kind.name(), kind.fields(), head, needed);
        }
        Some(_) if kind == CommandKind::Propose => {
            let fields = kind.fields();
            for field in fields.iter().filter(|field| field.name == "expires_at") {
                write_field(out, kind.name(), field, head);
            }
            let proposed = CommandKind::from_code(number_of(fields, "kind", head) as u16);
            write_proposed(out, proposed, list, depth);
        }
        Some(items) => {
            for field in kind.fields().iter().filter(|field| field.name != "count") {
                write_field(out, kind.name(), field, head);
            }
            write_list(out, kind, &items, list);
        }
    }
}

/// The command that a proposal carries, as a field of its line; `null` where it is none, or lies
/// deeper than a script can say.
fn write_proposed(out: &mut String, kind: Option<CommandKind>, body: &[u8], depth: usize) {
    match kind.filter(|kind| depth > 0 && has_shape(*kind, body)) {
        Some(kind) => {
            let _ = write!(out, ",\"command\":{{\"cmd\":\"{}\"", kind.name());
            write_body(out, kind, body, depth - 1);
            out.push('}');
        }
        None => out.push_str(",\"command\":null"),
    }
}

/// Whether `body` is as long as one of `kind` and its list are.
fn has_shape(kind: CommandKind, body: &[u8]) -> bool {
    let Some((head, list)) = body.split_at_checked(kind.body_size()) else {
        return false;
    };
    let count = number_of(kind.fields(), "count", head) as usize;
    match kind.items() {
        Some(items) => list.len() == count * items.size && count > 0,
        None => list.is_empty(),
    }
}

fn write_list(out: &mut String, kind: CommandKind, items: &Items, list: &[u8]) {
    let _ = write!(out, ",\"{}\":[", items.name);
    for (index, item) in list.chunks_exact(items.size).enumerate() {
        if index > 0 {
            out.push(',');
        }
        let start = out.len();
        let needed = needed_of(kind, items.fields, item);
        write_fields(out, "", items.fields, item, needed);
        if out.len() == start {
            // Every field has its default.
            out.push('{');
        }
        out.replace_range(start..=start, "{");
        out.push('}');
    }
    out.push(']');
}

/// What a line of `kind` has to name, as these fields are set.
fn needed_of(kind: CommandKind, fields: &[Field], body: &[u8]) -> &'static [&'static str] {
    let flags = TransferFlags(number_of(fields, "flags", body) as u16);
    needed_fields(kind, flags, number_of(fields, "final", body) != 0)
}

/// Writes those fields that do not hold their defaults, and those of `needed` that do.
fn write_fields(out: &mut String, name: &str, fields: &[Field], body: &[u8], needed: &[&str]) {
    for field in fields {
        let is_needed = needed.contains(&field.name);
        if is_needed || !is_left_out(field, body) {
            write_value(out, name, field, body);
        }
    }
}

fn write_field(out: &mut String, owner: &str, field: &Field, body: &[u8]) {
    if !is_left_out(field, body) {
        write_value(out, owner, field, body);
    }
}

/// Whether a line need not say it.
fn is_left_out(field: &Field, body: &[u8]) -> bool {
    let value = raw(field, body);
    let is_default = field.default.is_some_and(|default| default == value);
    is_default || matches!(field.wire, WireType::Pad)
}

fn write_value(out: &mut String, owner: &str, field: &Field, body: &[u8]) {
    let value = raw(field, body);
    let _ = write!(out, ",\"{}\":", field.name);
    match field.wire {
        WireType::Unsigned if value == u128::MAX && is_removable(owner, field) => {
            out.push_str("null");
        }
        WireType::Unsigned => write_integer(out, value),
        WireType::Signed => write_signed(out, value as i128),
        WireType::Bool => out.push_str(if value == 0 { "false" } else { "true" }),
        WireType::Text => {
            let text = crate::protocol::wire::Text16(value.to_le_bytes());
            let _ = write!(out, "{}", serde_json::Value::from(text.as_str()));
        }
        WireType::Enum(names) => {
            let name = names.iter().find(|(_, code)| u128::from(*code) == value);
            match name {
                // A switch reads as true or false.
                Some((name @ ("true" | "false"), _)) => out.push_str(name),
                Some((name, _)) => {
                    let _ = write!(out, "\"{name}\"");
                }
                None => write_integer(out, value),
            }
        }
        WireType::Flags(names) => {
            let set: Vec<String> = names
                .iter()
                .filter(|(_, bit)| value & u128::from(*bit) != 0)
                .map(|(name, _)| format!("\"{name}\""))
                .collect();
            let _ = write!(out, "[{}]", set.join(","));
        }
        WireType::Digest => {
            out.push('"');
            for byte in &body[field.offset..][..field.size] {
                let _ = write!(out, "{byte:02x}");
            }
            out.push('"');
        }
        WireType::Pad => {}
    }
}

/// The field's bytes as an integer, sign-extended where it is signed; 0 for a digest.
fn raw(field: &Field, body: &[u8]) -> u128 {
    if field.size > 16 {
        return 0;
    }
    let mut bytes = [0; 16];
    bytes[..field.size].copy_from_slice(&body[field.offset..][..field.size]);
    if matches!(field.wire, WireType::Signed) && bytes[field.size - 1] & 0x80 != 0 {
        bytes[field.size..].fill(0xff);
    }
    u128::from_le_bytes(bytes)
}

fn number_of(fields: &[Field], name: &str, body: &[u8]) -> u128 {
    fields
        .iter()
        .find(|field| field.name == name)
        .map_or(0, |field| raw(field, body))
}

const INTEGER_MAX: u128 = 1 << 53;

/// An integer as JSON can carry it exactly.
pub fn write_integer(out: &mut String, value: u128) {
    let _ = if value <= INTEGER_MAX {
        write!(out, "{value}")
    } else {
        write!(out, "\"{value}\"")
    };
}

fn write_signed(out: &mut String, value: i128) {
    let _ = if value.unsigned_abs() <= INTEGER_MAX {
        write!(out, "{value}")
    } else {
        write!(out, "\"{value}\"")
    };
}
