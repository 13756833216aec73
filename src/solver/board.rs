//! The exact account of a choice: what is in, what each account would have left, which limits would
//! break. Whatever a search suggests is repaired here until every account bears it.
//!
//! The constraints are those the engine checks: of what an account pays, nothing may pass over the
//! chain; what is left must not be below zero, nor, where a high payment is in, below the unused
//! urgent reservation, nor, where a normal one is in, below what is unused of both; and normal
//! payments keep the account's limits. An account that pays nothing has nothing to bear.

use super::layout::{Layout, NONE};
use super::problem::{Class, PaymentIndex, Problem};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What an account would have.
#[derive(Clone, Copy)]
struct Seat {
    has_floor: bool,
    left: i128,
    /// Reservations that what is in would leave unused; below zero it pays more than they are.
    unused: [i128; 2],
    /// Payments in, by class.
    counts: [u32; 3],
    /// Chain payments in.
    chain: u32,
    limits_broken: u32,
}

#[derive(Clone, Copy)]
struct Room {
    left: i128,
    /// Normal payments in that it bounds.
    payments: u32,
    owner: u32,
}

impl Room {
    fn is_broken(&self) -> bool {
        self.payments > 0 && self.left < 0
    }
}

/// A choice of payments in the making.
#[derive(Clone)]
pub(super) struct Board<'a> {
    problem: &'a Problem,
    layout: &'a Layout,
    is_in: Vec<bool>,
    seats: Vec<Seat>,
    rooms: Vec<Room>,
    value: i128,
    count: usize,
}

