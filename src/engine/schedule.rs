//! The schedule of the business day: when which phase begins by the clock. Each phase has one time
//! at most, the next that it begins; times follow each other as phases do. The room keeps them; the
//! deadlines wake it.

use super::business_day::BusinessDay;
use super::deadlines::{DeadlineSlot, NO_DEADLINE};
use crate::protocol::command::DayPhase;
use crate::protocol::reason::Reason;
use crate::protocol::units::Timestamp;
use bytemuck::{Pod, Zeroable};

const PHASES: usize = DayPhase::ALL.len();

/// When phases begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Schedule {
    /// By code; 0 for none.
    at: [u64; PHASES],
    deadlines: [DeadlineSlot; PHASES],
    reserved: u32,
}

impl Schedule {
    pub(super) fn new() -> Schedule {
        Schedule {
            at: [0; PHASES],
            deadlines: [NO_DEADLINE; PHASES],
            reserved: 0,
        }
    }

    /// When `phase` begins, if that is scheduled.
    pub(super) fn at(&self, phase: DayPhase) -> Option<Timestamp> {
        let at = self.at[phase as usize];
        (at != 0).then_some(Timestamp(at))
    }

    /// Where its deadline is.
    pub(super) fn deadline(&self, phase: DayPhase) -> Option<DeadlineSlot> {
        let slot = self.deadlines[phase as usize];
        (slot != NO_DEADLINE).then_some(slot)
    }

    pub(super) fn set(&mut self, phase: DayPhase, at: Timestamp, slot: DeadlineSlot) {
        self.at[phase as usize] = at.0;
        self.deadlines[phase as usize] = slot;
    }

    pub(super) fn clear(&mut self, phase: DayPhase) {
        self.set(phase, Timestamp(0), NO_DEADLINE);
    }

    /// What is scheduled, in order, as seen from the present phase of `day`.
    pub(super) fn ahead(
        &self,
        day: &BusinessDay,
    ) -> impl Iterator<Item = (usize, DayPhase, Timestamp)> + use<> {
        let (times, day) = (*self, *day);
        (1..=PHASES).filter_map(move |steps| {
            let phase = day.phase_ahead(steps);
            times.at(phase).map(|at| (steps, phase, at))
        })
    }

    /// Whether the schedule would still be one with `phase` at another time, or without it.
    pub(super) fn check(
        &self,
        day: &BusinessDay,
        phase: DayPhase,
        at: Option<Timestamp>,
    ) -> Result<(), Reason> {
        let mut changed = *self;
        changed.at[phase as usize] = at.map_or(0, |at| at.0);
        if changed.is_in_order(day) {
            Ok(())
        } else {
            Err(Reason::PhaseOutOfOrder)
        }
    }

    /// Whether times follow each other as phases do, and nothing of the next day comes without the
    /// end of this one.
    fn is_in_order(&self, day: &BusinessDay) -> bool {
        let end = day.steps_to(DayPhase::Closed);
        let ends = self.at(DayPhase::Closed).is_some();
        let mut last = Timestamp(0);
        self.ahead(day).all(|(steps, _, at)| {
            let follows = at > last && (steps <= end || ends);
            last = at;
            follows
        })
    }

    /// What moves with the end of `phase` (`None` for the present one), and where to: everything
    /// scheduled behind it until the day closes.
    pub(super) fn extended(
        &self,
        day: &BusinessDay,
        now: Timestamp,
        phase: Option<DayPhase>,
        by_ns: i64,
    ) -> Result<Schedule, Reason> {
        let (from, begins) = match phase.filter(|phase| *phase != day.phase() || day.day() == 0) {
            None => (0, now),
            Some(phase) => {
                let at = self.at(phase).ok_or(Reason::PhaseNotScheduled)?;
                (day.steps_to(phase), at)
            }
        };
        let end = day.steps_to(DayPhase::Closed);
        let mut moved = *self;
        let mut first = None;
        for (steps, phase, at) in self.ahead(day) {
            if steps <= from || steps > end {
                continue;
            }
            let to = at.0.checked_add_signed(by_ns);
            let to = to.ok_or(Reason::TimeOutOfRange)?;
            moved.at[phase as usize] = to;
            first = first.or(Some(to));
        }
        match first {
            None => Err(Reason::PhaseNotScheduled),
            Some(to) if to <= begins.0.max(now.0) => Err(Reason::TimeOutOfRange),
            Some(_) if !moved.is_in_order(day) => Err(Reason::PhaseOutOfOrder),
            Some(_) => Ok(moved),
        }
    }

    /// The room's invariants: times in order, and a deadline for each.
    pub(super) fn audit(&self, day: &BusinessDay) -> Result<(), String> {
        let has_deadlines = DayPhase::ALL
            .iter()
            .all(|phase| self.at(*phase).is_some() == self.deadline(*phase).is_some());
        if self.is_in_order(day) && has_deadlines {
            Ok(())
        } else {
            Err(format!(
                "schedule out of order or without deadlines: {self:?}"
            ))
        }
    }
}
