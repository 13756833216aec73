//! An independent slow model of the ledger against the engine: after every random command every
//! event with every field, every account's sums and what was named must be what the model says, and
//! the audit must pass; now and then the engine goes through a snapshot and on from there.
//!
//! A difference is shrunk to a script that still shows it. `MILLRACE_SEED=7` plays one seed,
//! `MILLRACE_COMMANDS=5000000` plays more of them.

mod generator;
mod model;

use generator::{ACCOUNTS_MAX, Generator, World};
use millrace::engine::{Engine, Outbox};
use millrace::protocol::command::{AccountRef, Command, CommandKind, TransferRef};
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, EventSlot};
use millrace::protocol::json::write_command;
use millrace::protocol::reason::Reason;
use millrace::protocol::script::ScriptParser;
use millrace::protocol::units::{AccountId, TransferId};
use millrace::protocol::wire::Zero;
use model::{Answer, Model};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Commands of one seed.
const COMMANDS: u64 = 3_000;
/// From so many seeds on everything must have been seen.
const SEEDS_FOR_ALL: u64 = 100;
/// Commands between two snapshots.
const SNAPSHOT_EVERY: u64 = 101;
/// How long a failure is made smaller before it is shown.
const SHRINK_MAX: Duration = Duration::from_secs(60);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
}

#[test]
fn the_engine_does_what_the_model_says() {
    let only = setting("MILLRACE_SEED");
    let seeds = match only {
        Some(_) => 1,
        None => setting("MILLRACE_COMMANDS")
            .unwrap_or(300_000)
            .div_ceil(COMMANDS),
    };
    let first = only.unwrap_or(1);
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let seen = Mutex::new(BTreeMap::<String, u64>::new());
    let failure = Mutex::new(None::<u64>);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    match play(seed) {
                        Ok(kinds) => {
                            let mut seen = seen.lock().unwrap();
                            for (kind, times) in kinds {
                                *seen.entry(kind).or_default() += times;
                            }
                        }
                        Err(()) => {
                            failed.store(true, Ordering::Relaxed);
                            failure.lock().unwrap().get_or_insert(seed);
                        }
                    }
                }
            });
        }
    });
    if let Some(seed) = *failure.lock().unwrap() {
        panic!("{}", explain(seed));
    }
    if seeds >= SEEDS_FOR_ALL {
        assert_all_seen(&seen.lock().unwrap());
    }
}

/// Plays a script in the world of a seed; what was answered, and how often.
fn play_script(seed: u64, script: &str) -> BTreeMap<String, u64> {
    let world = World::of(seed);
    let mut player = Player::new(&world);
    let mut parser = ScriptParser::default();
    let lines = script.lines().map(|line| {
        let frame = parser.parse(line).expect("a script line");
        frame.expect("not blank")
    });
    for frame in world.setup().into_iter().chain(lines) {
        if let Err(why) = player.step(&frame) {
            panic!("{why}");
        }
    }
    player.seen
}

/// Three days begin: what was used before the first is older than a window of two days.
const THREE_DAYS: &str = r#"{"cmd":"set_phase","phase":"open"}
{"cmd":"set_phase","phase":"closed"}
{"cmd":"set_phase","phase":"open"}
{"cmd":"set_phase","phase":"closed"}
{"cmd":"set_phase","phase":"open"}
"#;

/// A command looks at no more old rows than it needs and 256: pending ones that are carried on make
/// no room, and the first transfer of the new day does not come as far as those that may go.
#[test]
fn looking_for_room_ends() {
    let mut script = String::new();
    for id in 1..=700 {
        let flags = if id <= 400 {
            r#","flags":["pending"]"#
        } else {
            ""
        };
        script += &format!(
            r#"{{"cmd":"transfer","id":{id},"debit_account":1,"credit_account":7,"amount":1{flags}}}"#
        );
        script.push('\n');
    }
    script += THREE_DAYS;
    for _ in 0..2 {
        script += r#"{"cmd":"transfer","id":701,"debit_account":1,"credit_account":7,"amount":1}"#;
        script.push('\n');
    }
    let seen = play_script(7, &script);
    assert_eq!(seen["transfer capacity_exhausted"], 1, "{seen:?}");
    assert_eq!(seen["transfer created"], 701, "{seen:?}");
}

