//! A day of payments: who pays whom, how much, when. Invented here from a seed, or read from an
//! operator's own file ([`super::input`]).
//!
//! What an invented day is made of:
//! - participants weighted by Zipf's law, exponent 1.2;
//! - sizes lognormal with mu 8.895 and sigma 3.670 in whole units of the currency, which fits the
//!   quantiles published for TARGET2, none above 2 billion;
//! - classes 1 % urgent, 9 % high, 90 % normal; half of the urgent ones have a latest time;
//! - one payment in four is a return flow: it goes back the way an earlier one came, at 70 to 130 %
//!   of its size;
//! - arrivals: a stock from the night before at opening, a morning peak around a fifth of the day,
//!   an afternoon peak around three quarters, and a steady base; customer payments (normal) stop an
//!   hour before closing;
//! - a money market: in the last two hours, banks that will end the day with more than they began
//!   with lend to those that will end with less, so much of it in a hundred, in tickets of at most
//!   500 million, as high payments. Without one, positions wander off as those of no bank would, and
//!   hardly anything can settle with less liquidity than the upper bound.
//!
//! Floats invent the day; what reaches the engine is integers. The same seed gives the same day.

use crate::protocol::command::Priority;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal, Normal, Zipf};
use rand_pcg::Pcg64Mcg;

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds of a minute.
pub const MINUTE: u64 = 60 * SECOND;
/// Nanoseconds of an hour.
pub const HOUR: u64 = 60 * MINUTE;

const MILLISECOND: u64 = 1_000_000;
/// The largest payment, whole units: a few tail draws would otherwise be the whole day.
const LARGEST: f64 = 2e9;
const ZIPF_EXPONENT: f64 = 1.2;
/// Payments in a hundred that go back the way an earlier one came.
const RETURN_FLOW_PERCENT: u32 = 25;
/// The largest loan of the money market, minor units.
const TICKET: u128 = 50_000_000_000;
/// Minutes before closing in which loans are paid.
const LOAN_MINUTES: std::ops::Range<u64> = 30..120;
/// Minutes that an urgent payment with a latest time has.
const LATEST_MINUTES: std::ops::RangeInclusive<u64> = 30..=120;

/// When a system is open, ns since midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Payments settle from here on.
    pub opens_at: u64,
    /// Normal payments are admitted until here; what is queued goes on settling.
    pub customers_until: u64,
    /// Nothing settles from here on.
    pub closes_at: u64,
}

impl Hours {
    /// From opening to closing, ns.
    pub fn length(&self) -> u64 {
        self.closes_at - self.opens_at
    }
}

impl Default for Hours {
    /// 07:00 to 18:00, customer payments until 17:00: TARGET2's day.
    fn default() -> Hours {
        Hours {
            opens_at: 7 * HOUR,
            customers_until: 17 * HOUR,
            closes_at: 18 * HOUR,
        }
    }
}

/// One payment of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// When it is submitted, ns since midnight.
    pub at: u64,
    /// When it is rejected if it still waits, ns since midnight; 0 for the end of the day.
    pub latest_at: u64,
    /// Minor units.
    pub amount: u128,
    /// Pays: 0, 1, 2 ...
    pub debtor: u32,
    /// Receives.
    pub creditor: u32,
    /// Its class.
    pub class: Priority,
}

/// A day of payments in the order in which they are submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// When the system is open.
    pub hours: Hours,
    /// How many participants there are.
    pub participants: u32,
    /// In order of time.
    pub payments: Vec<Payment>,
}

/// What day to invent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Payments, beside those of the money market.
    pub payments: usize,
    /// Participants, 2 or more.
    pub participants: u32,
    /// So much of what banks end the day with is lent to those that lack it, percent.
    pub money_market: u32,
    /// Seed.
    pub seed: u64,
    /// When the system is open.
    pub hours: Hours,
}

impl Day {
    /// Invents a day.
    pub fn invent(shape: &Shape) -> Day {
        assert!(shape.participants > 1, "a payment has two sides");
        let mut inventor = Inventor::new(shape);
        // When first, in order of time, so that a return flow finds what came before it.
        let slots = (0..shape.payments).map(|_| inventor.slot());
        let mut slots: Vec<(u64, Priority)> = slots.collect();
        slots.sort_by_key(|(at, _)| *at);
        let mut payments: Vec<Payment> = Vec::with_capacity(shape.payments);
        for (at, class) in slots {
            let payment = inventor.payment(at, class, &payments);
            payments.push(payment);
        }
        let loans = inventor.loans(shape, &payments);
        payments.extend(loans);
        payments.sort_by_key(|payment| payment.at);
        Day {
            hours: shape.hours,
            participants: shape.participants,
            payments,
        }
    }

