//! How much liquidity a day takes at most and at least, and what lies between.
//!
//! **Upper bound**: the sum over participants of the largest net debit position that each would
//! reach if every payment settled the moment it is submitted. With it nothing ever waits.
//! **Lower bound**: the sum over participants of what each pays over the whole day more than it
//! receives. With less, not everything can settle, whatever the algorithm; with it, everything can
//! at the end of the day, all at once. Both are defined by Koponen and Soramaki, "Intraday
//! liquidity needs in a modern interbank payment system: a simulation approach", Bank of Finland
//! Studies E:14, 1998, and used since in the studies made with the Bank of Finland's simulator
//! (Leinonen and Soramaki, discussion papers 16/1999 and 23/2003). Guntzer, Jungnickel and Leclerc,
//! "Efficient algorithms for the clearing of interbank payments", European Journal of Operational
//! Research 106, 1998, ask what settles in between.

use super::day::Day;

/// Minor units of liquidity by participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// With this, every payment settles when it is submitted.
    pub upper: Vec<u128>,
    /// With less than this, something stays unsettled.
    pub lower: Vec<u128>,
}

impl Bounds {
    /// The bounds of a day.
    pub fn of(day: &Day) -> Bounds {
        let mut position = vec![0_i128; day.participants as usize];
        let mut deepest = position.clone();
        for payment in &day.payments {
            let (debtor, creditor) = (payment.debtor as usize, payment.creditor as usize);
            position[debtor] -= payment.amount as i128;
            deepest[debtor] = deepest[debtor].min(position[debtor]);
            position[creditor] += payment.amount as i128;
        }
        let debit = |position: &i128| (-position).max(0).unsigned_abs();
        Bounds {
            upper: deepest.iter().map(debit).collect(),
            lower: position.iter().map(debit).collect(),
        }
    }

    /// The upper bound of all, minor units.
    pub fn upper_sum(&self) -> u128 {
        self.upper.iter().sum()
    }

    /// The lower bound of all, minor units.
    pub fn lower_sum(&self) -> u128 {
        self.lower.iter().sum()
    }

    /// The lower bound as a share of the upper, 0 to 1.
    pub fn lower_share(&self) -> f64 {
        ratio(self.lower_sum(), self.upper_sum())
    }

    /// What each participant begins the day with at that level, rounded up; minor units.
    pub fn opening(&self, scale: Scale, level: Level) -> Vec<u128> {
        let share = |amount: u128| (amount * u128::from(level.0)).div_ceil(10_000);
        let sides = self.upper.iter().zip(&self.lower);
        sides
            .map(|(upper, lower)| match scale {
                Scale::OfUpper => share(*upper),
                Scale::Between => lower + share(upper - lower),
            })
            .collect()
    }
}

/// A level of liquidity in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub u32);

impl Level {
    /// In percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.percent())
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        let wrong =
            || format!("\"{text}\" is not a percentage from 0 to 100 with at most two decimals");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || whole.len() > 3 || decimals.len() > 2 {
            return Err(wrong());
        }
        let decimals: u32 = format!("{decimals:0<2}").parse().map_err(|_| wrong())?;
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let level = Level(whole * 100 + decimals);
        if level.0 > 10_000 {
            return Err(wrong());
        }
        Ok(level)
    }
}

/// What a level is a percentage of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Of the upper bound.
    OfUpper,
    /// Of the way from the lower bound to the upper.
    Between,
}

/// `part / whole`, 0 where there is no whole.
pub fn ratio(part: u128, whole: u128) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::Priority;
    use crate::study::day::{Hours, Payment};

    fn day(flows: &[(u32, u32, u128)]) -> Day {
        let hours = Hours::default();
        let payments = flows
            .iter()
            .enumerate()
            .map(|(at, (debtor, creditor, amount))| Payment {
                at: hours.opens_at + at as u64,
                latest_at: 0,
                amount: *amount,
                debtor: *debtor,
                creditor: *creditor,
                class: Priority::Normal,
            });
        Day {
            hours,
            participants: 3,
            payments: payments.collect(),
        }
    }

    #[test]
    fn bounds_of_a_day_by_hand() {
        // 0: -10, -10, -3, -8: deepest 10, ends at 8. 1: 10, 4, -3: deepest 3, ends at 2.
        // 2: never below.
        let day = day(&[(0, 1, 10), (1, 2, 6), (1, 0, 7), (0, 2, 5), (2, 1, 1)]);
        let bounds = Bounds::of(&day);
        assert_eq!(bounds.upper, [10, 3, 0]);
        assert_eq!(bounds.lower, [8, 2, 0]);
        assert_eq!(bounds.opening(Scale::OfUpper, Level(5_000)), [5, 2, 0]);
        assert_eq!(bounds.opening(Scale::OfUpper, Level(10_000)), [10, 3, 0]);
        assert_eq!(bounds.opening(Scale::Between, Level(0)), [8, 2, 0]);
        assert_eq!(bounds.opening(Scale::Between, Level(5_000)), [9, 3, 0]);
    }

    #[test]
    fn levels_are_read_as_they_are_printed() {
        for (text, level) in [("5", 500), ("2.5", 250), ("0.05", 5), ("100", 10_000)] {
            assert_eq!(text.parse(), Ok(Level(level)));
            assert_eq!(Level(level).to_string(), text);
        }
        for text in ["", "-1", "100.01", "101", "1e1", "5 %", "1.234", ".5", "5."] {
            assert!(text.parse::<Level>().is_err(), "{text}");
        }
    }
}
