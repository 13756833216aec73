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

/// One queued payment, in 20 bytes: there may be millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Minor units less one, lowest 32 bits first: an amount is 1 to 2^96.
    amount: [u32; 3],
    pub(super) payment: Handle,
    /// Its class in the two highest bits, below them the place of its creditor.
    class_and_creditor: u32,
}

const _: () = assert!(size_of::<Entry>() == 20);

const CREDITOR_BITS: u32 = 30;
/// Nothing at the creditor depends on the payment.
const NOWHERE: u32 = (1 << CREDITOR_BITS) - 1;

impl Entry {
    const EMPTY: Entry = Entry {
        amount: [0; 3],
        payment: NONE,
        class_and_creditor: NOWHERE,
    };

    fn new(row: &PaymentRow, payment: Handle, creditor: Option<usize>) -> Entry {
        let less = row.amount - 1;
        assert!(less >> 96 == 0, "checked when it came in");
        // What a debit brings its group stays there.
        let creditor = creditor.filter(|_| row.group() == row.leg_of());
        let creditor = creditor.map_or(NOWHERE, |creditor| creditor as u32);
        Entry {
            amount: [less as u32, (less >> 32) as u32, (less >> 64) as u32],
            payment,
            class_and_creditor: u32::from(row.class) << CREDITOR_BITS | creditor,
        }
    }

    /// Minor units.
    #[inline]
    pub(super) fn amount(&self) -> i128 {
        let [low, middle, high] = self.amount.map(u64::from);
        let low = u128::from(middle << 32 | low);
        (low | u128::from(high) << 64) as i128 + 1
    }

    /// Place of its creditor, or [`NONE`] where nothing there depends on it.
    #[inline]
    pub(super) fn creditor(&self) -> u32 {
        match self.class_and_creditor & NOWHERE {
            NOWHERE => NONE,
            creditor => creditor,
        }
    }

    #[inline]
    pub(super) fn class(&self) -> u8 {
        (self.class_and_creditor >> CREDITOR_BITS) as u8
    }
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
    /// Room of each bilateral limit and of each desk's multilateral one.
    bilateral: Vec<u32>,
    multilateral: Vec<u32>,
    /// Cuts to make: place and entry. Empty but while sets are cut.
    pub(super) cuts: Vec<(u32, u32)>,
    /// Legs of groups of which another leg takes no part: place and entry.
    pub(super) dropped: Vec<(u32, u32)>,
    /// Per entry the group it is a leg of; empty where there are no groups.
    groups: Vec<u32>,
    /// Legs of groups: group, place, entry.
    pub(super) legs: Vec<(u32, u32, u32)>,
    pub(super) work: Vec<u32>,
    /// What the last run settles.
    pub(super) settle: Vec<Handle>,
    /// What gridlock resolution would settle, while greedy bypass looks for more.
    pub(super) by_order: Vec<Handle>,
    cursors: Vec<(u32, u32)>,
    /// Per place and class, where the next entry goes and the order key of the last.
    ends: Vec<[(u32, i64); 3]>,
    /// The most bytes a run took.
    peak: u64,
    has_groups: bool,
}

/// Rows are read one after the other where no more of them than one in this many is done: that
/// takes a tenth of what following a queue from payment to payment does.
const DONE_SHARE: u64 = 4;

impl Netting {
    /// Lays out everything that takes part; nothing is in yet.
    pub(super) fn gather(&mut self, payments: &Payments, means: &impl Means) {
        self.lay_out(payments, means);
        let is_dense = payments.rows().len() as u64 <= payments.queued() * DONE_SHARE;
        if !(is_dense && self.read(payments, means)) {
            self.walk(payments, means);
        } else if cfg!(debug_assertions) {
            self.walk_as_well(payments, means);
        }
        self.find_bounds(payments);
        self.find_legs(payments);
        self.settle.clear();
    }

    /// Walks what was read, and finds the same.
    fn walk_as_well(&mut self, payments: &Payments, means: &impl Means) {
        let read = self.entries.clone();
        let stops: Vec<u32> = self.places.iter().map(|place| place.stop).collect();
        for place in &mut self.places {
            place.stop = place.start;
        }
        self.walk(payments, means);
        assert!(read == self.entries, "rows read are the queues walked");
        let walked = self.places.iter().map(|place| place.stop);
        assert!(walked.eq(stops), "and end where they do");
    }

    /// The most bytes it ever took: kept between runs or only during one.
    pub(super) fn bytes_peak(&self) -> u64 {
        self.peak.max(self.kept())
    }

    /// Bytes kept between runs.
    pub(super) fn kept(&self) -> u64 {
        fn of<T>(vec: &Vec<T>) -> u64 {
            (vec.capacity() * size_of::<T>()) as u64
        }
        of(&self.entries)
            + of(&self.places)
            + of(&self.rooms)
            + of(&self.bounds)
            + of(&self.bilateral)
            + of(&self.multilateral)
            + of(&self.cuts)
            + of(&self.dropped)
            + of(&self.groups)
            + of(&self.legs)
            + of(&self.work)
            + of(&self.settle)
            + of(&self.cursors)
            + of(&self.by_order)
            + of(&self.ends)
    }

