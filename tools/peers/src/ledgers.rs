//! One face for all ledgers: plain transfers, and balances to compare.

use double_entry::{Account, AccountId, AccountType, Amount, JournalEntry, Line, currencies};
use millrace::engine::{Engine, Limits, Outbox, Take};
use millrace::protocol::command::CommandKind;
use millrace::protocol::event::Event;
use millrace::protocol::frame::CommandFrame;
use millrace::protocol::reason::Reason;
use millrace::protocol::script::ScriptParser;

/// A ledger that can be driven.
pub trait Ledger {
    /// Does transfers numbered from `first`, each all or nothing.
    fn transfer(&mut self, first: u64, transfers: &[(u64, u64, u64)]);
    /// Credits less debits of an account.
    fn balance(&mut self, account: u64) -> i128;
}

/// Ours: the whole engine, idempotent by id, one command a transfer.
pub struct Ours {
    engine: Engine,
    out: Outbox,
    frames: Vec<CommandFrame>,
}

impl Ours {
    /// Accounts 1 to `accounts`; `transfers` are made into frames beforehand.
    pub fn new(accounts: u64, transfers: &[(u64, u64, u64)]) -> Ours {
        let limits = Limits {
            accounts: accounts as u32 + 16,
            transfers: transfers.len() as u32 + 1_024,
            ..Limits::small()
        };
        let mut engine = Engine::new(&limits);
        engine.take_memory(Take::Now);
        let mut ours = Ours {
            engine,
            out: Outbox::with_capacity(1_024),
            frames: Vec::new(),
        };
        let mut say = |line: &str| {
            let parsed = ScriptParser::default().parse(line);
            let frame = parsed.expect("a command").expect("not blank");
            ours.run(&frame);
        };
        say(r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2,"at":1000}"#);
        say(r#"{"cmd":"create_participant","participant":1,"code":"ONE"}"#);
        for account in 1..=accounts {
            say(&format!(
                r#"{{"cmd":"create_account","account":{account},"participant":1,"asset":1}}"#
            ));
        }
        let mut body = template();
        ours.frames = (1..)
            .zip(transfers)
            .map(|(id, (debit, credit, amount))| {
                body.id.0 = id;
                body.debit_account.0 = *debit;
                body.credit_account.0 = *credit;
                body.amount.0 = u128::from(*amount);
                CommandFrame::new(CommandKind::Transfer, &body)
            })
            .collect();
        ours
    }

    fn run(&mut self, frame: &CommandFrame) {
        self.out.clear();
        let sequence = self.engine.sequence() + 1;
        self.engine.apply(sequence, frame.as_ref(), &mut self.out);
    }
}

fn template() -> millrace::protocol::command::Transfer {
    let line = r#"{"cmd":"transfer","id":1,"debit_account":1,"credit_account":2,"amount":1}"#;
    let frame = ScriptParser::default().parse(line).expect("a command");
    let frame = frame.expect("not blank");
    match frame.as_ref().decode() {
        Ok(millrace::protocol::command::Command::Transfer(body)) => *body,
        _ => unreachable!("the line is a transfer"),
    }
}

impl Ledger for Ours {
    fn transfer(&mut self, first: u64, transfers: &[(u64, u64, u64)]) {
        for at in first..first + transfers.len() as u64 {
            self.out.clear();
            let sequence = self.engine.sequence() + 1;
            let frame = self.frames[at as usize - 1].as_ref();
            self.engine.apply(sequence, frame, &mut self.out);
            let Some(Event::Transfer(done)) = self.out.events()[0].event() else {
                unreachable!("a transfer answers so");
            };
            assert_eq!(done.status, Reason::Created);
        }
    }

    fn balance(&mut self, account: u64) -> i128 {
        let line = format!(r#"{{"cmd":"query_account","account":{account}}}"#);
        let frame = ScriptParser::default().parse(&line).expect("a query");
        self.out.clear();
        self.engine
            .query(frame.expect("not blank").as_ref(), &mut self.out);
        let Some(Event::Account(sums)) = self.out.events()[0].event() else {
            unreachable!("the account is there");
        };
        sums.credits_posted.0 as i128 - sums.debits_posted.0 as i128
    }
}

/// double-entry 0.1, whose entries have names and lines, and are drafted before they are posted.
pub struct DoubleEntry(double_entry::Ledger);

impl DoubleEntry {
    pub fn new(accounts: u64) -> DoubleEntry {
        let mut ledger = double_entry::Ledger::new();
        for account in 1..=accounts {
            let name = account.to_string();
            ledger.add_account(Account::new(name.clone(), name, AccountType::Asset));
        }
        DoubleEntry(ledger)
    }
}

impl Ledger for DoubleEntry {
    fn transfer(&mut self, first: u64, transfers: &[(u64, u64, u64)]) {
        for (id, (debit, credit, amount)) in (first..).zip(transfers) {
            let amount = Amount::minor(*amount as i64, currencies::EUR);
            let lines = vec![
                Line::debit(debit.to_string(), amount),
                Line::credit(credit.to_string(), amount),
            ];
            let entry = JournalEntry::draft(id.to_string(), "2026-11-25", "2026-11", lines);
            let version = self.0.version();
            self.0.post(&entry, version).expect("it balances");
        }
    }

    fn balance(&mut self, account: u64) -> i128 {
        // Assets grow by debits.
        -i128::from(self.0.balance(&AccountId::new(account.to_string())))
    }
}
