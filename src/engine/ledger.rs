//! The ledger: accounts as four growing sums, and the holds that orders take on them.
//!
//! An account is 128 bytes: the sums in one cache line, what guards them in the next. Accounts that
//! are numbered 1, 2, 3 ... as most operators number them are found by that number: the handle is
//! guessed from a small table and the row itself says whether the guess was right. Any other 64-bit
//! number takes a hashed lookup. The room
//! answers whether money may move and moves it; which command wants it moved, it does not know.
//! Conservation is its invariant: per asset, all debits equal all credits, posted and pending.

use super::index::{Handle, Index, hash_64};
use super::postings::{Cause, Posting, PostingKind, PostingSide, Recorder, Sums};
use crate::memory::Take;
use crate::prefetch::{prefetch, prefetch_pair};
use crate::protocol::command::AccountFlags;
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount};
use bytemuck::{Pod, Zeroable};

/// The sums of a trading account stay below this, so that the fills of its resting orders, which
/// cannot be refused any more, never overflow: a fill moves at most [`NOTIONAL_MAX`].
const TRADING_SUM_MAX: u128 = 1 << 127;

/// The most one order may be worth, minor units of its quote asset, fees included.
pub(super) const NOTIONAL_MAX: u128 = 1 << 96;

/// Set on an account that orders or fees may credit.
const TRADING: u16 = 1 << 15;
const CLOSED: u16 = AccountFlags::CLOSED.0;
const PARTIAL: u16 = AccountFlags::PARTIAL_SETTLEMENT.0;
const INSTANT: u16 = AccountFlags::INSTANT.0;
/// Set while its participant may not pay.
const NO_DEBITS: u16 = 1 << 14;
/// Set while its participant may not receive.
const NO_CREDITS: u16 = 1 << 13;
/// Bits of ours that nobody else sees.
const INTERNAL: u16 = TRADING | NO_DEBITS | NO_CREDITS;
const NO_ACCOUNT: u32 = u32::MAX;
const NUMBERS_PER_GUESS: usize = 1_024;

/// One account. Handles are dense and never reused.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(128))]
pub(super) struct AccountRow {
    pub(super) debits_pending: u128,
    pub(super) debits_posted: u128,
    pub(super) credits_pending: u128,
    pub(super) credits_posted: u128,
    /// Cover of resting orders.
    pub(super) held: u128,
    pub(super) credit_line: u128,
    pub(super) id: u64,
    pub(super) asset: Handle,
    pub(super) participant: Handle,
    /// Next account of the same participant, in order of opening.
    next_of_owner: u32,
    flags: u16,
    reserved: [u8; 10],
}

const _: () = assert!(size_of::<AccountRow>() == 128);

impl AccountRow {
    /// What may be spent: credits posted - debits posted - debits pending - held + credit line;
    /// beyond 2^127 either way it reads as that.
    pub(super) fn available(&self) -> i128 {
        let (funds, debits) = (self.funds(), self.debits());
        match funds.checked_sub(debits) {
            Some(left) => i128::try_from(left).unwrap_or(i128::MAX),
            None => i128::try_from(debits - funds).map_or(i128::MIN, |over| -over),
        }
    }

