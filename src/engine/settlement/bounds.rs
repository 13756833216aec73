//! What bounds payments beside money: reservations and limits, asked before a payment settles and
//! kept after.

use super::desk::{Desk, UNLIMITED};
use super::queue::Payments;
use crate::engine::index::Handle;
use crate::protocol::command::Priority;
use crate::protocol::reason::Reason;

impl Payments {
    /// Whether a payment leaves reservations and limits whole. `liquidity` is what its debtor has
    /// to spend, `None` where it has no floor.
    #[inline(always)]
    pub(in crate::engine) fn check_bounds(
        &self,
        (debtor, creditor): (Handle, Handle),
        amount: u128,
        class: Priority,
        liquidity: impl FnOnce() -> Option<i128>,
    ) -> Result<(), Reason> {
        match self.place(debtor) {
            None => Ok(()),
            Some(at) => self.check_desk(at, creditor, amount, class, liquidity),
        }
    }

    fn check_desk(
        &self,
        at: usize,
        creditor: Handle,
        amount: u128,
        class: Priority,
        liquidity: impl FnOnce() -> Option<i128>,
    ) -> Result<(), Reason> {
        let desk = &self.desks[at];
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
        match self.room_toward(desk.account, creditor) {
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
    #[inline(always)]
    pub(in crate::engine) fn note_paid(
        &mut self,
        debtor: Handle,
        creditor: Handle,
        amount: u128,
        class: Priority,
    ) {
        // Where nobody has a desk there is nothing to keep.
        if !self.desks.is_empty() {
            self.note_at_desks(debtor, creditor, amount, class);
        }
    }

    fn note_at_desks(&mut self, debtor: Handle, creditor: Handle, amount: u128, class: Priority) {
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