    /// What each participant ends the day with beyond what it began with, if everything settles.
    pub fn positions(&self) -> Vec<i128> {
        positions(self.participants, &self.payments)
    }

    /// Minor units of all payments.
    pub fn value(&self) -> u128 {
        self.payments.iter().map(|payment| payment.amount).sum()
    }

    /// The size that half of the payments do not reach, and the largest; minor units.
    pub fn median_and_largest(&self) -> (u128, u128) {
        let mut sizes: Vec<u128> = self.payments.iter().map(|p| p.amount).collect();
        sizes.sort_unstable();
        let at = |place: usize| sizes.get(place).copied().unwrap_or(0);
        (at(sizes.len() / 2), at(sizes.len().saturating_sub(1)))
    }
}

fn positions(participants: u32, payments: &[Payment]) -> Vec<i128> {
    let mut positions = vec![0; participants as usize];
    for payment in payments {
        positions[payment.debtor as usize] -= payment.amount as i128;
        positions[payment.creditor as usize] += payment.amount as i128;
    }
    positions
}

struct Inventor {
    rng: Pcg64Mcg,
    participants: Zipf<f64>,
    sizes: LogNormal<f64>,
    peak: Normal<f64>,
    hours: Hours,
}

impl Inventor {
    fn new(shape: &Shape) -> Inventor {
        let sound = "a sound distribution";
        let participants = f64::from(shape.participants);
        Inventor {
            rng: Pcg64Mcg::seed_from_u64(shape.seed),
            participants: Zipf::new(participants, ZIPF_EXPONENT).expect(sound),
            sizes: LogNormal::new(8.895, 3.670).expect(sound),
            peak: Normal::new(0.0, 0.08).expect(sound),
            hours: shape.hours,
        }
    }

    /// When one payment comes, and its class.
    fn slot(&mut self) -> (u64, Priority) {
        let class = match self.rng.random_range(0..100) {
            0 => Priority::Urgent,
            1..10 => Priority::High,
            _ => Priority::Normal,
        };
        let hours = self.hours;
        let until = match class {
            Priority::Urgent | Priority::High => hours.closes_at,
            Priority::Normal => hours.customers_until,
        };
        let at = loop {
            let share = self.share_of_day();
            let at = hours.opens_at + (share * hours.length() as f64) as u64;
            if share >= 0.0 && at < until {
                break at / MILLISECOND * MILLISECOND;
            }
        };
        // Whole milliseconds, and not before opening.
        (at.max(hours.opens_at), class)
    }

    /// A moment as a share of the day; may lie outside.
    fn share_of_day(&mut self) -> f64 {
        let kind = self.rng.random_range(0..100);
        match kind {
            // The stock of the night: within the first sixtieth.
            0..8 => self.rng.random::<f64>() / 60.0,
            8..40 => self.rng.random(),
            40..70 => 0.2 + self.peak.sample(&mut self.rng),
            _ => 0.76 + self.peak.sample(&mut self.rng),
        }
    }

    fn payment(&mut self, at: u64, class: Priority, earlier: &[Payment]) -> Payment {
        let is_return = self.rng.random_range(0..100) < RETURN_FLOW_PERCENT;
        let (debtor, creditor, amount) = if is_return && !earlier.is_empty() {
            let of = earlier[self.rng.random_range(0..earlier.len())];
            let percent = self.rng.random_range(70..=130);
            (of.creditor, of.debtor, of.amount * percent / 100)
        } else {
            let (debtor, creditor) = self.sides();
            let whole = self.sizes.sample(&mut self.rng).clamp(0.01, LARGEST);
            (debtor, creditor, (whole * 100.0) as u128)
        };
        Payment {
            at,
            latest_at: self.latest(at, class),
            amount: amount.clamp(1, (LARGEST * 100.0) as u128),
            debtor,
            creditor,
            class,
        }
    }

