//! Random commands, valid and not, over a small world in which everything happens often. After
//! every command the audit runs; two engines fed alike answer alike; a state that went through a
//! snapshot in the middle goes on as if it had not; a refusal changes nothing.
//!
//! The seed is printed on failure; `MILLRACE_SEED` repeats it, `MILLRACE_COMMANDS` sets the length.

use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, EventSlot};
use millrace::protocol::json::write_command;
use millrace::protocol::reason::Reason;
use millrace::protocol::script::ScriptParser;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeSet;

const ACCOUNTS: u64 = 10;
const PARTICIPANTS: u64 = 4;

fn setting(name: &str, or: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(or)
}

#[test]
fn invariants_hold_after_every_random_command() {
    let first = setting("MILLRACE_SEED", 1);
    let runs = if std::env::var_os("MILLRACE_SEED").is_some() {
        1
    } else {
        12
    };
    let mut seen = BTreeSet::new();
    for seed in first..first + runs {
        let result = std::panic::catch_unwind(|| play(seed, setting("MILLRACE_COMMANDS", 3_000)));
        match result {
            Ok(kinds) => seen.extend(kinds),
            Err(panic) => {
                eprintln!("repeat with: MILLRACE_SEED={seed} cargo test --test it random");
                std::panic::resume_unwind(panic);
            }
        }
    }
    if runs > 1 {
        // A quiet world proves nothing: all of this must have happened.
        for kind in [
            "transfer created",
            "transfer exists",
            "transfer exceeds_credits",
            "transfer phase_forbids",
            "payment_settled entry",
            "payment_settled release",
            "payment_queued insufficient_liquidity",
            "payment_queued behind_higher_priority",
            "payment_cancelled requested",
            "payment_rejected end_of_day",
            "payment_settled grp",
            "payment_settled greedy",
            "payment_queued held",
            "payment_queued limit_bilateral",
            "payment_queued reserved",
            "payment_warehoused",
            "group_settled",
            "group_pending",
            "trade",
            "order_rejected exceeds_credits",
            "order_replaced",
            "order_cancelled requested",
            "order_cancelled ioc",
            "order_cancelled fok",
            "order_cancelled band",
            "order_cancelled self_trade",
            "order_cancelled mass",
            "order_cancelled expired",
        ] {
            assert!(seen.contains(kind), "never saw {kind}: {seen:?}");
        }
    }
}

/// An event's kind with the word that tells it from others of its kind.
fn kind_of(event: &EventSlot) -> String {
    let name = event.kind().expect("known").name();
    match event.event().expect("decodes") {
        Event::Transfer(done) => format!("{name} {}", done.status),
        Event::PaymentSettled(moved) => format!("{name} {}", moved.by),
        Event::PaymentQueued(moved)
        | Event::PaymentCancelled(moved)
        | Event::PaymentRejected(moved) => format!("{name} {}", moved.reason),
        Event::OrderRejected(rejected) => format!("{name} {}", rejected.reason),
        Event::OrderCancelled(cancelled) => format!("{name} {}", cancelled.reason),
        _ => name.into(),
    }
}

