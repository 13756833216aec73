//! Random commands that mix the operator's controls with what they hold back: four eyes, throttles, a
//! day that moves by hand and by the clock, credit for the day, exclusions, among payments, transfers,
//! authorisations, groups and orders of which some do not ask the day.
//!
//! After every command the audit runs, and a refusal has changed nothing. One engine goes through
//! snapshots on the way, one replays everything at the end: all answer alike. `MILLRACE_SEED` repeats a
//! seed, `MILLRACE_COMMANDS` sets the length.

use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::command::{CommandKind, CommandWord, Propose};
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, EventSlot};
use millrace::protocol::json::write_command;
use millrace::protocol::reason::Reason;
use millrace::protocol::script::ScriptParser;
use millrace::protocol::units::Timestamp;
use millrace::protocol::wire::Zero;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeSet;

const PARTICIPANTS: u64 = 4;
const ACCOUNTS: u64 = 12;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn controls_hold_among_random_commands() {
    let runs = match setting("MILLRACE_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=8,
    };
    let is_whole = runs.clone().count() > 1;
    let mut seen = BTreeSet::new();
    for seed in runs {
        let commands = setting("MILLRACE_COMMANDS").unwrap_or(2_500);
        match std::panic::catch_unwind(|| play(seed, commands)) {
            Ok(kinds) => seen.extend(kinds),
            Err(panic) => {
                eprintln!("repeat with: MILLRACE_SEED={seed} cargo test --test it controls");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // A quiet world proves nothing: all of this must have happened.
    for kind in [
        "proposal open",
        "proposal approved",
        "proposal rejected",
        "proposal expired",
        "proposal refused",
        "rejected approve same_user",
        "rejected approve user_required",
        "rejected approve proposal_not_found",
        "rejected approve proposal_already_decided",
        "rejected approve proposal_expired",
        "rejected propose capacity_exhausted",
        "rejected set_credit_line approval_required",
        "rejected set_four_eyes approval_required",
        "transfer throttled",
        "transfer created",
        "payment_rejected throttled",
        "order_rejected throttled",
        "rejected authorise throttled",
        "rejected submit_group throttled",
        "rejected schedule_phase phase_out_of_order",
        "rejected schedule_phase time_out_of_range",
        "rejected extend_phase phase_not_scheduled",
        "scheduled_phase",
        "phase_changed",
        "intraday_credit_outstanding",
        "overnight_credit",
        "payment_rejected end_of_day",
        "payment_rejected phase_forbids",
        "payment_rejected participant_blocked",
        "payment_settled",
        "payment_queued phase_forbids",
        "group_settled",
        "trade",
        "order_cancelled blocked",
    ] {
        assert!(
            !is_whole || seen.contains(kind),
            "never saw {kind}: {seen:?}"
        );
    }
}

/// The answer to one command of a fresh engine.
fn answer(engine: &mut Engine, frame: &CommandFrame) -> String {
    let mut events = Outbox::with_capacity(16);
    engine.apply(engine.sequence() + 1, frame.as_ref(), &mut events);
    assert_eq!(engine.audit(), Ok(()));
    kind_of(&events.events()[0])
}

#[test]
fn what_no_script_can_propose_is_refused() {
    let mut engine = Engine::new(&Limits::small());
    let mut propose = |kind, bytes: &[u8]| {
        let words: Vec<CommandWord> = bytes
            .chunks_exact(16)
            .map(|word| CommandWord {
                word: u128::from_le_bytes(word.try_into().expect("16 bytes")),
            })
            .collect();
        let head = Propose {
            expires_at: Timestamp(0),
            count: words.len() as u32,
            kind,
            _reserved: [Zero::Zero; 2],
        };
        let mut frame = CommandFrame::with_items(CommandKind::Propose, &head, &words);
        frame.header_mut().user = 1;
        answer(&mut engine, &frame)
    };
    let refused = "rejected propose";
    // Not an operator's to give, though it decodes; nor a proposal of a proposal.
    let tick = propose(CommandKind::Tick, &[0; 16]);
    assert_eq!(tick, format!("{refused} not_administrative"));
    let nested = propose(CommandKind::Propose, &[0; 16]);
    assert_eq!(nested, format!("{refused} not_administrative"));
    // Too short, too long, and a phase that there is none of.
    for (kind, bytes) in [
        (CommandKind::SetCreditLine, [0; 16].to_vec()),
        (CommandKind::SetPhase, [0; 32].to_vec()),
        (CommandKind::SetPhase, [99; 16].to_vec()),
        (CommandKind::SetPhase, Vec::new()),
    ] {
        assert_eq!(
            propose(kind, &bytes),
            format!("{refused} malformed_command")
        );
    }
    assert_eq!(propose(CommandKind::SetPhase, &[0; 16]), "proposal open");
}

#[test]
fn a_full_table_of_throttles_takes_no_more() {
    let mut engine = Engine::new(&Limits::small());
    let mut set = |line: String| {
        let frame = ScriptParser::default().parse(&line);
        answer(&mut engine, &frame.expect("parses").expect("not blank"))
    };
    let limit = u64::from(Limits::small().throttles);
    for id in 1..=limit + 1 {
        let line = format!(r#"{{"cmd":"create_asset","asset":{id},"code":"A{id}","scale":0}}"#);
        assert!(id > 16 || set(line) == "ok");
    }
    let throttle =
        |asset, count| format!(r#"{{"cmd":"set_throttle","asset":{asset},"count":{count}}}"#);
    for asset in 0..limit {
        assert_eq!(set(throttle(asset, 1)), "ok");
    }
    let full = "rejected set_throttle capacity_exhausted";
    assert_eq!(set(throttle(limit, 1)), full);
    // One that is there may change, and one that goes makes room.
    assert_eq!(set(throttle(3, 2)), "ok");
    assert_eq!(set(r#"{"cmd":"set_throttle","asset":3}"#.into()), "ok");
    assert_eq!(set(throttle(limit, 1)), "ok");
    assert_eq!(set(throttle(3, 1)), full);
}

/// An event's kind with the words that tell it from others of its kind.
fn kind_of(event: &EventSlot) -> String {
    let name = event.kind().expect("known").name();
    match event.event().expect("decodes") {
        Event::Rejected(refused) => format!("{name} {} {}", refused.cmd, refused.reason),
        Event::Transfer(done) => format!("{name} {}", done.status),
        Event::PaymentQueued(moved) | Event::PaymentRejected(moved) => {
            format!("{name} {}", moved.reason)
        }
        Event::OrderRejected(refused) => format!("{name} {}", refused.reason),
        Event::OrderCancelled(cancelled) => format!("{name} {}", cancelled.reason),
        Event::Proposal(proposal) => format!("{name} {}", proposal.state),
        _ => name.into(),
    }
}

fn play(seed: u64, commands: u64) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut source = Source::new(seed);
    let mut live = Engine::new(&Limits::small());
    let mut other = Engine::new(&Limits::small());
    let (mut events, mut again) = (Outbox::with_capacity(64), Outbox::with_capacity(64));
    let mut journal = source.setup();
    for number in 0..commands {
        journal.push(source.next());
        let is_setup = number == 0;
        let from = if is_setup { 0 } else { journal.len() - 1 };
        for frame in &journal[from..] {
            let (before, sequence) = (live.digest(), live.sequence() + 1);
            let at = frame.header().received_at;
            let is_quiet = live
                .next_deadline()
                .is_none_or(|due| due.0 > at.max(live.now().0));
            live.apply(sequence, frame.as_ref(), &mut events);
            other.apply(sequence, frame.as_ref(), &mut again);
            if let Err(broken) = live.audit() {
                panic!("command {number} {}: {broken}", line(frame));
            }
            if is_quiet && events.events().iter().all(is_refusal) {
                assert_eq!(
                    live.digest(),
                    before,
                    "refused but changed: {}",
                    line(frame)
                );
            }
            assert_eq!(bytes(&events), bytes(&again), "{}", line(frame));
            seen.extend(events.events().iter().map(kind_of));
            events.clear();
            again.clear();
        }
        if number % 61 == 0 {
            other = through_a_snapshot(&other);
        }
    }
    assert_eq!(live.digest(), other.digest());
    let mut replayed = Engine::new(&Limits::small());
    for frame in &journal {
        replayed.apply(replayed.sequence() + 1, frame.as_ref(), &mut events);
        events.clear();
    }
    assert_eq!(live.digest(), replayed.digest());
    seen
}

/// Whether it says that nothing was done; a transfer refused for a passing reason keeps its id failed.
fn is_refusal(event: &EventSlot) -> bool {
    match event.event() {
        Some(Event::Rejected(_) | Event::OrderRejected(_)) => true,
        Some(Event::PaymentRejected(moved)) => moved.reason != Reason::EndOfDay,
        Some(Event::Transfer(done)) => {
            done.status != Reason::Created && !done.status.is_transient()
        }
        _ => false,
    }
}

fn bytes(outbox: &Outbox) -> Vec<u8> {
    let frames = outbox.events().iter().map(EventSlot::frame);
    frames.flatten().copied().collect()
}

fn through_a_snapshot(engine: &Engine) -> Engine {
    let mut bytes = Vec::new();
    engine.write_snapshot(&mut bytes).expect("memory");
    let again = Engine::read_snapshot(&Limits::small(), &mut bytes.as_slice()).expect("sound");
    assert_eq!(again.digest(), engine.digest());
    assert_eq!(again.audit(), Ok(()));
    again
}

fn line(frame: &CommandFrame) -> String {
    let mut line = String::new();
    write_command(&mut line, None, frame.as_ref());
    line
}

/// Where the commands come from: lines, so that a failing one can be read.
struct Source {
    rng: Pcg64Mcg,
    parser: ScriptParser,
    next_id: u64,
    proposals: u64,
    /// Milliseconds.
    clock: u64,
}

impl Source {
    fn new(seed: u64) -> Source {
        Source {
            rng: Pcg64Mcg::seed_from_u64(seed),
            parser: ScriptParser::default(),
            next_id: 0,
            proposals: 0,
            clock: 1_000,
        }
    }

    fn frame(&mut self, line: &str) -> CommandFrame {
        let parsed = self.parser.parse(line);
        let frame = parsed.unwrap_or_else(|why| panic!("{line}: {why}"));
        let frame = frame.expect("not blank");
        // What is printed runs again.
        let mut printed = String::new();
        write_command(&mut printed, None, frame.as_ref());
        let again = ScriptParser::default().parse(&printed);
        assert_eq!(again.as_ref(), Ok(&Some(frame.clone())), "{printed}");
        frame
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }

    fn setup(&mut self) -> Vec<CommandFrame> {
        let mut lines = vec![
            r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#.to_string(),
            r#"{"cmd":"create_asset","asset":2,"code":"BOND","scale":0}"#.to_string(),
        ];
        for id in 1..=PARTICIPANTS {
            lines.push(format!(
                r#"{{"cmd":"create_participant","participant":{id},"code":"P{id}"}}"#
            ));
        }
        // Odd accounts hold cash, even ones bonds; 1 and 2 issue; every third is for instant
        // payments, and so is the issuer of cash.
        for id in 1..=ACCOUNTS {
            let flags = match id {
                1 => r#""instant""#,
                2 => "",
                _ if id % 3 == 0 => r#""settlement","instant""#,
                _ => r#""settlement""#,
            };
            let (owner, asset) = (1 + id.div_ceil(2) % PARTICIPANTS, 2 - id % 2);
            let line = if id == 5 { 40 } else { 0 };
            lines.push(format!(
                r#"{{"cmd":"create_account","account":{id},"participant":{owner},"asset":{asset},"credit_line":{line},"flags":[{flags}]}}"#
            ));
        }
        lines.push(r#"{"cmd":"create_instrument","instrument":1,"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1}"#.into());
        lines.push(
            r#"{"cmd":"set_collateral_value","asset":2,"price":3,"haircut_bps":1000}"#.into(),
        );
        lines.iter().map(|line| self.frame(line)).collect()
    }

    fn next(&mut self) -> CommandFrame {
        self.clock += self.below(4) * self.below(60);
        let line = match self.below(100) {
            0..34 => self.customers(),
            34..42 => self.order(),
            42..60 => self.operators(),
            60..72 => {
                let (user, command) = (1 + self.below(3), self.operators());
                let expires = match self.below(3) {
                    0 => format!(
                        r#","expires_at":{}"#,
                        (self.clock + self.below(2_000)) * 1_000_000
                    ),
                    _ => String::new(),
                };
                self.proposals += 1;
                format!(r#"{{"cmd":"propose","user":{user}{expires},"command":{command}}}"#)
            }
            72..86 => {
                let decision = self.pick(&["approve", "approve", "approve", "reject"]);
                let back = self.below(12);
                let (user, proposal) = (self.below(4), (self.proposals + 2).saturating_sub(back));
                format!(r#"{{"cmd":"{decision}","user":{user},"proposal":{proposal}}}"#)
            }
            _ => self.day(),
        };
        let line = format!(
            "{},\"at\":{}}}",
            &line[..line.len() - 1],
            self.clock * 1_000_000
        );
        self.frame(&line)
    }

    fn id(&mut self) -> u64 {
        if self.below(12) > 0 {
            self.next_id += 1;
        }
        self.next_id.max(1)
    }

    fn customers(&mut self) -> String {
        let (id, amount) = (self.id(), 1 + self.below(60));
        let debit = match self.below(3) {
            0 => 1,
            _ => 1 + 2 * self.below(ACCOUNTS / 2),
        };
        let credit = 1 + 2 * self.below(ACCOUNTS / 2);
        match self.below(12) {
            0..3 => format!(
                r#"{{"cmd":"transfer","id":{id},"debit_account":{debit},"credit_account":{credit},"amount":{amount}}}"#
            ),
            3 => {
                self.next_id += 3;
                let transfers: Vec<String> = (0..3)
                    .map(|at| {
                        let flags = match self.below(3) {
                            0 if at < 2 => r#","flags":["linked"]"#,
                            1 => r#","flags":["pending"],"timeout_s":1"#,
                            _ => "",
                        };
                        let credit = 1 + 2 * self.below(ACCOUNTS / 2);
                        format!(
                            r#"{{"id":{},"debit_account":{debit},"credit_account":{credit},"amount":{amount}{flags}}}"#,
                            id + at
                        )
                    })
                    .collect();
                format!(
                    r#"{{"cmd":"transfers","transfers":[{}]}}"#,
                    transfers.join(",")
                )
            }
            4 => format!(
                r#"{{"cmd":"authorise","id":{id},"debit_account":{debit},"credit_account":{credit},"amount":{amount}}}"#
            ),
            5 => {
                let step = self.pick(&["capture", "capture", "increment", "void", "refund"]);
                let authorisation = self.next_id.saturating_sub(self.below(40));
                format!(
                    r#"{{"cmd":"{step}","id":{id},"authorisation":{authorisation},"amount":{}}}"#,
                    amount / 2
                )
            }
            6 => {
                let back = 1 + 2 * self.below(ACCOUNTS / 2);
                format!(
                    r#"{{"cmd":"submit_group","id":{id},"legs":[{{"debit_account":{debit},"credit_account":{credit},"amount":{amount}}},{{"debit_account":{credit},"credit_account":{back},"amount":{amount}}}]}}"#
                )
            }
            7 => {
                let earliest = (self.clock + self.below(800)) * 1_000_000;
                format!(
                    r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{debit},"creditor_account":{credit},"amount":{amount},"earliest_at":{earliest}}}"#
                )
            }
            8 => format!(
                r#"{{"cmd":"cancel_payment","id":{}}}"#,
                self.next_id.saturating_sub(self.below(20))
            ),
            _ => {
                let priority = self.pick(&["urgent", "high", "normal", "normal"]);
                format!(
                    r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{debit},"creditor_account":{credit},"amount":{amount},"priority":"{priority}"}}"#
                )
            }
        }
    }

    fn order(&mut self) -> String {
        let (participant, id) = (1 + self.below(PARTICIPANTS), self.id());
        if self.below(4) == 0 {
            let old = self.next_id.saturating_sub(self.below(60));
            let quantity = 1 + self.below(20);
            return format!(
                r#"{{"cmd":"replace_order","participant":{participant},"client_order_id":{old},"quantity":{quantity}}}"#
            );
        }
        let (side, price) = (self.pick(&["buy", "sell"]), 1 + self.below(5));
        let kind = self.pick(&["limit", "limit", "market"]);
        let price = if kind == "limit" { price } else { 0 };
        format!(
            r#"{{"cmd":"place_order","participant":{participant},"instrument":1,"client_order_id":{id},"side":"{side}","type":"{kind}","price":{price},"quantity":{}}}"#,
            1 + self.below(12)
        )
    }

    /// Administrative commands, without `at`: they can be proposed as they are.
    fn operators(&mut self) -> String {
        let account = 1 + self.below(ACCOUNTS + 1);
        let (participant, amount) = (1 + self.below(PARTICIPANTS), self.below(120));
        match self.below(17) {
            0..3 => {
                let permanent = self.pick(&["false", "false", "false", "true"]);
                format!(
                    r#"{{"cmd":"set_credit_line","account":{account},"amount":{amount},"permanent":{permanent}}}"#
                )
            }
            3 => {
                let lender = self.pick(&["0", "1", "1", "2"]);
                format!(
                    r#"{{"cmd":"set_overnight_credit","account":{account},"lender_account":{lender}}}"#
                )
            }
            4 | 5 => {
                let state = self.pick(&["active", "active", "excluded", "debit_blocked"]);
                format!(
                    r#"{{"cmd":"set_participant_state","participant":{participant},"state":"{state}"}}"#
                )
            }
            6 => {
                let automatic = self.pick(&["true", "false"]);
                let cash = 3 + 2 * self.below(5);
                format!(
                    r#"{{"cmd":"set_collateral_pool","account":{cash},"securities_account":{},"cap":{amount},"automatic":{automatic}}}"#,
                    cash + 1
                )
            }
            7 => {
                let (pledge, cash) = (
                    self.pick(&[
                        "pledge_collateral",
                        "pledge_collateral",
                        "release_collateral",
                    ]),
                    3 + 2 * self.below(5),
                );
                format!(
                    r#"{{"cmd":"{pledge}","account":{cash},"quantity":{}}}"#,
                    amount / 8
                )
            }
            8 => format!(
                r#"{{"cmd":"set_collateral_value","asset":2,"price":{},"haircut_bps":1000}}"#,
                self.below(4)
            ),
            9 => {
                let class = self.pick(&["urgent", "high"]);
                format!(
                    r#"{{"cmd":"set_reservation","account":{account},"class":"{class}","amount":{}}}"#,
                    amount / 4
                )
            }
            10..13 => self.throttle(),
            13 => {
                let governed = self.pick(&["set_credit_line", "set_throttle", "set_four_eyes"]);
                let required = self.pick(&["true", "false", "false"]);
                format!(r#"{{"cmd":"set_four_eyes","kind":"{governed}","required":{required}}}"#)
            }
            14 => r#"{"cmd":"run_liquidity_saving","algorithm":"multiple"}"#.into(),
            15 => {
                let phase = self.pick(&["sod", "open", "cut1", "eod1", "closed"]);
                format!(r#"{{"cmd":"set_phase","phase":"{phase}"}}"#)
            }
            _ => self.schedule(),
        }
    }

    fn throttle(&mut self) -> String {
        let mut line = String::from(r#"{"cmd":"set_throttle""#);
        if self.below(2) == 0 {
            line += &format!(r#","participant":{}"#, self.below(PARTICIPANTS + 2));
        }
        if self.below(3) == 0 {
            line += &format!(r#","asset":{}"#, self.below(3));
        }
        if self.below(2) == 0 {
            let kind = self.pick(&[
                "transfer",
                "submit_payment",
                "submit_group",
                "authorise",
                "place_order",
                "replace_order",
                "capture",
            ]);
            line += &format!(r#","kind":"{kind}""#);
        }
        if self.below(3) > 0 {
            line += &format!(r#","count":{}"#, 1 + self.below(8));
        }
        if self.below(3) == 0 {
            line += &format!(r#","amount":{}"#, 20 + self.below(300));
        }
        if self.below(4) > 0 {
            line += &format!(r#","window_ms":{}"#, 1 + self.below(900));
        }
        line + "}"
    }

    fn schedule(&mut self) -> String {
        let phases = [
            "closed",
            "sod",
            "liquidity",
            "open",
            "cut1",
            "cut2",
            "eod1",
            "eod2",
            "recon",
        ];
        let phase = self.pick(&phases);
        match self.below(6) {
            0 => {
                let by_s = self.below(5) as i64 - 1;
                format!(r#"{{"cmd":"extend_phase","by_s":{by_s}}}"#)
            }
            1 => format!(r#"{{"cmd":"extend_phase","phase":"{phase}","by_s":1}}"#),
            2 => format!(r#"{{"cmd":"schedule_phase","phase":"{phase}"}}"#),
            _ => {
                let at = (self.clock + self.below(4_000)).saturating_sub(200) * 1_000_000;
                format!(r#"{{"cmd":"schedule_phase","phase":"{phase}","begins_at":{at}}}"#)
            }
        }
    }

    /// The day goes on, and comes to be open again.
    fn day(&mut self) -> String {
        match self.below(8) {
            0 => format!(
                r#"{{"cmd":"set_phase","phase":"{}"}}"#,
                self.pick(&["eod1", "closed", "cut1", "liquidity", "sod"])
            ),
            1 | 2 => r#"{"cmd":"set_phase","phase":"open"}"#.into(),
            3 => r#"{"cmd":"set_phase","phase":"closed"}"#.into(),
            4 | 5 => self.schedule(),
            _ => format!(r#"{{"cmd":"{}"}}"#, CommandKind::Tick),
        }
    }
}