/// A chain posts a transfer older than the window, uses its id again and fails: the id is no failed
/// one, but that of the pending transfer, and free once that is voided.
#[test]
fn an_old_pending_transfer_keeps_its_id() {
    let mut script = String::from(
        r#"{"cmd":"transfer","id":7,"debit_account":1,"credit_account":7,"amount":50,"flags":["pending"]}"#,
    );
    script.push('\n');
    script += THREE_DAYS;
    script += r#"{"cmd":"transfers","transfers":[{"id":8,"pending_id":7,"flags":["post_pending","linked"]},{"id":7,"debit_account":20,"credit_account":7,"amount":1}]}
{"cmd":"transfer","id":9,"pending_id":7,"flags":["void_pending"]}
{"cmd":"transfer","id":7,"debit_account":1,"credit_account":7,"amount":1}
"#;
    let seen = play_script(7, &script);
    assert_eq!(seen["transfer debit_account_not_found"], 1, "{seen:?}");
    assert_eq!(seen["transfer created"], 3, "{seen:?}");
}

/// Every reason, status and state of docs/ledger.md must have occurred: a quiet world proves
/// nothing.
fn assert_all_seen(seen: &BTreeMap<String, u64>) {
    let wanted: BTreeSet<String> = EXPECTED
        .iter()
        .flat_map(|(kind, words)| {
            words
                .split_whitespace()
                .map(move |word| format!("{kind} {word}"))
        })
        .collect();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|word| !seen.contains_key(*word))
        .collect();
    assert!(
        missing.is_empty(),
        "never seen: {missing:?}; seen: {seen:#?}"
    );
    let unlisted: Vec<_> = seen
        .keys()
        .filter(|word| !wanted.contains(*word) && !RARE.contains(&word.as_str()))
        .collect();
    assert!(unlisted.is_empty(), "seen, but on no list: {unlisted:?}");
    if std::env::var_os("MILLRACE_SHOW").is_some() {
        eprintln!("{seen:#?}");
    }
}

/// On the page's lists, but not seen in every run.
const RARE: &[&str] = &[
    "authorise overflows_debits",
    "authorise overflows_credits",
    "increment overflows_credits",
    "increment overflows_debits_posted",
    "increment overflows_credits_posted",
    "refund overflows_debits",
    "refund overflows_credits",
];