    /// What may be spent, or `None` where the account has no floor. Beyond 2^126 it reads as that,
    /// which leaves room to add and subtract payments.
    pub(super) fn liquidity(&self) -> Option<i128> {
        self.has(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
            .then(|| self.available().clamp(-(1 << 126), 1 << 126))
    }

    /// Whether payments can come in without another look at each: nothing bounds its credits, and
    /// they are far from overflowing.
    pub(super) fn takes_any_credit(&self) -> bool {
        !self.has(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
            && self.credits_posted.max(self.credits_pending) < 1 << 126
    }

    /// Whether payments can go out without another look at each: its debits are far from
    /// overflowing.
    pub(super) fn gives_any_debit(&self) -> bool {
        self.debits() < 1 << 126
    }

    fn debits(&self) -> u128 {
        // Checked when each part grew: the sum never overflows.
        self.debits_posted + self.debits_pending + self.held
    }

    fn funds(&self) -> u128 {
        self.credits_posted.saturating_add(self.credit_line)
    }

    fn sum_max(&self) -> u128 {
        if self.flags & TRADING != 0 {
            TRADING_SUM_MAX
        } else {
            u128::MAX
        }
    }

    fn has(&self, flags: AccountFlags) -> bool {
        self.flags & flags.0 != 0
    }

    /// The flags its opener gave it, and whether it is closed.
    pub(super) fn flags(&self) -> AccountFlags {
        AccountFlags(self.flags & !INTERNAL)
    }

    /// The flags its opener gave it.
    pub(super) fn opening_flags(&self) -> AccountFlags {
        AccountFlags(self.flags & !(INTERNAL | CLOSED | PARTIAL))
    }

    /// Whether a closing transfer is pending on it: nothing moves but what voids.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.flags & CLOSED != 0
    }

    /// Whether groups may move parts of their legs on it.
    pub(super) fn allows_parts(&self) -> bool {
        self.flags & PARTIAL != 0
    }

    /// Whether it may be debited: its participant may pay, and it is not closed.
    #[inline]
    pub(super) fn may_pay(&self) -> bool {
        self.flags & (CLOSED | NO_DEBITS) == 0
    }

    /// Whether it may be credited: its participant may receive, and it is not closed.
    #[inline]
    pub(super) fn may_receive(&self) -> bool {
        self.flags & (CLOSED | NO_CREDITS) == 0
    }

    fn sums(&self) -> Sums {
        Sums {
            debits_pending: Amount(self.debits_pending),
            debits_posted: Amount(self.debits_posted),
            credits_pending: Amount(self.credits_pending),
            credits_posted: Amount(self.credits_posted),
            held: Amount(self.held),
        }
    }

    /// What a balancing debit may take: what the account has, its credit line included.
    pub(super) fn debit_room(&self) -> Amount {
        Amount(self.funds().saturating_sub(self.debits()))
    }

    /// What a balancing credit may bring: what the account's debits exceed its credits by.
    pub(super) fn credit_room(&self) -> Amount {
        let credits = self.credits_posted + self.credits_pending;
        Amount(self.debits_posted.saturating_sub(credits))
    }
}

/// Whether no sum of either account passes its end, each and all together.
#[inline]
fn check_overflows(from: &AccountRow, to: &AccountRow, amount: Amount) -> Result<(), Reason> {
    let widest = from.debits_posted
        | from.debits_pending
        | from.held
        | to.credits_posted
        | to.credits_pending
        | amount.0;
    if widest >> 124 == 0 {
        // Four such numbers stay below 2^126.
        return Ok(());
    }
    find_overflow(from, to, amount)
}

#[cold]
fn find_overflow(from: &AccountRow, to: &AccountRow, amount: Amount) -> Result<(), Reason> {
    let fits = |sum: u128, max: u128| sum.checked_add(amount.0).is_some_and(|sum| sum <= max);
    if !fits(from.debits_posted, from.sum_max()) {
        return Err(Reason::OverflowsDebitsPosted);
    }
    if !fits(to.credits_posted, to.sum_max()) {
        return Err(Reason::OverflowsCreditsPosted);
    }
    if !fits(from.debits(), from.sum_max()) {
        return Err(Reason::OverflowsDebits);
    }
    if !fits(to.credits_posted + to.credits_pending, to.sum_max()) {
        return Err(Reason::OverflowsCredits);
    }
    Ok(())
}

/// All accounts.
pub(super) struct Ledger {
    rows: Vec<AccountRow>,
    /// For every 1,024 numbers what to add to one of them to guess its handle: where accounts are
    /// opened in the order of their numbers it is right, and some kilobytes, which stay in the first cache, say so for
    /// millions.
    guesses: Vec<u32>,
    /// Handle plus one by account number, for numbers below its length; 0 for none.
    by_number: Vec<u32>,
    /// The accounts with higher numbers.
    by_id: Index,
    /// First and last account of each participant.
    by_owner: Vec<(u32, u32)>,
    /// Accounts for instant payments.
    instant: u32,
    limit: u32,
    /// What moves, for a follower that asked; `None` in a node.
    recorder: Option<Box<Recorder>>,
}

impl Ledger {
    pub(super) fn new(accounts: u32, participants: u32) -> Ledger {
        Ledger {
            rows: Vec::with_capacity(accounts as usize),
            guesses: vec![0; accounts as usize / NUMBERS_PER_GUESS + 1],
            by_number: vec![0; accounts as usize + 1],
            by_id: Index::new(accounts),
            by_owner: Vec::with_capacity(participants as usize),
            instant: 0,
            limit: accounts,
            recorder: None,
        }
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.rows, how);
        crate::memory::take(&mut self.guesses, how);
        crate::memory::take(&mut self.by_number, how);
        // Written when an account opens, which is seldom, and only for high numbers.
        self.by_id.take_memory(Take::AsTouched);
    }

