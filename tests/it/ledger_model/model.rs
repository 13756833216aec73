//! The ledger as docs/ledger.md says it, written to be read beside the page: rows in a queue that is
//! searched from end to end, sums checked before they are made, the whole state copied to undo a
//! chain. It shares the protocol's bodies with the engine and nothing else.

use millrace::engine::Limits;
use millrace::protocol::command::{
    AccountFlags, AuthorisationStep, Authorise, Command, CommandKind, CreateAccount, DayPhase,
    SetCreditLine, Transfer, TransferFlags,
};
use millrace::protocol::event::{self, AuthorisationState, TransferState};
use millrace::protocol::reason::Reason;
use millrace::protocol::units::{AccountId, Amount, AssetId, ParticipantId, TransferId};
use millrace::protocol::wire::Zero;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Deadlines that lapse before one command.
const LAPSES_MAX: usize = 256;
/// Old rows looked at for room before one command, beyond those it needs.
const LOOKS_MAX: usize = 256;
/// Largest credit line, minor units.
const CREDIT_LINE_MAX: u128 = 1 << 96;
const SECOND: u64 = 1_000_000_000;

/// One event as the page says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    Ok(CommandKind),
    Rejected(CommandKind, Reason, u128),
    Transfer {
        id: u128,
        status: Reason,
        amount: u128,
    },
    Authorisation {
        id: u128,
        state: AuthorisationState,
        held: u128,
        captured: u128,
        refunded: u128,
    },
}

#[derive(Clone, Debug)]
pub struct Account {
    pub participant: u32,
    pub asset: u32,
    /// As it was opened, with what the flags imply.
    pub flags: AccountFlags,
    pub is_closed: bool,
    pub debits_pending: u128,
    pub debits_posted: u128,
    pub credits_pending: u128,
    pub credits_posted: u128,
    pub credit_line: u128,
}

#[derive(Clone, Debug)]
pub struct TransferRow {
    pub id: u128,
    /// The business day of its use.
    pub day: u64,
    /// The business day on which it came to its place in the ring.
    place_day: u64,
    pub state: TransferState,
    pub debit: u64,
    pub credit: u64,
    pub amount: u128,
    pub pending_id: u128,
    pub timeout_s: u32,
    pub asset: u32,
    pub code: u16,
    pub flags: TransferFlags,
    pub user_data: (u128, u64, u32),
    /// Which of the user data of a post or void are those of its pending transfer.
    took_over: (bool, bool, bool),
    /// A post or void of all that was pending.
    is_whole: bool,
    pub deadline: Option<u64>,
    entry: u64,
}

#[derive(Clone, Debug)]
pub struct AuthorisationRow {
    pub id: u128,
    /// The business day of its use.
    day: u64,
    /// The business day on which it came to its place in the ring.
    place_day: u64,
    /// The business day of its last capture or refund.
    moved_day: u64,
    pub state: AuthorisationState,
    pub debit: u64,
    pub credit: u64,
    asked: u128,
    pub expires_at: u64,
    pub held: u128,
    pub captured: u128,
    pub refunded: u128,
    entry: u64,
}

#[derive(Clone, Debug)]
struct StepRow {
    day: u64,
    kind: CommandKind,
    asked: AuthorisationStep,
}

#[derive(Clone)]
pub struct Model {
    limits: Limits,
    pub now: u64,
    pub day: u64,
    pub phase: DayPhase,
    assets: BTreeSet<u32>,
    participants: BTreeSet<u32>,
    pub accounts: BTreeMap<u64, Account>,
    pub transfers: VecDeque<TransferRow>,
    pub authorisations: VecDeque<AuthorisationRow>,
    steps: VecDeque<StepRow>,
    /// Counts what was given a deadline.
    entries: u64,
    /// Whether old rows were let go before the last command was looked at.
    pub made_room: bool,
}

/// The sum of up to four amounts, as what goes beyond 2^128 and the rest.
fn wide(parts: &[u128]) -> (u32, u128) {
    parts.iter().fold((0, 0), |(high, low), part| {
        let (sum, carried) = low.overflowing_add(*part);
        (high + u32::from(carried), sum)
    })
}

/// `of - without`, nothing below zero, at most `most`.
fn left(of: &[u128], without: &[u128], most: u128) -> u128 {
    let ((of_high, of_low), (high, low)) = (wide(of), wide(without));
    if (of_high, of_low) <= (high, low) {
        return 0;
    }
    let borrow = u32::from(of_low < low);
    match of_high - high - borrow {
        0 => most.min(of_low.wrapping_sub(low)),
        _ => most,
    }
}

impl TransferRow {
    /// An id that stays failed.
    fn failed(id: u128, day: u64) -> TransferRow {
        TransferRow {
            id,
            day,
            place_day: day,
            state: TransferState::Failed,
            debit: 0,
            credit: 0,
            amount: 0,
            pending_id: 0,
            timeout_s: 0,
            asset: 0,
            code: 0,
            flags: TransferFlags::NONE,
            user_data: (0, 0, 0),
            took_over: (false, false, false),
            is_whole: false,
            deadline: None,
            entry: 0,
        }
    }
}

/// Whether another moment might have turned that refusal.
fn is_passing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DebitAccountNotFound
            | Reason::CreditAccountNotFound
            | Reason::PendingTransferNotFound
            | Reason::ExceedsCredits
            | Reason::ExceedsDebits
            | Reason::DebitAccountAlreadyClosed
            | Reason::CreditAccountAlreadyClosed
            | Reason::PhaseForbids
    )
}

impl Account {
    /// Credits and credit line together count up to 2^128-1.
    fn funds(&self) -> u128 {
        match wide(&[self.credits_posted, self.credit_line]) {
            (0, funds) => funds,
            _ => u128::MAX,
        }
    }

