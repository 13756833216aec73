//! What a played day is measured by, from the engine's events alone.
//!
//! - **Settlement delay**, value-weighted: the sum over payments of value x (settled - submitted),
//!   over the sum of value x (closing - submitted): 0 where everything settles at once, 1 where
//!   nothing settles before closing (Leinonen and Soramaki 1999). What never settles waits until
//!   closing. The same sum over the value of all payments is the delay in minutes.
//! - **Liquidity used**: by participant, the opening balance less the lowest balance of the day.
//!   Inside a simultaneous settlement nobody has a balance; what counts is where it ends.
//! - **Turnover ratio**: value settled over liquidity used.
//! - **Queue over time**: value queued, the mean of every five minutes.

use super::bounds::ratio;
use super::day::{Day, MINUTE};
use crate::protocol::event::{Event, PaymentMoved, SettledBy};
use crate::protocol::frame::EventSlot;
use crate::protocol::reason::Reason;

/// The queue is shown as the mean of so many nanoseconds.
pub const BUCKET: u64 = 5 * MINUTE;

/// What settles payments, in the order in which they are shown.
pub const MECHANISMS: [SettledBy; 8] = [
    SettledBy::Entry,
    SettledBy::Release,
    SettledBy::Offset,
    SettledBy::Grp,
    SettledBy::Bilateral,
    SettledBy::Multiple,
    SettledBy::Greedy,
    SettledBy::Batch,
];

/// Payments and their value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Minor units.
    pub value: u128,
}

impl Sum {
    fn add(&mut self, amount: u128) {
        self.count += 1;
        self.value += amount;
    }

    fn subtract(&mut self, amount: u128) {
        self.count -= 1;
        self.value -= amount;
    }
}

impl std::ops::Add for Sum {
    type Output = Sum;

    fn add(self, other: Sum) -> Sum {
        Sum {
            count: self.count + other.count,
            value: self.value + other.value,
        }
    }
}

/// One day at one level of liquidity under one set of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measures {
    /// All payments.
    pub all: Sum,
    /// What settled, by mechanism, as in [`MECHANISMS`].
    pub settled_by: [Sum; MECHANISMS.len()],
    /// Rejected at their latest time.
    pub expired: Sum,
    /// Rejected at the end of the day.
    pub end_of_day: Sum,
    /// Payments that ever waited.
    pub queued: Sum,
    /// The largest value queued between two commands, and how many payments that was.
    pub queue_peak: Sum,
    /// Minor units brought in, all participants.
    pub provided: u128,
    /// Minor units used, all participants.
    pub used: u128,
    /// Minor units x ns waited, all payments.
    pub waited: u128,
    /// Minor units x ns from submission to closing, all payments.
    pub waited_at_most: u128,
    /// Minor units queued on average in each [`BUCKET`] from opening to closing.
    pub queue: Vec<u128>,
}

impl Measures {
    /// All that settled.
    pub fn settled(&self) -> Sum {
        let none = Sum::default();
        self.settled_by.iter().fold(none, |sum, by| sum + *by)
    }

    /// All that did not.
    pub fn unsettled(&self) -> Sum {
        self.expired + self.end_of_day
    }

    /// Value settled per unit of liquidity used.
    pub fn turnover_ratio(&self) -> f64 {
        ratio(self.settled().value, self.used)
    }

    /// Value-weighted delay, 0 to 1.
    pub fn delay(&self) -> f64 {
        ratio(self.waited, self.waited_at_most)
    }

    /// Value-weighted delay in minutes.
    pub fn delay_minutes(&self) -> f64 {
        ratio(self.waited, self.all.value) / MINUTE as f64
    }

    /// The share of value that did not settle, 0 to 1.
    pub fn unsettled_share(&self) -> f64 {
        ratio(self.unsettled().value, self.all.value)
    }
}

/// Follows a day by its events.
pub(super) struct Tally<'a> {
    day: &'a Day,
    opening: &'a [u128],
    measures: Measures,
    balance: Vec<i128>,
    least: Vec<i128>,
    /// By payment: whether it waits.
    waits: Vec<bool>,
    queue: Sum,
    /// The queue's value is accounted for until here, ns since midnight.
    until: u64,
    /// Participants that paid in the simultaneous settlement that is being told.
    together: Vec<u32>,
    together_by: SettledBy,
}

