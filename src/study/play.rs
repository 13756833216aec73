//! Plays a day through the engine: the commands that a node would get, with the times at which it
//! would get them. The engine's own clock does the rest: latest times, automatic liquidity saving
//! and what release could not finish ask for ticks, and get them when they are due.

use super::day::{Day, MINUTE, Payment};
use super::measures::{Measures, Tally};
use crate::bench::workload::{create_account, create_asset, create_participant, fill, transfer};
use crate::engine::{Engine, Limits, Outbox};
use crate::proposer::problems;
use crate::protocol::command::{
    AccountFlags, Algorithm, AlgorithmChoice, BatchItem, CommandKind, DayPhase, Empty, ITEMS_MAX,
    ProposeBatch, RunLiquiditySaving, SetLiquiditySaving, SetPhase, SubmitPayment, Switch,
};
use crate::protocol::frame::{CommandFrame, CommandHeader, CommandRef, CommandSlot, HEADER_BYTES};
use crate::protocol::units::{AccountId, Amount, PaymentId, Timestamp};
use crate::protocol::wire::Zero;
use crate::solver::{self, Budget};
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{Immutable, IntoBytes};

const Z: Zero = Zero::Zero;
const CASH: u32 = 1;
/// The central bank and its account, from which liquidity comes.
const CENTRAL_BANK: u32 = 1_000_000;
const ISSUER: u64 = 1_000_000;
/// The night before opening in which accounts are opened and funded, and the evening.
const MARGIN: u64 = 15 * MINUTE;
/// Payments between two looks at the progress.
const REPORT_EVERY: usize = 1_024;

/// How liquidity is saved where it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saving {
    /// What automatic runs run.
    pub algorithm: Algorithm,
    /// Milliseconds between automatic runs.
    pub every_ms: u32,
}

/// How a solver beside the engine works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Milliseconds between the moments at which it looks at what waits; above 0.
    pub every_ms: u32,
    /// Steps of improvement at each of them: a count, not a time, so that every run repeats.
    pub steps: u64,
}

/// By which rules a day is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Each queue strictly in order, one payment at a time: no bypass, no offset, no runs.
    Plain,
    /// Bypass, offset at entry, automatic runs, and a last run at closing.
    Saving(Saving),
    /// All of that, and batches that a solver finds and the engine verifies.
    Batches(Saving, Batches),
}

impl Rules {
    /// How the engine itself saves liquidity, if it does.
    pub fn saving(self) -> Option<Saving> {
        match self {
            Rules::Plain => None,
            Rules::Saving(saving) | Rules::Batches(saving, _) => Some(saving),
        }
    }