/// Plays one seed; returns the kinds of events it saw.
fn play(seed: u64, commands: u64) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut source = Source::new(seed);
    let mut engine = Engine::new(&Limits::small());
    let mut other = Engine::new(&Limits::small());
    let (mut events, mut again) = (Outbox::with_capacity(64), Outbox::with_capacity(64));
    for frame in source.setup() {
        engine.apply(engine.sequence() + 1, frame.as_ref(), &mut events);
        other.apply(other.sequence() + 1, frame.as_ref(), &mut again);
        events.clear();
        again.clear();
    }
    for number in 0..commands {
        let frame = source.next();
        let before = engine.digest();
        // What waits for time, or for release to get to it, goes on with any command.
        let is_quiet = engine.next_deadline().is_none_or(|at| at.0 > source.clock);
        let sequence = engine.sequence() + 1;
        engine.apply(sequence, frame.as_ref(), &mut events);
        if let Err(broken) = engine.audit() {
            panic!("command {number} {}: {broken}", line(&frame));
        }
        seen.extend(events.events().iter().map(kind_of));
        let refused = events.events().iter().all(|event| match event.event() {
            Some(Event::Rejected(_) | Event::OrderRejected(_)) => true,
            // A refusal for a passing reason keeps the id failed.
            Some(Event::Transfer(done)) => {
                done.status != Reason::Created && !done.status.is_transient()
            }
            _ => false,
        });
        if refused && is_quiet {
            assert_eq!(
                engine.digest(),
                before,
                "refused but changed: {}",
                line(&frame)
            );
        }
        other.apply(sequence, frame.as_ref(), &mut again);
        let bytes = |outbox: &Outbox| -> Vec<u8> {
            outbox
                .events()
                .iter()
                .flat_map(|event| event.frame().to_vec())
                .collect()
        };
        assert_eq!(
            bytes(&events),
            bytes(&again),
            "command {number} {}",
            line(&frame)
        );
        events.clear();
        again.clear();
        if number % 97 == 0 {
            other = through_a_snapshot(&other);
        }
    }
    assert_eq!(engine.digest(), other.digest());
    seen
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
    /// Nanoseconds; times of payments lie around it.
    clock: u64,
    last: String,
}

impl Source {
    fn new(seed: u64) -> Source {
        Source {
            rng: Pcg64Mcg::seed_from_u64(seed),
            parser: ScriptParser::default(),
            next_id: 0,
            clock: 0,
            last: String::new(),
        }
    }