    /// The account of that id.
    #[inline(always)]
    pub(super) fn find(&self, id: AccountId) -> Option<Handle> {
        let guess = self.guess(id);
        match self.rows.get(guess as usize) {
            Some(row) if row.id == id.0 => Some(guess),
            _ => self.look_up(id),
        }
    }

    /// The handle that `id` has where accounts are opened in order.
    #[inline(always)]
    fn guess(&self, id: AccountId) -> Handle {
        match self.guesses.get(id.0 as usize / NUMBERS_PER_GUESS) {
            Some(guess) => guess.wrapping_add(id.0 as u32),
            None => NO_ACCOUNT,
        }
    }

    fn look_up(&self, id: AccountId) -> Option<Handle> {
        if let Some(handle) = self.by_number.get(id.0 as usize) {
            return handle.checked_sub(1);
        }
        self.by_id.find(hash_64(id.0), |handle| {
            self.rows[handle as usize].id == id.0
        })
    }

    /// The account's row.
    #[inline]
    pub(super) fn row(&self, account: Handle) -> &AccountRow {
        &self.rows[account as usize]
    }

    /// All rows in order of opening.
    pub(super) fn rows(&self) -> &[AccountRow] {
        &self.rows
    }

    /// Asks the caches for the row that `id` has by the guess, or else for where its lookup begins.
    #[inline(always)]
    pub(super) fn touch_lookup(&self, id: AccountId) {
        match self.rows.get(self.guess(id) as usize) {
            Some(row) => prefetch_pair(row),
            None => prefetch(self.by_id.bucket(hash_64(id.0))),
        }
    }

    /// Asks the caches for the row that a hashed lookup of `id` most likely finds.
    #[inline(always)]
    pub(super) fn touch_row(&self, id: AccountId) {
        if id.0 as usize >= self.by_number.len()
            && let Some(handle) = self.by_id.peek(hash_64(id.0))
            && let Some(row) = self.rows.get(handle as usize)
        {
            prefetch_pair(row);
        }
    }

    pub(super) fn has_room(&self) -> bool {
        (self.rows.len() as u32) < self.limit
    }

    /// Opens an account. The id is new and there is room.
    pub(super) fn open(
        &mut self,
        id: AccountId,
        participant: Handle,
        asset: Handle,
        flags: AccountFlags,
        credit_line: Amount,
    ) -> Handle {
        let handle = self.rows.len() as u32;
        let mut bits = flags.0;
        if flags.has(AccountFlags::SETTLEMENT) {
            bits |= AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS.0;
        }
        self.rows.push(AccountRow {
            id: id.0,
            participant,
            asset,
            flags: bits,
            credit_line: credit_line.0,
            next_of_owner: NO_ACCOUNT,
            ..AccountRow::zeroed()
        });
        self.instant += u32::from(flags.has(AccountFlags::INSTANT));
        self.number(id.0, handle);
        self.link_owner(handle);
        handle
    }

    fn number(&mut self, id: u64, handle: Handle) {
        match self.by_number.get_mut(id as usize) {
            Some(seat) => {
                *seat = handle + 1;
                self.guesses[id as usize / NUMBERS_PER_GUESS] = handle.wrapping_sub(id as u32);
            }
            None => self.by_id.insert(hash_64(id), handle),
        }
    }

    /// The first account `participant` opened in `asset`: where its trades settle.
    #[inline]
    pub(super) fn trading_account(&self, participant: Handle, asset: Handle) -> Option<Handle> {
        let mut at = self.by_owner.get(participant as usize)?.0;
        while at != NO_ACCOUNT {
            let row = &self.rows[at as usize];
            if row.asset == asset {
                return Some(at);
            }
            at = row.next_of_owner;
        }
        None
    }

