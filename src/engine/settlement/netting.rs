//! The netting problem: everything queued that takes part, laid out so that algorithms run over
//! memory in order, with what bounds each account. Algorithms say what is in; this file keeps count
//! and says whether an account can bear it.
//!
//! An account's queue is a range of entries in settlement order. The constraints are those of a
//! single payment, taken over all that is in: what is left must not be below zero, nor, where a
//! high payment is in, below the unused urgent reservation, nor, where a normal one is in, below
//! what is unused of both; and normal payments keep the account's limits.

use super::desk::{Desk, UNLIMITED};
use super::payment::{NONE, PaymentRow};
use super::queue::Payments;
use crate::engine::index::Handle;
use crate::protocol::command::Priority;

const HIGH: u8 = Priority::High as u8;
const NORMAL: u8 = Priority::Normal as u8;

/// One queued payment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) amount: i128,
    pub(super) payment: Handle,
    /// Place of its creditor, or [`NONE`] where nothing there depends on it.
    pub(super) creditor: u32,
    pub(super) group: u32,
    pub(super) class: u8,
}

/// One account: its queue, and what it would have left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) start: u32,
    /// One behind its queue.
    pub(super) stop: u32,
    /// One behind what is in, where that is a beginning of the queue.
    pub(super) end: u32,
    pub(super) in_work: bool,
    has_floor: bool,
    /// Whether payments can come in.
    takes: bool,
    /// Payments in, by class.
    pub(super) counts: [u32; 3],
    /// Limits of the account that what is in would break.
    limits_broken: u32,
    /// What the account would have left.
    left: i128,
    /// Reservations that what is in would leave unused; below zero, it pays more than they are.
    unused: [i128; 2],
}

impl Place {
    /// What the account lacks to bear what is in; at or below zero it bears it. Limits aside.
    #[inline]
    pub(super) fn lacks(&self) -> i128 {
        if !self.has_floor {
            return i128::MIN;
        }
        let mut floor = 0;
        if self.counts[1] > 0 || self.counts[2] > 0 {
            floor += self.unused[0].max(0);
        }
        if self.counts[2] > 0 {
            floor += self.unused[1].max(0);
        }
        floor - self.left
    }

    /// Whether the account cannot bear what is in. Where nothing is, there is nothing to bear.
    #[inline]
    pub(super) fn is_broken(&self) -> bool {
        self.counts != [0; 3] && (self.lacks() > 0 || self.limits_broken > 0)
    }
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug)]
struct Room {
    left: i128,
    /// Normal payments in that it bounds.
    payments: u32,
    /// Place of the account whose limit it is.
    owner: u32,
}

impl Room {
    fn is_broken(&self) -> bool {
        self.payments > 0 && self.left < 0
    }
}

/// What an account has and what becomes of groups, as far as netting must know.
pub(in crate::engine) trait Means {
    /// What an account has to spend, `None` where it has no floor.
    fn liquidity(&self, account: Handle) -> Option<i128>;
    /// Whether an account can take payments in; a payment to one that cannot stays, and all behind
    /// it.
    fn takes(&self, creditor: Handle) -> bool;
    /// Whether an account can pay out; nothing of one that cannot takes part.
    fn gives(&self, debtor: Handle) -> bool;
    /// How many legs a group has.
    fn legs(&self, group: Handle) -> u32;
}

/// Room to work in, kept between runs.
#[derive(Default)]
pub(in crate::engine) struct Netting {
    pub(super) entries: Vec<Entry>,
    pub(super) places: Vec<Place>,
    rooms: Vec<Room>,
    /// Per entry, the limits it counts toward, of its debtor and of its creditor; empty where there
    /// are no limits.
    bounds: Vec<(u32, u32)>,
    /// Legs of groups: group, place, entry.
    pub(super) legs: Vec<(u32, u32, u32)>,
    pub(super) work: Vec<u32>,
    /// What the last run settles.
    pub(super) settle: Vec<Handle>,
    cursors: Vec<(u32, u32)>,
    has_groups: bool,
}

impl Netting {
    /// Lays out everything that takes part; nothing is in yet.
    pub(super) fn gather(&mut self, payments: &Payments, means: &impl Means) {
        self.lay_out(payments, means);
        self.walk(payments, means);
        self.find_bounds(payments);
        self.find_legs();
        self.settle.clear();
    }