    /// What a debit may take, `most` at most.
    fn spendable(&self, most: u128) -> u128 {
        left(
            &[self.funds()],
            &[self.debits_posted, self.debits_pending],
            most,
        )
    }

    /// How far its debits exceed its credits, `most` at most.
    fn room_for_credit(&self, most: u128) -> u128 {
        left(
            &[self.debits_posted],
            &[self.credits_posted, self.credits_pending],
            most,
        )
    }

    fn check_limits(&self, is_debit: bool, amount: u128) -> Result<(), Reason> {
        let debits = [self.debits_pending, self.debits_posted, amount];
        if is_debit
            && self.flags.has(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
            && wide(&debits) > wide(&[self.funds()])
        {
            return Err(Reason::ExceedsCredits);
        }
        let credits = [self.credits_pending, self.credits_posted, amount];
        if !is_debit
            && self.flags.has(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
            && wide(&credits) > wide(&[self.debits_posted])
        {
            return Err(Reason::ExceedsDebits);
        }
        Ok(())
    }

    /// credits_posted - debits_posted - debits_pending + credit_line.
    fn available(&self) -> i128 {
        let plus = [self.funds()];
        let minus = [self.debits_posted, self.debits_pending];
        let above = left(&plus, &minus, i128::MAX as u128);
        let below = left(&minus, &plus, i128::MAX as u128 + 1);
        if above > 0 {
            above as i128
        } else {
            (below as i128).wrapping_neg()
        }
    }
}

fn in_window(limits: &Limits, day: u64, today: u64) -> bool {
    today - day < u64::from(limits.window_days)
}

/// What lies in a ring of the window.
trait Remembered {
    fn place_day(&mut self) -> &mut u64;
    /// Whether it holds something, so that it stays beyond its days.
    fn must_stay(&self, limits: &Limits, today: u64) -> bool;
}

impl Remembered for TransferRow {
    fn place_day(&mut self) -> &mut u64 {
        &mut self.place_day
    }

    fn must_stay(&self, _limits: &Limits, _today: u64) -> bool {
        self.state == TransferState::Pending
    }
}

impl Remembered for AuthorisationRow {
    fn place_day(&mut self) -> &mut u64 {
        &mut self.place_day
    }

    fn must_stay(&self, limits: &Limits, today: u64) -> bool {
        let refundable_to = self.moved_day + u64::from(limits.refund_days);
        let waits = self.held > 0 || self.expires_at != 0;
        (self.state == AuthorisationState::Open && waits)
            || (self.captured > self.refunded && today <= refundable_to)
    }
}

impl AuthorisationRow {
    fn is_known(&self, limits: &Limits, today: u64) -> bool {
        in_window(limits, self.day, today) || self.must_stay(limits, today)
    }
}

impl Remembered for StepRow {
    fn place_day(&mut self) -> &mut u64 {
        &mut self.day
    }

    fn must_stay(&self, _limits: &Limits, _today: u64) -> bool {
        false
    }
}

/// Lets the oldest row go, if its days are over; one that must stay is carried on.
fn let_one_go<R: Remembered>(rows: &mut VecDeque<R>, limits: &Limits, today: u64) -> bool {
    let Some(mut row) = rows.pop_front() else {
        return false;
    };
    if in_window(limits, *row.place_day(), today) {
        rows.push_front(row);
        return false;
    }
    if row.must_stay(limits, today) {
        *row.place_day() = today;
        rows.push_back(row);
    }
    true
}

/// Lets go what `wanted` new rows need room for, in a ring of `most`; says whether any went. One that is
/// carried on makes no room, and after so many looks the ring counts as full.
fn make_room<R: Remembered>(
    rows: &mut VecDeque<R>,
    most: u32,
    wanted: usize,
    limits: &Limits,
    today: u64,
) -> bool {
    let mut looks = 0;
    while rows.len() + wanted > most as usize
        && looks < wanted + LOOKS_MAX
        && let_one_go(rows, limits, today)
    {
        looks += 1;
    }
    looks > 0
}

type Done = Result<u128, Reason>;

impl Model {
    pub fn new(limits: &Limits) -> Model {
        Model {
            limits: limits.clone(),
            now: 0,
            day: 0,
            phase: DayPhase::Open,
            assets: BTreeSet::new(),
            participants: BTreeSet::new(),
            accounts: BTreeMap::new(),
            transfers: VecDeque::new(),
            authorisations: VecDeque::new(),
            steps: VecDeque::new(),
            entries: 0,
            made_room: false,
        }
    }

    /// What the engine must answer.
    pub fn apply(&mut self, received_at: u64, command: Command<'_>) -> Vec<Answer> {
        self.now = self.now.max(received_at);
        self.made_room = false;
        let mut answers = self.lapse();
        match command {
            Command::CreateAsset(asked) => {
                self.assets.insert(asked.asset.0);
                answers.push(Answer::Ok(CommandKind::CreateAsset));
            }
            Command::CreateParticipant(asked) => {
                self.participants.insert(asked.participant.0);
                answers.push(Answer::Ok(CommandKind::CreateParticipant));
            }
            Command::CreateAccount(asked) => {
                let result = self.create_account(asked);
                let id = asked.account.0.into();
                answers.push(administrative(CommandKind::CreateAccount, id, result));
            }
            Command::SetCreditLine(asked) => {
                let result = self.set_credit_line(asked);
                let id = asked.account.0.into();
                answers.push(administrative(CommandKind::SetCreditLine, id, result));
            }
            Command::SetPhase(asked) => {
                let result = self.set_phase(asked.phase);
                answers.push(administrative(CommandKind::SetPhase, 0, result));
            }
            Command::Tick(_) => answers.push(Answer::Ok(CommandKind::Tick)),
            Command::Transfer(asked) => self.batch(std::slice::from_ref(asked), &mut answers),
            Command::Transfers(_, asked) => self.batch(asked, &mut answers),
            Command::Authorise(asked) => {
                let refused = |reason| Answer::Rejected(CommandKind::Authorise, reason, asked.id.0);
                answers.push(self.authorise(asked).unwrap_or_else(refused));
            }
            Command::Increment(asked) => self.step(CommandKind::Increment, asked, &mut answers),
            Command::Capture(asked) => self.step(CommandKind::Capture, asked, &mut answers),
            Command::Void(asked) => self.step(CommandKind::Void, asked, &mut answers),
            Command::Refund(asked) => self.step(CommandKind::Refund, asked, &mut answers),
            other => panic!("the model does not know {other:?}"),
        }
        answers
    }

    // Setting up.

    fn create_account(&mut self, asked: &CreateAccount) -> Result<(), Reason> {
        let mut flags = asked.flags;
        let by_command = AccountFlags::CLOSED.0 | AccountFlags::PARTIAL_SETTLEMENT.0;
        if !flags.is_valid() || flags.0 & by_command != 0 {
            return Err(Reason::ReservedFlag);
        }
        if flags.has(AccountFlags::SETTLEMENT) {
            flags = flags.with(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
        }
        match asked.account.0 {
            0 => return Err(Reason::IdMustNotBeZero),
            u64::MAX => return Err(Reason::IdMustNotBeIntMax),
            _ => {}
        }
        if let Some(old) = self.accounts.get(&asked.account.0) {
            let is_same = old.participant == asked.participant.0
                && old.asset == asked.asset.0
                && old.flags == flags;
            return Err(if is_same {
                Reason::Exists
            } else {
                Reason::ExistsWithDifferentContent
            });
        }
        if asked.flags.has(
            AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
                .with(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS),
        ) {
            return Err(Reason::FlagsAreMutuallyExclusive);
        }
        if !self.participants.contains(&asked.participant.0) {
            return Err(Reason::ParticipantNotFound);
        }
        if !self.assets.contains(&asked.asset.0) {
            return Err(Reason::AssetNotFound);
        }
        if asked.credit_line.0 > CREDIT_LINE_MAX {
            return Err(Reason::AmountOutOfRange);
        }
        if self.accounts.len() == self.limits.accounts as usize {
            return Err(Reason::CapacityExhausted);
        }
        let account = Account {
            participant: asked.participant.0,
            asset: asked.asset.0,
            flags,
            is_closed: false,
            debits_pending: 0,
            debits_posted: 0,
            credits_pending: 0,
            credits_posted: 0,
            credit_line: asked.credit_line.0,
        };
        self.accounts.insert(asked.account.0, account);
        Ok(())
    }

    fn set_credit_line(&mut self, asked: &SetCreditLine) -> Result<(), Reason> {
        let Some(account) = self.accounts.get_mut(&asked.account.0) else {
            return Err(Reason::AccountNotFound);
        };
        if asked.amount.0 > CREDIT_LINE_MAX {
            return Err(Reason::AmountOutOfRange);
        }
        account.credit_line = asked.amount.0;
        Ok(())
    }

    /// closed -> sod -> ... -> recon -> closed: forward only; leaving closed, and the first phase
    /// ever set, begin a day.
    fn set_phase(&mut self, phase: DayPhase) -> Result<(), Reason> {
        let place = |phase| match phase {
            DayPhase::Closed => 9,
            other => other as u8,
        };
        if self.day > 0 && phase == self.phase {
            return Ok(());
        }
        if self.day == 0 || self.phase == DayPhase::Closed {
            self.day += 1;
        } else if place(phase) <= place(self.phase) {
            return Err(Reason::PhaseOutOfOrder);
        }
        self.phase = phase;
        Ok(())
    }

    /// The day's phase lets things move between two accounts; between two instant ones all phases do.
    fn check_phase(&self, debit: u64, credit: u64) -> Result<(), Reason> {
        let is_instant = |account| self.accounts[&account].flags.has(AccountFlags::INSTANT);
        let is_closed = matches!(self.phase, DayPhase::Closed | DayPhase::Recon);
        if is_closed && !(is_instant(debit) && is_instant(credit)) {
            return Err(Reason::PhaseForbids);
        }
        Ok(())
    }

    // Time.

    /// What is due lapses, earliest first, then in order of entry.
    fn lapse(&mut self) -> Vec<Answer> {
        let mut due: Vec<(u64, u64, bool, u128)> = Vec::new();
        for row in &self.transfers {
            if row.state == TransferState::Pending
                && let Some(at) = row.deadline.filter(|at| *at <= self.now)
            {
                due.push((at, row.entry, true, row.id));
            }
        }
        for row in &self.authorisations {
            if row.state == AuthorisationState::Open
                && row.expires_at != 0
                && row.expires_at <= self.now
            {
                due.push((row.expires_at, row.entry, false, row.id));
            }
        }
        due.sort_unstable();
        due.truncate(LAPSES_MAX);
        let mut answers = Vec::new();
        for (_, _, is_transfer, id) in due {
            answers.push(if is_transfer {
                let row = self.pending_row(id).clone();
                self.release(&row, TransferState::Expired);
                Answer::Transfer {
                    id,
                    status: Reason::Expired,
                    amount: row.amount,
                }
            } else {
                let row = self.authorisation(id).expect("open").clone();
                self.unreserve(row.debit, row.credit, row.held);
                let row = self.authorisation_mut(id);
                row.held = 0;
                row.state = AuthorisationState::Expired;
                describe(row)
            });
        }
        answers
    }

    // Transfers.

    fn knows(&self, row: &TransferRow) -> bool {
        row.state == TransferState::Pending || in_window(&self.limits, row.day, self.day)
    }

    /// The transfer of that id that the window knows.
    pub fn transfer(&self, id: u128) -> Option<&TransferRow> {
        let mut rows = self.transfers.iter();
        rows.find(|row| row.id == id && self.knows(row))
    }

    fn pending_row(&mut self, id: u128) -> &mut TransferRow {
        let mut rows = self.transfers.iter_mut();
        rows.find(|row| row.id == id && row.state == TransferState::Pending)
            .expect("looked up before")
    }

    fn batch(&mut self, asked: &[Transfer], answers: &mut Vec<Answer>) {
        let (limits, today) = (&self.limits, self.day);
        let (most, wanted) = (limits.transfers, asked.len());
        self.made_room = make_room(&mut self.transfers, most, wanted, limits, today);
        let mut at = 0;
        while at < asked.len() {
            let linked = asked[at..]
                .iter()
                .take_while(|transfer| transfer.flags.has(TransferFlags::LINKED))
                .count();
            let is_open = at + linked == asked.len();
            let end = asked.len().min(at + linked + 1);
            if linked == 0 {
                let result = self.create(&asked[at]);
                if result.is_ok() {
                    self.let_go(2);
                }
                answers.push(self.answer(&asked[at], result));
            } else {
                self.chain(&asked[at..end], is_open, answers);
            }
            at = end;
        }
    }

    /// What one transfer is answered. A refusal that another moment might have turned keeps its id;
    /// where there is no room for that, it is refused for the lack of it. An id that a chain found free
    /// only because it had posted or voided the old transfer that has it, is that transfer's again.
    fn answer(&mut self, asked: &Transfer, result: Done) -> Answer {
        let id = asked.id.0;
        let is_free = self.transfer(id).is_none();
        let (status, amount) = match result {
            Ok(amount) => (Reason::Created, amount),
            Err(Reason::Exists) => {
                let amount = self.transfer(id).map_or(0, |row| row.amount);
                (Reason::Exists, amount)
            }
            Err(reason) if is_passing(reason) && is_free && !self.has_room_for_transfer() => {
                (Reason::CapacityExhausted, 0)
            }
            Err(reason) => {
                if is_passing(reason) && is_free {
                    self.transfers.push_back(TransferRow::failed(id, self.day));
                    self.let_go(2);
                }
                (reason, 0)
            }
        };
        Answer::Transfer { id, status, amount }
    }

    /// Each new row lets two old ones go.
    fn let_go(&mut self, rows: usize) {
        for _ in 0..rows {
            let_one_go(&mut self.transfers, &self.limits, self.day);
        }
    }

    /// All or nothing.
    fn chain(&mut self, asked: &[Transfer], is_open: bool, answers: &mut Vec<Answer>) {
        let before = self.clone();
        let last = asked.len() - 1;
        let mut moved = Vec::new();
        let mut failed = None;
        for (at, transfer) in asked.iter().enumerate() {
            if is_open && at == last {
                break;
            }
            match self.create(transfer) {
                Ok(amount) => moved.push(amount),
                Err(reason) => {
                    failed = Some((at, reason));
                    break;
                }
            }
        }
        if failed.is_none() && !is_open {
            self.let_go(2 * asked.len());
            for (transfer, amount) in asked.iter().zip(moved) {
                answers.push(self.answer(transfer, Ok(amount)));
            }
            return;
        }
        *self = before;
        for (at, transfer) in asked.iter().enumerate() {
            let status = match failed {
                _ if is_open && at == last => Reason::LinkedEventChainOpen,
                Some((own, reason)) if own == at => reason,
                _ => Reason::LinkedEventFailed,
            };
            answers.push(self.answer(transfer, Err(status)));
        }
    }

    fn has_room_for_transfer(&self) -> bool {
        self.transfers.len() < self.limits.transfers as usize
    }

    /// One transfer: what moved, or why not. Changes nothing where it is refused.
    fn create(&mut self, asked: &Transfer) -> Done {
        if !asked.flags.is_valid() {
            return Err(Reason::ReservedFlag);
        }
        check_id(asked.id.0)?;
        if let Some(known) = self.transfer(asked.id.0) {
            return Err(compare(asked, known));
        }
        if asked.flags.resolves() {
            self.resolve(asked)
        } else {
            self.enter(asked)
        }
    }

    /// Plain, pending, balancing or closing.
    fn enter(&mut self, asked: &Transfer) -> Done {
        let flags = asked.flags;
        let is_pending = flags.has(TransferFlags::PENDING);
        check_accounts_named(asked.debit_account.0, asked.credit_account.0)?;
        if asked.pending_id.0 != 0 {
            return Err(Reason::PendingIdMustBeZero);
        }
        if asked.timeout_s != 0 && !is_pending {
            return Err(Reason::TimeoutReservedForPendingTransfer);
        }
        if flags.is_closing() && !is_pending {
            return Err(Reason::ClosingTransferMustBePending);
        }
        let asset = self.check_accounts(asked.debit_account.0, asked.credit_account.0)?;
        if asked.asset.0 != 0 && asked.asset.0 != asset {
            return Err(Reason::TransferMustHaveTheSameLedgerAsAccounts);
        }
        self.check_phase(asked.debit_account.0, asked.credit_account.0)?;
        self.check_open(asked.debit_account.0, asked.credit_account.0)?;
        let debit = &self.accounts[&asked.debit_account.0];
        let credit = &self.accounts[&asked.credit_account.0];
        let mut amount = asked.amount.0;
        if flags.has(TransferFlags::BALANCING_DEBIT) {
            amount = debit.spendable(amount);
        }
        if flags.has(TransferFlags::BALANCING_CREDIT) {
            amount = credit.room_for_credit(amount);
        }
        check_overflows(debit, credit, amount, is_pending)?;
        let deadline = match asked.timeout_s {
            0 => None,
            seconds => {
                let at = self.now.checked_add(u64::from(seconds) * SECOND);
                Some(at.ok_or(Reason::OverflowsTimeout)?)
            }
        };
        debit.check_limits(true, amount)?;
        credit.check_limits(false, amount)?;
        if !self.has_room_for_transfer() {
            return Err(Reason::CapacityExhausted);
        }

        let debit = self.account(asked.debit_account.0);
        if is_pending {
            debit.debits_pending += amount;
        } else {
            debit.debits_posted += amount;
        }
        debit.is_closed |= flags.has(TransferFlags::CLOSING_DEBIT);
        let credit = self.account(asked.credit_account.0);
        if is_pending {
            credit.credits_pending += amount;
        } else {
            credit.credits_posted += amount;
        }
        credit.is_closed |= flags.has(TransferFlags::CLOSING_CREDIT);
        self.entries += 1;
        self.transfers.push_back(TransferRow {
            id: asked.id.0,
            day: self.day,
            place_day: self.day,
            state: if is_pending {
                TransferState::Pending
            } else {
                TransferState::Done
            },
            debit: asked.debit_account.0,
            credit: asked.credit_account.0,
            amount,
            pending_id: 0,
            timeout_s: asked.timeout_s,
            asset,
            code: asked.code,
            flags,
            user_data: (asked.user_data_128, asked.user_data_64, asked.user_data_32),
            took_over: (false, false, false),
            is_whole: false,
            deadline,
            entry: self.entries,
        });
        Ok(amount)
    }

    /// Post or void.
    fn resolve(&mut self, asked: &Transfer) -> Done {
        let how = asked.flags.0 & !TransferFlags::LINKED.0;
        let is_post = how == TransferFlags::POST_PENDING.0;
        if !is_post && how != TransferFlags::VOID_PENDING.0 {
            return Err(Reason::FlagsAreMutuallyExclusive);
        }
        match asked.pending_id.0 {
            0 => return Err(Reason::PendingIdMustNotBeZero),
            u128::MAX => return Err(Reason::PendingIdMustNotBeIntMax),
            id if id == asked.id.0 => return Err(Reason::PendingIdMustBeDifferent),
            _ => {}
        }
        if asked.timeout_s != 0 {
            return Err(Reason::TimeoutReservedForPendingTransfer);
        }
        let pending = match self.transfer(asked.pending_id.0) {
            // A transfer that failed is no transfer.
            Some(row) if row.state != TransferState::Failed => row.clone(),
            _ => return Err(Reason::PendingTransferNotFound),
        };
        if !pending.flags.has(TransferFlags::PENDING) {
            return Err(Reason::PendingTransferNotPending);
        }
        if asked.debit_account.0 != 0 && asked.debit_account.0 != pending.debit {
            return Err(Reason::PendingTransferHasDifferentDebitAccountId);
        }
        if asked.credit_account.0 != 0 && asked.credit_account.0 != pending.credit {
            return Err(Reason::PendingTransferHasDifferentCreditAccountId);
        }
        if asked.asset.0 != 0 && asked.asset.0 != pending.asset {
            return Err(Reason::PendingTransferHasDifferentLedger);
        }
        if asked.code != 0 && asked.code != pending.code {
            return Err(Reason::PendingTransferHasDifferentCode);
        }
        let amount = match asked.amount.0 {
            u128::MAX => pending.amount,
            0 if !is_post => pending.amount,
            amount => amount,
        };
        if amount > pending.amount {
            return Err(Reason::ExceedsPendingTransferAmount);
        }
        if !is_post && amount < pending.amount {
            return Err(Reason::PendingTransferHasDifferentAmount);
        }
        match pending.state {
            TransferState::Pending => {}
            TransferState::Posted => return Err(Reason::PendingTransferAlreadyPosted),
            TransferState::Voided => return Err(Reason::PendingTransferAlreadyVoided),
            TransferState::Expired => return Err(Reason::PendingTransferExpired),
            TransferState::Done | TransferState::Failed => unreachable!("was pending"),
        }
        if pending.deadline.is_some_and(|at| at <= self.now) {
            return Err(Reason::PendingTransferExpired);
        }
        self.check_phase(pending.debit, pending.credit)?;
        if is_post {
            self.check_open(pending.debit, pending.credit)?;
        }
        if !self.has_room_for_transfer() {
            return Err(Reason::CapacityExhausted);
        }

        if is_post {
            self.release(&pending, TransferState::Posted);
            self.account(pending.debit).debits_posted += amount;
            self.account(pending.credit).credits_posted += amount;
        } else {
            self.release(&pending, TransferState::Voided);
        }
        let or = |asked: u128, taken: u128| if asked == 0 { taken } else { asked };
        let user_data = (
            or(asked.user_data_128, pending.user_data.0),
            or(asked.user_data_64.into(), pending.user_data.1.into()) as u64,
            or(asked.user_data_32.into(), pending.user_data.2.into()) as u32,
        );
        self.transfers.push_back(TransferRow {
            id: asked.id.0,
            day: self.day,
            place_day: self.day,
            state: TransferState::Done,
            debit: pending.debit,
            credit: pending.credit,
            amount,
            pending_id: pending.id,
            timeout_s: 0,
            asset: pending.asset,
            code: pending.code,
            flags: asked.flags,
            user_data,
            took_over: (
                user_data.0 == pending.user_data.0,
                user_data.1 == pending.user_data.1,
                user_data.2 == pending.user_data.2,
            ),
            is_whole: amount == pending.amount,
            deadline: None,
            entry: 0,
        });
        Ok(amount)
    }

    /// Ends a pending transfer: what it reserved is free, what it closed is open.
    fn release(&mut self, pending: &TransferRow, state: TransferState) {
        self.unreserve(pending.debit, pending.credit, pending.amount);
        if pending.flags.has(TransferFlags::CLOSING_DEBIT) {
            self.account(pending.debit).is_closed = false;
        }
        if pending.flags.has(TransferFlags::CLOSING_CREDIT) {
            self.account(pending.credit).is_closed = false;
        }
        self.pending_row(pending.id).state = state;
    }

    fn unreserve(&mut self, debit: u64, credit: u64, amount: u128) {
        let debit = self.account(debit);
        debit.debits_pending = debit.debits_pending.checked_sub(amount).expect("reserved");
        let credit = self.account(credit);
        credit.credits_pending = credit
            .credits_pending
            .checked_sub(amount)
            .expect("reserved");
    }

    fn account(&mut self, id: u64) -> &mut Account {
        self.accounts.get_mut(&id).expect("looked up before")
    }

    /// Both are there and hold the same asset, which is returned.
    fn check_accounts(&self, debit: u64, credit: u64) -> Result<u32, Reason> {
        let debit = self.accounts.get(&debit);
        let debit = debit.ok_or(Reason::DebitAccountNotFound)?;
        let credit = self.accounts.get(&credit);
        let credit = credit.ok_or(Reason::CreditAccountNotFound)?;
        if debit.asset != credit.asset {
            return Err(Reason::AccountsMustHaveTheSameLedger);
        }
        Ok(debit.asset)
    }

    fn check_open(&self, debit: u64, credit: u64) -> Result<(), Reason> {
        if self.accounts[&debit].is_closed {
            return Err(Reason::DebitAccountAlreadyClosed);
        }
        if self.accounts[&credit].is_closed {
            return Err(Reason::CreditAccountAlreadyClosed);
        }
        Ok(())
    }

    // Authorisations.

    /// The authorisation of that id that is known.
    pub fn authorisation(&self, id: u128) -> Option<&AuthorisationRow> {
        let mut rows = self.authorisations.iter();
        rows.find(|row| row.id == id && row.is_known(&self.limits, self.day))
    }

    fn authorisation_mut(&mut self, id: u128) -> &mut AuthorisationRow {
        let (limits, day) = (&self.limits, self.day);
        let mut rows = self.authorisations.iter_mut();
        rows.find(|row| row.id == id && row.is_known(limits, day))
            .expect("looked up before")
    }

    fn authorise(&mut self, asked: &Authorise) -> Result<Answer, Reason> {
        let (id, amount) = (asked.id.0, asked.amount.0);
        let (limits, today) = (&self.limits, self.day);
        let most = limits.authorisations;
        self.made_room = make_room(&mut self.authorisations, most, 1, limits, today);
        check_id(id)?;
        if let Some(known) = self.authorisation(id) {
            let is_same = known.debit == asked.debit_account.0
                && known.credit == asked.credit_account.0
                && known.asked == amount
                && known.expires_at == asked.expires_at.0;
            return Err(if is_same {
                Reason::Exists
            } else {
                Reason::ExistsWithDifferentContent
            });
        }
        check_accounts_named(asked.debit_account.0, asked.credit_account.0)?;
        if amount == 0 {
            return Err(Reason::AmountMustNotBeZero);
        }
        if asked.expires_at.0 != 0 && asked.expires_at.0 <= self.now {
            return Err(Reason::TimeOutOfRange);
        }
        self.check_accounts(asked.debit_account.0, asked.credit_account.0)?;
        self.check_phase(asked.debit_account.0, asked.credit_account.0)?;
        self.check_hold(asked.debit_account.0, asked.credit_account.0, amount)?;
        if self.authorisations.len() == self.limits.authorisations as usize {
            return Err(Reason::CapacityExhausted);
        }

        self.account(asked.debit_account.0).debits_pending += amount;
        self.account(asked.credit_account.0).credits_pending += amount;
        self.entries += 1;
        self.authorisations.push_back(AuthorisationRow {
            id,
            day: self.day,
            place_day: self.day,
            moved_day: self.day,
            state: AuthorisationState::Open,
            debit: asked.debit_account.0,
            credit: asked.credit_account.0,
            asked: amount,
            expires_at: asked.expires_at.0,
            held: amount,
            captured: 0,
            refunded: 0,
            entry: self.entries,
        });
        self.let_authorisations_go();
        Ok(self.authorisation_event(id).expect("just made"))
    }

    /// Each authorisation and each step lets two old rows of either kind go.
    fn let_authorisations_go(&mut self) {
        for _ in 0..2 {
            let_one_go(&mut self.authorisations, &self.limits, self.day);
            let_one_go(&mut self.steps, &self.limits, self.day);
        }
    }

    /// Whether `amount` more may be held.
    fn check_hold(&self, debit: u64, credit: u64, amount: u128) -> Result<(), Reason> {
        self.check_open(debit, credit)?;
        let (debit, credit) = (&self.accounts[&debit], &self.accounts[&credit]);
        check_overflows(debit, credit, amount, true)?;
        debit.check_limits(true, amount)?;
        credit.check_limits(false, amount)
    }

    fn step(&mut self, kind: CommandKind, asked: &AuthorisationStep, answers: &mut Vec<Answer>) {
        let refused = |reason| Answer::Rejected(kind, reason, asked.id.0);
        answers.push(self.take_step(kind, asked).unwrap_or_else(refused));
    }

    fn take_step(
        &mut self,
        kind: CommandKind,
        asked: &AuthorisationStep,
    ) -> Result<Answer, Reason> {
        let is_named = asked.authorisation.0 != 0;
        if is_named {
            let (limits, today) = (&self.limits, self.day);
            let most = limits.authorisation_steps;
            self.made_room = make_room(&mut self.steps, most, 1, limits, today);
        }
        check_id(asked.id.0)?;
        if is_named {
            let known = self
                .steps
                .iter()
                .find(|row| row.asked.id == asked.id && in_window(&self.limits, row.day, self.day));
            if let Some(known) = known {
                let is_same = known.kind == kind
                    && known.asked.authorisation == asked.authorisation
                    && known.asked.amount == asked.amount
                    && known.asked.is_final == asked.is_final;
                return Err(if is_same {
                    Reason::Exists
                } else {
                    Reason::ExistsWithDifferentContent
                });
            }
        }
        let id = if is_named {
            asked.authorisation.0
        } else {
            asked.id.0
        };
        let row = self.authorisation(id);
        let row = row.ok_or(Reason::AuthorisationNotFound)?.clone();
        let names_others = (asked.debit_account.0 != 0 && asked.debit_account.0 != row.debit)
            || (asked.credit_account.0 != 0 && asked.credit_account.0 != row.credit);
        if names_others {
            return Err(Reason::ExistsWithDifferentContent);
        }
        self.check_phase(row.debit, row.credit)?;
        if is_named && self.steps.len() == self.limits.authorisation_steps as usize {
            return Err(Reason::CapacityExhausted);
        }
        let after = self.check_step(kind, asked, &row)?;

        // The difference of the two rows is what moves.
        let (debit, credit) = (row.debit, row.credit);
        self.unreserve(debit, credit, row.held);
        self.account(debit).debits_pending += after.held;
        self.account(credit).credits_pending += after.held;
        let captured = after.captured - row.captured;
        self.account(debit).debits_posted += captured;
        self.account(credit).credits_posted += captured;
        let refunded = after.refunded - row.refunded;
        self.account(credit).debits_posted += refunded;
        self.account(debit).credits_posted += refunded;
        let mut moved_day = row.moved_day;
        if matches!(kind, CommandKind::Capture | CommandKind::Refund) {
            moved_day = self.day;
        }
        let after = AuthorisationRow { moved_day, ..after };
        let answer = describe(&after);
        *self.authorisation_mut(id) = after;
        if is_named {
            self.steps.push_back(StepRow {
                day: self.day,
                kind,
                asked: *asked,
            });
        }
        self.let_authorisations_go();
        Ok(answer)
    }

    /// The authorisation as the step would leave it.
    fn check_step(
        &self,
        kind: CommandKind,
        asked: &AuthorisationStep,
        row: &AuthorisationRow,
    ) -> Result<AuthorisationRow, Reason> {
        let mut after = row.clone();
        let amount = asked.amount.0;
        if kind == CommandKind::Refund {
            let refundable = row.captured - row.refunded;
            let amount = match amount {
                u128::MAX => refundable,
                amount => amount,
            };
            if amount > refundable {
                return Err(Reason::OverRefund);
            }
            if amount == 0 {
                return Err(Reason::AmountMustNotBeZero);
            }
            // An ordinary posting the other way.
            self.check_open(row.credit, row.debit)?;
            let (debit, credit) = (&self.accounts[&row.credit], &self.accounts[&row.debit]);
            check_overflows(debit, credit, amount, false)?;
            debit.check_limits(true, amount)?;
            credit.check_limits(false, amount)?;
            after.refunded += amount;
            return Ok(after);
        }
        match row.state {
            AuthorisationState::Open => {}
            AuthorisationState::Expired => return Err(Reason::Expired),
            AuthorisationState::Closed | AuthorisationState::Voided => {
                return Err(Reason::AuthorisationClosed);
            }
            AuthorisationState::None => unreachable!("never kept"),
        }
        if row.expires_at != 0 && row.expires_at <= self.now {
            return Err(Reason::Expired);
        }
        match kind {
            CommandKind::Increment => {
                if amount == 0 {
                    return Err(Reason::AmountMustNotBeZero);
                }
                self.check_hold(row.debit, row.credit, amount)?;
                after.held += amount;
            }
            CommandKind::Capture => {
                let is_final = asked.is_final.is_yes();
                let amount = match amount {
                    u128::MAX => row.held,
                    amount => amount,
                };
                if amount > row.held {
                    return Err(Reason::ExceedsAuthorisation);
                }
                if amount == 0 && !is_final {
                    return Err(Reason::AmountMustNotBeZero);
                }
                self.check_open(row.debit, row.credit)?;
                after.captured += amount;
                after.held -= amount;
                if is_final {
                    after.held = 0;
                    after.state = ended(&after);
                }
            }
            CommandKind::Void => {
                let amount = match amount {
                    u128::MAX => row.held,
                    amount if amount > row.held => return Err(Reason::ExceedsAuthorisation),
                    0 if row.held > 0 => return Err(Reason::AmountMustNotBeZero),
                    amount => amount,
                };
                after.held -= amount;
                if after.held == 0 {
                    after.state = ended(&after);
                }
            }
            _ => unreachable!("the four steps"),
        }
        Ok(after)
    }

    // Queries.

    /// The answer to query_account.
    pub fn account_event(&self, id: u64) -> Option<event::Account> {
        let account = self.accounts.get(&id)?;
        let flags = if account.is_closed {
            account.flags.with(AccountFlags::CLOSED)
        } else {
            account.flags
        };
        Some(event::Account {
            account: AccountId(id),
            participant: ParticipantId(account.participant),
            flags,
            _reserved: [Zero::Zero; 2],
            debits_pending: Amount(account.debits_pending),
            debits_posted: Amount(account.debits_posted),
            credits_pending: Amount(account.credits_pending),
            credits_posted: Amount(account.credits_posted),
            available: account.available(),
            held: Amount(0),
            credit_line: Amount(account.credit_line),
        })
    }

    /// The answer to query_transfer.
    pub fn transfer_event(&self, id: u128) -> Option<event::TransferRecord> {
        let row = self.transfer(id)?;
        Some(event::TransferRecord {
            id: TransferId(id),
            amount: Amount(row.amount),
            pending_id: TransferId(row.pending_id),
            user_data_128: row.user_data.0,
            debit_account: AccountId(row.debit),
            credit_account: AccountId(row.credit),
            user_data_64: row.user_data.1,
            user_data_32: row.user_data.2,
            timeout_s: row.timeout_s,
            asset: AssetId(row.asset),
            code: row.code,
            flags: row.flags,
            state: row.state,
            _reserved: [Zero::Zero; 7],
        })
    }

    /// The answer to query_authorisation.
    pub fn authorisation_event(&self, id: u128) -> Option<Answer> {
        self.authorisation(id).map(describe)
    }
}

fn administrative(kind: CommandKind, id: u128, result: Result<(), Reason>) -> Answer {
    match result {
        Ok(()) => Answer::Ok(kind),
        Err(reason) => Answer::Rejected(kind, reason, id),
    }
}

/// What an authorisation is once nothing is held any more.
fn ended(row: &AuthorisationRow) -> AuthorisationState {
    if row.captured > 0 {
        AuthorisationState::Closed
    } else {
        AuthorisationState::Voided
    }
}

fn describe(row: &AuthorisationRow) -> Answer {
    Answer::Authorisation {
        id: row.id,
        state: row.state,
        held: row.held,
        captured: row.captured,
        refunded: row.refunded,
    }
}

fn check_id(id: u128) -> Result<(), Reason> {
    match id {
        0 => Err(Reason::IdMustNotBeZero),
        u128::MAX => Err(Reason::IdMustNotBeIntMax),
        _ => Ok(()),
    }
}

fn check_accounts_named(debit: u64, credit: u64) -> Result<(), Reason> {
    match (debit, credit) {
        (0, _) => Err(Reason::DebitAccountIdMustNotBeZero),
        (u64::MAX, _) => Err(Reason::DebitAccountIdMustNotBeIntMax),
        (_, 0) => Err(Reason::CreditAccountIdMustNotBeZero),
        (_, u64::MAX) => Err(Reason::CreditAccountIdMustNotBeIntMax),
        (debit, credit) if debit == credit => Err(Reason::AccountsMustBeDifferent),
        _ => Ok(()),
    }
}

fn check_overflows(
    debit: &Account,
    credit: &Account,
    amount: u128,
    is_pending: bool,
) -> Result<(), Reason> {
    let check = |parts: &[u128], reason| match wide(parts) {
        (0, _) => Ok(()),
        _ => Err(reason),
    };
    if is_pending {
        check(
            &[debit.debits_pending, amount],
            Reason::OverflowsDebitsPending,
        )?;
        check(
            &[credit.credits_pending, amount],
            Reason::OverflowsCreditsPending,
        )?;
    }
    check(
        &[debit.debits_posted, amount],
        Reason::OverflowsDebitsPosted,
    )?;
    check(
        &[credit.credits_posted, amount],
        Reason::OverflowsCreditsPosted,
    )?;
    check(
        &[debit.debits_posted, debit.debits_pending, amount],
        Reason::OverflowsDebits,
    )?;
    check(
        &[credit.credits_posted, credit.credits_pending, amount],
        Reason::OverflowsCredits,
    )
}

/// How a transfer with a known id differs from what was done under it.
fn compare(asked: &Transfer, known: &TransferRow) -> Reason {
    if known.state == TransferState::Failed {
        return Reason::IdAlreadyFailed;
    }
    let resolves = known.flags.resolves();
    // 0 where a post or void took over what the pending transfer had.
    let may_be_left_out = |asked: u128, known: u128, took_over: bool| {
        asked == known || (resolves && took_over && asked == 0)
    };
    let amount = asked.amount.0;
    let is_amount_same = if known.flags.is_balancing() {
        amount >= known.amount
    } else if known.flags.has(TransferFlags::VOID_PENDING) {
        amount == known.amount || amount == 0 || amount == u128::MAX
    } else if known.flags.has(TransferFlags::POST_PENDING) {
        amount == known.amount || (known.is_whole && amount == u128::MAX)
    } else {
        amount == known.amount
    };
    if asked.flags != known.flags {
        Reason::ExistsWithDifferentFlags
    } else if asked.pending_id.0 != known.pending_id {
        Reason::ExistsWithDifferentPendingId
    } else if asked.timeout_s != known.timeout_s {
        Reason::ExistsWithDifferentTimeout
    } else if !may_be_left_out(asked.debit_account.0.into(), known.debit.into(), true) {
        Reason::ExistsWithDifferentDebitAccountId
    } else if !may_be_left_out(asked.credit_account.0.into(), known.credit.into(), true) {
        Reason::ExistsWithDifferentCreditAccountId
    } else if !is_amount_same {
        Reason::ExistsWithDifferentAmount
    } else if !may_be_left_out(asked.user_data_128, known.user_data.0, known.took_over.0) {
        Reason::ExistsWithDifferentUserData128
    } else if !may_be_left_out(
        asked.user_data_64.into(),
        known.user_data.1.into(),
        known.took_over.1,
    ) {
        Reason::ExistsWithDifferentUserData64
    } else if !may_be_left_out(
        asked.user_data_32.into(),
        known.user_data.2.into(),
        known.took_over.2,
    ) {
        Reason::ExistsWithDifferentUserData32
    } else if asked.asset.0 != 0 && asked.asset.0 != known.asset {
        Reason::ExistsWithDifferentLedger
    } else if !may_be_left_out(asked.code.into(), known.code.into(), true) {
        Reason::ExistsWithDifferentCode
    } else {
        Reason::Exists
    }
}
