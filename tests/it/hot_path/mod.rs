//! The hot path, held to what it must not do: allocate, call the system, take a lock
//! (docs/performance.md, "Hot path audit").

#[cfg(target_os = "linux")]
mod calls;
mod locks;
mod mix;

use crate::allocation::count;
use millrace::config::Config;
use millrace::engine::{Engine, Outbox};
use millrace::pipeline::Inline;
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, CommandHeader, EventSlot, HEADER_BYTES};
use millrace::protocol::units::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;

/// Rounds after which everything has grown that grows.
const WARM: u64 = 4;

/// Commands that may allocate, with the reason; docs/performance.md names them, too.
const MAY_ALLOCATE: &[(&str, &str)] = &[
    (
        r#"{"cmd":"run_liquidity_saving","algorithm":"bilateral"}"#,
        "lists of pairs, per run",
    ),
    (
        r#"{"cmd":"run_liquidity_saving","algorithm":"greedy"}"#,
        "trees over all that waits, per run",
    ),
];

/// An engine with the scene set.
fn engine(rounds: u64) -> (Engine, Outbox) {
    let mut engine = Engine::new(&mix::limits(rounds));
    let mut outbox = Outbox::with_capacity(4_096);
    for frame in mix::setup() {
        apply(&mut engine, &frame, &mut outbox);
    }
    (engine, outbox)
}

/// One command as the executor runs it.
fn apply(engine: &mut Engine, frame: &CommandFrame, outbox: &mut Outbox) {
    outbox.clear();
    let command = frame.as_ref();
    engine.prefetch_lookups(command);
    engine.prefetch_rows(command);
    engine.prefetch_led_to(command);
    engine.apply(engine.sequence() + 1, command, outbox);
}

/// A pipeline on `dir` with the scene set, at `process`, whose first segment holds all of the rounds.
fn pipeline(dir: &Path, rounds: u64) -> Inline {
    let mut config = Config::small(dir);
    config.limits = mix::limits(rounds);
    config.journal.segment_bytes = 64 << 20;
    let (mut inline, _) = Inline::open(&config).expect("a pipeline");
    for frame in mix::setup() {
        inline
            .execute(&frame, &mut |_: &EventSlot| ())
            .expect("taken");
    }
    inline
}

/// Commands as sessions send them: through the door, some at a time, so that one commit covers them.
struct Sent {
    commands: Vec<Vec<u128>>,
    last_of_session: [u64; Sent::SESSIONS],
}

impl Sent {
    const SESSIONS: usize = 4;
    const AT_ONCE: usize = 48;

    fn new() -> Sent {
        Sent {
            commands: Vec::new(),
            last_of_session: [0; Sent::SESSIONS],
        }
    }

    /// Has `frames` sent next, by turns of the sessions.
    fn load(&mut self, frames: &[CommandFrame]) {
        self.commands.clear();
        for (at, frame) in frames.iter().enumerate() {
            let session = at % Sent::SESSIONS;
            self.last_of_session[session] += 1;
            let mut frame = frame.clone();
            let header = frame.header_mut();
            header.session = session as u64 + 1;
            header.client_sequence = self.last_of_session[session];
            self.commands
                .push(bytemuck::cast_slice(frame.bytes()).to_vec());
        }
    }

    /// Sends them all and takes every answer; how many events came.
    fn run(&mut self, inline: &mut Inline) -> u64 {
        let mut events = 0;
        for together in self.commands.chunks_mut(Sent::AT_ONCE) {
            for words in together {
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(words);
                let header: CommandHeader = *bytemuck::from_bytes(&bytes[..HEADER_BYTES]);
                let door = inline.ingress();
                let clock = Timestamp(header.received_at);
                door.submit(header.session, bytes, clock).expect("taken");
            }
            inline.pump(&mut |_: &EventSlot| events += 1);
        }
        events
    }
}

#[test]
fn a_warm_engine_allocates_for_no_command_that_runs_often() {
    let rounds = WARM + 20;
    let (mut engine, mut outbox) = engine(rounds);
    for frame in mix::rounds(0, WARM) {
        apply(&mut engine, &frame, &mut outbox);
    }
    let mut found = BTreeMap::new();
    for number in WARM..rounds {
        for (line, frame) in mix::round(number) {
            let allocations = count(|| apply(&mut engine, &frame, &mut outbox));
            if allocations > 0 {
                found.insert(line, allocations);
            }
        }
        assert_eq!(engine.audit(), Ok(()));
    }
    for (line, why) in MAY_ALLOCATE {
        assert!(found.remove(*line).is_some(), "no longer so: {line}: {why}");
    }
    assert_eq!(found, BTreeMap::new(), "allocations by command");
}

