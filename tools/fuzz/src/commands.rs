//! Commands: bytes become commands of every kind, commands go through the engine, and after each of
//! them every invariant over the whole state is checked.
//!
//! - No command panics, and every one of them is answered by events that decode and print.
//! - The audit holds after every command.
//! - A refusal leaves the digest where it was.
//! - The same commands give the same events and the same digest: in a second engine whose lookups
//!   are spread otherwise, and from a snapshot taken on the way.
//! - Every command prints, what its line says can be said again, and it folds and unfolds.
//!
//! Most commands are made of the field tables of the protocol: a field's type says from which small
//! range its value comes (account 3, participant 2, a price around 100), so that most commands meet
//! something that is there. A new kind of command, or a new field, is thereby at once in here. Other
//! commands are literal: records as a journal keeps them, for inputs made of scenarios.

use crate::source::Source;
use crate::{frames, lines};
use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::command::{CommandKind, ITEMS_MAX};
use millrace::protocol::event::EventKind;
use millrace::protocol::frame::{CommandFrame, CommandRef, EventSlot, SLOT_BYTES};
use millrace::protocol::json::EventPrinter;
use millrace::protocol::record::unfold;
use millrace::protocol::script::ScriptParser;
use millrace::protocol::wire::{Field, WireType};
use std::sync::OnceLock;

/// Commands made of one input at most.
const COMMANDS_MAX: usize = 96;

/// First byte of a literal command: `LITERAL, length, length, record ..`.
pub const LITERAL: u8 = 255;

/// Where the world of an input begins.
pub mod world {
    /// Nothing is there.
    pub const EMPTY: u8 = 0;
    /// Assets, participants, accounts, money, instruments; the day and the books are open.
    pub const OPEN: u8 = 1;
    /// The same, before the day begins.
    pub const CLOSED: u8 = 2;
    /// Open, with instruments that settle in cycles, throttles, four eyes and a schedule.
    pub const CONTROLLED: u8 = 3;
}

/// One input: the world, the tables' sizes, where a snapshot is taken, and commands.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let world = source.byte() % 4;
    let limits = limits(&mut source);
    let snapshot_at = source.byte();
    let mut commands = setup(world).to_vec();
    let first = commands.len();
    let mut maker = Maker::new(
        commands
            .last()
            .map_or(0, |frame| frame.header().received_at),
    );
    while !source.is_empty() && commands.len() < first + COMMANDS_MAX {
        if let Some(frame) = maker.command(&mut source) {
            commands.push(frame);
        }
    }
    let (events, digest) = play(&commands, first, &limits);
    replay(&commands, &limits, &events, digest);
    let at = first + usize::from(snapshot_at) % (commands.len() - first + 1);
    from_snapshot(&commands, at, &limits, digest);
}

fn limits(source: &mut Source<'_>) -> Limits {
    let small = Limits::small();
    match source.byte() % 4 {
        // Tables that are full after a few commands.
        3 => Limits {
            accounts: 40,
            transfers: 40,
            authorisations: 3,
            authorisation_steps: 8,
            payments: 12,
            orders: 8,
            special_orders: 3,
            order_sessions: 2,
            client_order_ids: 24,
            price_levels: 5,
            proposals: 2,
            throttles: 3,
            positions: 3,
            ..small
        },
        2 => Limits {
            window_days: 1,
            refund_days: 1,
            ..small
        },
        _ => small,
    }
}

/// The commands that make a world, ready to be followed by others.
fn setup(world: u8) -> &'static [CommandFrame] {
    static WORLDS: OnceLock<[Vec<CommandFrame>; 4]> = OnceLock::new();
    let parse = |text: &str| {
        let mut parser = ScriptParser::default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let frames = lines.filter_map(|line| parser.parse(line).expect(line));
        frames.collect::<Vec<_>>()
    };
    &WORLDS.get_or_init(|| {
        let there = include_str!("worlds/there.jsonl");
        let open = include_str!("worlds/open.jsonl");
        let controlled = include_str!("worlds/controlled.jsonl");
        [
            Vec::new(),
            parse(&format!("{there}{open}")),
            parse(there),
            parse(&format!("{there}{open}{controlled}")),
        ]
    })[usize::from(world)]
}