    /// Whether `amount` may move from one account to the other, and if not, why: overflows before
    /// limits, the debit side before the credit side (TigerBeetle's precedence).
    #[inline(always)]
    pub(super) fn check_post(
        &self,
        debit: Handle,
        credit: Handle,
        amount: Amount,
    ) -> Result<(), Reason> {
        let (from, to) = (self.row(debit), self.row(credit));
        check_overflows(from, to, amount)?;
        if from.has(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
            && from.debits() + amount.0 > from.funds()
        {
            return Err(Reason::ExceedsCredits);
        }
        if to.has(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
            && to.credits_posted + to.credits_pending + amount.0 > to.debits_posted
        {
            return Err(Reason::ExceedsDebits);
        }
        Ok(())
    }

    /// Whether `amount` may be reserved to move from one account to the other.
    pub(super) fn check_pend(
        &self,
        debit: Handle,
        credit: Handle,
        amount: Amount,
    ) -> Result<(), Reason> {
        let (from, to) = (self.row(debit), self.row(credit));
        if from.debits_pending.checked_add(amount.0).is_none() {
            return Err(Reason::OverflowsDebitsPending);
        }
        if to.credits_pending.checked_add(amount.0).is_none() {
            return Err(Reason::OverflowsCreditsPending);
        }
        self.check_post(debit, credit, amount)
    }

    /// Whether one account may be debited and the other credited at all: neither participant is
    /// blocked, neither account is closed, the debit side first.
    #[inline(always)]
    pub(super) fn check_open(&self, debit: Handle, credit: Handle) -> Result<(), Reason> {
        let (from, to) = (self.row(debit), self.row(credit));
        if from.may_pay() && to.may_receive() {
            Ok(())
        } else if from.flags & NO_DEBITS != 0 || to.flags & NO_CREDITS != 0 {
            Err(Reason::ParticipantBlocked)
        } else if from.is_closed() {
            Err(Reason::DebitAccountAlreadyClosed)
        } else {
            Err(Reason::CreditAccountAlreadyClosed)
        }
    }

    /// Whether both accounts are for instant payments, which do not ask the phase of the day.
    pub(super) fn are_instant(&self, one: Handle, other: Handle) -> bool {
        self.row(one).flags & self.row(other).flags & INSTANT != 0
    }

    /// Whether any account is for instant payments.
    pub(super) fn has_instant(&self) -> bool {
        self.instant > 0
    }

    /// Whether the account covers `amount` on top of all that is posted, pending and held.
    #[inline]
    pub(super) fn check_cover(&self, account: Handle, amount: Amount) -> Result<(), Reason> {
        let row = self.row(account);
        if row.is_closed() {
            return Err(Reason::DebitAccountAlreadyClosed);
        }
        let Some(debits) = row
            .debits()
            .checked_add(amount.0)
            .filter(|sum| *sum <= row.sum_max())
        else {
            return Err(Reason::OverflowsDebits);
        };
        if row.has(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS) && debits > row.funds() {
            return Err(Reason::ExceedsCredits);
        }
        Ok(())
    }

    /// Whether the account's credits stop where its debits end.
    pub(super) fn is_credit_bounded(&self, account: Handle) -> bool {
        self.row(account)
            .has(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
    }

    /// Moves `amount` from one account to another. Both checks have passed.
    #[inline(always)]
    pub(super) fn post(&mut self, debit: Handle, credit: Handle, amount: Amount) {
        self.rows[debit as usize].debits_posted += amount.0;
        self.rows[credit as usize].credits_posted += amount.0;
        self.record(PostingKind::Post, debit, Some(credit), amount);
    }

    /// Takes back what [`Ledger::post`] moved.
    pub(super) fn unpost(&mut self, debit: Handle, credit: Handle, amount: Amount) {
        self.rows[debit as usize].debits_posted -= amount.0;
        self.rows[credit as usize].credits_posted -= amount.0;
    }

    /// Reserves `amount` to move. [`Ledger::check_pend`] has passed.
    #[inline]
    pub(super) fn pend(&mut self, debit: Handle, credit: Handle, amount: Amount) {
        self.rows[debit as usize].debits_pending += amount.0;
        self.rows[credit as usize].credits_pending += amount.0;
        self.record(PostingKind::Pend, debit, Some(credit), amount);
    }

    /// Gives up what [`Ledger::pend`] reserved.
    ///
    /// # Panics
    /// Where less is pending: a reservation given up at another amount than made is a bug.
    #[inline]
    pub(super) fn unpend(&mut self, debit: Handle, credit: Handle, amount: Amount) {
        let less = |pending: u128| {
            pending
                .checked_sub(amount.0)
                .expect("no more than is pending")
        };
        let from = &mut self.rows[debit as usize];
        from.debits_pending = less(from.debits_pending);
        let to = &mut self.rows[credit as usize];
        to.credits_pending = less(to.credits_pending);
        self.record(PostingKind::Unpend, debit, Some(credit), amount);
    }

    /// Lets the accounts of `participant` pay and receive, or not.
    pub(super) fn set_may(&mut self, participant: Handle, pay: bool, receive: bool) {
        let first = self.by_owner.get(participant as usize);
        let mut at = first.map_or(NO_ACCOUNT, |(first, _)| *first);
        while at != NO_ACCOUNT {
            let row = &mut self.rows[at as usize];
            row.flags &= !(NO_DEBITS | NO_CREDITS);
            if !pay {
                row.flags |= NO_DEBITS;
            }
            if !receive {
                row.flags |= NO_CREDITS;
            }
            at = row.next_of_owner;
        }
    }

    /// Closes the account to all movements but voids, or opens it again.
    pub(super) fn set_closed(&mut self, account: Handle, closed: bool) {
        let row = &mut self.rows[account as usize];
        if closed {
            row.flags |= CLOSED;
        } else {
            row.flags &= !CLOSED;
        }
    }

    /// Lets groups move parts of their legs on the account, or no more so.
    pub(super) fn set_allows_parts(&mut self, account: Handle, allowed: bool) {
        let row = &mut self.rows[account as usize];
        if allowed {
            row.flags |= PARTIAL;
        } else {
            row.flags &= !PARTIAL;
        }
    }

    /// Whether the account may be one that fills credit: nothing bounds its credits, for a fill
    /// cannot be refused, and its sums are not too large for it.
    #[inline]
    pub(super) fn check_trading(&self, account: Handle) -> Result<(), Reason> {
        let row = self.row(account);
        if row.is_closed() {
            return Err(Reason::CreditAccountAlreadyClosed);
        }
        if row.has(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS) {
            return Err(Reason::ExceedsDebits);
        }
        let credits = row.credits_posted.saturating_add(row.credits_pending);
        if row.flags & TRADING == 0 && row.debits().max(credits) > TRADING_SUM_MAX {
            return Err(Reason::OverflowsCredits);
        }
        Ok(())
    }

    /// Marks the account as one that fills may credit. [`Ledger::check_trading`] has passed.
    #[inline]
    pub(super) fn open_for_trading(&mut self, account: Handle) {
        self.rows[account as usize].flags |= TRADING;
    }

    /// Holds `amount` as cover. [`Ledger::check_cover`] has passed.
    #[inline]
    pub(super) fn hold(&mut self, account: Handle, amount: Amount) {
        self.rows[account as usize].held += amount.0;
        self.record(PostingKind::Hold, account, None, amount);
    }

    /// Gives held cover back.
    ///
    /// # Panics
    /// Where less is held: a hold released at another amount than taken is a bug.
    #[inline]
    pub(super) fn release(&mut self, account: Handle, amount: Amount) {
        let row = &mut self.rows[account as usize];
        row.held = row
            .held
            .checked_sub(amount.0)
            .expect("no more than is held");
        self.record(PostingKind::Release, account, None, amount);
    }

    /// Moves `amount` out of held cover to another account.
    #[inline]
    pub(super) fn capture(&mut self, debit: Handle, credit: Handle, amount: Amount) {
        self.release(debit, amount);
        self.post(debit, credit, amount);
    }

    /// Sets how far below zero the account may go.
    pub(super) fn set_credit_line(&mut self, account: Handle, amount: Amount) {
        self.rows[account as usize].credit_line = amount.0;
    }

    /// Keeps what moves from now on, or no longer.
    pub(super) fn record_postings(&mut self, on: bool) {
        self.recorder = on.then(|| Box::new(Recorder::new()));
    }

    /// What moved since [`Ledger::forget_postings`].
    pub(super) fn postings(&self) -> &[Posting] {
        let recorder = self.recorder.as_ref();
        recorder.map_or(&[], |recorder| &recorder.postings)
    }

    pub(super) fn forget_postings(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.clear();
        }
    }

    /// Takes back the record of what moved after the first `kept` postings: it was undone.
    pub(super) fn unrecord(&mut self, kept: usize) {
        if let Some(recorder) = &mut self.recorder {
            recorder.postings.truncate(kept);
        }
    }

    /// What moves from now on is recorded as moving for `cause`.
    #[inline]
    pub(super) fn because(&mut self, cause: Cause) {
        if let Some(recorder) = &mut self.recorder {
            recorder.cause = cause;
        }
    }

    #[inline(always)]
    fn record(&mut self, kind: PostingKind, debit: Handle, credit: Option<Handle>, amount: Amount) {
        if self.recorder.is_some() {
            self.keep_posting(kind, debit, credit, amount);
        }
    }

    #[cold]
    #[inline(never)]
    fn keep_posting(
        &mut self,
        kind: PostingKind,
        debit: Handle,
        credit: Option<Handle>,
        amount: Amount,
    ) {
        let side = |account: Handle| {
            let row = &self.rows[account as usize];
            PostingSide {
                account: AccountId(row.id),
                sums: row.sums(),
            }
        };
        let (debit, credit) = (side(debit), credit.map(side));
        if let Some(recorder) = &mut self.recorder {
            let cause = recorder.cause;
            recorder.postings.push(Posting {
                kind,
                cause,
                amount,
                debit,
                credit,
            });
        }
    }

    /// Rebuilds the ledger around rows read from a snapshot.
    pub(super) fn restore(rows: Vec<AccountRow>, limit: u32, participants: u32) -> Ledger {
        let mut ledger = Ledger::new(limit.max(rows.len() as u32), participants);
        for mut row in rows {
            let handle = ledger.rows.len() as u32;
            row.next_of_owner = NO_ACCOUNT;
            ledger.instant += u32::from(row.has(AccountFlags::INSTANT));
            ledger.number(row.id, handle);
            ledger.rows.push(row);
            ledger.link_owner(handle);
        }
        ledger
    }

    /// Appends the account to its owner's list.
    fn link_owner(&mut self, handle: Handle) {
        let owner = self.rows[handle as usize].participant as usize;
        if self.by_owner.len() <= owner {
            self.by_owner.resize(owner + 1, (NO_ACCOUNT, NO_ACCOUNT));
        }
        let (first, last) = &mut self.by_owner[owner];
        if *first == NO_ACCOUNT {
            *first = handle;
        } else {
            self.rows[*last as usize].next_of_owner = handle;
        }
        *last = handle;
    }

    /// The room's invariants: conservation per asset, floors, lookups.
    pub(super) fn audit(&self, assets: usize) -> Result<(), String> {
        // Sums of many 128-bit sums: count in two halves so that the audit itself cannot overflow.
        let mut posted = vec![Balance::default(); assets];
        let mut pending = vec![Balance::default(); assets];
        for (handle, row) in self.rows.iter().enumerate() {
            posted[row.asset as usize].add(row.debits_posted, row.credits_posted);
            pending[row.asset as usize].add(row.debits_pending, row.credits_pending);
            self.audit_row(handle as u32, row)?;
        }
        for (asset, (posted, pending)) in posted.iter().zip(&pending).enumerate() {
            if !posted.is_even() || !pending.is_even() {
                return Err(format!("asset {asset}: debits and credits differ"));
            }
        }
        Ok(())
    }

    fn audit_row(&self, handle: Handle, row: &AccountRow) -> Result<(), String> {
        if self.find(AccountId(row.id)) != Some(handle) {
            return Err(format!("account {}: not found by its id", row.id));
        }
        let debits = row
            .debits_posted
            .checked_add(row.debits_pending)
            .and_then(|sum| sum.checked_add(row.held));
        if debits.is_none() {
            return Err(format!("account {}: debits overflow", row.id));
        }
        let credits = row.credits_posted.checked_add(row.credits_pending);
        if self.is_credit_bounded(handle) && credits.is_none_or(|sum| sum > row.debits_posted) {
            return Err(format!("account {}: credits exceed debits", row.id));
        }
        Ok(())
    }
}

/// Debits and credits of one asset, in 64-bit halves.
#[derive(Clone, Default)]
struct Balance {
    low: i128,
    high: i128,
}

impl Balance {
    fn add(&mut self, debit: u128, credit: u128) {
        let low = |sum: u128| i128::from(sum as u64);
        let high = |sum: u128| i128::from((sum >> 64) as u64);
        self.low += low(credit) - low(debit);
        self.high += high(credit) - high(debit);
    }

    fn is_even(&self) -> bool {
        // Both halves weigh together: low + high * 2^64 == 0.
        self.low % (1 << 64) == 0 && self.high + (self.low >> 64) == 0
    }
}