impl<'a> Board<'a> {
    /// Nothing is in.
    pub(super) fn new(problem: &'a Problem, layout: &'a Layout) -> Board<'a> {
        let seats = problem.accounts().iter().map(|account| Seat {
            has_floor: account.liquidity.is_some(),
            left: account.liquidity.unwrap_or(0),
            unused: account.reserved.map(|left| left as i128),
            counts: [0; 3],
            chain: 0,
            limits_broken: 0,
        });
        let rooms = layout.rooms.iter().map(|(left, owner)| Room {
            left: *left,
            payments: 0,
            owner: *owner,
        });
        Board {
            problem,
            layout,
            is_in: vec![false; problem.payments().len()],
            seats: seats.collect(),
            rooms: rooms.collect(),
            value: 0,
            count: 0,
        }
    }

    /// Minor units in.
    pub(super) fn value(&self) -> i128 {
        self.value
    }

    pub(super) fn is_in(&self, payment: PaymentIndex) -> bool {
        self.is_in[payment as usize]
    }

    /// Whether each payment is in.
    pub(super) fn chosen_mask(&self) -> Vec<bool> {
        self.is_in.clone()
    }

    /// The payments in, ascending.
    pub(super) fn chosen(&self) -> Vec<PaymentIndex> {
        let all = (0..).zip(&self.is_in);
        all.filter_map(|(at, is_in)| is_in.then_some(at)).collect()
    }

    /// Takes in what `wanted` says, and what must go with it: chains from their front, free payments
    /// only behind whole chains. What may not be chosen stays out.
    pub(super) fn take(&mut self, wanted: impl Fn(PaymentIndex) -> bool) {
        for account in 0..self.seats.len() as u32 {
            let layout = self.layout;
            let (chain, free) = (layout.chain(account), layout.free(account));
            let frees = free.iter().copied().filter(|at| wanted(*at));
            let last = chain.iter().rposition(|at| wanted(*at));
            let mut frees = frees.peekable();
            let reach = match frees.peek() {
                Some(_) => chain.len(),
                None => last.map_or(0, |last| last + 1),
            };
            for at in chain[..reach].iter().copied().chain(frees) {
                if !self.is_in(at) {
                    self.include(at);
                }
            }
        }
    }

    fn include(&mut self, payment: PaymentIndex) {
        self.count_in(payment, 1);
    }

    fn exclude(&mut self, payment: PaymentIndex) {
        self.count_in(payment, -1);
    }

    fn count_in(&mut self, at: PaymentIndex, sign: i32) {
        let payment = self.problem.payments()[at as usize];
        self.is_in[at as usize] = sign > 0;
        let moved = payment.amount as i128 * i128::from(sign);
        self.value += moved;
        self.count = self.count.wrapping_add_signed(sign as isize);
        let debtor = &mut self.seats[payment.debtor as usize];
        debtor.left -= moved;
        let class = payment.class as usize;
        debtor.counts[class] = debtor.counts[class].wrapping_add_signed(sign);
        if payment.class != Class::Normal {
            debtor.unused[class] -= moved;
        }
        if self.layout.place[at as usize] != NONE {
            debtor.chain = debtor.chain.wrapping_add_signed(sign);
        }
        self.seats[payment.creditor as usize].left += moved;
        if self.layout.is_limited() {
            let (out, back) = self.layout.bounds(at);
            self.use_room(out, -moved, sign);
            self.use_room(back, moved, 0);
        }
    }

    fn use_room(&mut self, room: u32, moved: i128, payments: i32) {
        if room == NONE {
            return;
        }
        let room = &mut self.rooms[room as usize];
        let was_broken = room.is_broken();
        room.left += moved;
        room.payments = room.payments.wrapping_add_signed(payments);
        let broken = &mut self.seats[room.owner as usize].limits_broken;
        match (was_broken, room.is_broken()) {
            (false, true) => *broken += 1,
            (true, false) => *broken -= 1,
            _ => {}
        }
    }

    /// What an account lacks to bear what is in; limits aside.
    fn lacks(&self, account: u32) -> i128 {
        let seat = &self.seats[account as usize];
        if !seat.has_floor || seat.counts == [0; 3] {
            return 0;
        }
        let mut floor = 0;
        if seat.counts[1] > 0 || seat.counts[2] > 0 {
            floor += seat.unused[0].max(0);
        }
        if seat.counts[2] > 0 {
            floor += seat.unused[1].max(0);
        }
        floor - seat.left
    }

    fn is_broken(&self, account: u32) -> bool {
        self.lacks(account) > 0 || self.seats[account as usize].limits_broken > 0
    }

    /// What each account would have left to spend, 0 or more, in units of 2^`shift`, rounded up.
    pub(super) fn liquidity_left(&self, shift: u32) -> Vec<i64> {
        let most = self.problem.value();
        let left = self.seats.iter().map(|seat| {
            let unused: i128 = seat.unused.iter().map(|unused| (*unused).max(0)).sum();
            let left = if seat.has_floor {
                (seat.left - unused).max(0) as u128
            } else {
                most
            };
            left.min(most).div_ceil(1 << shift) as i64
        });
        left.collect()
    }

    /// Whether every account bears what is in.
    pub(super) fn is_feasible(&self) -> bool {
        (0..self.seats.len() as u32).all(|account| !self.is_broken(account))
    }

    /// Drops payments until every account bears what is left: the account that lacks most drops
    /// the smallest free payment that cures it, else its largest; without free ones, the last of
    /// its chain.
    pub(super) fn repair(&mut self) {
        let mut dropping = Dropping::new(self);
        let mut worst: BinaryHeap<(i128, Reverse<u32>)> = BinaryHeap::new();
        let noted = |board: &Board<'_>, account: u32| {
            board
                .is_broken(account)
                .then(|| (board.lacks(account).max(0), Reverse(account)))
        };
        worst.extend((0..self.seats.len() as u32).filter_map(|account| noted(self, account)));
        while let Some(top) = worst.pop() {
            let account = top.1.0;
            if noted(self, account) != Some(top) {
                continue;
            }
            let free = match top.0 {
                1.. => dropping.cure(self, account, top.0),
                _ => self.cure_limit(account),
            };
            let chain = &self.layout.chain(account)[..self.seats[account as usize].chain as usize];
            let dropped =
                free.unwrap_or_else(|| *chain.last().expect("who breaks something pays something"));
            self.exclude(dropped);
            worst.extend(noted(self, account));
            let creditor = self.problem.payments()[dropped as usize].creditor;
            worst.extend(noted(self, creditor));
        }
    }

    /// Drops the last of the queue of whoever bears too much until everyone bears what is left: of
    /// everything in, what gridlock resolution settles (Bech and Soramaki 2001).
    pub(super) fn repair_in_order(&mut self) {
        let mut work: Vec<u32> = (0..self.seats.len() as u32).collect();
        let layout = self.layout;
        let mut ends: Vec<usize> = work.iter().map(|at| layout.free(*at).len()).collect();
        while let Some(account) = work.pop() {
            while self.is_broken(account) {
                let end = &mut ends[account as usize];
                let free = &layout.free(account)[..*end];
                *end = free.iter().rposition(|at| self.is_in(*at)).unwrap_or(0);
                let last = match free.get(*end) {
                    Some(last) if self.is_in(*last) => *last,
                    _ => {
                        let chain = self.seats[account as usize].chain as usize;
                        layout.chain(account)[chain - 1]
                    }
                };
                self.exclude(last);
                work.push(self.problem.payments()[last as usize].creditor);
            }
        }
    }

    /// The free payment whose going cures a broken limit best.
    fn cure_limit(&self, account: u32) -> Option<PaymentIndex> {
        let excess = |at: PaymentIndex| match self.layout.bounds(at).0 {
            room if room != NONE && self.rooms[room as usize].is_broken() => {
                -self.rooms[room as usize].left
            }
            _ => 0,
        };
        let free = self.layout.free(account).iter().copied();
        let bound = free
            .filter(|at| self.is_in(*at))
            .map(|at| (self.amount(at), at, excess(at)))
            .filter(|(_, _, excess)| *excess > 0);
        let best = bound.min_by_key(|(amount, at, excess)| {
            if amount >= excess {
                (false, *amount, Reverse(*at))
            } else {
                (true, -*amount, Reverse(*at))
            }
        });
        best.map(|(_, at, _)| at)
    }

    fn amount(&self, payment: PaymentIndex) -> i128 {
        self.problem.payments()[payment as usize].amount as i128
    }

    /// Takes in what is out wherever its debtor bears it, trying `order` until nothing more fits or
    /// `most` are in.
    pub(super) fn fill(&mut self, order: &[PaymentIndex], most: usize) {
        let out = order.iter().copied().filter(|at| !self.is_in(*at));
        let mut out: Vec<PaymentIndex> = out.collect();
        loop {
            let before = out.len();
            out.retain(|at| self.count == most || !self.try_include(*at));
            if out.len() == before {
                return;
            }
        }
    }

    /// Takes a payment in if it is its turn and its debtor bears it.
    fn try_include(&mut self, at: PaymentIndex) -> bool {
        let debtor = self.problem.payments()[at as usize].debtor;
        let chain = self.seats[debtor as usize].chain;
        let is_turn = match self.layout.place[at as usize] {
            NONE => chain as usize == self.layout.chain(debtor).len(),
            place => place == chain,
        };
        let seat = &self.seats[debtor as usize];
        if !is_turn || seat.has_floor && seat.left < self.amount(at) {
            return false;
        }
        self.include(at);
        if self.is_broken(debtor) {
            self.exclude(at);
            return false;
        }
        true
    }
}