/// Executes the commands and checks everything that is promised of each; returns the events of each
/// and the digest at the end. The first `trusted` make the world, and are audited once.
fn play(commands: &[CommandFrame], trusted: usize, limits: &Limits) -> (Vec<Vec<u8>>, [u8; 32]) {
    let mut engine = Engine::new(limits);
    let mut outbox = Outbox::with_capacity(64);
    let mut printer = EventPrinter::default();
    let mut all = Vec::new();
    let mut digest = engine.digest();
    let mut sequence = 0;
    for (at, frame) in commands.iter().enumerate() {
        let command = frame.as_ref();
        let kind = command.kind().expect("valid");
        outbox.clear();
        let is_time_due = engine
            .next_deadline()
            .is_some_and(|due| due.0 <= command.header.received_at.max(engine.now().0));
        if kind.is_query() {
            engine.query(command, &mut outbox);
        } else {
            sequence += 1;
            engine.apply(sequence, command, &mut outbox);
        }
        all.push(bytes_of(outbox.events()));
        if at + 1 < trusted {
            continue;
        }
        if let Err(broken) = engine.audit() {
            panic!("after {kind}: {broken}");
        }
        check_events(kind, outbox.events(), &mut printer);
        let before = std::mem::replace(&mut digest, engine.digest());
        let is_refused =
            matches!(outbox.events(), [event] if event.kind() == Some(EventKind::Rejected));
        if at >= trusted && (kind.is_query() || is_refused && !is_time_due) {
            assert_eq!(before, digest, "{kind}: refused, and changed something");
        }
        lines::prints(command);
        frames::fold(command);
    }
    (all, digest)
}

fn bytes_of(events: &[EventSlot]) -> Vec<u8> {
    events
        .iter()
        .flat_map(|event| event.frame().to_vec())
        .collect()
}

fn check_events(kind: CommandKind, events: &[EventSlot], printer: &mut EventPrinter) {
    let (last, others) = events.split_last().expect("every command is answered");
    assert!(
        last.is_last() && !others.iter().any(EventSlot::is_last),
        "{kind}: one last event"
    );
    let mut printed = String::new();
    for (index, event) in events.iter().enumerate() {
        assert!(event.event().is_some(), "{kind}: event {index} decodes");
        assert_eq!(event.header.index as usize, index);
        printer.print(&mut printed, event);
    }
    assert!(printed.ends_with('\n'), "{kind}: its events end a line");
    printed.lines().for_each(lines::is_json);
}

/// Plays the commands of a journal once more, elsewhere.
fn replay(commands: &[CommandFrame], limits: &Limits, events: &[Vec<u8>], digest: [u8; 32]) {
    let mut engine = Engine::new(&Limits {
        lookup_secret: 0x5EED_5EED_5EED_5EED,
        ..limits.clone()
    });
    let mut outbox = Outbox::with_capacity(64);
    let mut sequence = 0;
    for (command, events) in commands.iter().zip(events) {
        if command.as_ref().kind().expect("valid").is_query() {
            continue;
        }
        outbox.clear();
        sequence += 1;
        engine.apply(sequence, command.as_ref(), &mut outbox);
        assert_eq!(
            &bytes_of(outbox.events()),
            events,
            "a replay answers otherwise"
        );
    }
    assert_eq!(engine.digest(), digest, "a replay ends elsewhere");
}

/// Goes on from a snapshot taken before command `at`.
fn from_snapshot(commands: &[CommandFrame], at: usize, limits: &Limits, digest: [u8; 32]) {
    let mut engine = Engine::new(limits);
    let (before, after) = commands.split_at(at);
    apply_all(&mut engine, before);
    let mut bytes = Vec::new();
    engine
        .write_snapshot(&mut bytes)
        .expect("memory does not fail");
    let mut again = Engine::read_snapshot(limits, &mut &bytes[..]).expect("written here");
    assert_eq!(again.digest(), engine.digest(), "a snapshot is the state");
    again.audit().expect("a snapshot of a sound state");
    apply_all(&mut again, after);
    assert_eq!(again.digest(), digest, "from a snapshot it ends elsewhere");
}

fn apply_all(engine: &mut Engine, commands: &[CommandFrame]) {
    let mut outbox = Outbox::with_capacity(64);
    for command in commands {
        if !command.as_ref().kind().expect("valid").is_query() {
            outbox.clear();
            engine.apply(engine.sequence() + 1, command.as_ref(), &mut outbox);
        }
    }
}

