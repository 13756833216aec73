//! A hundred business days in one journal, with a table of transfers that holds about three of
//! them: ids stay taken for their window and come free after it, what is pending stays known for
//! ever, nothing is ever refused for want of room, and state does not grow with history.

use crate::pipeline_support::*;
use millrace::config::Config;
use millrace::engine::{Engine, Limits};
use millrace::pipeline::Inline;
use millrace::protocol::command::CommandKind;
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, CommandRef, EventSlot};
use millrace::protocol::reason::Reason;
use millrace::replay::{Nobody, Watcher, follow, snapshot_store};
use millrace::session::SessionTable;
use tempfile::TempDir;

const DAYS: u64 = 100;
/// The day after which the snapshot is written that recovery begins from.
const SNAPSHOT_DAY: u64 = 60;
/// From here on as many rows leave as come.
const STEADY_DAY: usize = 10;
/// Transfers of a day's batches; a day has some 30 more.
const BATCHES: u64 = 12;
const BATCH: u32 = 50;
const DAY_NS: u64 = 86_400_000_000_000;
/// Pending transfers of each day that nobody resolves, and how many days later they lapse.
const LAPSING: u64 = 20;
const LAPSE_DAYS: u64 = 5;
/// Pending since day 1, without a timeout.
const POSTED_ON_DAY_90: u128 = 1;
const VOIDED_ON_DAY_40: u128 = 2;
/// An authorisation of day 1.
const CAPTURED_ON_DAY_80: u128 = 3;

fn config(dir: &TempDir) -> Config {
    let mut config = small(dir);
    config.limits = Limits {
        transfers: 2_048,
        refund_days: 4,
        ..config.limits
    };
    config
}

/// The first id of a day.
fn base(day: u64) -> u128 {
    u128::from(day) * 10_000
}

/// The days as they are lived, and what must come of them.
struct Life {
    inline: Inline,
    created: u64,
    expired: u64,
    /// What account 2 must have been credited.
    credited: u128,
}

impl Life {
    /// The events of a command. Nothing is refused for want of room; lapses are counted and left out.
    fn events(&mut self, frame: &CommandFrame) -> Vec<EventSlot> {
        let mut events = run_inline(&mut self.inline, std::slice::from_ref(frame));
        events.retain(|event| match event.event() {
            Some(Event::Transfer(done)) => {
                assert_ne!(done.status, Reason::CapacityExhausted, "{done:?}");
                self.expired += u64::from(done.status == Reason::Expired);
                self.created += u64::from(done.status == Reason::Created);
                done.status != Reason::Expired
            }
            Some(Event::Rejected(rejected)) => panic!("{rejected:?}"),
            _ => true,
        });
        events
    }

    fn run(&mut self, line: &str) -> Vec<EventSlot> {
        self.events(&command(line))
    }

