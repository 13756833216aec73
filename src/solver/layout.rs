//! The problem laid out by account: what has to go in order (the chain), what is free to be chosen,
//! and which limits each payment counts toward.

use super::problem::{Class, PaymentIndex, Problem};
use std::cmp::Reverse;
use std::collections::HashMap;

/// No limit.
pub(super) const NONE: u32 = u32::MAX;

/// One account's payments: `order[start..chain_stop]` go in order, `order[chain_stop..stop]` freely once
/// the whole chain is in.
#[derive(Clone, Copy, Debug, Default)]
struct Range {
    start: u32,
    chain_stop: u32,
    stop: u32,
}

/// Who stands where.
pub(super) struct Layout {
    order: Vec<PaymentIndex>,
    /// As `order`, free payments of each account by amount; of equals the latest first.
    by_amount: Vec<PaymentIndex>,
    ranges: Vec<Range>,
    /// Per payment, its place in its account's chain; [`NONE`] where it is free.
    pub(super) place: Vec<u32>,
    /// Payments that may be chosen.
    pub(super) usable: Vec<PaymentIndex>,
    /// Per payment, the rooms it takes from (of its debtor) and gives to (of its creditor); empty
    /// where there are no limits.
    bounds: Vec<(u32, u32)>,
    /// What each limit leaves, and whose it is.
    pub(super) rooms: Vec<(i128, u32)>,
}

impl Layout {
    pub(super) fn of(problem: &Problem) -> Layout {
        let mut layout = Layout {
            order: Vec::with_capacity(problem.payments().len()),
            by_amount: Vec::new(),
            ranges: Vec::with_capacity(problem.accounts().len()),
            place: vec![NONE; problem.payments().len()],
            usable: Vec::new(),
            bounds: Vec::new(),
            rooms: Vec::new(),
        };
        layout.line_up(problem);
        layout.find_bounds(problem);
        layout
    }

    fn line_up(&mut self, problem: &Problem) {
        let payments = problem.payments();
        let mut queues: Vec<[Vec<PaymentIndex>; 3]> = Vec::new();
        queues.resize_with(problem.accounts().len(), Default::default);
        for (at, payment) in (0..).zip(payments) {
            queues[payment.debtor as usize][payment.class as usize].push(at);
        }
        for [urgent, high, normal] in queues {
            let start = self.order.len() as u32;
            let mut chain = [urgent, high].concat();
            let mut free = normal;
            if !problem.bypass() {
                chain.append(&mut free);
            }
            let movable = |at: &PaymentIndex| payments[*at as usize].is_movable;
            let whole = chain.len();
            let reach = chain.iter().position(|at| !movable(at)).unwrap_or(whole);
            chain.truncate(reach);
            // Behind one that stays, nothing goes.
            if reach < whole {
                free.clear();
            }
            free.retain(movable);
            for (place, at) in (0..).zip(&chain) {
                self.place[*at as usize] = place;
            }
            self.order.extend(&chain);
            let chain_stop = self.order.len() as u32;
            self.order.extend(&free);
            self.ranges.push(Range {
                start,
                chain_stop,

                stop: self.order.len() as u32,
            });
        }
        self.by_amount.clone_from(&self.order);
        for range in &self.ranges {
            let free = &mut self.by_amount[range.chain_stop as usize..range.stop as usize];
            free.sort_by_key(|at| (payments[*at as usize].amount, Reverse(*at)));
        }
        self.usable.clone_from(&self.order);
        self.usable.sort_unstable();
    }

    fn find_bounds(&mut self, problem: &Problem) {
        let accounts = problem.accounts();
        let has_limits = accounts
            .iter()
            .any(|account| account.multilateral.is_some());
        if problem.limits().is_empty() && !has_limits {
            return;
        }
        let mut bilateral = HashMap::new();
        for limit in problem.limits() {
            bilateral.insert((limit.account, limit.counterparty), self.rooms.len() as u32);
            self.rooms.push((limit.room, limit.account));
        }
        let mut multilateral = vec![NONE; accounts.len()];
        for (at, account) in accounts.iter().enumerate() {
            if let Some(room) = account.multilateral {
                multilateral[at] = self.rooms.len() as u32;
                self.rooms.push((room, at as u32));
            }
        }
        let room = |account: u32, toward: u32| {
            let pair = bilateral.get(&(account, toward)).copied();
            pair.unwrap_or(multilateral[account as usize])
        };
        let bounds = problem.payments().iter().map(|payment| {
            let out = match payment.class {
                Class::Normal => room(payment.debtor, payment.creditor),
                Class::Urgent | Class::High => NONE,
            };
            (out, room(payment.creditor, payment.debtor))
        });
        self.bounds = bounds.collect();
    }

    /// What of an account goes in order.
    pub(super) fn chain(&self, account: u32) -> &[PaymentIndex] {
        let range = self.ranges[account as usize];
        &self.order[range.start as usize..range.chain_stop as usize]
    }

    /// What of an account is chosen freely once its chain is in.
    pub(super) fn free(&self, account: u32) -> &[PaymentIndex] {
        let range = self.ranges[account as usize];
        &self.order[range.chain_stop as usize..range.stop as usize]
    }

    /// Free payments by amount, account by account.
    pub(super) fn by_amount(&self) -> &[PaymentIndex] {
        &self.by_amount
    }

    /// Where the free payments of an account stand in [`Layout::by_amount`].
    pub(super) fn positions(&self, account: u32) -> std::ops::Range<u32> {
        let range = self.ranges[account as usize];
        range.chain_stop..range.stop
    }

    /// The rooms that a payment takes from and gives to.
    #[inline]
    pub(super) fn bounds(&self, payment: PaymentIndex) -> (u32, u32) {
        match self.bounds.get(payment as usize) {
            Some(bounds) => *bounds,
            None => (NONE, NONE),
        }
    }

    /// Whether anything is limited.
    pub(super) fn is_limited(&self) -> bool {
        !self.rooms.is_empty()
    }
}
