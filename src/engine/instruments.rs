//! Instruments: what is traded, in which steps, at which fees, and in which phase it is.

use super::index::Handle;
use super::reference_data::Named;
use crate::protocol::command::{CreateInstrument, InstrumentPhase, SelfTrade};
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
    reserved: [u8; 6],
}

/// Fees are at most the whole notional.
pub(super) const FEE_BPS_MAX: i32 = 10_000;

impl InstrumentRow {
    pub(super) fn new(
        asked: &CreateInstrument,
        base: Handle,
        quote: Handle,
        fee_account: Option<Handle>,
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
            reserved: [0; 6],
        }
    }

    pub(super) fn phase(&self) -> InstrumentPhase {
        InstrumentPhase::from_code(self.phase).expect("written from an InstrumentPhase")
    }

    pub(super) fn set_phase(&mut self, phase: InstrumentPhase) {
        self.phase = phase as u8;
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

impl Named for InstrumentRow {
    fn id(&self) -> u32 {
        self.id
    }
}
