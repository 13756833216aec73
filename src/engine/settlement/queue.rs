//! Payments: every payment of the window, and for each debtor three queues (urgent, high, normal)
//! in settlement order.
//!
//! The room keeps order, counts, reservations and limits; whether there is money it does not know.
//! Links are handles, so a queued payment costs its row and two index entries: 128 + 32 to 64
//! bytes.

use super::desk::{Desk, UNLIMITED};
use super::limits::{BilateralLimits, LimitRow, hash_pair};
use super::payment::{HELD, NONE, NOT_DUE, PaymentRow, some};
use super::worklist::{Visit, Worklist};
use crate::engine::index::{Handle, Index, hash_128};
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
}

impl Payments {
    pub(in crate::engine) fn new(payments: u32, accounts: u32, window_days: u32) -> Payments {
        Payments {
            rows: Vec::with_capacity(payments as usize),
            by_id: Index::new(payments),
            by_pair: Index::new(payments),
            desk_of: vec![0; accounts as usize],
            desks: Vec::with_capacity((accounts as usize).min(1 << 16)),
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
            *at = self.desks.len() as u32;
        }
        &mut self.desks[*at as usize - 1]
    }

    /// The place of the account's desk among [`Payments::desks`].
    #[inline]
    pub(in crate::engine) fn place(&self, account: Handle) -> Option<usize> {
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

    fn pair_head(&self, debtor: Handle, creditor: Handle) -> Option<Handle> {
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

    /// Records a payment that is final at once.
    #[inline]
    pub(in crate::engine) fn record_settled(&mut self, payment: &NewPayment, by: SettledBy) {
        let handle = self.record(payment, PaymentState::Settled, Reason::Created);
        self.rows[handle as usize].by = by as u8;
        self.by_id.insert(hash_128(payment.id.0), handle);
    }

    /// Records a payment at the end of its queue; warehoused where its earliest time lies ahead.
    pub(in crate::engine) fn record_waiting(
        &mut self,
        payment: &NewPayment,
        reason: Reason,
        flags: u8,
    ) -> Handle {
        let handle = self.record(payment, PaymentState::Queued, reason);
        self.by_id.insert(hash_128(payment.id.0), handle);
        self.begin_waiting(handle, flags);
        handle
    }

    /// Records a leg of a group at the end of its queue. It has no id of its own.
    pub(in crate::engine) fn record_leg(
        &mut self,
        payment: &NewPayment,
        group: Handle,
        next_leg: u32,
    ) -> Handle {
        let handle = self.record(payment, PaymentState::Queued, Reason::Created);
        let row = &mut self.rows[handle as usize];
        row.group = group;
        row.next_leg = next_leg;
        self.begin_waiting(handle, 0);
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

    #[inline]
    fn record(&mut self, payment: &NewPayment, state: PaymentState, reason: Reason) -> Handle {
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
            asked_class: payment.class as u8,
            reason: reason as u16,
            order_key: self.order.back,
            earliest_at: payment.earliest_at.0,
            latest_at: payment.latest_at.0,
            return_of: payment.return_of.unwrap_or(NONE),
            deadline: NONE,
            group: NONE,
            pair_last: NONE,
            next_leg: NONE,
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

    /// More of a payment has been returned, or less.
    pub(in crate::engine) fn set_returned(&mut self, payment: Handle, returned: Amount) {
        self.rows[payment as usize].returned = returned.0;
    }

    pub(in crate::engine) fn set_deadline(&mut self, payment: Handle, slot: u32) {
        self.rows[payment as usize].deadline = slot;
    }

    pub(in crate::engine) fn deadline(&self, payment: Handle) -> Option<u32> {
        some(self.row(payment).deadline)
    }

    pub(in crate::engine) fn next_leg(&self, payment: Handle) -> Option<Handle> {
        some(self.row(payment).next_leg)
    }

    /// Puts the payment into its queue where its class and order key place it: almost always last.
    fn link(&mut self, payment: Handle) {
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
        if class == Priority::Normal as usize && desk.first[class] == NONE {
            desk.smallest = u128::MAX;
        }
        self.queued -= 1;
        let row = &mut self.rows[payment as usize];
        row.next = NONE;
        row.previous = NONE;
    }

    /// Puts the payment among those of its debtor to the same creditor, by order key.
    fn link_pair(&mut self, payment: Handle) {
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

/// What bounds payments beside money.
impl Payments {
    /// Whether a payment leaves reservations and limits whole. `liquidity` is what its debtor has
    /// to spend, `None` where it has no floor.
    #[inline]
    pub(in crate::engine) fn check_bounds(
        &self,
        (debtor, creditor): (Handle, Handle),
        amount: u128,
        class: Priority,
        liquidity: impl FnOnce() -> Option<i128>,
    ) -> Result<(), Reason> {
        let Some(desk) = self.desk(debtor) else {
            return Ok(());
        };
        let reserved = desk.reserved_against(class);
        if reserved > 0
            && let Some(liquidity) = liquidity()
            && liquidity - (amount as i128) < reserved as i128
        {
            return Err(Reason::Reserved);
        }
        if class != Priority::Normal || !desk.is_limited() {
            return Ok(());
        }
        match self.room_toward(debtor, creditor) {
            Some((room, reason)) if room < amount as i128 => Err(reason),
            _ => Ok(()),
        }
    }

    /// What normal payments of `debtor` may still net send to `creditor`, and which limit says so;
    /// `None` where none does.
    pub(in crate::engine) fn room_toward(
        &self,
        debtor: Handle,
        creditor: Handle,
    ) -> Option<(i128, Reason)> {
        let desk = self.desk(debtor)?;
        if let Some(limit) = self.bilateral(desk, creditor) {
            let row = self.limits.row(limit);
            return Some((row.amount as i128 - row.used, Reason::LimitBilateral));
        }
        (desk.multilateral != UNLIMITED).then(|| {
            let room = desk.multilateral as i128 - desk.multilateral_used;
            (room, Reason::LimitMultilateral)
        })
    }

    /// The bilateral limit of a desk toward an account.
    #[inline]
    pub(in crate::engine) fn bilateral(&self, desk: &Desk, toward: Handle) -> Option<Handle> {
        if desk.bilateral == 0 {
            return None;
        }
        let limit = self.limits.find(desk.account, toward)?;
        (self.limits.row(limit).amount != UNLIMITED).then_some(limit)
    }

    /// A payment has been paid: what it uses of reservations and limits, and what it gives back to
    /// its creditor's.
    #[inline]
    pub(in crate::engine) fn note_paid(
        &mut self,
        debtor: Handle,
        creditor: Handle,
        amount: u128,
        class: Priority,
    ) {
        if let Some(at) = self.place(debtor) {
            self.desks[at].pay(class, amount);
            if class == Priority::Normal && self.desks[at].is_limited() {
                self.use_limit(at, creditor, amount as i128);
            }
        }
        if let Some(at) = self.place(creditor)
            && self.desks[at].is_limited()
        {
            self.use_limit(at, debtor, -(amount as i128));
        }
    }

    fn use_limit(&mut self, at: usize, toward: Handle, amount: i128) {
        match self.bilateral(&self.desks[at], toward) {
            Some(limit) => self.limits.row_mut(limit).used += amount,
            None if self.desks[at].multilateral != UNLIMITED => {
                self.desks[at].multilateral_used += amount;
            }
            None => {}
        }
    }

    /// Whether another bilateral limit can be set.
    pub(in crate::engine) fn has_limit_room(&self, account: Handle, counterparty: Handle) -> bool {
        self.limits.find(account, counterparty).is_some() || self.limits.has_room()
    }

    /// Sets or removes a bilateral limit; there is room. A new one starts with nothing sent.
    pub(in crate::engine) fn set_bilateral(
        &mut self,
        account: Handle,
        counterparty: Handle,
        amount: u128,
    ) {
        let old = self.limits.find(account, counterparty);
        let was_set = old.is_some_and(|at| self.limits.row(at).amount != UNLIMITED);
        match old {
            Some(at) => {
                let row = self.limits.row_mut(at);
                row.amount = amount;
                if !was_set {
                    row.used = 0;
                }
            }
            None if amount != UNLIMITED => self.limits.add(account, counterparty, amount),
            None => {}
        }
        let desk = self.open_desk(account);
        match (was_set, amount != UNLIMITED) {
            (false, true) => desk.bilateral += 1,
            (true, false) => desk.bilateral -= 1,
            _ => {}
        }
    }

    /// Sets or removes a multilateral limit. A new one starts with nothing sent.
    pub(in crate::engine) fn set_multilateral(&mut self, account: Handle, amount: u128) {
        let desk = self.open_desk(account);
        if desk.multilateral == UNLIMITED {
            desk.multilateral_used = 0;
        }
        desk.multilateral = amount;
    }

    /// A new day: reservations as set, nothing sent.
    pub(in crate::engine) fn start_day(&mut self) {
        self.limits.start_day();
        for desk in &mut self.desks {
            desk.start_day();
        }
    }
}

/// The worklist of release.
impl Payments {
    /// Notes that something at `account` may go now, if anything waits there.
    #[inline]
    pub(in crate::engine) fn note_risen(&mut self, account: Handle, sequence: u64) {
        if self.queued == 0 {
            return;
        }
        if let Some(at) = self.place(account) {
            let desk = &mut self.desks[at];
            if desk.queued > 0 && desk.risen_at == 0 {
                desk.risen_at = sequence;
                self.worklist.push(sequence, account);
            }
        }
    }

    /// Whether nothing is left to look at.
    #[inline]
    pub(in crate::engine) fn is_settled_down(&self) -> bool {
        self.worklist.is_empty()
    }

    /// The account being looked at, or else the next one.
    #[inline]
    pub(in crate::engine) fn next_visit(&mut self) -> Option<Visit> {
        if self.worklist.visit.is_idle() {
            let account = self.worklist.pop()?;
            let at = self.place(account).expect("what has risen has a desk");
            self.desks[at].risen_at = 0;
            self.worklist.visit = Visit {
                account,
                cursor: NONE,
            };
        }
        Some(self.worklist.visit)
    }

    /// Breaks the present visit off, to go on with `cursor` later; `None` ends it.
    #[inline]
    pub(in crate::engine) fn leave(&mut self, cursor: Option<Handle>) {
        match cursor {
            Some(cursor) => self.worklist.visit.cursor = cursor,
            None => self.worklist.visit = Visit::IDLE,
        }
    }

    /// Whether the account is on the list.
    pub(in crate::engine) fn is_risen(&self, account: Handle) -> bool {
        self.worklist.visit.account == account
            || self.desk(account).is_some_and(|desk| desk.risen_at != 0)
    }

    /// No normal payment queued at the account is smaller than this.
    #[inline]
    pub(in crate::engine) fn smallest_normal(&self, account: Handle) -> u128 {
        self.desk(account).map_or(u128::MAX, |desk| desk.smallest)
    }

    /// A visit that saw every normal payment found none smaller that stays.
    #[inline]
    pub(in crate::engine) fn set_smallest(&mut self, account: Handle, smallest: u128) {
        if let Some(at) = self.place(account) {
            self.desks[at].smallest = smallest;
        }
    }

    /// A payment leaves its place: a visit broken off there goes on behind it.
    fn leave_visit(&mut self, payment: Handle) {
        if self.worklist.visit.cursor == payment {
            let row = self.row(payment);
            // Without a payment behind it the visit begins anew: looking twice does no harm.
            self.worklist.visit.cursor = row.next;
        }
    }
}

/// Snapshot, digest, audit.
impl Payments {
    /// What the queues do not say: where the next payment goes, and the visit broken off.
    pub(in crate::engine) fn marks(&self) -> ([Marks; 1], [Visit; 1]) {
        ([self.order], [self.worklist.visit])
    }

    /// The desks without their links.
    pub(in crate::engine) fn canonical_desks(&self) -> Vec<Desk> {
        self.desks.iter().map(Desk::canonical).collect()
    }

    /// Rebuilds the payments around rows read from a snapshot. `queue_order` lists the waiting ones
    /// account by account in settlement order.
    pub(in crate::engine) fn restore(
        saved: SavedPayments,
        payments: u32,
        accounts: u32,
        window_days: u32,
    ) -> Option<Payments> {
        let room = payments.max(saved.rows.len() as u32);
        let mut all = Payments::new(room, accounts, window_days);
        all.order = saved.order;
        all.limits = BilateralLimits::restore(saved.limits, accounts);
        for mut row in saved.rows {
            row.next = NONE;
            row.previous = NONE;
            row.pair_next = NONE;
            row.pair_previous = NONE;
            row.pair_last = NONE;
            if row.group == NONE {
                all.by_id.insert(hash_128(row.id), all.rows.len() as u32);
            }
            all.rows.push(row);
        }
        for desk in &saved.desks {
            let fresh = all.open_desk(desk.account);
            *fresh = Desk {
                value: 0,
                queued: 0,
                eligible: [0; 3],
                first: [NONE; 3],
                last: [NONE; 3],
                ..*desk
            };
            if desk.risen_at != 0 {
                all.worklist.push(desk.risen_at, desk.account);
            }
        }
        for payment in &saved.queue_order {
            all.rows
                .get(*payment as usize)
                .filter(|row| row.is_waiting())?;
            all.link(*payment);
        }
        for desk in &saved.desks {
            all.open_desk(desk.account).smallest = desk.smallest;
        }
        let mut by_age = saved.queue_order;
        by_age.sort_unstable_by_key(|payment| all.row(*payment).order_key);
        for payment in by_age {
            all.link_pair(payment);
        }
        all.worklist.visit = saved.visit;
        Some(all)
    }

    /// Waiting payments, account by account in settlement order.
    pub(in crate::engine) fn queue_order(&self) -> Vec<Handle> {
        (0..self.desk_of.len() as u32)
            .filter(|account| self.desk_of[*account as usize] != 0)
            .flat_map(|account| self.iter(account))
            .collect()
    }

    /// The room's invariants: every waiting payment is in its queue once and in order, counts and
    /// values agree, pairs hold what waits.
    pub(in crate::engine) fn audit(&self) -> Result<(), String> {
        let mut seen = 0u64;
        for desk in &self.desks {
            seen += self.audit_desk(desk)?;
        }
        let waiting = self.rows.iter().filter(|row| row.is_waiting()).count() as u64;
        if seen != self.queued || waiting != self.queued {
            return Err(format!(
                "{} payments wait, {seen} found in queues, {waiting} say so",
                self.queued
            ));
        }
        self.audit_pairs()?;
        let is_lost = |row: &&PaymentRow| row.group == NONE && self.find(row.id()).is_none();
        match self.rows.iter().find(is_lost) {
            Some(row) => Err(format!("payment {}: not found by its id", row.id)),
            None => Ok(()),
        }
    }

    /// Every waiting payment hangs on the first of its pair, in order of key.
    fn audit_pairs(&self) -> Result<(), String> {
        let mut seen = 0u64;
        for (at, row) in self.rows.iter().enumerate() {
            if !row.is_waiting() || row.pair_previous != NONE {
                continue;
            }
            if self.pair_head(row.debtor, row.creditor) != Some(at as u32) {
                return Err(format!("payment {}: its pair is not found", row.id));
            }
            let mut last = None;
            for payment in self.pair(row.debtor, row.creditor) {
                let next = self.row(payment);
                let is_placed = next.is_waiting()
                    && (next.debtor, next.creditor) == (row.debtor, row.creditor)
                    && last.is_none_or(|last| self.row(last).order_key < next.order_key);
                if !is_placed {
                    return Err(format!("payment {}: out of place in its pair", next.id));
                }
                last = Some(payment);
                seen += 1;
            }
            if last != Some(row.pair_last) {
                return Err(format!("payment {}: its pair ends elsewhere", row.id));
            }
        }
        if seen == self.queued {
            Ok(())
        } else {
            Err(format!("{} payments wait, {seen} in pairs", self.queued))
        }
    }

    fn audit_desk(&self, desk: &Desk) -> Result<u64, String> {
        let account = desk.account;
        let (mut queued, mut value, mut eligible) = (0u32, 0u128, [0u32; 3]);
        for class in Priority::ALL {
            let mut last_key = i64::MIN;
            for payment in self.class_iter(account, *class) {
                let row = self.row(payment);
                let is_placed = row.debtor == account
                    && row.is_waiting()
                    && row.class() == *class
                    && row.order_key > last_key;
                if !is_placed {
                    let id = row.id;
                    return Err(format!("payment {id}: in a queue it does not belong to"));
                }
                if *class == Priority::Normal && row.amount_alone() < desk.smallest {
                    let id = row.id;
                    return Err(format!("payment {id}: smaller than the smallest"));
                }
                last_key = row.order_key;
                queued += 1;
                value += row.amount;
                eligible[*class as usize] += u32::from(row.is_eligible());
            }
        }
        let counted = (desk.queued, desk.value, desk.eligible);
        if counted != (queued, value, eligible) {
            return Err(format!(
                "account handle {account}: queue count or value is off"
            ));
        }
        Ok(u64::from(queued))
    }
}

/// What a snapshot holds of payments.
pub(in crate::engine) struct SavedPayments {
    pub(in crate::engine) rows: Vec<PaymentRow>,
    pub(in crate::engine) queue_order: Vec<Handle>,
    pub(in crate::engine) desks: Vec<Desk>,
    pub(in crate::engine) limits: Vec<LimitRow>,
    pub(in crate::engine) order: Marks,
    pub(in crate::engine) visit: Visit,
}