/// What may still be dropped while nothing comes in: free payments of each account by amount.
struct Dropping {
    /// Per position: the next at or behind it that is in, found by following.
    up: Vec<u32>,
    /// Per account: no position behind this one is in.
    tops: Vec<u32>,
}

impl Dropping {
    fn new(board: &Board<'_>) -> Dropping {
        let by_amount = board.layout.by_amount();
        let up = (0..).zip(by_amount).map(|(position, at)| {
            if board.is_in(*at) {
                position
            } else {
                position + 1
            }
        });
        let mut up: Vec<u32> = up.collect();
        up.push(by_amount.len() as u32);
        let accounts = 0..board.seats.len() as u32;
        Dropping {
            up,
            tops: accounts.map(|at| board.layout.positions(at).end).collect(),
        }
    }

    /// The smallest free payment in of at least `lacks`, else the largest; of equals the latest.
    fn cure(&mut self, board: &Board<'_>, account: u32, lacks: i128) -> Option<PaymentIndex> {
        let range = board.layout.positions(account);
        let by_amount = board.layout.by_amount();
        let own = &by_amount[range.start as usize..range.end as usize];
        let reaching =
            |least: i128| range.start + own.partition_point(|at| board.amount(*at) < least) as u32;
        let mut position = self.follow(reaching(lacks));
        if position >= range.end {
            // None cures it: the largest. Those behind it are gone for good.
            let top = &mut self.tops[account as usize];
            while *top > range.start && !board.is_in(by_amount[*top as usize - 1]) {
                *top -= 1;
            }
            if *top == range.start {
                return None;
            }
            let largest = board.amount(by_amount[*top as usize - 1]);
            position = self.follow(reaching(largest));
        }
        self.up[position as usize] = position + 1;
        Some(by_amount[position as usize])
    }

    fn follow(&mut self, position: u32) -> u32 {
        let mut root = position;
        while self.up[root as usize] != root {
            root = self.up[root as usize];
        }
        let mut at = position;
        while at != root {
            at = std::mem::replace(&mut self.up[at as usize], root);
        }
        root
    }
}
