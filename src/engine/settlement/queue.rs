//! Payments: every payment of the window, and for each debtor three queues (urgent, high, normal)
//! in settlement order.
//!
//! The room keeps order, counts and values; whether there is money it does not know. Links are
//! handles, so a queued payment costs its row and one index entry: 112 + 16 bytes.

use crate::engine::index::{Handle, Index, hash_128};
use crate::memory::Take;
use crate::protocol::command::Priority;
use crate::protocol::event::{PaymentState, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount, PaymentId};
use bytemuck::{Pod, Zeroable};

const NONE: u32 = u32::MAX;

/// One payment. Rows are never reused within the window.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine) struct PaymentRow {
    pub(in crate::engine) id: u128,
    pub(in crate::engine) amount: u128,
    pub(in crate::engine) debtor_id: u64,
    pub(in crate::engine) creditor_id: u64,
    pub(in crate::engine) debtor: Handle,
    pub(in crate::engine) creditor: Handle,
    next: u32,
    previous: u32,
    class: u8,
    state: u8,
    by: u8,
    reserved: u8,
    reason: u16,
    reserved_end: [u8; 10],
}

const _: () = assert!(size_of::<PaymentRow>() == 80);

impl PaymentRow {
    pub(in crate::engine) fn class(&self) -> Priority {
        Priority::from_code(self.class).expect("written from a Priority")
    }

    pub(in crate::engine) fn state(&self) -> PaymentState {
        PaymentState::from_code(self.state).expect("written from a PaymentState")
    }

    pub(in crate::engine) fn by(&self) -> SettledBy {
        SettledBy::from_code(self.by).expect("written from a SettledBy")
    }

    pub(in crate::engine) fn reason(&self) -> Reason {
        Reason::from_code(self.reason).expect("written from a Reason")
    }

    pub(in crate::engine) fn amount(&self) -> Amount {
        Amount(self.amount)
    }

    pub(in crate::engine) fn id(&self) -> PaymentId {
        PaymentId(self.id)
    }

    /// Its bytes without the links, which say nothing that the queues do not.
    pub(in crate::engine) fn canonical(&self) -> [u8; 80] {
        let row = PaymentRow {
            next: NONE,
            previous: NONE,
            ..*self
        };
        bytemuck::cast(row)
    }

    /// Whether a payment asked for with these words is this one again.
    pub(in crate::engine) fn is_same(
        &self,
        debtor: AccountId,
        creditor: AccountId,
        amount: Amount,
    ) -> bool {
        self.debtor_id == debtor.0 && self.creditor_id == creditor.0 && self.amount == amount.0
    }
}

/// What waits at one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AccountQueue {
    first: [u32; 3],
    last: [u32; 3],
    queued: u32,
    value: u128,
}

impl AccountQueue {
    const EMPTY: AccountQueue = AccountQueue {
        first: [NONE; 3],
        last: [NONE; 3],
        queued: 0,
        value: 0,
    };
}

/// All payments and their queues.
pub(in crate::engine) struct Payments {
    rows: Vec<PaymentRow>,
    by_id: Index,
    /// Place of an account's queue in `queues`, plus one; 0 for an account that never queued.
    queue_of: Vec<u32>,
    queues: Vec<AccountQueue>,
    /// The account of each of `queues`.
    queue_accounts: Vec<Handle>,
    queued: u64,
    limit: u32,
}

/// A payment about to be recorded.
pub(in crate::engine) struct NewPayment {
    pub(in crate::engine) id: PaymentId,
    pub(in crate::engine) debtor: (Handle, AccountId),
    pub(in crate::engine) creditor: (Handle, AccountId),
    pub(in crate::engine) amount: Amount,
    pub(in crate::engine) class: Priority,
}

impl Payments {
    pub(in crate::engine) fn new(payments: u32, accounts: u32) -> Payments {
        Payments {
            rows: Vec::with_capacity(payments as usize),
            by_id: Index::new(payments),
            queue_of: vec![0; accounts as usize],
            queues: Vec::with_capacity((accounts as usize).min(1 << 16)),
            queue_accounts: Vec::with_capacity((accounts as usize).min(1 << 16)),
            queued: 0,
            limit: payments,
        }
    }