impl<'a> Tally<'a> {
    pub(super) fn new(day: &'a Day, opening: &'a [u128]) -> Tally<'a> {
        let balance: Vec<i128> = opening.iter().map(|amount| *amount as i128).collect();
        let mut all = Sum::default();
        let mut waited_at_most = 0;
        for payment in &day.payments {
            all.add(payment.amount);
            waited_at_most += payment.amount * u128::from(day.hours.closes_at - payment.at);
        }
        Tally {
            day,
            opening,
            measures: Measures {
                all,
                settled_by: Default::default(),
                expired: Sum::default(),
                end_of_day: Sum::default(),
                queued: Sum::default(),
                queue_peak: Sum::default(),
                provided: opening.iter().sum(),
                used: 0,
                waited: 0,
                waited_at_most,
                queue: vec![0; day.hours.length().div_ceil(BUCKET) as usize],
            },
            least: balance.clone(),
            balance,
            waits: vec![false; day.payments.len()],
            queue: Sum::default(),
            until: day.hours.opens_at,
            together: Vec::new(),
            together_by: SettledBy::None,
        }
    }

    /// Sees the events of one command. What was refused for want of anything but liquidity and time
    /// is an error: then the day is not what was meant to be studied.
    pub(super) fn see(&mut self, events: &[EventSlot]) -> Result<(), String> {
        for slot in events {
            match slot.event() {
                Some(Event::PaymentSettled(moved)) => self.settle(slot.header.at, moved),
                Some(Event::PaymentQueued(moved)) => self.enqueue(slot.header.at, moved),
                Some(Event::PaymentRejected(moved)) => self.reject(slot.header.at, moved)?,
                Some(Event::Rejected(why)) => {
                    return Err(format!("{} was refused: {}", why.cmd, why.reason));
                }
                Some(_) => {}
                None => return Err("an event does not decode".into()),
            }
        }
        self.close_together();
        if self.queue.value > self.measures.queue_peak.value {
            self.measures.queue_peak = self.queue;
        }
        Ok(())
    }

    /// What each participant must have now if every event was right.
    pub(super) fn balances(&self) -> &[i128] {
        &self.balance
    }

    /// The day is over.
    pub(super) fn finish(mut self) -> Result<Measures, String> {
        self.let_pass(self.day.hours.closes_at);
        for (mean, start) in self.measures.queue.iter_mut().zip(0..) {
            let from = self.day.hours.opens_at + start * BUCKET;
            let length = BUCKET.min(self.day.hours.closes_at - from);
            *mean /= u128::from(length);
        }
        if self.queue != Sum::default() {
            return Err(format!(
                "{} payments still wait after the day",
                self.queue.count
            ));
        }
        if self.measures.settled() + self.measures.unsettled() != self.measures.all {
            return Err("payments settled and unsettled are not all there are".into());
        }
        for (opening, least) in self.opening.iter().zip(&self.least) {
            let least = u128::try_from(*least).map_err(|_| "a balance fell below zero")?;
            self.measures.used += opening - least;
        }
        Ok(self.measures)
    }

    fn settle(&mut self, at: u64, moved: &PaymentMoved) {
        let index = self.leave_queue(at, moved);
        let payment = &self.day.payments[index];
        self.measures.settled_by[place(moved.by)].add(payment.amount);
        self.measures.waited += payment.amount * u128::from(at - payment.at);
        let is_alone = matches!(moved.by, SettledBy::Entry | SettledBy::Release);
        if is_alone || moved.by != self.together_by {
            self.close_together();
        }
        let debtor = payment.debtor as usize;
        self.balance[debtor] -= payment.amount as i128;
        self.balance[payment.creditor as usize] += payment.amount as i128;
        if is_alone {
            self.least[debtor] = self.least[debtor].min(self.balance[debtor]);
        } else {
            self.together_by = moved.by;
            self.together.push(payment.debtor);
        }
    }

    /// A simultaneous settlement has been told whole.
    fn close_together(&mut self) {
        for debtor in self.together.drain(..) {
            let debtor = debtor as usize;
            self.least[debtor] = self.least[debtor].min(self.balance[debtor]);
        }
        self.together_by = SettledBy::None;
    }

    fn enqueue(&mut self, at: u64, moved: &PaymentMoved) {
        self.let_pass(at);
        self.waits[index(moved)] = true;
        self.queue.add(moved.amount.0);
        self.measures.queued.add(moved.amount.0);
    }

    fn reject(&mut self, at: u64, moved: &PaymentMoved) -> Result<(), String> {
        let index = self.leave_queue(at, moved);
        let payment = &self.day.payments[index];
        match moved.reason {
            Reason::Expired => self.measures.expired.add(payment.amount),
            Reason::EndOfDay => self.measures.end_of_day.add(payment.amount),
            other => return Err(format!("payment {} was refused: {other}", index + 1)),
        }
        let waited = self.day.hours.closes_at - payment.at;
        self.measures.waited += payment.amount * u128::from(waited);
        Ok(())
    }

    /// Takes a payment out of the queue, if it was there; returns its place in the day.
    fn leave_queue(&mut self, at: u64, moved: &PaymentMoved) -> usize {
        let index = index(moved);
        if std::mem::take(&mut self.waits[index]) {
            self.let_pass(at);
            self.queue.subtract(moved.amount.0);
        }
        index
    }

    /// The queue was as it is until `at`.
    fn let_pass(&mut self, at: u64) {
        let end = at.min(self.day.hours.closes_at);
        while self.until < end {
            let bucket = (self.until - self.day.hours.opens_at) / BUCKET;
            let bucket_end = self.day.hours.opens_at + (bucket + 1) * BUCKET;
            let to = end.min(bucket_end);
            let weight = u128::from(to - self.until);
            self.measures.queue[bucket as usize] += self.queue.value * weight;
            self.until = to;
        }
    }
}

/// A payment's id is its place in the day, counted from 1.
fn index(moved: &PaymentMoved) -> usize {
    moved.id.0 as usize - 1
}

/// Where a mechanism stands in [`MECHANISMS`].
fn place(by: SettledBy) -> usize {
    let found = MECHANISMS.iter().position(|mechanism| *mechanism == by);
    found.expect("what settles a payment is a mechanism")
}