    /// How a solver beside it works, if there is one.
    pub fn batches(self) -> Option<Batches> {
        match self {
            Rules::Plain | Rules::Saving(_) => None,
            Rules::Batches(_, batches) => Some(batches),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// What was measured.
    pub measures: Measures,
    /// Commands that the engine executed.
    pub commands: u64,
    /// Digest of the state at the end of the day.
    pub digest: [u8; 32],
}

/// Plays `day` with `opening` balances and shows every command to `witness`; `done` counts payments.
///
/// # Errors
/// What was refused for another reason than liquidity and time, and what the audit of the state at
/// the end of the day found.
pub fn play(
    day: &Day,
    opening: &[u128],
    rules: Rules,
    done: &AtomicU64,
    witness: &mut dyn FnMut(CommandRef<'_>),
) -> Result<Played, String> {
    let mut player = Player::new(day, opening, rules, witness);
    player.set_up(opening)?;
    player.business(done)?;
    player.close()?;
    player.finish()
}

/// Tables that hold the day, and not much more.
pub fn limits(day: &Day) -> Limits {
    let room = |n: usize| u32::try_from(n).map_or(Limits::ENTRIES_MAX, |n| n + 1_024);
    let participants = day.participants as usize;
    Limits {
        participants: room(participants),
        accounts: room(participants),
        transfers: room(participants),
        payments: room(day.payments.len()),
        ..Limits::small()
    }
}

struct Player<'a> {
    day: &'a Day,
    rules: Rules,
    /// When the solver looks next; never where there is none.
    solves_at: u64,
    engine: Engine,
    outbox: Outbox,
    slot: CommandSlot,
    tally: Tally<'a>,
    witness: &'a mut dyn FnMut(CommandRef<'_>),
}

impl<'a> Player<'a> {
    fn new(
        day: &'a Day,
        opening: &'a [u128],
        rules: Rules,
        witness: &'a mut dyn FnMut(CommandRef<'_>),
    ) -> Player<'a> {
        let interval = |batches: Batches| day.hours.opens_at + every_ns(batches);
        Player {
            day,
            rules,
            solves_at: rules.batches().map_or(u64::MAX, interval),
            engine: Engine::new(&limits(day)),
            outbox: Outbox::with_capacity(4_096),
            slot: CommandSlot::default(),
            tally: Tally::new(day, opening),
            witness,
        }
    }

    /// Accounts, the first phases and the opening balances, switches.
    fn set_up(&mut self, opening: &[u128]) -> Result<(), String> {
        let at = self.day.hours.opens_at.saturating_sub(MARGIN);
        let issuer = AccountFlags::NONE;
        self.give_frame(at, create_asset(CASH, "CASH"))?;
        self.give_frame(at, create_participant(CENTRAL_BANK, "CENTRALBANK"))?;
        self.give_frame(at, create_account(ISSUER, CENTRAL_BANK, CASH, issuer))?;
        for bank in 1..=self.day.participants {
            let flags = AccountFlags::SETTLEMENT;
            self.give_frame(at, create_participant(bank, &format!("BANK{bank:06}")))?;
            self.give_frame(at, create_account(bank.into(), bank, CASH, flags))?;
        }
        self.set_phase(at, DayPhase::Sod)?;
        self.set_phase(at, DayPhase::Liquidity)?;
        for (bank, amount) in (1..).zip(opening).filter(|(_, amount)| **amount > 0) {
            let body = transfer(u128::from(bank), ISSUER, bank, *amount);
            self.give(at, CommandKind::Transfer, &body)?;
        }
        let opens_at = self.day.hours.opens_at;
        self.set_phase(opens_at, DayPhase::Open)?;
        // From here on runs are counted.
        let switches = switches(self.rules);
        self.give(opens_at, CommandKind::SetLiquiditySaving, &switches)
    }

    fn business(&mut self, done: &AtomicU64) -> Result<(), String> {
        let day = self.day;
        let cut_off = day.hours.customers_until;
        let mut is_cut = false;
        for (index, payment) in day.payments.iter().enumerate() {
            if !is_cut && payment.at >= cut_off {
                is_cut = true;
                self.pass_time(cut_off)?;
                self.set_phase(cut_off, DayPhase::Cut1)?;
            }
            self.pass_time(payment.at)?;
            let body = submission(index, payment);
            self.give(payment.at, CommandKind::SubmitPayment, &body)?;
            if index % REPORT_EVERY == 0 {
                done.fetch_add(REPORT_EVERY as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// A last run, then the end of the day: what still waits is rejected.
    fn close(&mut self) -> Result<(), String> {
        let closes_at = self.day.hours.closes_at;
        self.pass_time(closes_at)?;
        if let Some(saving) = self.rules.saving() {
            let body = RunLiquiditySaving {
                algorithm: saving.algorithm,
                _reserved: [Z; 15],
            };
            self.give(closes_at, CommandKind::RunLiquiditySaving, &body)?;
            self.propose_batches(closes_at)?;
            self.tick_until(closes_at)?;
        }
        self.set_phase(closes_at, DayPhase::Cut2)?;
        self.set_phase(closes_at + MARGIN, DayPhase::Eod1)?;
        self.set_phase(closes_at + MARGIN, DayPhase::Closed)
    }

    fn finish(self) -> Result<Played, String> {
        self.engine.audit()?;
        for (bank, balance) in (1..).zip(self.tally.balances()) {
            let account = self.engine.account(AccountId(bank));
            let account = account.ok_or("an account is gone")?;
            if account.available != *balance {
                return Err(format!(
                    "account {bank} has {}, its events say {balance}",
                    account.available
                ));
            }
        }
        Ok(Played {
            commands: self.engine.sequence(),
            digest: self.engine.digest(),
            measures: self.tally.finish()?,
        })
    }

    /// Lets time pass until `until`: what the engine waits for happens when it is due, and the solver
    /// looks when it is its turn.
    fn pass_time(&mut self, until: u64) -> Result<(), String> {
        while self.solves_at <= until {
            let at = self.solves_at;
            self.tick_until(at)?;
            self.propose_batches(at)?;
            self.solves_at = at + self.rules.batches().map_or(u64::MAX - at, every_ns);
        }
        self.tick_until(until)
    }

    /// Solves what waits and proposes what was found: what does not fit into one command goes in
    /// several, each of which can settle by itself.
    fn propose_batches(&mut self, at: u64) -> Result<(), String> {
        let Some(batches) = self.rules.batches() else {
            return Ok(());
        };
        let budget = Budget {
            steps: batches.steps,
            ..Budget::default()
        };
        // Each round settles something or is the last.
        loop {
            let Some(found) = problems(&self.engine.waiting()).pop() else {
                return Ok(());
            };
            let chosen = solver::solve(&found.problem, budget).payments;
            let part = solver::first_part(&found.problem, &chosen, ITEMS_MAX);
            if part.is_empty() {
                return Ok(());
            }
            self.propose(at, &found.ids(&part))?;
            if part.len() == chosen.len() {
                return Ok(());
            }
        }
    }

    fn propose(&mut self, at: u64, ids: &[PaymentId]) -> Result<(), String> {
        let head = ProposeBatch {
            based_on_seq: self.engine.sequence(),
            count: ids.len() as u32,
            _reserved: [Z; 4],
        };
        let items: Vec<BatchItem> = ids.iter().map(|id| BatchItem { id: *id }).collect();
        let kind = CommandKind::ProposeBatch;
        self.give_frame(at, CommandFrame::with_items(kind, &head, &items))
    }

    fn tick_until(&mut self, until: u64) -> Result<(), String> {
        while let Some(due) = self.engine.next_deadline()
            && due.0 <= until
        {
            let at = due.max(self.engine.now());
            let tick = CommandFrame::new(CommandKind::Tick, &Empty { _reserved: [Z; 16] });
            self.give_frame(at.0, tick)?;
        }
        Ok(())
    }

    fn set_phase(&mut self, at: u64, phase: DayPhase) -> Result<(), String> {
        let body = SetPhase {
            phase,
            _reserved: [Z; 3],
            business_date: 0,
            _reserved_end: [Z; 8],
        };
        self.give(at, CommandKind::SetPhase, &body)
    }

    /// Gives a short command to the engine, received at `at`.
    fn give<B: IntoBytes + Immutable>(
        &mut self,
        at: u64,
        kind: CommandKind,
        body: &B,
    ) -> Result<(), String> {
        fill(&mut self.slot, kind, body);
        let header = &mut self.slot.bytes[..HEADER_BYTES];
        bytemuck::from_bytes_mut::<CommandHeader>(header).received_at = at;
        let command = self.slot.command().expect("it fits a slot");
        (self.witness)(command);
        self.engine
            .apply(self.engine.sequence() + 1, command, &mut self.outbox);
        self.see()
    }

    /// Gives a command to the engine, received at `at`.
    fn give_frame(&mut self, at: u64, frame: CommandFrame) -> Result<(), String> {
        let frame = frame.at(Timestamp(at));
        (self.witness)(frame.as_ref());
        self.engine
            .apply(self.engine.sequence() + 1, frame.as_ref(), &mut self.outbox);
        self.see()
    }

    fn see(&mut self) -> Result<(), String> {
        let seen = self.tally.see(self.outbox.events());
        self.outbox.clear();
        seen
    }
}

/// Nanoseconds between two looks of the solver.
fn every_ns(batches: Batches) -> u64 {
    u64::from(batches.every_ms) * 1_000_000
}

fn switches(rules: Rules) -> SetLiquiditySaving {
    let (on, algorithm, interval_ms) = match rules.saving() {
        None => (Switch::Off, AlgorithmChoice::Keep, u32::MAX),
        Some(saving) => (Switch::On, choice(saving.algorithm), saving.every_ms),
    };
    SetLiquiditySaving {
        entry_offset: on,
        bypass: on,
        automatic: on,
        algorithm,
        // By the clock alone.
        every_queued: 0,
        interval_ms,
        scan_bound: 0,
    }
}

fn choice(algorithm: Algorithm) -> AlgorithmChoice {
    match algorithm {
        Algorithm::Grp => AlgorithmChoice::Grp,
        Algorithm::Bilateral => AlgorithmChoice::Bilateral,
        Algorithm::Multiple => AlgorithmChoice::Multiple,
        Algorithm::Greedy => AlgorithmChoice::Greedy,
        Algorithm::Batch => unreachable!("batches are proposed, not run"),
    }
}

fn submission(index: usize, payment: &Payment) -> SubmitPayment {
    SubmitPayment {
        id: PaymentId(index as u128 + 1),
        debtor_account: AccountId(u64::from(payment.debtor) + 1),
        creditor_account: AccountId(u64::from(payment.creditor) + 1),
        amount: Amount(payment.amount),
        return_of: PaymentId(0),
        earliest_at: Timestamp(0),
        latest_at: Timestamp(payment.latest_at),
        priority: payment.class,
        _reserved: [Z; 3],
        value_date: 0,
        _reserved_end: [Z; 8],
    }
}
