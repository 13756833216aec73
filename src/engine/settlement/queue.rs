//! Payments: every payment of the window, and for each debtor three queues (urgent, high, normal)
//! in settlement order.
//!
//! The room keeps order, counts, reservations and limits; whether there is money it does not know.
//! Links are handles, so a queued payment costs its row and two index entries, 128 + 28 bytes, and in
//! a long queue its seat ([`Lane`]), 6 to 10.

use super::desk::Desk;
use super::lane::Lane;
use super::limits::{BilateralLimits, hash_pair};
use super::payment::{HELD, NONE, NOT_DUE, PaymentRow, some};
use super::worklist::Worklist;
use crate::engine::index::{Free, Handle, Index, hash_128};
use crate::memory::Take;
use crate::prefetch::{prefetch, prefetch_pair};
use crate::protocol::command::{Position, Priority};
use crate::protocol::event::{PaymentState, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, PaymentId, Timestamp};
use bytemuck::Zeroable;

/// All payments and their queues.
pub(in crate::engine) struct Payments {
    pub(super) rows: Vec<PaymentRow>,
    pub(super) by_id: Index,
    /// The first waiting payment from one account to another; the others hang on it.
    pub(super) by_pair: Index,
    /// Place of an account's desk in `desks`, plus one; 0 for an account without.
    pub(super) desk_of: Vec<u32>,
    pub(super) desks: Vec<Desk>,
    /// Beside each desk its lane, while its queue is long.
    pub(super) lanes: Vec<Option<Box<Lane>>>,
    pub(super) limits: BilateralLimits,
    pub(super) worklist: Worklist,
    pub(super) queued: u64,
    pub(super) order: Marks,
    limit: u32,
    /// Business days for which an id stays taken.
    pub(super) window_days: u32,
}

/// Where the next payment goes, behind all or before all, and the days begun so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine) struct Marks {
    back: i64,
    front: i64,
    pub(super) day: u64,
}

/// A payment about to be recorded.
pub(in crate::engine) struct NewPayment {
    pub(in crate::engine) id: PaymentId,
    pub(in crate::engine) debtor: Handle,
    pub(in crate::engine) creditor: Handle,
    pub(in crate::engine) amount: Amount,
    pub(in crate::engine) class: Priority,
    pub(in crate::engine) earliest_at: Timestamp,
    pub(in crate::engine) latest_at: Timestamp,
    pub(in crate::engine) return_of: Option<Handle>,
    /// The business date on which it is to settle, 0 where it names none.
    pub(in crate::engine) value_date: u32,
}

impl Payments {
    pub(in crate::engine) fn new(payments: u32, accounts: u32, window_days: u32) -> Payments {
        Payments {
            rows: Vec::with_capacity(payments as usize),
            by_id: Index::new(payments),
            by_pair: Index::dense(payments),
            desk_of: vec![0; accounts as usize],
            desks: Vec::with_capacity((accounts as usize).min(1 << 16)),
            lanes: Vec::with_capacity((accounts as usize).min(1 << 16)),
            limits: BilateralLimits::new(accounts),
            worklist: Worklist::new(),
            queued: 0,
            order: Marks {
                back: 0,
                front: 0,
                day: 0,
            },
            limit: payments,
            window_days,
        }
    }