    fn lay_out(&mut self, payments: &Payments, means: &impl Means) {
        self.places.clear();
        self.has_groups = false;
        let mut start = 0;
        for desk in payments.desks() {
            let liquidity = means.liquidity(desk.account);
            self.places.push(Place {
                start,
                stop: start,
                end: start,
                in_work: false,
                has_floor: liquidity.is_some(),
                takes: means.takes(desk.account),
                counts: [0; 3],
                limits_broken: 0,
                left: liquidity.unwrap_or(0),
                unused: desk.reserved().map(|amount| amount as i128),
            });
            start += desk.queued;
        }
        let empty = Entry {
            amount: 0,
            payment: NONE,
            creditor: NONE,
            group: NONE,
            class: 0,
        };
        self.entries.clear();
        self.entries.resize(start as usize, empty);
    }

    /// Copies the queues. All are walked at once, a step each in turn: a queue is a chain through
    /// memory, and only steps that do not wait for each other hide what each costs.
    fn walk(&mut self, payments: &Payments, means: &impl Means) {
        let mut cursors = std::mem::take(&mut self.cursors);
        cursors.clear();
        for (at, desk) in payments.desks().iter().enumerate() {
            if let Some(first) = payments.first_of_queue(desk)
                && means.gives(desk.account)
            {
                cursors.push((at as u32, first));
            }
        }
        while !cursors.is_empty() {
            cursors.retain_mut(|(at, payment)| {
                let row = payments.row(*payment);
                if row.is_eligible() && !self.lay_down(payments, means, *at, *payment, row) {
                    return false;
                }
                match payments.next_of_queue(*at, row) {
                    Some(next) => {
                        *payment = next;
                        true
                    }
                    None => false,
                }
            });
        }
        self.cursors = cursors;
    }

    /// Puts a payment behind what is there of its debtor, if its creditor can take it.
    #[inline]
    fn lay_down(
        &mut self,
        payments: &Payments,
        means: &impl Means,
        at: u32,
        payment: Handle,
        row: &PaymentRow,
    ) -> bool {
        let creditor = payments.place(row.creditor);
        let takes = match creditor {
            Some(creditor) => self.places[creditor].takes,
            None => means.takes(row.creditor),
        };
        if !takes {
            return false;
        }
        self.has_groups |= row.group != NONE;
        let place = &mut self.places[at as usize];
        self.entries[place.stop as usize] = Entry {
            amount: row.amount as i128,
            payment,
            creditor: creditor.map_or(NONE, |creditor| creditor as u32),
            group: row.group,
            class: row.class,
        };
        place.stop += 1;
        true
    }

    /// Finds which limits each entry counts toward.
    fn find_bounds(&mut self, payments: &Payments) {
        self.bounds.clear();
        self.rooms.clear();
        let desks = payments.desks();
        if !desks.iter().any(Desk::is_limited) {
            return;
        }
        let limits = payments.limits().rows();
        let mut bilateral = vec![NONE; limits.len()];
        let mut multilateral = vec![NONE; desks.len()];
        for (at, limit) in limits.iter().enumerate() {
            if limit.amount != UNLIMITED {
                let owner = payments.place(limit.account);
                let owner = owner.expect("a limit opens a desk");
                bilateral[at] = self.add_room(owner, limit.amount as i128 - limit.used);
            }
        }
        for (at, desk) in desks.iter().enumerate() {
            if desk.multilateral != UNLIMITED {
                let left = desk.multilateral as i128 - desk.multilateral_used;
                multilateral[at] = self.add_room(at, left);
            }
        }
        let bound = |at: usize, toward: Handle| match payments.bilateral(&desks[at], toward) {
            Some(limit) => bilateral[limit as usize],
            None => multilateral[at],
        };
        self.bounds.resize(self.entries.len(), (NONE, NONE));
        for (at, place) in self.places.iter().enumerate() {
            for entry in place.start as usize..place.stop as usize {
                let Entry { payment, class, .. } = self.entries[entry];
                let creditor = self.entries[entry].creditor;
                let is_bound = class == NORMAL && desks[at].is_limited();
                let out = is_bound.then(|| bound(at, payments.row(payment).creditor));
                let is_given = creditor != NONE && desks[creditor as usize].is_limited();
                let back = is_given.then(|| bound(creditor as usize, desks[at].account));
                self.bounds[entry] = (out.unwrap_or(NONE), back.unwrap_or(NONE));
            }
        }
    }