const EXPECTED: &[(&str, &str)] = &[
    (
        "transfer",
        "created exists expired linked_event_chain_open linked_event_failed reserved_flag
        id_must_not_be_zero id_must_not_be_int_max id_already_failed exists_with_different_flags
        exists_with_different_pending_id exists_with_different_timeout
        exists_with_different_debit_account_id exists_with_different_credit_account_id
        exists_with_different_amount exists_with_different_user_data_128
        exists_with_different_user_data_64 exists_with_different_user_data_32
        exists_with_different_ledger exists_with_different_code
        debit_account_id_must_not_be_zero debit_account_id_must_not_be_int_max
        credit_account_id_must_not_be_zero credit_account_id_must_not_be_int_max
        accounts_must_be_different pending_id_must_be_zero timeout_reserved_for_pending_transfer
        closing_transfer_must_be_pending debit_account_not_found credit_account_not_found
        accounts_must_have_the_same_ledger transfer_must_have_the_same_ledger_as_accounts
        phase_forbids debit_account_already_closed credit_account_already_closed
        overflows_debits_pending overflows_credits_pending overflows_debits_posted
        overflows_credits_posted overflows_debits overflows_credits overflows_timeout
        exceeds_credits exceeds_debits capacity_exhausted flags_are_mutually_exclusive
        pending_id_must_not_be_zero pending_id_must_not_be_int_max pending_id_must_be_different
        pending_transfer_not_found pending_transfer_not_pending
        pending_transfer_has_different_debit_account_id
        pending_transfer_has_different_credit_account_id pending_transfer_has_different_ledger
        pending_transfer_has_different_code exceeds_pending_transfer_amount
        pending_transfer_has_different_amount pending_transfer_already_posted
        pending_transfer_already_voided pending_transfer_expired",
    ),
    ("record", "done pending posted voided expired failed"),
    ("authorisation", "open closed voided expired"),
    (
        "authorise",
        "id_must_not_be_zero id_must_not_be_int_max exists exists_with_different_content
        debit_account_id_must_not_be_zero debit_account_id_must_not_be_int_max
        credit_account_id_must_not_be_zero credit_account_id_must_not_be_int_max
        accounts_must_be_different amount_must_not_be_zero time_out_of_range
        debit_account_not_found credit_account_not_found accounts_must_have_the_same_ledger
        phase_forbids debit_account_already_closed credit_account_already_closed
        overflows_debits_posted overflows_credits_posted overflows_debits_pending
        overflows_credits_pending
        exceeds_credits exceeds_debits capacity_exhausted",
    ),
    (
        "increment",
        "id_must_not_be_zero id_must_not_be_int_max exists exists_with_different_content
        authorisation_not_found phase_forbids capacity_exhausted expired authorisation_closed
        amount_must_not_be_zero debit_account_already_closed credit_account_already_closed
        overflows_debits_pending overflows_credits_pending overflows_debits
        exceeds_credits exceeds_debits",
    ),
    (
        "capture",
        "id_must_not_be_zero id_must_not_be_int_max exists exists_with_different_content
        authorisation_not_found phase_forbids capacity_exhausted expired authorisation_closed
        exceeds_authorisation amount_must_not_be_zero debit_account_already_closed
        credit_account_already_closed",
    ),
    (
        "void",
        "id_must_not_be_zero id_must_not_be_int_max exists exists_with_different_content
        authorisation_not_found phase_forbids capacity_exhausted expired authorisation_closed
        exceeds_authorisation amount_must_not_be_zero",
    ),
    (
        "refund",
        "id_must_not_be_zero id_must_not_be_int_max exists exists_with_different_content
        authorisation_not_found phase_forbids capacity_exhausted over_refund
        amount_must_not_be_zero debit_account_already_closed credit_account_already_closed
        exceeds_credits exceeds_debits overflows_debits_posted overflows_credits_posted",
    ),
    ("set_phase", "ok phase_out_of_order"),
    (
        "set_credit_line",
        "ok account_not_found amount_out_of_range",
    ),
    (
        "create_account",
        "ok reserved_flag id_must_not_be_zero id_must_not_be_int_max exists
        exists_with_different_content flags_are_mutually_exclusive participant_not_found
        asset_not_found amount_out_of_range capacity_exhausted",
    ),
    ("create_asset", "ok"),
    ("create_participant", "ok"),
    ("tick", "ok"),
];

/// Plays one seed; counts what it saw.
fn play(seed: u64) -> Result<BTreeMap<String, u64>, ()> {
    let world = World::of(seed);
    let mut player = Player::new(&world);
    let mut generator = Generator::new(seed, &world);
    let result = catch_unwind(AssertUnwindSafe(|| {
        for frame in world.setup() {
            player.step(&frame).map_err(drop)?;
        }
        for _ in 0..COMMANDS {
            let frame = generator.next(&player.model);
            player.step(&frame).map_err(drop)?;
        }
        Ok(())
    }));
    result.map_err(drop)??;
    Ok(player.seen)
}

/// The commands of a seed up to and with the first on which model and engine differ.
fn failing_commands(seed: u64, world: &World) -> Vec<CommandFrame> {
    let mut player = Player::new(world);
    let mut generator = Generator::new(seed, world);
    let mut commands = world.setup();
    let mut fed = 0;
    loop {
        if fed == commands.len() {
            commands.push(generator.next(&player.model));
        }
        let frame = &commands[fed];
        let step = catch_unwind(AssertUnwindSafe(|| player.step(frame)));
        fed += 1;
        if !matches!(step, Ok(Ok(()))) {
            commands.truncate(fed);
            return commands;
        }
    }
}

/// The first difference that these commands show.
fn difference(world: &World, commands: &[CommandFrame]) -> Option<String> {
    let mut player = Player::new(world);
    for frame in commands {
        match catch_unwind(AssertUnwindSafe(|| player.step(frame))) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Some(why),
            Err(panic) => {
                let why = panic.downcast_ref::<String>().cloned();
                let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).into()));
                return Some(format!("panic: {}", why.unwrap_or_default()));
            }
        }
    }
    None
}