    fn frame(&mut self, line: &str) -> CommandFrame {
        let parsed = self.parser.parse(line);
        parsed
            .unwrap_or_else(|why| panic!("{line}: {why}"))
            .expect("not blank")
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
            r#"{"cmd":"create_asset","asset":2,"code":"SHARE","scale":0}"#.to_string(),
        ];
        for id in 1..=PARTICIPANTS {
            lines.push(format!(
                r#"{{"cmd":"create_participant","participant":{id},"code":"P{id}"}}"#
            ));
        }
        // Odd accounts hold cash, even ones shares; 1 and 2 issue.
        for id in 1..=ACCOUNTS {
            let flags = match id {
                1 | 2 => "",
                9 => r#","flags":["credits_must_not_exceed_debits"]"#,
                _ => r#","flags":["settlement"]"#,
            };
            let (owner, asset) = (1 + id.div_ceil(2) % PARTICIPANTS, 2 - id % 2);
            lines.push(format!(
                r#"{{"cmd":"create_account","account":{id},"participant":{owner},"asset":{asset}{flags}}}"#
            ));
        }
        for (instrument, maker, taker, self_trade) in [(1, -3, 30, "allow"), (2, 7, 0, "decrement")]
        {
            lines.push(format!(
                r#"{{"cmd":"create_instrument","instrument":{instrument},"base_asset":2,"quote_asset":1,"lot_size":2,"tick_value":3,"max_price":40,"max_quantity":60,"maker_fee_bps":{maker},"taker_fee_bps":{taker},"fee_account":1,"self_trade":"{self_trade}"}}"#
            ));
        }
        // Most accounts let groups settle in parts.
        for account in 1..=ACCOUNTS {
            if account % 5 != 0 {
                lines.push(format!(
                    r#"{{"cmd":"allow_partial_settlement","account":{account}}}"#
                ));
            }
        }
        lines.iter().map(|line| self.frame(line)).collect()
    }

    fn next(&mut self) -> CommandFrame {
        // Clients repeat themselves.
        if !self.last.is_empty() && self.below(30) == 0 {
            let again = self.last.clone();
            return self.frame(&again);
        }
        let line = match self.below(100) {
            0..20 => self.transfer(),
            20..42 => self.payment(),
            42..45 => self.settlement(),
            45..47 => format!(r#"{{"cmd":"cancel_payment","id":{}}}"#, self.old_id()),
            47..72 => self.place(),
            72..80 => format!(
                r#"{{"cmd":"cancel_order","participant":{},"client_order_id":{}}}"#,
                1 + self.below(PARTICIPANTS),
                1 + self.below(40),
            ),
            80..90 => self.replace(),
            90..92 => format!(
                r#"{{"cmd":"set_credit_line","account":{},"amount":{}}}"#,
                1 + self.below(ACCOUNTS),
                self.below(300),
            ),
            92..94 => format!(
                r#"{{"cmd":"set_instrument_phase","instrument":{},"phase":"{}"}}"#,
                1 + self.below(3),
                self.pick(&["continuous", "continuous", "continuous", "halted", "closed"]),
            ),
            94 if self.below(4) == 0 => format!(
                r#"{{"cmd":"set_phase","phase":"{}"}}"#,
                self.pick(&["cut1", "eod1", "closed"]),
            ),
            94 | 95 => r#"{"cmd":"set_phase","phase":"open"}"#.into(),
            96 => format!(
                r#"{{"cmd":"mass_cancel","participant":{},"side":"{}"}}"#,
                1 + self.below(PARTICIPANTS),
                self.pick(&["buy", "sell", "both"]),
            ),
            97 if self.below(4) == 0 => r#"{"cmd":"set_phase","phase":"closed"}"#.into(),
            97 | 98 => self.settlement(),
            _ => format!(
                r#"{{"cmd":"cancel_payment","id":{}}}"#,
                self.next_id.saturating_sub(self.below(6))
            ),
        };
        self.last.clone_from(&line);
        self.frame(&line)
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn old_id(&mut self) -> u64 {
        let end = self.next_id + 2;
        self.rng.random_range(end.saturating_sub(60)..end)
    }

    fn transfer(&mut self) -> String {
        let id = if self.below(10) == 0 {
            self.old_id()
        } else {
            self.new_id()
        };
        // Money and shares come from their issuers and go back there: cover stays scarce.
        let debit = match self.below(4) {
            0 => 1 + self.below(2),
            _ => self.below(ACCOUNTS + 2),
        };
        format!(
            r#"{{"cmd":"transfer","id":{id},"debit_account":{debit},"credit_account":{},"amount":{}}}"#,
            debit % 2 + 2 * self.below(6),
            self.below(120),
        )
    }

    fn payment(&mut self) -> String {
        let id = if self.below(12) == 0 {
            self.old_id()
        } else {
            self.new_id()
        };
        let debtor = self.below(ACCOUNTS + 1);
        format!(
            r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{debtor},"creditor_account":{},"amount":{},"priority":"{}"}}"#,
            debtor % 2 + 2 * self.below(6),
            self.below(120),
            self.pick(&["urgent", "high", "normal", "normal", "normal"]),
        )
    }

    /// What bounds, moves and resolves queues.
    fn settlement(&mut self) -> String {
        let (account, other) = (1 + self.below(ACCOUNTS), 1 + self.below(ACCOUNTS));
        let (id, amount) = (self.old_id(), self.below(60));
        match self.below(16) {
            0 => format!(r#"{{"cmd":"hold_payment","id":{id}}}"#),
            1 => format!(r#"{{"cmd":"release_payment","id":{id}}}"#),
            2 => {
                let priority = self.pick(&["urgent", "high", "normal"]);
                format!(r#"{{"cmd":"set_payment_priority","id":{id},"priority":"{priority}"}}"#)
            }
            3 => {
                let position = self.pick(&["front", "back"]);
                format!(r#"{{"cmd":"move_payment","id":{id},"position":"{position}"}}"#)
            }
            4 => {
                let class = self.pick(&["urgent", "high"]);
                format!(
                    r#"{{"cmd":"set_reservation","account":{account},"class":"{class}","amount":{amount}}}"#
                )
            }
            5 => format!(
                r#"{{"cmd":"set_bilateral_limit","account":{account},"counterparty":{other},"amount":{amount}}}"#
            ),
            6 => format!(
                r#"{{"cmd":"set_bilateral_limit","account":{account},"counterparty":{other},"amount":null}}"#
            ),
            7 => {
                let amount = self.pick(&["null", "10", "50"]);
                format!(
                    r#"{{"cmd":"set_multilateral_limit","account":{account},"amount":{amount}}}"#
                )
            }
            8 => {
                let on = ["true", "false"];
                let (offset, bypass) = (self.pick(&on), self.pick(&on));
                let (automatic, bound) = (self.pick(&on), 1 + self.below(4));
                format!(
                    r#"{{"cmd":"set_liquidity_saving","entry_offset":{offset},"bypass":{bypass},"automatic":{automatic},"scan_bound":{bound}}}"#
                )
            }
            9 | 10 => {
                let algorithm = self.pick(&["grp", "bilateral", "multiple", "greedy"]);
                format!(r#"{{"cmd":"run_liquidity_saving","algorithm":"{algorithm}"}}"#)
            }
            11 => {
                let participant = 1 + self.below(PARTICIPANTS);
                let state = self.pick(&["active", "active", "debit_blocked", "credit_blocked"]);
                format!(
                    r#"{{"cmd":"set_participant_state","participant":{participant},"state":"{state}"}}"#
                )
            }
            12 | 13 => {
                let id = self.new_id();
                let legs: Vec<String> = (0..1 + self.below(3))
                    .map(|_| {
                        let debit = 1 + self.below(ACCOUNTS);
                        let credit = debit % 2 + 2 * self.below(6);
                        let amount = self.below(50);
                        format!(
                            r#"{{"debit_account":{debit},"credit_account":{credit},"amount":{amount}}}"#
                        )
                    })
                    .collect();
                let priority = self.pick(&["urgent", "high", "normal", "normal"]);
                let procedure = self.pick(&["all_or_none", "partial", "partial", "partial_once"]);
                format!(
                    r#"{{"cmd":"submit_group","id":{id},"priority":"{priority}","procedure":"{procedure}","legs":[{}]}}"#,
                    legs.join(",")
                )
            }
            14 => {
                let ids: Vec<String> = (0..1 + self.below(4))
                    .map(|_| self.old_id().to_string())
                    .collect();
                format!(
                    r#"{{"cmd":"propose_batch","payments":[{}]}}"#,
                    ids.join(",")
                )
            }
            _ => {
                let id = self.new_id();
                let debtor = 1 + self.below(ACCOUNTS);
                let earliest = self.clock + self.below(40);
                let latest = earliest + 1 + self.below(40);
                self.clock += self.below(8);
                // The first days of a world that has many.
                let date = self.below(2) * self.below(16);
                format!(
                    r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{debtor},"creditor_account":{},"amount":{},"earliest_at":{earliest},"latest_at":{latest},"value_date":{date},"at":{}}}"#,
                    debtor % 2 + 2 * self.below(6),
                    1 + self.below(80),
                    self.clock,
                )
            }
        }
    }

    fn place(&mut self) -> String {
        let (kind, price) = match self.below(6) {
            0 => ("market", String::new()),
            1 => ("market", format!(r#","protection":{}"#, self.below(42))),
            _ => ("limit", format!(r#","price":{}"#, 5 + self.below(30))),
        };
        format!(
            r#"{{"cmd":"place_order","participant":{},"instrument":{},"client_order_id":{},"side":"{}","type":"{kind}"{price},"quantity":{},"time_in_force":"{}","self_trade":"{}"}}"#,
            1 + self.below(PARTICIPANTS),
            1 + self.below(2),
            1 + self.below(40),
            self.pick(&["buy", "sell"]),
            self.below(30),
            self.pick(&["gtc", "gtc", "gtc", "day", "ioc", "fok"]),
            self.pick(&[
                "default",
                "cancel_incoming",
                "cancel_resting",
                "cancel_both",
                "decrement",
                "allow"
            ]),
        )
    }

    fn replace(&mut self) -> String {
        let price = match self.below(3) {
            0 => String::new(),
            _ => format!(r#","price":{}"#, 5 + self.below(30)),
        };
        let rename = match self.below(4) {
            0 => format!(r#","new_client_order_id":{}"#, 1 + self.below(60)),
            _ => String::new(),
        };
        format!(
            r#"{{"cmd":"replace_order","participant":{},"client_order_id":{}{price}{rename},"quantity":{}}}"#,
            1 + self.below(PARTICIPANTS),
            1 + self.below(40),
            self.below(40),
        )
    }
}
