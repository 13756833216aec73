//! Tick tables: which prices there are. An instrument names a table, many may name the same, or has
//! one step for all its prices.
//!
//! ```text
//! from      1: step 1      1, 2, 3 ... 99
//! from    100: step 5      100, 105 ... 995
//! from  1,000: step 10     1,000, 1,010 ...
//! ```

use super::instruments::InstrumentRow;
use crate::protocol::command::{Side, TickStep};
use crate::protocol::reason::Reason;
use crate::protocol::units::Price;
use bytemuck::{Pod, Zeroable};

/// Steps of one table at most.
pub(super) const STEPS_MAX: usize = 32;
/// Tables at most.
pub(super) const TABLES_MAX: usize = 256;

/// One step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Step {
    from: i64,
    step: u64,
}

/// One table. Never changed, never removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct TickTableRow {
    id: u32,
    count: u32,
    steps: [Step; STEPS_MAX],
}

/// All tables, in order of creation.
#[derive(Default)]
pub(super) struct TickTables {
    rows: Vec<TickTableRow>,
}

impl TickTables {
    /// The tables a snapshot has.
    pub(super) fn restore(rows: Vec<TickTableRow>) -> TickTables {
        TickTables { rows }
    }

    pub(super) fn rows(&self) -> &[TickTableRow] {
        &self.rows
    }

    /// The place of the table with that number, counted from 1.
    pub(super) fn find(&self, id: u16) -> Option<u16> {
        let at = self.rows.iter().position(|row| row.id == u32::from(id))?;
        Some(at as u16 + 1)
    }

    /// Adds a table.
    ///
    /// # Errors
    /// Where the steps do not rise or do not begin on multiples of themselves, the number is taken,
    /// or there are too many.
    pub(super) fn add(&mut self, id: u16, steps: &[TickStep]) -> Result<(), Reason> {
        let is_sound = id != 0
            && !steps.is_empty()
            && steps.len() <= STEPS_MAX
            && steps.windows(2).all(|pair| pair[0].from < pair[1].from)
            && steps.iter().all(|step| {
                (1..=i64::MAX as u64).contains(&step.step)
                    && step.from.0.unsigned_abs().is_multiple_of(step.step)
            });
        if !is_sound {
            return Err(Reason::OutOfRange);
        }
        let mut row = TickTableRow::zeroed();
        (row.id, row.count) = (u32::from(id), steps.len() as u32);
        for (own, asked) in row.steps.iter_mut().zip(steps) {
            (own.from, own.step) = (asked.from.0, asked.step);
        }
        match self.rows.iter().find(|old| old.id == row.id) {
            Some(old) if *old == row => Err(Reason::Exists),
            Some(_) => Err(Reason::ExistsWithDifferentContent),
            None if self.rows.len() == TABLES_MAX => Err(Reason::CapacityExhausted),
            None => {
                self.rows.push(row);
                Ok(())
            }
        }
    }

    /// Whether the table at that place has a step for every price from `min` on.
    pub(super) fn reaches_down_to(&self, table: u16, min: Price) -> bool {
        self.rows[usize::from(table) - 1].steps[0].from <= min.0
    }

    /// Whether a limit may stand there: within the instrument's prices, on a tick, in the band.
    #[inline]
    pub(super) fn check_price(
        &self,
        instrument: &InstrumentRow,
        price: Price,
    ) -> Result<(), Reason> {
        instrument.check_range(price)?;
        let is_any = instrument.price_step == 1 && instrument.tick_table == 0;
        if !is_any && !self.is_tick(instrument, price) {
            return Err(Reason::PriceNotOnTick);
        }
        instrument.check_band(price)
    }

    /// Whether there is such a price.
    pub(super) fn is_tick(&self, instrument: &InstrumentRow, price: Price) -> bool {
        let (step, _) = self.step_at(instrument, price.0);
        price.0 % step == 0
    }

    /// The step at a price, and where the next one begins.
    fn step_at(&self, instrument: &InstrumentRow, price: i64) -> (i64, Option<i64>) {
        let own = i64::try_from(instrument.price_step).unwrap_or(i64::MAX);
        if instrument.tick_table == 0 {
            return (own, None);
        }
        let row = &self.rows[usize::from(instrument.tick_table) - 1];
        let steps = &row.steps[..row.count as usize];
        let after = steps.partition_point(|step| step.from <= price);
        let step = steps[after.saturating_sub(1)].step as i64;
        (step, steps.get(after).map(|step| step.from))
    }

    /// The nearest price there is, away from the other side: down for buys, up for sells.
    pub(super) fn on_step(&self, instrument: &InstrumentRow, side: Side, price: i64) -> i64 {
        let (step, next) = self.step_at(instrument, price);
        let over = price.rem_euclid(step);
        match side {
            Side::Buy => price - over,
            Side::Sell if over == 0 => price,
            Side::Sell => {
                let up = price.saturating_add(step - over);
                next.map_or(up, |next| up.min(next))
            }
        }
    }

    /// The price one step short of `price`, for an order of `side`.
    pub(super) fn short_of(&self, instrument: &InstrumentRow, side: Side, price: Price) -> i64 {
        let beyond = match side {
            Side::Buy => price.0.saturating_sub(1),
            Side::Sell => price.0.saturating_add(1),
        };
        self.on_step(instrument, side, beyond)
    }
}