/// Leaves out what can be left out, in ever smaller pieces.
fn shrink(world: &World, mut commands: Vec<CommandFrame>) -> Vec<CommandFrame> {
    let started = Instant::now();
    let mut piece = commands.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < commands.len() && started.elapsed() < SHRINK_MAX {
            let mut fewer = commands.clone();
            fewer.drain(at..commands.len().min(at + piece));
            if difference(world, &fewer).is_some() {
                commands = fewer;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    commands
}

fn explain(seed: u64) -> String {
    let world = World::of(seed);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let commands = shrink(&world, failing_commands(seed, &world));
    let why = difference(&world, &commands);
    std::panic::set_hook(hook);
    let mut script = String::new();
    for frame in &commands {
        script += &line(frame);
        script.push('\n');
    }
    format!(
        "seed {seed}, {:?}\n{script}{}\nrepeat with: MILLRACE_SEED={seed} cargo test --test it ledger_model",
        world.limits,
        why.unwrap_or_default(),
    )
}

fn line(frame: &CommandFrame) -> String {
    let mut line = String::new();
    write_command(&mut line, None, frame.as_ref());
    line
}

/// Engine and model side by side.
struct Player {
    world: World,
    engine: Engine,
    model: Model,
    outbox: Outbox,
    accounts: Vec<CommandFrame>,
    seen: BTreeMap<String, u64>,
}

impl Player {
    fn new(world: &World) -> Player {
        let query = |account| {
            let body = AccountRef {
                account: AccountId(account),
                _reserved: [Zero::Zero; 8],
            };
            CommandFrame::new(CommandKind::QueryAccount, &body)
        };
        Player {
            world: world.clone(),
            engine: Engine::new(&world.limits),
            model: Model::new(&world.limits),
            outbox: Outbox::with_capacity(64),
            accounts: (0..=ACCOUNTS_MAX).map(query).collect(),
            seen: BTreeMap::new(),
        }
    }

    /// One command through both; the error says where they differ.
    fn step(&mut self, frame: &CommandFrame) -> Result<(), String> {
        let command = frame.as_ref();
        let decoded = command.decode().expect("made from bodies");
        let sequence = self.engine.sequence() + 1;
        self.outbox.clear();
        let is_late = command.header.received_at <= self.model.now;
        let before = (is_late && sequence.is_multiple_of(5)).then(|| self.engine.digest());
        self.engine.apply(sequence, command, &mut self.outbox);
        let expected = self.model.apply(command.header.received_at, decoded);
        self.compare_events(sequence, &expected)
            .map_err(|why| format!("{}\n{why}", line(frame)))?;
        if expected.iter().all(changes_nothing)
            && !self.model.made_room
            && before.is_some_and(|before| before != self.engine.digest())
        {
            return Err(format!("{}\nrefused, yet the digest changed", line(frame)));
        }
        self.count(&expected);
        self.engine
            .audit()
            .map_err(|why| format!("{}\naudit: {why}", line(frame)))?;
        self.compare_accounts()
            .and_then(|()| self.compare_named(decoded))
            .map_err(|why| format!("after {}\n{why}", line(frame)))?;
        if sequence.is_multiple_of(SNAPSHOT_EVERY) {
            self.through_a_snapshot();
        }
        Ok(())
    }

    fn compare_events(&self, sequence: u64, expected: &[Answer]) -> Result<(), String> {
        let events = self.outbox.events();
        for (at, event) in events.iter().enumerate() {
            let header = &event.header;
            let is_last = at + 1 == events.len();
            if header.sequence != sequence
                || header.index != at as u32
                || header.at != self.model.now
                || event.is_last() != is_last
            {
                return Err(format!("event {at} is stamped {header:?}"));
            }
        }
        let got: Vec<Answer> = events.iter().map(answer_of).collect();
        let length = got.len().max(expected.len());
        for at in 0..length {
            if got.get(at) != expected.get(at) {
                return Err(format!(
                    "event {at}: the engine says {:?}, the model {:?}",
                    got.get(at),
                    expected.get(at)
                ));
            }
        }
        Ok(())
    }

    fn count(&mut self, answers: &[Answer]) {
        for answer in answers {
            let word = match answer {
                Answer::Ok(kind) => format!("{kind} ok"),
                Answer::Rejected(kind, reason, _) => format!("{kind} {reason}"),
                Answer::Transfer { status, .. } => format!("transfer {status}"),
                Answer::Authorisation { state, .. } => format!("authorisation {state}"),
            };
            *self.seen.entry(word).or_default() += 1;
        }
    }

    fn ask(&mut self, query: &CommandFrame) -> EventSlot {
        self.outbox.clear();
        self.engine.query(query.as_ref(), &mut self.outbox);
        assert_eq!(self.outbox.events().len(), 1);
        self.outbox.events()[0]
    }

    fn compare_accounts(&mut self) -> Result<(), String> {
        for id in 0..self.accounts.len() {
            let query = self.accounts[id].clone();
            let slot = self.ask(&query);
            let expected = self.model.account_event(id as u64);
            let got = match slot.event() {
                Some(Event::Account(account)) => Some(*account),
                _ => None,
            };
            if got != expected {
                return Err(format!(
                    "the engine has {got:?}\nthe model      {expected:?}"
                ));
            }
        }
        Ok(())
    }

    /// The transfers and authorisations that the command named.
    fn compare_named(&mut self, command: Command<'_>) -> Result<(), String> {
        let mut ids = BTreeSet::new();
        match command {
            Command::Transfer(asked) => ids.extend([asked.id.0, asked.pending_id.0]),
            Command::Transfers(_, asked) => {
                let some = asked.iter().take(8);
                ids.extend(some.flat_map(|asked| [asked.id.0, asked.pending_id.0]));
            }
            Command::Authorise(asked) => drop(ids.insert(asked.id.0)),
            Command::Increment(asked)
            | Command::Capture(asked)
            | Command::Void(asked)
            | Command::Refund(asked) => ids.extend([asked.id.0, asked.authorisation.0]),
            _ => {}
        }
        for id in ids {
            let body = TransferRef { id: TransferId(id) };
            let slot = self.ask(&CommandFrame::new(CommandKind::QueryTransfer, &body));
            let expected = self.model.transfer_event(id);
            let got = match slot.event() {
                Some(Event::TransferRecord(record)) => Some(*record),
                _ => None,
            };
            if got != expected {
                return Err(format!(
                    "the engine has {got:?}\nthe model      {expected:?}"
                ));
            }
            if let Some(record) = expected {
                *self
                    .seen
                    .entry(format!("record {}", record.state))
                    .or_default() += 1;
            }
            let slot = self.ask(&CommandFrame::new(CommandKind::QueryAuthorisation, &body));
            let expected = self.model.authorisation_event(id);
            let got = match slot.event() {
                Some(Event::Authorisation(_)) => Some(answer_of(&slot)),
                _ => None,
            };
            if got != expected {
                return Err(format!(
                    "the engine has {got:?}\nthe model      {expected:?}"
                ));
            }
        }
        Ok(())
    }

    fn through_a_snapshot(&mut self) {
        let mut bytes = Vec::new();
        self.engine.write_snapshot(&mut bytes).expect("memory");
        let limits = &self.world.limits;
        let again = Engine::read_snapshot(limits, &mut bytes.as_slice()).expect("sound");
        assert_eq!(
            again.digest(),
            self.engine.digest(),
            "digest after a snapshot"
        );
        assert_eq!(again.audit(), Ok(()), "audit after a snapshot");
        self.engine = again;
    }
}

/// Whether it says that nothing happened: not even a failed id is kept.
fn changes_nothing(answer: &Answer) -> bool {
    match answer {
        Answer::Rejected(..) => true,
        Answer::Transfer { status, .. } => {
            !matches!(status, Reason::Created | Reason::Expired) && !status.is_transient()
        }
        Answer::Ok(_) | Answer::Authorisation { .. } => false,
    }
}

fn answer_of(slot: &EventSlot) -> Answer {
    match slot.event().expect("every event decodes") {
        Event::Ok(ok) => Answer::Ok(ok.cmd),
        Event::Rejected(body) => Answer::Rejected(body.cmd, body.reason, body.id),
        Event::Transfer(body) => Answer::Transfer {
            id: body.id.0,
            status: body.status,
            amount: body.amount.0,
        },
        Event::Authorisation(body) => Answer::Authorisation {
            id: body.id.0,
            state: body.state,
            held: body.held.0,
            captured: body.captured.0,
            refunded: body.refunded.0,
        },
        other => panic!("the model knows no {other:?}"),
    }
}