    pub(in crate::engine) fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.rows, how);
        crate::memory::take(&mut self.queue_of, how);
        self.by_id.take_memory(how);
    }

    pub(in crate::engine) fn has_room(&self) -> bool {
        (self.rows.len() as u32) < self.limit
    }

    pub(in crate::engine) fn rows(&self) -> &[PaymentRow] {
        &self.rows
    }

    pub(in crate::engine) fn row(&self, payment: Handle) -> &PaymentRow {
        &self.rows[payment as usize]
    }

    #[inline]
    pub(in crate::engine) fn find(&self, id: PaymentId) -> Option<Handle> {
        self.by_id.find(hash_128(id.0), |handle| {
            self.rows[handle as usize].id == id.0
        })
    }

    /// Where a lookup of `id` begins, to warm the caches with.
    #[inline]
    pub(in crate::engine) fn lookup_hint(&self, id: PaymentId) -> &u64 {
        self.by_id.bucket(hash_128(id.0))
    }

    /// Payments queued at all accounts.
    pub(in crate::engine) fn queued(&self) -> u64 {
        self.queued
    }

    /// Payments queued at `account` and their value.
    #[inline]
    pub(in crate::engine) fn queued_at(&self, account: Handle) -> (u32, Amount) {
        match self.queue_of[account as usize] {
            0 => (0, Amount::ZERO),
            at => {
                let queue = &self.queues[at as usize - 1];
                (queue.queued, Amount(queue.value))
            }
        }
    }

    /// The first payment of a class at `account`.
    #[inline]
    pub(in crate::engine) fn head(&self, account: Handle, class: Priority) -> Option<Handle> {
        match self.queue_of[account as usize] {
            0 => None,
            at => some(self.queues[at as usize - 1].first[class as usize]),
        }
    }

    /// The payment behind `payment` in its class.
    #[inline]
    pub(in crate::engine) fn next(&self, payment: Handle) -> Option<Handle> {
        some(self.rows[payment as usize].next)
    }

    /// The queued payment that one of `class` must wait for (class gate): an urgent one waits
    /// behind urgent, all others behind urgent and high; without `bypass` normal ones wait behind
    /// normal ones, too.
    #[inline]
    pub(in crate::engine) fn gate(
        &self,
        account: Handle,
        class: Priority,
        bypass: bool,
    ) -> Option<Handle> {
        let last = match class {
            Priority::Normal if bypass => Priority::High,
            class => class,
        };
        Priority::ALL
            .iter()
            .take_while(|ahead| **ahead <= last)
            .find_map(|ahead| self.head(account, *ahead))
    }

    /// Accounts that have or had a queue; the place in this order is [`Payments::queue_place`].
    pub(in crate::engine) fn queue_accounts(&self) -> impl Iterator<Item = Handle> + '_ {
        self.queue_accounts.iter().copied()
    }

    /// The place of the account's queue, if it has or had one.
    #[inline]
    pub(in crate::engine) fn queue_place(&self, account: Handle) -> Option<usize> {
        (self.queue_of[account as usize] as usize).checked_sub(1)
    }

    /// The queue of `account` in settlement order.
    pub(in crate::engine) fn iter(&self, account: Handle) -> impl Iterator<Item = Handle> + '_ {
        Priority::ALL.iter().flat_map(move |class| {
            std::iter::successors(self.head(account, *class), |payment| self.next(*payment))
        })
    }

    /// Records a payment that is final at once.
    pub(in crate::engine) fn record_settled(&mut self, payment: &NewPayment, by: SettledBy) {
        self.record(payment, PaymentState::Settled, by, Reason::Created);
    }

    /// Records a payment at the end of its queue.
    pub(in crate::engine) fn record_queued(&mut self, payment: &NewPayment, reason: Reason) {
        let handle = self.record(payment, PaymentState::Queued, SettledBy::None, reason);
        self.link_last(handle);
    }

    fn record(
        &mut self,
        payment: &NewPayment,
        state: PaymentState,
        by: SettledBy,
        reason: Reason,
    ) -> Handle {
        let handle = self.rows.len() as u32;
        self.by_id.insert(hash_128(payment.id.0), handle);
        self.rows.push(PaymentRow {
            id: payment.id.0,
            amount: payment.amount.0,
            debtor_id: payment.debtor.1.0,
            creditor_id: payment.creditor.1.0,
            debtor: payment.debtor.0,
            creditor: payment.creditor.0,
            next: NONE,
            previous: NONE,
            class: payment.class as u8,
            state: state as u8,
            by: by as u8,
            reason: reason as u16,
            ..PaymentRow::zeroed()
        });
        handle
    }

    /// Takes a payment out of its queue, for good.
    pub(in crate::engine) fn finish(
        &mut self,
        payment: Handle,
        state: PaymentState,
        by: SettledBy,
        reason: Reason,
    ) {
        self.unlink(payment);
        let row = &mut self.rows[payment as usize];
        row.state = state as u8;
        row.by = by as u8;
        row.reason = reason as u16;
    }

    /// Says why a payment that stays queued now waits.
    pub(in crate::engine) fn set_reason(&mut self, payment: Handle, reason: Reason) {
        self.rows[payment as usize].reason = reason as u16;
    }

    fn link_last(&mut self, payment: Handle) {
        let row = self.rows[payment as usize];
        let place = &mut self.queue_of[row.debtor as usize];
        if *place == 0 {
            self.queues.push(AccountQueue::EMPTY);
            self.queue_accounts.push(row.debtor);
            *place = self.queues.len() as u32;
        }
        let queue = &mut self.queues[*place as usize - 1];
        let class = row.class as usize;
        let last = std::mem::replace(&mut queue.last[class], payment);
        if last == NONE {
            queue.first[class] = payment;
        } else {
            self.rows[last as usize].next = payment;
        }
        self.rows[payment as usize].previous = last;
        queue.queued += 1;
        queue.value += row.amount;
        self.queued += 1;
    }

    fn unlink(&mut self, payment: Handle) {
        let row = self.rows[payment as usize];
        assert_eq!(
            row.state,
            PaymentState::Queued as u8,
            "only what waits leaves a queue"
        );
        let place = self.queue_of[row.debtor as usize];
        let queue = &mut self.queues[place as usize - 1];
        let class = row.class as usize;
        match some(row.previous) {
            Some(previous) => self.rows[previous as usize].next = row.next,
            None => queue.first[class] = row.next,
        }
        match some(row.next) {
            Some(next) => self.rows[next as usize].previous = row.previous,
            None => queue.last[class] = row.previous,
        }
        queue.queued -= 1;
        queue.value -= row.amount;
        self.queued -= 1;
        let row = &mut self.rows[payment as usize];
        row.next = NONE;
        row.previous = NONE;
    }

    /// Rebuilds the payments around rows read from a snapshot. `queue_order` lists the queued ones
    /// account by account in settlement order.
    pub(in crate::engine) fn restore(
        rows: Vec<PaymentRow>,
        queue_order: &[Handle],
        payments: u32,
        accounts: u32,
    ) -> Payments {
        let mut all = Payments::new(payments.max(rows.len() as u32), accounts);
        for mut row in rows {
            row.next = NONE;
            row.previous = NONE;
            all.by_id.insert(hash_128(row.id), all.rows.len() as u32);
            all.rows.push(row);
        }
        for payment in queue_order {
            all.link_last(*payment);
        }
        all
    }

    /// Queued payments, account by account in settlement order.
    pub(in crate::engine) fn queue_order(&self) -> Vec<Handle> {
        (0..self.queue_of.len() as u32)
            .filter(|account| self.queue_of[*account as usize] != 0)
            .flat_map(|account| self.iter(account))
            .collect()
    }

    /// The room's invariants: every queued payment is in its queue once, counts and values agree.
    pub(in crate::engine) fn audit(&self) -> Result<(), String> {
        let mut seen = 0u64;
        for account in 0..self.queue_of.len() as u32 {
            if self.queue_of[account as usize] == 0 {
                continue;
            }
            let (mut queued, mut value) = (0u32, 0u128);
            for payment in self.iter(account) {
                let row = self.row(payment);
                if row.debtor != account || row.state() != PaymentState::Queued {
                    return Err(format!(
                        "payment {}: in a queue it does not belong to",
                        row.id
                    ));
                }
                queued += 1;
                value += row.amount;
            }
            if self.queued_at(account) != (queued, Amount(value)) {
                return Err(format!(
                    "account handle {account}: queue count or value is off"
                ));
            }
            seen += u64::from(queued);
        }
        let waiting = self
            .rows
            .iter()
            .filter(|row| row.state() == PaymentState::Queued)
            .count() as u64;
        if seen != self.queued || waiting != self.queued {
            return Err(format!(
                "{} payments queued, {seen} found in queues, {waiting} say so",
                self.queued
            ));
        }
        match self.rows.iter().find(|row| self.find(row.id()).is_none()) {
            Some(row) => Err(format!("payment {}: not found by its id", row.id)),
            None => Ok(()),
        }
    }
}

fn some(handle: u32) -> Option<Handle> {
    (handle != NONE).then_some(handle)
}