    /// A transfer in a script's words and what it must be answered.
    fn say(&mut self, id: u128, fields: &str, wanted: Reason) {
        let line = format!(r#"{{"cmd":"transfer","id":{id},{fields}}}"#);
        let events = self.run(&line);
        assert_eq!(status(&events[0]), wanted, "{line}");
    }

    /// A plain transfer and what it must be answered.
    fn plain(&mut self, id: u128, amount: u128, wanted: Reason) {
        let events = self.events(&transfer(id, amount));
        assert_eq!(status(&events[0]), wanted, "transfer {id} of {amount}");
        if wanted == Reason::Created {
            self.credited += amount;
        }
    }

    fn day(&mut self, day: u64) {
        let at = day * DAY_NS;
        self.run(&format!(
            r#"{{"cmd":"set_phase","phase":"open","at":{at}}}"#
        ));
        self.window(day);
        self.batches(day);
        self.two_phases(day);
        self.authorisations(day);
        self.old_ones(day);
        let evening = at + DAY_NS / 2;
        self.run(&format!(
            r#"{{"cmd":"set_phase","phase":"closed","at":{evening}}}"#
        ));
    }

    /// An id is taken on its day and the next, and free on the one after.
    fn window(&mut self, day: u64) {
        let (id, failed) = (base(day), base(day) + 1);
        self.plain(id, 7, Reason::Created);
        self.plain(id, 7, Reason::Exists);
        let empty = r#""debit_account":3,"credit_account":2,"amount":5"#;
        self.say(failed, empty, Reason::ExceedsCredits);
        if day > 1 {
            self.plain(base(day - 1), 7, Reason::Exists);
            self.plain(base(day - 1), 8, Reason::ExistsWithDifferentAmount);
            self.plain(base(day - 1) + 1, 5, Reason::IdAlreadyFailed);
        }
        if day > 2 {
            self.plain(base(day - 2), 8, Reason::Created);
            self.plain(base(day - 2) + 1, 5, Reason::Created);
        }
    }

    fn batches(&mut self, day: u64) {
        for at in 0..BATCHES {
            let first = base(day) + 1_000 + u128::from(at) * u128::from(BATCH);
            let events = self.events(&batch(first, BATCH));
            assert_eq!(events.len(), BATCH as usize);
            assert!(events.iter().all(|event| status(event) == Reason::Created));
            self.credited += u128::from(BATCH);
            // Every one of yesterday's batches is still known, none of those before.
            if day > 1 {
                let yesterday = base(day - 1) + 1_000 + u128::from(at) * u128::from(BATCH);
                let events = self.events(&batch(yesterday, BATCH));
                assert!(events.iter().all(|event| status(event) == Reason::Exists));
            }
        }
    }

    /// Pending ones that are posted in part the next day, and some that lapse days later.
    fn two_phases(&mut self, day: u64) {
        let pending = r#""debit_account":1,"credit_account":2,"amount":10,"flags":["pending"]"#;
        self.say(base(day) + 2, pending, Reason::Created);
        if day > 1 {
            let fields = format!(
                r#""pending_id":{},"amount":4,"flags":["post_pending"]"#,
                base(day - 1) + 2
            );
            self.say(base(day) + 3, &fields, Reason::Created);
            self.credited += 4;
        }
        let timeout = LAPSE_DAYS * 86_400;
        for at in 0..LAPSING {
            let id = base(day) + 100 + u128::from(at);
            self.say(
                id,
                &format!(r#"{pending},"timeout_s":{timeout}"#),
                Reason::Created,
            );
        }
        // The youngest that has lapsed, its id free since, and the oldest that has not.
        if day > LAPSE_DAYS {
            assert_eq!(self.expired, (day - LAPSE_DAYS) * LAPSING);
            let fields = format!(
                r#""pending_id":{},"flags":["void_pending"]"#,
                base(day - LAPSE_DAYS) + 100
            );
            self.say(base(day) + 4, &fields, Reason::PendingTransferNotFound);
            let known = format!(r#"{pending},"timeout_s":{timeout}"#);
            let oldest = base(day - LAPSE_DAYS + 1) + 100;
            self.say(oldest, &known, Reason::Exists);
        }
    }

    /// Each day's authorisation is captured the next day, and in part refunded two days after that.
    fn authorisations(&mut self, day: u64) {
        let id = |day: u64| base(day) + 5;
        self.run(&format!(
            r#"{{"cmd":"authorise","id":{},"debit_account":1,"credit_account":2,"amount":9}}"#,
            id(day)
        ));
        if day > 1 {
            let id = id(day - 1);
            self.run(&format!(
                r#"{{"cmd":"capture","id":{id},"amount":9,"final":true}}"#
            ));
            self.credited += 9;
        }
        if day > 3 {
            let id = id(day - 3);
            self.run(&format!(r#"{{"cmd":"refund","id":{id},"amount":2}}"#));
        }
    }

    /// What has been pending since day 1.
    fn old_ones(&mut self, day: u64) {
        let pending = r#""debit_account":1,"credit_account":2,"amount":100,"flags":["pending"]"#;
        let known = if day == 1 {
            Reason::Created
        } else {
            Reason::Exists
        };
        if day <= 90 {
            self.say(POSTED_ON_DAY_90, pending, known);
        }
        if day <= 40 {
            self.say(VOIDED_ON_DAY_40, pending, known);
        }
        match day {
            1 => {
                self.run(&format!(
                    r#"{{"cmd":"authorise","id":{CAPTURED_ON_DAY_80},"debit_account":1,"credit_account":2,"amount":60}}"#
                ));
            }
            40 => {
                let fields = format!(r#""pending_id":{VOIDED_ON_DAY_40},"flags":["void_pending"]"#);
                self.say(base(day) + 6, &fields, Reason::Created);
            }
            80 => {
                self.run(&format!(
                    r#"{{"cmd":"capture","id":{CAPTURED_ON_DAY_80},"amount":60,"final":true}}"#
                ));
                self.credited += 60;
            }
            90 => {
                let fields = format!(r#""pending_id":{POSTED_ON_DAY_90},"flags":["post_pending"]"#);
                self.say(base(day) + 6, &fields, Reason::Created);
                self.credited += 100;
                // Long out of its window, and nothing holds it any more.
                self.plain(POSTED_ON_DAY_90, 3, Reason::Created);
            }
            _ => {}
        }
    }
}

/// Measures the snapshot at the end of each day.
#[derive(Default)]
struct Sizes {
    is_open: bool,
    bytes: Vec<usize>,
    /// The command that ended each day.
    ends: Vec<u64>,
}

impl Watcher for Sizes {
    fn command(
        &mut self,
        sequence: u64,
        command: CommandRef<'_>,
        _events: &[EventSlot],
        engine: &Engine,
    ) -> Result<(), String> {
        if command.kind() != Some(CommandKind::SetPhase) {
            return Ok(());
        }
        // Days open and close in turn.
        self.is_open = !self.is_open;
        if self.is_open {
            return Ok(());
        }
        let mut snapshot = Vec::new();
        engine.write_snapshot(&mut snapshot).expect("into memory");
        self.bytes.push(snapshot.len());
        self.ends.push(sequence);
        engine.audit()
    }
}

fn live(config: &Config) -> Engine {
    let (inline, _) = Inline::open(config).unwrap();
    let mut life = Life {
        inline,
        created: 0,
        expired: 0,
        credited: 0,
    };
    for frame in opening() {
        life.events(&frame);
    }
    // Account 3 has nothing and may not go below.
    life.run(
        r#"{"cmd":"create_account","account":3,"participant":1,"asset":1,"flags":["debits_must_not_exceed_credits"]}"#,
    );
    for day in 1..=DAYS {
        life.day(day);
    }
    assert_eq!(life.expired, (DAYS - LAPSE_DAYS) * LAPSING);
    assert!(life.created > 25 * u64::from(config.limits.transfers));
    let account = life.run(r#"{"cmd":"query_account","account":2}"#);
    assert_eq!(credited(&account), life.credited);
    life.inline.close()
}

#[test]
fn a_hundred_days_fit_in_a_table_for_three() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let lived = live(&config);
    lived.audit().unwrap();

    let (mut engine, mut sessions) = (Engine::new(&config.limits), SessionTable::new(64));
    let mut sizes = Sizes::default();
    follow(&config.dir, None, &mut engine, &mut sessions, &mut sizes).unwrap();
    assert_eq!(engine.digest(), lived.digest());
    assert_eq!(sizes.bytes.len(), DAYS as usize);
    let steady = sizes.bytes[STEADY_DAY - 1];
    let most = sizes.bytes[STEADY_DAY..].iter().max().unwrap();
    let bound = steady + steady / 20;
    assert!(*most <= bound, "{steady} bytes on day 10, then {most}");
    // Two days of transfers are in it, 96 bytes each.
    assert!(steady > 2 * 96 * (BATCHES * u64::from(BATCH)) as usize);

    let (mut half, mut sessions) = (Engine::new(&config.limits), SessionTable::new(64));
    let to = sizes.ends[SNAPSHOT_DAY as usize - 1];
    follow(&config.dir, Some(to), &mut half, &mut sessions, &mut Nobody).unwrap();
    snapshot_store::write(&config.dir, &half, &sessions).unwrap();
    let (inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!(recovery.snapshot, Some(to));
    assert_eq!(recovery.replayed, lived.sequence() - to);
    assert_eq!(inline.close().digest(), lived.digest());
}
