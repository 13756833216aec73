//! Settlement with long queues: what one payment costs at entry while many wait, and what an
//! algorithm costs over everything that is queued. The engine alone: no ring, no journal.

use super::histogram;
use super::workload::{create_account, create_asset, create_participant, transfer};
use crate::engine::{Engine, Limits, Outbox, PaymentsMemory, Take};
use crate::protocol::command::{
    AccountFlags, Algorithm, AlgorithmChoice, CommandKind, Empty, Priority, RunLiquiditySaving,
    SetLiquiditySaving, SubmitPayment, Switch,
};
use crate::protocol::event::{Event, EventKind};
use crate::protocol::frame::CommandFrame;
use crate::protocol::units::{AccountId, Amount, PaymentId, Timestamp};
use crate::protocol::wire::Zero;
use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rand_pcg::Pcg64Mcg;
use std::time::{Duration, Instant};

const Z: Zero = Zero::Zero;
/// Issues the money.
const ISSUER: u64 = u64::MAX - 1;

/// A world in which payments wait.
pub struct Queues {
    engine: Engine,
    outbox: Outbox,
    rng: Pcg64Mcg,
    accounts: u64,
    payments: u128,
    /// What each account owes in all, minor units.
    owes: Vec<u128>,
    shape: Shape,
    zipf: Zipf<f64>,
}

/// Who pays whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Debtors and creditors uniform.
    Uniform,
    /// Both after Zipf: the first account pays and gets as much as the second and third together.
    Zipf,
    /// All that is queued waits at two accounts, and half of what comes in pays one of them: each
    /// time money comes to a queue of tens of thousands.
    TwoDebtors,
}

impl Shape {
    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Uniform => "uniform",
            Shape::Zipf => "Zipf",
            Shape::TwoDebtors => "two debtors",
        }
    }
}

/// What one run of an algorithm did.
pub struct Run {
    /// From the command to its last event.
    pub elapsed: Duration,
    /// Payments settled.
    pub settled: u64,
    /// Minor units settled.
    pub value: u128,
}

impl Queues {
    /// `accounts` settlement accounts, of a participant each, and room for `payments`.
    pub fn open(accounts: u64, payments: u64, shape: Shape, seed: u64) -> Queues {
        let room = |n: u64| u32::try_from(n).unwrap_or(Limits::ENTRIES_MAX);
        let limits = Limits {
            accounts: room(accounts + 16),
            participants: room(accounts + 16),
            payments: room(payments),
            transfers: room(accounts * 2 + 1_024),
            ..Limits::small()
        };
        let mut engine = Engine::new(&limits);
        engine.take_memory(Take::Now);
        let mut queues = Queues {
            engine,
            // A run answers with an event for each payment it settles.
            outbox: Outbox::with_capacity(payments as usize / 2 + 4_096),
            rng: Pcg64Mcg::seed_from_u64(seed),
            accounts,
            payments: 0,
            owes: vec![0; accounts as usize + 1],
            shape,
            zipf: Zipf::new(accounts as f64, 1.0).expect("a sound shape"),
        };
        queues.apply(&create_asset(1, "EUR"));
        queues.apply(&create_participant(u32::MAX - 1, "CB"));
        queues.apply(&create_account(ISSUER, u32::MAX - 1, 1, AccountFlags::NONE));
        for account in 1..=accounts {
            queues.apply(&create_participant(account as u32, "BANK"));
            let flags = AccountFlags::SETTLEMENT;
            queues.apply(&create_account(account, account as u32, 1, flags));
        }
        queues
    }

    /// Switches offset at entry and bypass.
    pub fn switch(&mut self, entry_offset: bool, bypass: bool) {
        let switch = |on| if on { Switch::On } else { Switch::Off };
        let body = SetLiquiditySaving {
            entry_offset: switch(entry_offset),
            bypass: switch(bypass),
            automatic: Switch::Off,
            algorithm: AlgorithmChoice::Keep,
            every_queued: u32::MAX,
            interval_ms: u32::MAX,
            scan_bound: 0,
        };
        self.apply(&CommandFrame::new(CommandKind::SetLiquiditySaving, &body));
    }

    /// Queues `count` payments while nobody has money. Amounts are log-uniform over 1 to about a
    /// million, 90 % normal, 9 % high, 1 % urgent; with two debtors all are normal.
    pub fn queue(&mut self, count: u64) {
        for _ in 0..count {
            let (debtor, creditor) = match self.shape {
                Shape::TwoDebtors => {
                    let debtor = self.rng.random_range(1..=2);
                    (debtor, self.rng.random_range(3..=self.accounts))
                }
                Shape::Uniform | Shape::Zipf => self.sides(),
            };
            let frame = self.payment(debtor, creditor);
            self.apply(&frame);
        }
    }

