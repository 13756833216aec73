//! Units and ids: every number that crosses the door has a type of its own, and arithmetic on
//! money is checked and named by meaning. No float, no rounding without a named direction.

use super::wire::{Wire, WireType};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! number {
    ($(#[doc = $doc:literal])* $name:ident($inner:ty), $wire:ident) => {
        $(#[doc = $doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes,
            IntoBytes, Immutable, KnownLayout, bytemuck::Pod, bytemuck::Zeroable,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl Wire for $name {
            const WIRE: WireType = WireType::$wire;
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// Money: minor units of an asset (cents, satoshi, single securities).
    Amount(u128), Unsigned
);
number!(
    /// A price in ticks of its instrument; spot instruments trade at 1 or more.
    Price(i64), Signed
);
number!(
    /// A quantity in lots of its instrument.
    Quantity(u64), Unsigned
);
number!(
    /// Nanoseconds since the Unix epoch. In the engine it is always an input.
    Timestamp(u64), Unsigned
);
number!(
    /// An asset (currency or security) as the operator numbers it.
    AssetId(u32), Unsigned
);
number!(
    /// A participant (bank, broker, wallet operator) as the operator numbers it.
    ParticipantId(u32), Unsigned
);
number!(
    /// An account as the operator numbers it; 0 is no account.
    AccountId(u64), Unsigned
);
number!(
    /// A transfer as its sender numbers it; 0 and 2^128-1 are no ids.
    TransferId(u128), Unsigned
);
number!(
    /// A payment's UETR (ISO 20022), a UUID read as an integer; 0 and 2^128-1 are no ids.
    PaymentId(u128), Unsigned
);
number!(
    /// An instrument as the operator numbers it.
    InstrumentId(u32), Unsigned
);
number!(
    /// An order as its participant numbers it (FIX `ClOrdID`); 0 is no id.
    ClientOrderId(u64), Unsigned
);
number!(
    /// An order as the engine numbers it: slot + generation, 0 is no order.
    OrderId(u64), Unsigned
);

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);
    /// The largest amount there is; where a field says so, it stands for "all" or "none set".
    pub const MAX: Amount = Amount(u128::MAX);

    /// The sum, or `None` past 2^128-1.
    pub const fn checked_add(self, other: Amount) -> Option<Amount> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Amount(sum)),
            None => None,
        }
    }

    /// The difference, or `None` below zero.
    pub const fn checked_sub(self, other: Amount) -> Option<Amount> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Amount(difference)),
            None => None,
        }
    }
}

/// What `quantity` lots at `price` ticks cost in minor units of the quote asset:
/// price x quantity x `tick_value` (quote minor units per lot per tick). Exact; `None` where the
/// price is not positive or the product passes 2^128-1.
#[inline]
pub fn notional(price: Price, quantity: Quantity, tick_value: u64) -> Option<Amount> {
    let ticks = u128::try_from(price.0).ok().filter(|ticks| *ticks > 0)?;
    // 2^63 * 2^64 stays below 2^128, so only the last product can overflow.
    (ticks * u128::from(quantity.0))
        .checked_mul(u128::from(tick_value))
        .map(Amount)
}

/// What `quantity` lots are in minor units of the base asset. Always fits: 2^64 x 2^64.
pub fn base_amount(quantity: Quantity, lot_size: u64) -> Amount {
    Amount(u128::from(quantity.0) * u128::from(lot_size))
}

/// A fee of `basis_points` (1/10,000) on `notional`, rounded up, in the house's favour. `None` past
/// 2^128-1.
#[inline]
pub fn fee_rounded_up(notional: Amount, basis_points: u32) -> Option<Amount> {
    let bps = u128::from(basis_points);
    if let Some(product) = small_product(notional, basis_points) {
        return Some(Amount(u128::from(product.div_ceil(10_000))));
    }
    // Split so that the product cannot overflow before the division brings it back.
    let whole = (notional.0 / 10_000).checked_mul(bps)?;
    let rest = (notional.0 % 10_000) * bps;
    whole.checked_add(rest.div_ceil(10_000)).map(Amount)
}

/// The product where it fits 64 bits, in which dividing by a constant takes no division.
#[inline]
fn small_product(notional: Amount, basis_points: u32) -> Option<u64> {
    let notional = u64::try_from(notional.0).ok()?;
    notional.checked_mul(u64::from(basis_points))
}

/// A rebate of `basis_points` on `notional`, rounded down, in the house's favour. `None` past
/// 2^128-1.
pub fn rebate_rounded_down(notional: Amount, basis_points: u32) -> Option<Amount> {
    let bps = u128::from(basis_points);
    if let Some(product) = small_product(notional, basis_points) {
        return Some(Amount(u128::from(product / 10_000)));
    }
    let whole = (notional.0 / 10_000).checked_mul(bps)?;
    whole
        .checked_add((notional.0 % 10_000) * bps / 10_000)
        .map(Amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notional_is_exact_and_refuses_what_does_not_fit() {
        assert_eq!(notional(Price(3), Quantity(4), 5), Some(Amount(60)));
        assert_eq!(notional(Price(0), Quantity(4), 5), None);
        assert_eq!(notional(Price(-3), Quantity(4), 5), None);
        assert_eq!(
            notional(Price(i64::MAX), Quantity(u64::MAX), 2),
            Some(Amount((i64::MAX as u128) * u128::from(u64::MAX) * 2))
        );
        assert_eq!(notional(Price(i64::MAX), Quantity(u64::MAX), 3), None);
    }

    #[test]
    fn fees_are_the_same_on_both_sides_of_64_bits() {
        let edge = u128::from(u64::MAX);
        for notional in [edge / 7, edge - 1, edge, edge + 1, edge * 3] {
            for bps in [0, 1, 7, 9_999, 10_000] {
                let exact = notional * u128::from(bps);
                let fee = fee_rounded_up(Amount(notional), bps).unwrap().0;
                let rebate = rebate_rounded_down(Amount(notional), bps).unwrap().0;
                assert_eq!((fee, rebate), (exact.div_ceil(10_000), exact / 10_000));
            }
        }
    }

    #[test]
    fn fees_round_up_and_rebates_round_down() {
        assert_eq!(fee_rounded_up(Amount(10_000), 10), Some(Amount(10)));
        assert_eq!(fee_rounded_up(Amount(10_001), 10), Some(Amount(11)));
        assert_eq!(fee_rounded_up(Amount(1), 1), Some(Amount(1)));
        assert_eq!(fee_rounded_up(Amount(0), 10), Some(Amount(0)));
        assert_eq!(rebate_rounded_down(Amount(10_001), 10), Some(Amount(10)));
        assert_eq!(rebate_rounded_down(Amount(999), 10), Some(Amount(0)));
        assert_eq!(fee_rounded_up(Amount::MAX, 10_000), Some(Amount::MAX));
        assert_eq!(fee_rounded_up(Amount::MAX, 10_001), None);
    }
}
