//! A band of prices: what instruments say and the matching room keeps to.

use crate::protocol::units::Price;

/// The prices at which orders may trade without an auction, both included; none where `low` is above
/// `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// The lowest.
    pub low: Price,
    /// The highest.
    pub high: Price,
}

/// Any price is inside this band.
#[inline]
pub fn no_band() -> Band {
    Band {
        low: Price(i64::MIN),
        high: Price(i64::MAX),
    }
}