/// Kinds that are chosen more often than once, beside all others.
const OFTEN: [(CommandKind, usize); 16] = [
    (CommandKind::Transfer, 14),
    (CommandKind::Transfers, 6),
    (CommandKind::Authorise, 6),
    (CommandKind::Capture, 5),
    (CommandKind::Increment, 3),
    (CommandKind::Void, 3),
    (CommandKind::Refund, 4),
    (CommandKind::SubmitPayment, 20),
    (CommandKind::SubmitGroup, 8),
    (CommandKind::PlaceOrder, 28),
    (CommandKind::PlaceOrderList, 8),
    (CommandKind::CancelOrder, 4),
    (CommandKind::ReplaceOrder, 8),
    (CommandKind::SetPhase, 8),
    (CommandKind::SetInstrumentPhase, 5),
    (CommandKind::Propose, 5),
];

fn kinds() -> &'static [CommandKind] {
    static KINDS: OnceLock<Vec<CommandKind>> = OnceLock::new();
    KINDS.get_or_init(|| {
        let often = OFTEN.iter().flat_map(|(kind, times)| vec![*kind; *times]);
        CommandKind::ALL.iter().copied().chain(often).collect()
    })
}

const SECOND_NS: u64 = 1_000_000_000;

/// Makes commands one after another.
struct Maker {
    /// When the last command was received.
    now: u64,
    client_sequence: u64,
}

impl Maker {
    fn new(now: u64) -> Maker {
        Maker {
            now,
            client_sequence: 0,
        }
    }

    /// The next command; `None` where the bytes made none that a door lets in.
    fn command(&mut self, source: &mut Source<'_>) -> Option<CommandFrame> {
        let choice = source.byte();
        if choice == LITERAL {
            let length = usize::from(source.u16());
            return literal(source.take(length));
        }
        let kind = kinds()[usize::from(choice) % kinds().len()];
        self.now = match source.byte() {
            0..160 => self.now,
            160..200 => self.now + 1,
            200..220 => self.now + SECOND_NS,
            220..230 => self.now + 600 * SECOND_NS,
            230..240 => self.now + 20_000 * SECOND_NS,
            // A clock that went back.
            240..250 => self.now.saturating_sub(5 * SECOND_NS),
            _ => self.now.saturating_add(source.odd_u64() >> 8),
        };
        let mut frame = self.frame(source, kind)?;
        self.client_sequence += 1;
        let header = frame.header_mut();
        header.received_at = self.now;
        header.user = u64::from(source.byte() % 4);
        header.session = u64::from(source.byte() % 4);
        header.client_sequence = self.client_sequence;
        frame.as_ref().decode().ok()?;
        Some(frame)
    }

    fn frame(&self, source: &mut Source<'_>, kind: CommandKind) -> Option<CommandFrame> {
        let mut body = vec![0; kind.body_size()];
        self.fill(source, kind.fields(), &mut body);
        let mut items = Vec::new();
        if kind == CommandKind::Propose {
            let proposed = kinds()[source.below(kinds().len())];
            items = self
                .frame(source, proposed)
                .map_or_else(Vec::new, |frame| frame.as_ref().body[..].to_vec());
            if items.len() > 16 * ITEMS_MAX {
                return None;
            }
            set(kind.fields(), "kind", proposed as u128, &mut body);
            set(kind.fields(), "count", items.len() as u128 / 16, &mut body);
        } else if let Some(list) = kind.items() {
            let count = match source.byte() {
                count @ 0..250 => usize::from(count % 6),
                count => 4 * usize::from(count - 249),
            };
            for _ in 0..count {
                let start = items.len();
                items.resize(start + list.size, 0);
                self.fill(source, list.fields, &mut items[start..]);
            }
            set(kind.fields(), "count", count as u128, &mut body);
        }
        Some(CommandFrame::from_parts(kind, &body, &items))
    }

    /// Gives every field a value of its own small range.
    fn fill(&self, source: &mut Source<'_>, fields: &[Field], body: &mut [u8]) {
        for field in fields {
            if matches!(field.wire, WireType::Pad) {
                continue;
            }
            let value = match field.default {
                // What may be left out mostly is.
                Some(default) if !source.chance(80) => default,
                _ => self.value(source, field),
            };
            set(fields, field.name, value, body);
        }
    }

    fn value(&self, source: &mut Source<'_>, field: &Field) -> u128 {
        if source.chance(3) {
            return u128::from(source.odd_u64()) << (source.byte() % 2 * 64);
        }
        match field.wire {
            WireType::Bool => u128::from(source.byte() % 2),
            WireType::Enum(names) => u128::from(source.one_of(names).1),
            WireType::Flags(names) => {
                let one = u128::from(source.one_of(names).1);
                let another = u128::from(source.one_of(names).1);
                if source.chance(64) {
                    one | another
                } else {
                    one
                }
            }
            WireType::Text => {
                let codes = [b"EUR", b"USD", b"ABC", b"A B"];
                let mut text = [0; 16];
                text[..3].copy_from_slice(&source.one_of(&codes)[..]);
                u128::from_le_bytes(text)
            }
            WireType::Digest | WireType::Pad => 0,
            WireType::Signed => self.number(source, field) as i128 as u128,
            WireType::Unsigned => self.number(source, field),
        }
    }