    pub(in crate::engine) fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.rows, how);
        crate::memory::take(&mut self.desk_of, how);
        self.by_id.take_memory(how);
        self.by_pair.take_memory(how);
    }

    pub(in crate::engine) fn has_room(&self, more: usize) -> bool {
        self.rows.len() + more <= self.limit as usize
    }

    pub(in crate::engine) fn rows(&self) -> &[PaymentRow] {
        &self.rows
    }

    #[inline]
    pub(in crate::engine) fn row(&self, payment: Handle) -> &PaymentRow {
        &self.rows[payment as usize]
    }

    #[inline]
    pub(in crate::engine) fn find(&self, id: PaymentId) -> Option<Handle> {
        self.by_id.find(hash_128(id.0), |handle| {
            self.rows[handle as usize].id == id.0
        })
    }

    /// The payment of that id, or where its id is free; `hash` is `hash_128(id.0)`.
    #[inline(always)]
    pub(in crate::engine) fn find_or_free(&self, id: PaymentId, hash: u32) -> Result<Handle, Free> {
        self.by_id
            .find_or_free(hash, |handle| self.rows[handle as usize].id == id.0)
    }

    /// Where a lookup of `id` begins, to warm the caches with.
    #[inline]
    pub(in crate::engine) fn lookup_hint(&self, id: PaymentId) -> &u64 {
        self.by_id.bucket(hash_128(id.0))
    }

    /// Asks for the lines of a payment that settles soon.
    #[inline]
    pub(in crate::engine) fn touch(&self, payment: Handle) {
        prefetch_pair(&self.rows[payment as usize]);
    }

    /// Asks for what leaving its queue takes: neighbours, and the bucket of its pair.
    #[inline]
    pub(in crate::engine) fn touch_neighbours(&self, payment: Handle) {
        let row = self.row(payment);
        for near in [row.next, row.previous] {
            if let Some(near) = self.rows.get(near as usize) {
                prefetch(near);
            }
        }
        prefetch(self.by_pair.bucket(hash_pair(row.debtor, row.creditor)));
    }

    /// Payments that wait at all accounts.
    pub(in crate::engine) fn queued(&self) -> u64 {
        self.queued
    }

    /// Payments that wait at `account` and their value.
    #[inline]
    pub(in crate::engine) fn queued_at(&self, account: Handle) -> (u32, Amount) {
        self.desk(account)
            .map_or((0, Amount::ZERO), |desk| (desk.queued, Amount(desk.value)))
    }

    /// The account's desk, if it has one.
    #[inline]
    pub(in crate::engine) fn desk(&self, account: Handle) -> Option<&Desk> {
        Some(&self.desks[self.place(account)?])
    }

    /// The account's desk, opened where it has none.
    pub(in crate::engine) fn open_desk(&mut self, account: Handle) -> &mut Desk {
        let at = &mut self.desk_of[account as usize];
        if *at == 0 {
            self.desks.push(Desk::new(account));
            self.lanes.push(None);
            *at = self.desks.len() as u32;
        }
        &mut self.desks[*at as usize - 1]
    }

    /// The place of the account's desk among [`Payments::desks`].
    #[inline]
    pub(in crate::engine) fn place(&self, account: Handle) -> Option<usize> {
        if self.desks.is_empty() {
            return None;
        }
        (self.desk_of[account as usize] as usize).checked_sub(1)
    }

    /// Every desk, in order of opening.
    pub(in crate::engine) fn desks(&self) -> &[Desk] {
        &self.desks
    }

    /// The bilateral limits.
    pub(in crate::engine) fn limits(&self) -> &BilateralLimits {
        &self.limits
    }

    /// The first payment of a class at `account`, whether it takes part or not.
    #[inline]
    pub(in crate::engine) fn head(&self, account: Handle, class: Priority) -> Option<Handle> {
        some(self.desk(account)?.first[class as usize])
    }

    /// The payment behind `payment` in its class.
    #[inline]
    pub(in crate::engine) fn next(&self, payment: Handle) -> Option<Handle> {
        some(self.rows[payment as usize].next)
    }

    /// The payment behind `payment` in its class; warms the caches for it.
    #[inline]
    pub(in crate::engine) fn next_ahead(&self, payment: Handle) -> Option<Handle> {
        let next = self.next(payment);
        if let Some(next) = next {
            prefetch(&self.rows[next as usize]);
        }
        next
    }

    /// Payments of a class at `account`, in order.
    pub(in crate::engine) fn class_iter(
        &self,
        account: Handle,
        class: Priority,
    ) -> impl Iterator<Item = Handle> + '_ {
        std::iter::successors(self.head(account, class), |payment| self.next(*payment))
    }

    /// The queue of `account` in settlement order.
    pub(in crate::engine) fn iter(&self, account: Handle) -> impl Iterator<Item = Handle> + '_ {
        Priority::ALL
            .iter()
            .flat_map(move |class| self.class_iter(account, *class))
    }

    /// The first payment of a desk's queue, whatever its class.
    #[inline]
    pub(super) fn first_of_queue(&self, desk: &Desk) -> Option<Handle> {
        desk.first.iter().find_map(|first| some(*first))
    }

    /// The payment behind `row` in the queue of the desk at `place`, of its class or a lower one.
    #[inline]
    pub(super) fn next_of_queue(&self, place: u32, row: &PaymentRow) -> Option<Handle> {
        let next = some(row.next).or_else(|| {
            let below = &self.desks[place as usize].first[row.class as usize + 1..];
            below.iter().find_map(|first| some(*first))
        });
        if let Some(next) = next {
            prefetch(&self.rows[next as usize]);
        }
        next
    }

    /// Payments of a class at `account` that take part.
    #[inline]
    pub(in crate::engine) fn eligible(&self, account: Handle, class: Priority) -> u32 {
        self.desk(account)
            .map_or(0, |desk| desk.eligible[class as usize])
    }

    /// Waiting payments from one account to another by order key, whatever their class.
    pub(in crate::engine) fn pair(
        &self,
        debtor: Handle,
        creditor: Handle,
    ) -> impl Iterator<Item = Handle> + '_ {
        std::iter::successors(self.pair_head(debtor, creditor), |payment| {
            some(self.row(*payment).pair_next)
        })
    }

    pub(super) fn pair_head(&self, debtor: Handle, creditor: Handle) -> Option<Handle> {
        if self.queued == 0 {
            return None;
        }
        self.by_pair.find(hash_pair(debtor, creditor), |at| {
            let row = self.row(at);
            row.debtor == debtor && row.creditor == creditor
        })
    }

    /// Whether a payment of `class` has to wait for another of its account (class gate): an urgent
    /// one waits behind urgent, all others behind urgent and high; without `bypass` normal ones
    /// wait behind normal ones, too.
    #[inline]
    pub(in crate::engine) fn must_wait(
        &self,
        account: Handle,
        class: Priority,
        bypass: bool,
    ) -> bool {
        let Some(desk) = self.desk(account) else {
            return false;
        };
        let last = gate_of(class, bypass) as usize;
        desk.eligible[..=last].iter().any(|count| *count > 0)
    }

    /// The payment that `payment` has to wait for: the first of its account that takes part and
    /// stands before it in a class that it may not overtake.
    pub(in crate::engine) fn ahead_of(&self, payment: Handle, bypass: bool) -> Option<Handle> {
        let row = self.row(payment);
        let last = gate_of(row.class(), bypass);
        Priority::ALL
            .iter()
            .take_while(|class| **class <= last)
            .flat_map(|class| self.class_iter(row.debtor, *class))
            .find(|other| *other == payment || self.row(*other).is_eligible())
            .filter(|other| *other != payment)
    }

    /// Records a payment that is final at once, under `hash` of its id where that is free. Inlined, so
    /// that the row is built where it stays.
    #[inline(always)]
    pub(in crate::engine) fn record_settled(
        &mut self,
        payment: &NewPayment,
        by: SettledBy,
        (hash, free): (u32, Free),
    ) {
        let (state, reason) = (PaymentState::Settled, Reason::Created);
        let handle = self.record(payment, state, by, reason);
        self.by_id.insert_in(free, hash, handle);
    }

    /// Records a payment at the end of its queue; warehoused where its earliest time lies ahead.
    pub(in crate::engine) fn record_waiting(
        &mut self,
        payment: &NewPayment,
        reason: Reason,
        flags: u8,
    ) -> Handle {
        let handle = self.record(payment, PaymentState::Queued, SettledBy::None, reason);
        self.by_id.insert(hash_128(payment.id.0), handle);
        self.begin_waiting(handle, flags);
        handle
    }

    /// Records a leg of a group at the end of its queue. It has no id of its own.
    pub(in crate::engine) fn record_leg(
        &mut self,
        payment: &NewPayment,
        (group, next_leg): (Handle, u32),
        flags: u8,
    ) -> Handle {
        let (state, reason) = (PaymentState::Queued, Reason::Created);
        let handle = self.record(payment, state, SettledBy::None, reason);
        let row = &mut self.rows[handle as usize];
        row.group = group;
        row.next_leg_or_date = next_leg;
        self.begin_waiting(handle, flags);
        handle
    }

    fn begin_waiting(&mut self, payment: Handle, flags: u8) {
        let row = &mut self.rows[payment as usize];
        row.flags = flags;
        if flags & NOT_DUE != 0 {
            row.state = PaymentState::Warehoused as u8;
        }
        self.link(payment);
        self.link_pair(payment);
    }

    #[inline(always)]
    fn record(
        &mut self,
        payment: &NewPayment,
        state: PaymentState,
        by: SettledBy,
        reason: Reason,
    ) -> Handle {
        let handle = self.rows.len() as u32;
        self.order.back += 1;
        self.rows.push(PaymentRow {
            id: payment.id.0,
            amount: payment.amount.0,
            debtor: payment.debtor,
            creditor: payment.creditor,
            next: NONE,
            previous: NONE,
            pair_next: NONE,
            pair_previous: NONE,
            class: payment.class as u8,
            state: state as u8,
            by: by as u8,
            asked_class: payment.class as u8,
            reason: reason as u16,
            order_key: self.order.back,
            earliest_at: payment.earliest_at.0,
            latest_at: payment.latest_at.0,
            return_of: payment.return_of.unwrap_or(NONE),
            deadline: NONE,
            group: NONE,
            pair_last: NONE,
            next_leg_or_date: payment.value_date,
            day: self.order.day as u32,
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
        self.leave_visit(payment);
        self.unlink(payment);
        self.unlink_pair(payment);
        let row = &mut self.rows[payment as usize];
        row.state = state as u8;
        row.by = by as u8;
        row.reason = reason as u16;
    }

    /// Says why a payment that stays queued now waits.
    #[inline]
    pub(in crate::engine) fn set_reason(&mut self, payment: Handle, reason: Reason) {
        self.rows[payment as usize].reason = reason as u16;
    }

    /// Keeps a waiting payment back, or no longer; it keeps its place.
    pub(in crate::engine) fn set_flag(&mut self, payment: Handle, flag: u8, on: bool) {
        let row = &mut self.rows[payment as usize];
        let was_eligible = row.is_eligible();
        if on {
            row.flags |= flag;
        } else {
            row.flags &= !flag;
        }
        if flag == NOT_DUE && !on {
            row.state = PaymentState::Queued as u8;
        }
        let is_eligible = row.is_eligible();
        let (debtor, class) = (row.debtor, row.class as usize);
        let at = self.desk_of[debtor as usize] as usize - 1;
        let count = &mut self.desks[at].eligible[class];
        match (was_eligible, is_eligible) {
            (true, false) => *count -= 1,
            (false, true) => *count += 1,
            _ => {}
        }
    }

    /// Whether its sender holds the payment.
    pub(in crate::engine) fn is_held(&self, payment: Handle) -> bool {
        self.row(payment).has(HELD)
    }

    /// Gives a waiting payment another class, where its age places it.
    pub(in crate::engine) fn set_class(&mut self, payment: Handle, class: Priority) {
        self.leave_visit(payment);
        self.unlink(payment);
        self.rows[payment as usize].class = class as u8;
        self.link(payment);
    }

    /// Moves a waiting payment before or behind all others of its class.
    pub(in crate::engine) fn move_to(&mut self, payment: Handle, position: Position) {
        self.leave_visit(payment);
        self.unlink(payment);
        self.unlink_pair(payment);
        let key = match position {
            Position::Front => {
                self.order.front -= 1;
                self.order.front
            }
            Position::Back => {
                self.order.back += 1;
                self.order.back
            }
        };
        self.rows[payment as usize].order_key = key;
        self.link(payment);
        self.link_pair(payment);
    }

    /// A part of a waiting leg has been paid: the rest waits on in its place.
    pub(in crate::engine) fn move_part(&mut self, leg: Handle, amount: u128) {
        let row = &mut self.rows[leg as usize];
        assert!(row.group != NONE && amount < row.amount, "a part of a leg");
        row.amount -= amount;
        row.set_returned(row.returned() + amount);
        let at = self.desk_of[row.debtor as usize] as usize - 1;
        self.desks[at].value -= amount;
    }

    /// More of a payment has been returned, or less.
    pub(in crate::engine) fn set_returned(&mut self, payment: Handle, returned: Amount) {
        self.rows[payment as usize].set_returned(returned.0);
    }

    pub(in crate::engine) fn set_deadline(&mut self, payment: Handle, slot: u32) {
        self.rows[payment as usize].deadline = slot;
    }

    pub(in crate::engine) fn deadline(&self, payment: Handle) -> Option<u32> {
        some(self.row(payment).deadline)
    }

    pub(in crate::engine) fn next_leg(&self, payment: Handle) -> Option<Handle> {
        let row = self.row(payment);
        row.leg_of().and_then(|_| some(row.next_leg_or_date))
    }

    /// Puts the payment into its queue where its class and order key place it: almost always last.
    pub(super) fn link(&mut self, payment: Handle) {
        let row = self.rows[payment as usize];
        let class = row.class as usize;
        self.open_desk(row.debtor);
        let at = self.desk_of[row.debtor as usize] as usize - 1;
        let desk = &mut self.desks[at];
        let first = desk.first[class];
        let mut previous = desk.last[class];
        if first != NONE && self.rows[first as usize].order_key > row.order_key {
            previous = NONE;
        } else {
            while previous != NONE && self.rows[previous as usize].order_key > row.order_key {
                previous = self.rows[previous as usize].previous;
            }
        }
        let next = match some(previous) {
            Some(previous) => std::mem::replace(&mut self.rows[previous as usize].next, payment),
            None => std::mem::replace(&mut desk.first[class], payment),
        };
        match some(next) {
            Some(next) => self.rows[next as usize].previous = payment,
            None => desk.last[class] = payment,
        }
        desk.queued += 1;
        desk.value += row.amount;
        desk.eligible[class] += u32::from(row.is_eligible());
        if row.class == Priority::Normal as u8 {
            desk.smallest = desk.smallest.min(row.amount_alone());
        }
        self.queued += 1;
        let row = &mut self.rows[payment as usize];
        row.next = next;
        row.previous = previous;
        if class == Priority::Normal as usize {
            self.take_seat(at, payment);
        }
    }

    fn unlink(&mut self, payment: Handle) {
        let row = self.rows[payment as usize];
        assert!(row.is_waiting(), "only what waits leaves a queue");
        let at = self.desk_of[row.debtor as usize] as usize - 1;
        let desk = &mut self.desks[at];
        let class = row.class as usize;
        match some(row.previous) {
            Some(previous) => self.rows[previous as usize].next = row.next,
            None => desk.first[class] = row.next,
        }
        match some(row.next) {
            Some(next) => self.rows[next as usize].previous = row.previous,
            None => desk.last[class] = row.previous,
        }
        desk.queued -= 1;
        desk.value -= row.amount;
        desk.eligible[class] -= u32::from(row.is_eligible());
        if class == Priority::Normal as usize {
            if desk.first[class] == NONE {
                desk.smallest = u128::MAX;
            }
            self.leave_seat(at, payment);
        }
        self.queued -= 1;
        let row = &mut self.rows[payment as usize];
        row.next = NONE;
        row.previous = NONE;
    }

    /// Puts the payment among those of its debtor to the same creditor, by order key.
    pub(super) fn link_pair(&mut self, payment: Handle) {
        let (debtor, creditor, key) = {
            let row = self.row(payment);
            (row.debtor, row.creditor, row.order_key)
        };
        let hash = hash_pair(debtor, creditor);
        let head = self.by_pair.find(hash, |at| {
            let row = &self.rows[at as usize];
            row.debtor == debtor && row.creditor == creditor
        });
        let Some(head) = head else {
            self.by_pair.insert(hash, payment);
            self.rows[payment as usize].pair_last = payment;
            return;
        };
        let last = self.rows[head as usize].pair_last;
        if self.rows[head as usize].order_key > key {
            self.by_pair.replace(hash, head, payment);
            self.rows[head as usize].pair_previous = payment;
            let row = &mut self.rows[payment as usize];
            row.pair_next = head;
            row.pair_last = last;
            return;
        }
        let mut previous = last;
        while self.rows[previous as usize].order_key > key {
            previous = self.rows[previous as usize].pair_previous;
        }
        let next = std::mem::replace(&mut self.rows[previous as usize].pair_next, payment);
        match some(next) {
            Some(next) => self.rows[next as usize].pair_previous = payment,
            None => self.rows[head as usize].pair_last = payment,
        }
        let row = &mut self.rows[payment as usize];
        row.pair_next = next;
        row.pair_previous = previous;
    }

    fn unlink_pair(&mut self, payment: Handle) {
        let row = self.rows[payment as usize];
        if let Some(next) = some(row.pair_next) {
            self.rows[next as usize].pair_previous = row.pair_previous;
        }
        match (some(row.pair_previous), some(row.pair_next)) {
            (Some(previous), next) => {
                self.rows[previous as usize].pair_next = row.pair_next;
                if next.is_none() {
                    let head = self.pair_head(row.debtor, row.creditor);
                    let head = head.expect("a pair has a first payment");
                    self.rows[head as usize].pair_last = previous;
                }
            }
            (None, Some(next)) => {
                let hash = hash_pair(row.debtor, row.creditor);
                self.by_pair.replace(hash, payment, next);
                self.rows[next as usize].pair_last = row.pair_last;
            }
            (None, None) => {
                let hash = hash_pair(row.debtor, row.creditor);
                self.by_pair.remove(hash, payment);
            }
        }
        let row = &mut self.rows[payment as usize];
        row.pair_next = NONE;
        row.pair_previous = NONE;
        row.pair_last = NONE;
    }
}

/// The last class that a payment of `class` waits behind.
fn gate_of(class: Priority, bypass: bool) -> Priority {
    match class {
        Priority::Normal if bypass => Priority::High,
        class => class,
    }
}
