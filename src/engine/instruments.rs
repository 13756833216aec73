//! Instruments: what is traded, in which steps, at which fees, and in which phase it is.

use super::band::{Band, no_band};
use super::index::Handle;
use super::reference_data::Named;
use crate::protocol::command::{CreateInstrument, InstrumentPhase, SelfTrade, Settlement};
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, Price, Quantity, fee_rounded_up, notional};
use bytemuck::{Pod, Zeroable};

/// One instrument. Its handle is also its book's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct InstrumentRow {
    pub(super) id: u32,
    pub(super) base: Handle,
    pub(super) quote: Handle,
    /// Where fees go; an account handle, `u32::MAX` where there are none.
    fee_account: Handle,
    pub(super) lot_size: u64,
    pub(super) tick_value: u64,
    pub(super) min_price: i64,
    pub(super) max_price: i64,
    pub(super) max_quantity: u64,
    pub(super) maker_fee_bps: i32,
    pub(super) taker_fee_bps: i32,
    phase: u8,
    self_trade: u8,
    /// Its tick table, counted from 1; 0 where `price_step` says it.
    pub(super) tick_table: u16,
    settlement: u8,
    reserved: [u8; 3],
    pub(super) min_quantity: u64,
    pub(super) price_step: u64,
    /// What bands are measured from until something trades, then the price of the last auction; 0
    /// for nothing.
    reference_price: i64,
    static_band: u64,
    dynamic_band: u64,
    /// 0 for any.
    max_notional: u128,
}

/// Fees are at most the whole notional.
pub(super) const FEE_BPS_MAX: i32 = 10_000;

impl InstrumentRow {
    pub(super) fn new(
        asked: &CreateInstrument,
        base: Handle,
        quote: Handle,
        fee_account: Option<Handle>,
        tick_table: u16,
    ) -> InstrumentRow {
        InstrumentRow {
            id: asked.instrument.0,
            base,
            quote,
            fee_account: fee_account.unwrap_or(u32::MAX),
            lot_size: asked.lot_size,
            tick_value: asked.tick_value,
            min_price: asked.min_price.0,
            max_price: asked.max_price.0,
            max_quantity: asked.max_quantity.0,
            maker_fee_bps: asked.maker_fee_bps,
            taker_fee_bps: asked.taker_fee_bps,
            phase: InstrumentPhase::Continuous as u8,
            self_trade: asked.self_trade as u8,
            settlement: asked.settlement as u8,
            tick_table,
            reserved: [0; 3],
            min_quantity: asked.min_quantity.0,
            price_step: asked.price_step,
            reference_price: asked.reference_price.0,
            static_band: asked.static_band,
            dynamic_band: asked.dynamic_band,
            max_notional: asked.max_notional.0,
        }
    }

    /// Whether a listing says the same as this row did: phase and reference price move on.
    pub(super) fn is_listing_of(&self, other: &InstrumentRow) -> bool {
        let listed = |row: &InstrumentRow| InstrumentRow {
            phase: 0,
            reference_price: 0,
            ..*row
        };
        listed(self) == listed(other)
    }

    /// What bands are measured from, if anything is.
    pub(super) fn reference(&self) -> Option<Price> {
        (self.reference_price != 0).then_some(Price(self.reference_price))
    }

    /// Measures bands from here on from the price of an auction.
    pub(super) fn set_reference(&mut self, price: Price) {
        self.reference_price = price.0;
    }

    /// Whether a limit may stand there: within the instrument's prices and in the band. Whether it
    /// is a tick, [`TickTables`](super::ticks::TickTables) know.
    #[inline]
    pub(super) fn check_band(&self, price: Price) -> Result<(), Reason> {
        match self.reference() {
            Some(reference)
                if self.static_band != 0 && price.0.abs_diff(reference.0) > self.static_band =>
            {
                Err(Reason::OutsidePriceBand)
            }
            _ => Ok(()),
        }
    }

    /// Whether it is one of the instrument's prices, leaving ticks and bands aside.
    #[inline]
    pub(super) fn check_range(&self, price: Price) -> Result<(), Reason> {
        if price.0 < self.min_price || price.0 > self.max_price {
            return Err(Reason::OutsidePriceBand);
        }
        Ok(())
    }

    /// The prices at which a limit may stand, if not at any.
    pub(super) fn static_band(&self) -> Option<Band> {
        let from = self.reference().filter(|_| self.static_band != 0)?;
        Some(around(from, self.static_band))
    }

    /// The prices at which orders may trade without an auction; `last` is the last price there was.
    #[inline]
    pub(super) fn band(&self, last: Option<Price>) -> Band {
        if self.static_band | self.dynamic_band == 0 {
            return no_band();
        }
        let band = self.static_band().unwrap_or(no_band());
        let Some(from) = last.or(self.reference()).filter(|_| self.dynamic_band != 0) else {
            return band;
        };
        let dynamic = around(from, self.dynamic_band);
        Band {
            low: band.low.max(dynamic.low),
            high: band.high.min(dynamic.high),
        }
    }

    /// Whether an order of that notional is more than anybody means.
    #[inline]
    pub(super) fn is_too_large(&self, notional: Amount) -> bool {
        self.max_notional != 0 && notional.0 > self.max_notional
    }

    pub(super) fn phase(&self) -> InstrumentPhase {
        InstrumentPhase::from_code(self.phase).expect("written from an InstrumentPhase")
    }

    pub(super) fn set_phase(&mut self, phase: InstrumentPhase) {
        self.phase = phase as u8;
    }

    /// Whether fills wait for the end of a cycle.
    #[inline]
    pub(super) fn is_deferred(&self) -> bool {
        self.settlement != Settlement::Immediate as u8
    }

    pub(super) fn settlement(&self) -> Settlement {
        Settlement::from_code(self.settlement).expect("written from a Settlement")
    }

    pub(super) fn fee_account(&self) -> Option<Handle> {
        (self.fee_account != u32::MAX).then_some(self.fee_account)
    }

    /// What happens when a participant meets itself: the order's word, else the instrument's,
    /// else they trade.
    pub(super) fn self_trade(&self, asked: SelfTrade) -> SelfTrade {
        let own = SelfTrade::from_code(self.self_trade).expect("written from a SelfTrade");
        match (asked, own) {
            (SelfTrade::Default, SelfTrade::Default) => SelfTrade::Allow,
            (SelfTrade::Default, own) => own,
            (asked, _) => asked,
        }
    }

    /// Price of `quantity` lots at `price`.
    #[inline]
    pub(super) fn notional(&self, price: Price, quantity: Quantity) -> Option<Amount> {
        notional(price, quantity, self.tick_value)
    }

    /// The most fee a buy of that notional can owe, whether it makes or takes.
    #[inline]
    pub(super) fn worst_fee(&self, notional: Amount) -> Option<Amount> {
        let bps = self.maker_fee_bps.max(self.taker_fee_bps).max(0);
        fee_rounded_up(notional, bps.unsigned_abs())
    }
}

/// What lies no further than `width` from a price.
fn around(Price(from): Price, width: u64) -> Band {
    Band {
        low: Price(from.saturating_sub_unsigned(width)),
        high: Price(from.saturating_add_unsigned(width)),
    }
}

impl Named for InstrumentRow {
    fn id(&self) -> u32 {
        self.id
    }
}
