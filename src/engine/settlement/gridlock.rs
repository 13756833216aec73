//! Gridlock resolution (Bech and Soramaki 2001; the "partial" optimisation of T2): which queued
//! payments can settle together although none can settle alone.
//!
//! Take every queue whole. While an account would end below its floor, drop the last payment of its
//! set. What is left when no account does settles simultaneously. The result is the one largest set
//! that keeps every queue's order, whatever the order of repair: sets that keep order are closed
//! under union, and what an account can pay only grows with what others pay.
//!
//! Each payment is dropped at most once, so the work is linear in payments and accounts.

use super::queue::{PaymentRow, Payments};
use crate::engine::index::Handle;

/// Room to work in, kept between runs.
#[derive(Default)]
pub(in crate::engine) struct Gridlock {
    /// Queued payments, account by account in settlement order.
    order: Vec<Handle>,
    /// Per queue: its payments in `order` (the end moves), its account's balance with them.
    sets: Vec<Set>,
    work: Vec<u32>,
    settle: Vec<Handle>,
}

#[derive(Clone, Copy)]
struct Set {
    start: usize,
    end: usize,
    /// What the account would have left, minor units; `None` where it has no floor.
    left: Option<i128>,
    in_work: bool,
}

impl Set {
    fn is_broken(&self) -> bool {
        self.end > self.start && self.left.is_some_and(|left| left < 0)
    }
}

impl Gridlock {
    /// The payments that settle together, in order of entry. `available` is what an account has to
    /// spend, `None` where it has no floor; where `is_eligible` says no, the payment and all behind
    /// it stay.
    pub(in crate::engine) fn resolve(
        &mut self,
        payments: &Payments,
        available: impl Fn(Handle) -> Option<i128>,
        is_eligible: impl Fn(&PaymentRow) -> bool,
    ) -> &[Handle] {
        self.take_all(payments, available, is_eligible);
        self.net(payments);
        self.repair(payments);
        self.settle.clear();
        for set in &self.sets {
            self.settle
                .extend_from_slice(&self.order[set.start..set.end]);
        }
        // Handles grow with entry.
        self.settle.sort_unstable();
        &self.settle
    }

    fn take_all(
        &mut self,
        payments: &Payments,
        available: impl Fn(Handle) -> Option<i128>,
        is_eligible: impl Fn(&PaymentRow) -> bool,
    ) {
        self.order.clear();
        self.sets.clear();
        for account in payments.queue_accounts() {
            let start = self.order.len();
            self.order.extend(
                payments
                    .iter(account)
                    .take_while(|payment| is_eligible(payments.row(*payment))),
            );
            self.sets.push(Set {
                start,
                end: self.order.len(),
                left: available(account),
                in_work: false,
            });
        }
    }

    /// Takes what each account would pay from it and gives it what it would receive.
    fn net(&mut self, payments: &Payments) {
        for at in 0..self.sets.len() {
            let (start, end) = (self.sets[at].start, self.sets[at].end);
            for payment in &self.order[start..end] {
                let row = payments.row(*payment);
                let amount = row.amount as i128;
                if let Some(left) = &mut self.sets[at].left {
                    *left -= amount;
                }
                if let Some(creditor) = payments.queue_place(row.creditor)
                    && let Some(left) = &mut self.sets[creditor].left
                {
                    *left += amount;
                }
            }
        }
    }

    fn repair(&mut self, payments: &Payments) {
        self.work.clear();
        for (at, set) in self.sets.iter_mut().enumerate() {
            set.in_work = set.is_broken();
            if set.in_work {
                self.work.push(at as u32);
            }
        }
        while let Some(at) = self.work.pop() {
            let at = at as usize;
            self.sets[at].in_work = false;
            while self.sets[at].is_broken() {
                self.sets[at].end -= 1;
                let row = payments.row(self.order[self.sets[at].end]);
                let amount = row.amount as i128;
                if let Some(left) = &mut self.sets[at].left {
                    *left += amount;
                }
                let Some(creditor) = payments.queue_place(row.creditor) else {
                    continue;
                };
                let set = &mut self.sets[creditor];
                if let Some(left) = &mut set.left {
                    *left -= amount;
                }
                if set.is_broken() && !set.in_work && creditor != at {
                    set.in_work = true;
                    self.work.push(creditor as u32);
                }
            }
        }
    }
}
