//! One exchange over two ledgers: a hold here, a hold there, and a decision that only the
//! coordinator's journal makes (docs/settlement.md). Every party crashes at every step, before and
//! after what it does is durable, alone and all together; each restarts from its journal. In the end
//! both holds are posted or both are voided, as the coordinator's journal says, and no money is lost
//! or doubled.

use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::event::Event;
use millrace::protocol::frame::CommandFrame;
use millrace::protocol::script::ScriptParser;

/// One ledger: what is durable, and what was made of it.
struct Ledger {
    journal: Vec<CommandFrame>,
    engine: Engine,
}

const PAYER: u64 = 1;
const PAYEE: u64 = 2;
const ISSUER: u64 = 9;

impl Ledger {
    fn open(balance: u64) -> Ledger {
        let mut ledger = Ledger {
            journal: Vec::new(),
            engine: Engine::new(&Limits::small()),
        };
        ledger.execute(r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#);
        ledger.execute(r#"{"cmd":"create_participant","participant":1,"code":"A"}"#);
        for account in [PAYER, PAYEE, ISSUER] {
            let flags = if account == ISSUER {
                ""
            } else {
                r#","flags":["debits_must_not_exceed_credits"]"#
            };
            ledger.execute(&format!(
                r#"{{"cmd":"create_account","account":{account},"participant":1,"asset":1{flags}}}"#
            ));
        }
        ledger.execute(&format!(
            r#"{{"cmd":"transfer","id":1,"debit_account":{ISSUER},"credit_account":{PAYER},"amount":{balance}}}"#
        ));
        ledger
    }

    /// Makes a command durable and executes it; what became of its transfer.
    fn execute(&mut self, line: &str) -> String {
        let frame = ScriptParser::default().parse(line).expect(line).unwrap();
        self.journal.push(frame.clone());
        self.apply(&frame)
    }

    fn apply(&mut self, frame: &CommandFrame) -> String {
        let mut out = Outbox::with_capacity(16);
        let sequence = self.engine.sequence() + 1;
        self.engine.apply(sequence, frame.as_ref(), &mut out);
        self.engine.audit().expect("sound");
        match out.events()[0].event() {
            Some(Event::Transfer(done)) => done.status.to_string(),
            _ => "ok".into(),
        }
    }

    /// The process ended; what is durable is executed again.
    fn restart(&mut self) {
        let digest = self.engine.digest();
        self.engine = Engine::new(&Limits::small());
        for frame in std::mem::take(&mut self.journal) {
            self.apply(&frame);
            self.journal.push(frame);
        }
        assert_eq!(self.engine.digest(), digest, "holds survive a restart");
    }

    fn posted_and_pending(&self, account: u64) -> [i64; 2] {
        let line = format!(r#"{{"cmd":"query_account","account":{account}}}"#);
        let frame = ScriptParser::default().parse(&line).unwrap().unwrap();
        let mut out = Outbox::with_capacity(4);
        self.engine.query(frame.as_ref(), &mut out);
        match out.events()[0].event() {
            Some(Event::Account(row)) => [
                row.credits_posted.0 as i64 - row.debits_posted.0 as i64,
                row.credits_pending.0 as i64 - row.debits_pending.0 as i64,
            ],
            other => panic!("{other:?}"),
        }
    }
}

/// What the coordinator makes durable. Nothing else of it survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Begun,
    Commit,
    Abort,
}

/// Who ends at the step that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Party,
    Coordinator,
    Everybody,
}

/// The step at which something ends, and whether what it does was durable by then.
#[derive(Clone, Copy, Debug)]
struct Crash {
    step: usize,
    is_durable: bool,
    victim: Victim,
}

struct World {
    ledgers: [Ledger; 2],
    amounts: [u64; 2],
    /// The coordinator's journal.
    journal: Vec<Record>,
    steps: usize,
    crash: Option<Crash>,
}

/// The coordinator has ended.
struct Ended;

impl World {
    /// Takes a step, unless the crash comes first. `Ok(false)`: the party ended and gave no answer.
    fn step(
        &mut self,
        ledger: Option<usize>,
        act: &mut dyn FnMut(&mut World),
    ) -> Result<bool, Ended> {
        self.steps += 1;
        let Some(crash) = self.crash.filter(|crash| crash.step == self.steps) else {
            act(self);
            return Ok(true);
        };
        if crash.is_durable {
            act(self);
        }
        match (crash.victim, ledger) {
            (Victim::Everybody, _) => {
                self.ledgers.iter_mut().for_each(Ledger::restart);
                Err(Ended)
            }
            (Victim::Party, Some(at)) => {
                self.ledgers[at].restart();
                Ok(false)
            }
            (Victim::Party, None) | (Victim::Coordinator, _) => Err(Ended),
        }
    }

    /// Sends a command until it is answered: the same one, which is executed once.
    fn ask(&mut self, at: usize, line: &str) -> Result<String, Ended> {
        loop {
            let mut answer = String::new();
            let is_answered = self.step(Some(at), &mut |world| {
                answer = world.ledgers[at].execute(line);
            })?;
            if is_answered {
                return Ok(answer);
            }
        }
    }