    fn sides(&mut self) -> (u32, u32) {
        let debtor = self.participant();
        loop {
            let creditor = self.participant();
            if creditor != debtor {
                return (debtor, creditor);
            }
        }
    }

    fn participant(&mut self) -> u32 {
        self.participants.sample(&mut self.rng) as u32 - 1
    }

    /// Who ends the day with more than it began with lends to who ends it with less.
    fn loans(&mut self, shape: &Shape, payments: &[Payment]) -> Vec<Payment> {
        let part = |position: &i128| *position * i128::from(shape.money_market) / 100;
        let positions = positions(shape.participants, payments);
        let mut left: Vec<i128> = positions.iter().map(part).collect();
        let mut loans = Vec::new();
        let (mut lender, mut borrower) = (0, 0);
        loop {
            while lender < left.len() && left[lender] <= 0 {
                lender += 1;
            }
            while borrower < left.len() && left[borrower] >= 0 {
                borrower += 1;
            }
            if lender == left.len() || borrower == left.len() {
                return loans;
            }
            let most = left[lender].min(-left[borrower]);
            let amount = most.unsigned_abs().min(TICKET);
            left[lender] -= amount as i128;
            left[borrower] += amount as i128;
            let before = self.rng.random_range(LOAN_MINUTES) * MINUTE;
            loans.push(Payment {
                at: self.hours.closes_at - before,
                latest_at: 0,
                amount,
                debtor: lender as u32,
                creditor: borrower as u32,
                class: Priority::High,
            });
        }
    }

    fn latest(&mut self, at: u64, class: Priority) -> u64 {
        if class != Priority::Urgent || self.rng.random() {
            return 0;
        }
        let latest = at + self.rng.random_range(LATEST_MINUTES) * MINUTE;
        if latest < self.hours.closes_at {
            latest
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(payments: usize, participants: u32, seed: u64) -> Shape {
        Shape {
            payments,
            participants,
            money_market: 80,
            seed,
            hours: Hours::default(),
        }
    }

    #[test]
    fn the_money_market_brings_positions_down() {
        let with = shape(20_000, 50, 3);
        let without = Shape {
            money_market: 0,
            ..with
        };
        let all = Shape {
            money_market: 100,
            ..with
        };
        let sum = |shape| -> u128 {
            let positions = Day::invent(&shape).positions();
            positions
                .iter()
                .map(|position| position.unsigned_abs())
                .sum()
        };
        assert_eq!(sum(all), 0);
        let (with, without) = (sum(with), sum(without));
        assert!(with.abs_diff(without / 5) < 1_000, "{with} of {without}");
    }

    #[test]
    fn a_day_is_as_its_seed_says_and_keeps_its_hours() {
        let hours = Hours::default();
        let shape = shape(20_000, 50, 7);
        let day = Day::invent(&shape);
        assert_eq!(day, Day::invent(&shape));
        assert_ne!(day, Day::invent(&Shape { seed: 8, ..shape }));
        assert!(day.payments.is_sorted_by_key(|payment| payment.at));
        for payment in &day.payments {
            assert!(payment.at >= hours.opens_at && payment.at < hours.closes_at);
            assert!(payment.class != Priority::Normal || payment.at < hours.customers_until);
            assert!(payment.debtor < 50 && payment.creditor < 50);
            assert!(payment.debtor != payment.creditor && payment.amount > 0);
            assert!(payment.latest_at == 0 || payment.latest_at > payment.at);
        }
    }

    #[test]
    fn a_day_has_the_shape_it_should_have() {
        let day = Day::invent(&Shape {
            money_market: 0,
            ..shape(50_000, 100, 1)
        });
        let count = |class| day.payments.iter().filter(|p| p.class == class).count();
        assert!((400..600).contains(&count(Priority::Urgent)));
        assert!((4_200..4_800).contains(&count(Priority::High)));
        // exp(8.895) is 7,295: the median of the sizes.
        let (median, _) = day.median_and_largest();
        assert!((650_000..810_000).contains(&median), "{median}");
        let between = |from: u64, to: u64| {
            let range = from * HOUR..to * HOUR;
            day.payments
                .iter()
                .filter(|p| range.contains(&p.at))
                .count()
        };
        let (morning, noon, afternoon) = (between(9, 10), between(12, 13), between(15, 16));
        assert!(
            morning > 2 * noon && afternoon > 2 * noon,
            "{morning} {noon} {afternoon}"
        );
    }
}