    /// Gives every account `per_mille` of what it owes. With two debtors all others get what they
    /// will need, too.
    pub fn fund(&mut self, per_mille: u128) {
        let two = self.shape == Shape::TwoDebtors;
        for account in 1..=self.accounts {
            let spare = if two && account > 2 { 1 << 30 } else { 0 };
            let amount = self.owes[account as usize] * per_mille / 1_000 + spare;
            let body = transfer(u128::from(account), ISSUER, account, amount);
            self.apply(&CommandFrame::new(CommandKind::Transfer, &body));
        }
        // What lets itself be released is, before anything is measured.
        while self
            .engine
            .next_deadline()
            .is_some_and(|at| at <= self.engine.now())
        {
            let body = Empty { _reserved: [Z; 16] };
            self.apply(&CommandFrame::new(CommandKind::Tick, &body));
        }
    }

    /// Payments that wait.
    pub fn queued(&self) -> u64 {
        self.engine.queued_payments()
    }

    /// Runs an algorithm over everything.
    pub fn run(&mut self, algorithm: Algorithm) -> Run {
        let body = RunLiquiditySaving {
            algorithm,
            _reserved: [Z; 15],
        };
        let frame = CommandFrame::new(CommandKind::RunLiquiditySaving, &body);
        let started = Instant::now();
        self.engine
            .apply(self.engine.sequence() + 1, frame.as_ref(), &mut self.outbox);
        let elapsed = started.elapsed();
        let done = self
            .outbox
            .events()
            .iter()
            .find_map(|event| match event.event() {
                Some(Event::LiquiditySavingDone(done)) => Some((done.settled, done.value.0)),
                _ => None,
            });
        let (settled, value) = done.expect("a run says what it did");
        self.outbox.clear();
        Run {
            elapsed,
            settled,
            value,
        }
    }

    /// What the room of payments takes.
    pub fn memory(&self) -> PaymentsMemory {
        self.engine.payments_memory()
    }

    /// Submits `count` payments, one at a time; the latency of each, and how many payments each
    /// settled.
    pub fn entries(&mut self, count: u64) -> (Histogram<u64>, Histogram<u64>) {
        let mut latency = histogram();
        let mut settled = histogram();
        for _ in 0..count {
            let (debtor, creditor) = self.sides();
            let frame = self.payment(debtor, creditor);
            let started = Instant::now();
            self.engine
                .apply(self.engine.sequence() + 1, frame.as_ref(), &mut self.outbox);
            latency.saturating_record(started.elapsed().as_nanos() as u64);
            let events = self.outbox.events().iter();
            let finals = events.filter(|event| event.kind() == Some(EventKind::PaymentSettled));
            settled.saturating_record(finals.count() as u64);
            self.outbox.clear();
        }
        (latency, settled)
    }

    /// The whole-state audit.
    pub fn audit(&self) -> Result<(), String> {
        self.engine.audit()
    }

    /// Debtor and creditor of the next payment.
    fn sides(&mut self) -> (u64, u64) {
        match self.shape {
            Shape::Uniform => {
                let debtor = self.rng.random_range(1..=self.accounts);
                let step = self.rng.random_range(1..self.accounts);
                (debtor, (debtor - 1 + step) % self.accounts + 1)
            }
            Shape::Zipf => loop {
                let debtor = self.zipf.sample(&mut self.rng) as u64;
                let creditor = self.zipf.sample(&mut self.rng) as u64;
                if debtor != creditor {
                    return (debtor, creditor);
                }
            },
            Shape::TwoDebtors => {
                let debtor = self.rng.random_range(3..=self.accounts);
                let creditor = if self.rng.random() {
                    self.rng.random_range(1..=2)
                } else {
                    let step = self.rng.random_range(1..self.accounts - 2);
                    (debtor - 3 + step) % (self.accounts - 2) + 3
                };
                (debtor, creditor)
            }
        }
    }

    fn payment(&mut self, debtor: u64, creditor: u64) -> CommandFrame {
        let size = self.rng.random_range(0..20u32);
        let amount = self.rng.random_range(1..=2u128 << size);
        self.owes[debtor as usize] += amount;
        self.payments += 1;
        let body = SubmitPayment {
            id: PaymentId(self.payments),
            debtor_account: AccountId(debtor),
            creditor_account: AccountId(creditor),
            amount: Amount(amount),
            return_of: PaymentId(0),
            earliest_at: Timestamp(0),
            latest_at: Timestamp(0),
            priority: match self.rng.random_range(0..100) {
                _ if self.shape == Shape::TwoDebtors => Priority::Normal,
                0 => Priority::Urgent,
                1..10 => Priority::High,
                _ => Priority::Normal,
            },
            _reserved: [Z; 3],
            value_date: 0,
            _reserved_end: [Z; 8],
        };
        CommandFrame::new(CommandKind::SubmitPayment, &body)
    }

    fn apply(&mut self, frame: &CommandFrame) {
        self.engine
            .apply(self.engine.sequence() + 1, frame.as_ref(), &mut self.outbox);
        self.outbox.clear();
    }
}