    fn record(&mut self, record: Record) -> Result<(), Ended> {
        self.step(None, &mut |world| world.journal.push(record))?;
        Ok(())
    }

    fn hold(&mut self, at: usize) -> Result<bool, Ended> {
        let amount = self.amounts[at];
        let answer = self.ask(at, &format!(
            r#"{{"cmd":"transfer","id":100,"debit_account":{PAYER},"credit_account":{PAYEE},"amount":{amount},"flags":["pending"]}}"#
        ))?;
        match answer.as_str() {
            "created" | "exists" => Ok(true),
            "exceeds_credits" | "id_already_failed" => Ok(false),
            other => panic!("hold: {other}"),
        }
    }

    fn finish(&mut self, at: usize, decision: Record) -> Result<(), Ended> {
        let (id, flag) = match decision {
            Record::Commit => (101, "post_pending"),
            Record::Abort => (102, "void_pending"),
            Record::Begun => unreachable!("no decision"),
        };
        let answer = self.ask(
            at,
            &format!(r#"{{"cmd":"transfer","id":{id},"pending_id":100,"flags":["{flag}"]}}"#),
        )?;
        let is_done = matches!(answer.as_str(), "created" | "exists");
        // Where the hold was refused there is nothing to void.
        let was_refused = matches!(
            answer.as_str(),
            "pending_transfer_not_found" | "pending_transfer_not_pending" | "id_already_failed"
        );
        assert!(
            is_done || decision == Record::Abort && was_refused,
            "{flag}: {answer}"
        );
        Ok(())
    }

    /// The coordinator from its start, or from its journal.
    fn coordinate(&mut self) -> Result<(), Ended> {
        let is_new = self.journal.is_empty();
        if is_new {
            self.record(Record::Begun)?;
        }
        let decided = self
            .journal
            .iter()
            .copied()
            .find(|record| *record != Record::Begun);
        let decision = match decided {
            Some(decision) => decision,
            None => {
                // Asked again after a restart, so that the id of the hold is taken whatever still
                // comes late; what was begun before the restart and not decided is aborted.
                let holds = [self.hold(0)?, self.hold(1)?];
                let decision = if is_new && holds == [true, true] {
                    Record::Commit
                } else {
                    Record::Abort
                };
                self.record(decision)?;
                decision
            }
        };
        self.finish(0, decision)?;
        self.finish(1, decision)
    }
}

/// Plays one exchange with a crash; whether the crash came.
fn play(balances: [u64; 2], crash: Option<Crash>) -> (World, bool) {
    let mut world = World {
        ledgers: balances.map(Ledger::open),
        amounts: [30, 40],
        journal: Vec::new(),
        steps: 0,
        crash,
    };
    while world.coordinate().is_err() {}
    let decisions = world
        .journal
        .iter()
        .filter(|record| **record != Record::Begun);
    let decisions: Vec<Record> = decisions.copied().collect();
    assert_eq!(decisions.len(), 1, "{crash:?}: decided once: {decisions:?}");
    for (at, ledger) in world.ledgers.iter_mut().enumerate() {
        ledger.restart();
        let amount = world.amounts[at] as i64;
        let moved = if decisions[0] == Record::Commit {
            amount
        } else {
            0
        };
        let has = balances[at] as i64;
        assert_eq!(
            ledger.posted_and_pending(PAYER),
            [has - moved, 0],
            "{crash:?}"
        );
        assert_eq!(ledger.posted_and_pending(PAYEE), [moved, 0], "{crash:?}");
        assert_eq!(ledger.posted_and_pending(ISSUER), [-has, 0], "{crash:?}");
        // A hold that comes late, after all is over, takes nothing.
        let late = ledger.execute(&format!(
            r#"{{"cmd":"transfer","id":100,"debit_account":{PAYER},"credit_account":{PAYEE},"amount":{amount},"flags":["pending"]}}"#
        ));
        assert!(
            matches!(late.as_str(), "exists" | "id_already_failed"),
            "{late}"
        );
        assert_eq!(
            ledger.posted_and_pending(PAYER),
            [has - moved, 0],
            "{crash:?}"
        );
    }
    let came = crash.is_some_and(|crash| world.steps >= crash.step);
    (world, came)
}

#[test]
fn both_ledgers_move_or_neither_whoever_crashes_whenever() {
    let (mut commits, mut aborts) = (0, 0);
    for balances in [[30, 40], [100, 100], [29, 40], [30, 39], [0, 0]] {
        let (calm, _) = play(balances, None);
        let is_covered = balances[0] >= 30 && balances[1] >= 40;
        assert_eq!(calm.journal.last() == Some(&Record::Commit), is_covered);
        for victim in [Victim::Party, Victim::Coordinator, Victim::Everybody] {
            for is_durable in [false, true] {
                for step in 1.. {
                    let crash = Crash {
                        step,
                        is_durable,
                        victim,
                    };
                    let (world, came) = play(balances, Some(crash));
                    if !came {
                        break;
                    }
                    match world.journal.last() {
                        Some(Record::Commit) => commits += 1,
                        _ => aborts += 1,
                    }
                }
            }
        }
    }
    assert!(
        commits > 20 && aborts > 20,
        "{commits} commits, {aborts} aborts"
    );
}