    /// Notes that a run takes so many bytes beside what is kept.
    pub(super) fn note_peak(&mut self, bytes: u64) {
        self.peak = self.peak.max(self.kept() + bytes);
    }

    /// The group that an entry is a leg of, or [`NONE`].
    #[inline]
    pub(super) fn group(&self, entry: u32) -> u32 {
        self.groups.get(entry as usize).copied().unwrap_or(NONE)
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
            start += desk.eligible.iter().sum::<u32>();
        }
        assert!(
            self.places.len() < NOWHERE as usize,
            "fewer desks than that"
        );
        self.entries.clear();
        self.entries.reserve_exact(start as usize);
        self.entries.resize(start as usize, Entry::EMPTY);
    }

    /// Copies the queues, reading all rows in the order in which they lie: that is by age, and so
    /// the order within a class of whoever moved none. Returns false where somebody did, or an
    /// account takes or gives nothing; the queues are to be walked then.
    fn read(&mut self, payments: &Payments, means: &impl Means) -> bool {
        let gives = |desk: &Desk| desk.queued == 0 || means.gives(desk.account);
        if !payments.desks().iter().all(gives) {
            return false;
        }
        let mut ends = std::mem::take(&mut self.ends);
        ends.clear();
        ends.extend(
            self.places
                .iter()
                .zip(payments.desks())
                .map(|(place, desk)| {
                    let [urgent, high, _] = desk.eligible;
                    let starts = [0, urgent, urgent + high];
                    starts.map(|behind| (place.start + behind, i64::MIN))
                }),
        );
        let mut is_in_order = true;
        for (payment, row) in payments.rows().iter().enumerate() {
            if !row.is_waiting() || !row.is_eligible() {
                continue;
            }
            let at = payments
                .place(row.debtor)
                .expect("who has a queue has a desk");
            let creditor = payments.place(row.creditor);
            let takes = match creditor {
                Some(creditor) => self.places[creditor].takes,
                None => means.takes(row.creditor),
            };
            let (end, last) = &mut ends[at][row.class as usize];
            is_in_order &= takes && *last < row.order_key;
            self.entries[*end as usize] = Entry::new(row, payment as u32, creditor);
            *end += 1;
            *last = row.order_key;
            self.has_groups |= row.group().is_some();
        }
        if is_in_order {
            for (place, ends) in self.places.iter_mut().zip(&ends) {
                place.stop = ends[2].0;
            }
        } else {
            self.has_groups = false;
        }
        self.ends = ends;
        is_in_order
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
        self.has_groups |= row.group().is_some();
        let place = &mut self.places[at as usize];
        self.entries[place.stop as usize] = Entry::new(row, payment, creditor);
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
        let mut bilateral = std::mem::take(&mut self.bilateral);
        bilateral.clear();
        bilateral.resize(limits.len(), NONE);
        let mut multilateral = std::mem::take(&mut self.multilateral);
        multilateral.clear();
        multilateral.resize(desks.len(), NONE);
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
                let (payment, creditor) =
                    (self.entries[entry].payment, self.entries[entry].creditor());
                let is_bound = self.entries[entry].class() == NORMAL && desks[at].is_limited();
                let out = is_bound.then(|| bound(at, payments.row(payment).creditor));
                let is_given = creditor != NONE && desks[creditor as usize].is_limited();
                let back = is_given.then(|| bound(creditor as usize, desks[at].account));
                self.bounds[entry] = (out.unwrap_or(NONE), back.unwrap_or(NONE));
            }
        }
        self.bilateral = bilateral;
        self.multilateral = multilateral;
    }

    fn add_room(&mut self, owner: usize, left: i128) -> u32 {
        self.rooms.push(Room {
            left,
            payments: 0,
            owner: owner as u32,
        });
        self.rooms.len() as u32 - 1
    }

    fn find_legs(&mut self, payments: &Payments) {
        self.legs.clear();
        self.groups.clear();
        if !self.has_groups {
            return;
        }
        self.groups.resize(self.entries.len(), NONE);
        for (at, place) in self.places.iter().enumerate() {
            for entry in place.start..place.stop {
                let payment = self.entries[entry as usize].payment;
                let group = payments.row(payment).group().unwrap_or(NONE);
                self.groups[entry as usize] = group;
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
        let one = self.entries[entry as usize];
        let (creditor, class) = (one.creditor(), one.class());
        let moved = if sign > 0 {
            one.amount()
        } else {
            -one.amount()
        };
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
            && self.entries[entry as usize].class() == NORMAL
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
            set.iter().map(Entry::amount).sum::<i128>()
        })
        .sum()
    }
}