    fn add_room(&mut self, owner: usize, left: i128) -> u32 {
        self.rooms.push(Room {
            left,
            payments: 0,
            owner: owner as u32,
        });
        self.rooms.len() as u32 - 1
    }

    fn find_legs(&mut self) {
        self.legs.clear();
        if !self.has_groups {
            return;
        }
        for (at, place) in self.places.iter().enumerate() {
            for entry in place.start..place.stop {
                let group = self.entries[entry as usize].group;
                if group != NONE {
                    self.legs.push((group, at as u32, entry));
                }
            }
        }
        self.legs.sort_unstable();
    }

    /// The legs of a group that take part.
    pub(super) fn legs_of(&self, group: u32) -> std::ops::Range<usize> {
        let start = self.legs.partition_point(|leg| leg.0 < group);
        let end = self.legs.partition_point(|leg| leg.0 <= group);
        start..end
    }

    /// Counts an entry of the account at `at` in.
    #[inline]
    pub(super) fn include(&mut self, at: u32, entry: u32) {
        self.count(at, entry, 1);
    }

    /// Counts an entry of the account at `at` out.
    #[inline]
    pub(super) fn exclude(&mut self, at: u32, entry: u32) {
        self.count(at, entry, -1);
    }

    #[inline(always)]
    fn count(&mut self, at: u32, entry: u32, sign: i32) {
        let Entry {
            amount,
            creditor,
            class,
            ..
        } = self.entries[entry as usize];
        let moved = amount * i128::from(sign);
        let debtor = &mut self.places[at as usize];
        debtor.left -= moved;
        debtor.counts[class as usize] = debtor.counts[class as usize].wrapping_add_signed(sign);
        if class <= HIGH {
            debtor.unused[class as usize] -= moved;
        }
        if creditor != NONE {
            self.places[creditor as usize].left += moved;
        }
        if !self.bounds.is_empty() {
            let (out, back) = self.bounds[entry as usize];
            self.use_room(out, -moved, sign);
            self.use_room(back, moved, 0);
        }
    }

    /// What is in of an account so far has settled: what comes next is judged by itself.
    pub(super) fn seal(&mut self, at: u32, entry: u32) {
        let place = &mut self.places[at as usize];
        place.counts = [0; 3];
        place.unused = place.unused.map(|unused| unused.max(0));
        if let Some((out, _)) = self.bounds.get(entry as usize).copied()
            && self.entries[entry as usize].class == NORMAL
        {
            self.use_room(out, 0, -1);
        }
    }

    /// What an account has for another normal payment; without a floor, more than any amount.
    pub(super) fn spare(&self, at: u32) -> i128 {
        let place = &self.places[at as usize];
        if !place.has_floor {
            return i128::MAX - 1;
        }
        let [urgent, high] = place.unused;
        place.left - urgent.max(0) - high.max(0)
    }

    fn use_room(&mut self, room: u32, moved: i128, payments: i32) {
        if room == NONE {
            return;
        }
        let room = &mut self.rooms[room as usize];
        let was_broken = room.is_broken();
        room.left += moved;
        room.payments = room.payments.wrapping_add_signed(payments);
        let broken = &mut self.places[room.owner as usize].limits_broken;
        match (was_broken, room.is_broken()) {
            (false, true) => *broken += 1,
            (true, false) => *broken -= 1,
            _ => {}
        }
    }

    /// The limit that an entry would break with all that is in, and by how much.
    pub(super) fn limit_excess(&self, entry: u32) -> i128 {
        match self.bounds.get(entry as usize) {
            Some((room, _)) if *room != NONE => -self.rooms[*room as usize].left,
            _ => 0,
        }
    }

    /// Puts `settle` into order of entry and hands it out: handles grow with entry.
    pub(in crate::engine) fn settled(&mut self) -> &[Handle] {
        self.settle.sort_unstable();
        &self.settle
    }

    /// Minor units of the beginnings that are in.
    pub(super) fn value_in(&self) -> i128 {
        let sets = self.places.iter();
        sets.map(|place| {
            let set = &self.entries[place.start as usize..place.end as usize];
            set.iter().map(|entry| entry.amount).sum::<i128>()
        })
        .sum()
    }
}