#[test]
fn a_warm_pipeline_allocates_nothing_from_the_door_to_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let rounds = WARM + 20;
    let mut inline = pipeline(dir.path(), rounds);
    let mut sent = Sent::new();
    let quiet = |frames: Vec<(String, CommandFrame)>| -> Vec<CommandFrame> {
        let often = |line: &String| MAY_ALLOCATE.iter().all(|(seldom, _)| seldom != line);
        let often = frames.into_iter().filter(|(line, _)| often(line));
        often.map(|(_, frame)| frame).collect()
    };
    for number in 0..rounds {
        sent.load(&quiet(mix::round(number)));
        let mut events = 0;
        let allocations = count(|| events = sent.run(&mut inline));
        assert!(events as usize > sent.commands.len());
        assert!(
            number < WARM || allocations == 0,
            "{allocations} allocations in round {number}"
        );
    }
    assert_eq!(inline.close().audit(), Ok(()));
}

#[test]
fn the_mix_does_what_it_says_and_every_round_does_the_same() {
    let rounds = 3;
    let (mut engine, mut outbox) = engine(rounds);
    let mut kinds: Vec<BTreeMap<String, u32>> = Vec::new();
    for number in 0..rounds {
        let mut seen = BTreeMap::new();
        for (_, frame) in mix::round(number) {
            apply(&mut engine, &frame, &mut outbox);
            for event in outbox.events() {
                *seen.entry(class(event)).or_default() += 1;
            }
        }
        kinds.push(seen);
    }
    assert_eq!(kinds[1], kinds[0]);
    assert_eq!(kinds[2], kinds[0]);
    for wanted in WANTED {
        assert!(kinds[0].contains_key(*wanted), "{wanted}: {:#?}", kinds[0]);
    }
}

/// What an event says, without names and numbers.
fn class(event: &EventSlot) -> String {
    match event.event().expect("an event") {
        Event::Transfer(done) => format!("transfer {:?}", done.status),
        Event::Authorisation(done) => format!("authorisation {:?}", done.state),
        Event::Rejected(why) => format!("rejected {:?} {:?}", why.cmd, why.reason),
        Event::PaymentSettled(moved) => format!("payment settled by {:?}", moved.by),
        Event::PaymentRejected(moved) => format!("payment rejected {:?}", moved.reason),
        Event::PaymentQueued(moved) => format!("payment queued {:?}", moved.reason),
        Event::OrderCancelled(gone) => format!("order cancelled {:?}", gone.reason),
        other => {
            let name = format!("{other:?}");
            name.split(['(', ' ']).next().expect("a name").to_owned()
        }
    }
}

/// What a round must show, so that nothing of the mix is left out by mistake.
const WANTED: &[&str] = &[
    "BookAdd",
    "BookDelete",
    "BookExecute",
    "BookReduce",
    "GroupExpired",
    "GroupPending",
    "GroupSettled",
    "OrderReplaced",
    "OrderTriggered",
    "PaymentCancelled",
    "PaymentWarehoused",
    "Trade",
    "authorisation Expired",
    "authorisation Voided",
    "order cancelled Expired",
    "order cancelled Fok",
    "order cancelled Ioc",
    "order cancelled Linked",
    "order cancelled Mass",
    "order cancelled Requested",
    "payment queued BehindHigherPriority",
    "payment queued Held",
    "payment queued InsufficientLiquidity",
    "payment rejected Exists",
    "payment rejected Expired",
    "payment settled by Batch",
    "payment settled by Entry",
    "payment settled by Greedy",
    "payment settled by Grp",
    "payment settled by Offset",
    "payment settled by Release",
    "rejected ProposeBatch BatchInfeasible",
    "rejected Refund OverRefund",
    "transfer Created",
    "transfer ExceedsCredits",
    "transfer Exists",
    "transfer Expired",
    "transfer LinkedEventChainOpen",
    "transfer LinkedEventFailed",
];