    /// A number as its type, and then its name, has it.
    fn number(&self, source: &mut Source<'_>, field: &Field) -> u128 {
        let byte = source.byte();
        let small = u128::from(byte);
        match field.type_name {
            "AccountId" => account(byte),
            "ParticipantId" => 1 + small % 5,
            "AssetId" => 1 + small % 4,
            "InstrumentId" => 1 + small % 5,
            // Few enough that one meets another.
            "TransferId" | "PaymentId" => 1 + small % 24,
            "ClientOrderId" => 1 + small % 16,
            // Slots are used again under a higher generation.
            "OrderId" => (1 + small % 16) + ((small >> 6) << 32),
            "Price" => match byte {
                0..200 => 95 + small % 11,
                200..216 => small % 8,
                216..232 => (small as i128 - 232) as u128,
                _ => small * 10,
            },
            "Quantity" => 1 + small % 40,
            "Amount" => match byte {
                0..200 => 1 + small,
                200..230 => 1_000 * (small - 199),
                230..240 => u128::MAX - (small - 230),
                240..250 => u128::from(u64::MAX) - 5 + (small - 240),
                _ => 0,
            },
            "Timestamp" => match byte {
                0..64 => 0,
                64..250 => u128::from(self.now) + small * u128::from(SECOND_NS / 4),
                _ => u128::from(self.now.saturating_sub(1)),
            },
            _ => match (field.name, byte) {
                ("id" | "pending_id" | "authorisation", _) => 1 + small % 24,
                ("proposal", _) => 1 + small % 6,
                ("session", _) => small % 4,
                ("lot_size" | "tick_value" | "price_step" | "step", _) => 1 + small % 4,
                ("business_date" | "value_date", 0..200) => small % 6,
                ("business_date" | "value_date", _) => 20_261_100 + small % 40,
                (_, 0..220) => small % 12,
                (_, 220..250) => small * 100,
                _ => u128::MAX >> (small % 128),
            },
        }
    }
}

/// An account of the worlds: one of a participant in an asset, the central one, or none.
fn account(byte: u8) -> u128 {
    let (participant, asset) = (1 + byte / 4 % 5, 1 + byte % 4);
    match byte {
        0..200 => u128::from(participant * 10 + asset),
        200..240 => u128::from(1 + byte % 4),
        _ => u128::from(byte),
    }
}

fn set(fields: &[Field], name: &str, value: u128, body: &mut [u8]) {
    if let Some(field) = fields.iter().find(|field| field.name == name) {
        let bytes = value.to_le_bytes();
        body[field.offset..field.offset + field.size].copy_from_slice(&bytes[..field.size]);
    }
}

/// The command in a record, as far as a door lets it in.
fn literal(record: &[u8]) -> Option<CommandFrame> {
    let mut words = Vec::new();
    let length = unfold(record, &mut words).ok()?;
    let command = CommandRef::from_bytes(&bytemuck::cast_slice(&words)[..length]).ok()?;
    command.decode().ok()?;
    // Batches of thousands say nothing that shorter ones do not.
    (length <= 16 * SLOT_BYTES).then(|| CommandFrame::copy_of(command))
}

/// One command of every kind that is journaled, and a clock that jumps: what a state must bear that
/// says that it is sound.
pub fn samples() -> &'static [CommandFrame] {
    static SAMPLES: OnceLock<Vec<CommandFrame>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut maker = Maker::new(2_000_000_000_000);
        let mut frames = Vec::new();
        for round in 0..3u8 {
            for kind in CommandKind::ALL.iter().filter(|kind| !kind.is_query()) {
                let bytes: Vec<u8> = (0..=255u8).map(|at| at.wrapping_mul(37) ^ round).collect();
                maker.now += SECOND_NS;
                let frame = maker.frame(&mut Source::new(&bytes), *kind);
                let Some(mut frame) = frame else { continue };
                frame.header_mut().received_at = maker.now;
                if frame.as_ref().decode().is_ok() {
                    frames.push(frame);
                }
            }
            maker.now += 100_000 * SECOND_NS;
        }
        frames
    })
}
