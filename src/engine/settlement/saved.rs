//! Payments in a snapshot and in the digest, and their audit.

use super::desk::Desk;
use super::limits::{BilateralLimits, LimitRow};
use super::payment::{NONE, PaymentRow};
use super::queue::{Marks, Payments};
use super::worklist::Visit;
use crate::engine::index::{Handle, hash_128};
use crate::protocol::command::Priority;

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
            row.seat = 0;
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
                smallest: u128::MAX,
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
        for (at, desk) in self.desks.iter().enumerate() {
            seen += self.audit_desk(desk)?;
            self.audit_lane(at)?;
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
