//! The business day: its phase, and what each phase admits.
//!
//! closed -> sod -> liquidity -> open -> cut1 -> cut2 -> eod1 -> eod2 -> recon -> closed. A phase
//! may be skipped; what is due in it happens all the same. A fresh journal is open on day 0 and
//! stays so until a phase is set for the first time, so a deployment without a business day needs
//! none.

use crate::protocol::command::{DayPhase, Priority};
use bytemuck::{Pod, Zeroable};

/// Which day it is and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct BusinessDay {
    day: u64,
    /// What the operator calls the day: a number that grows, a date or a count.
    date: u32,
    phase: u8,
    reserved: [u8; 3],
}

/// What moving on brings with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PhaseWork {
    /// Queued payments are rejected, day orders expire.
    pub(super) ends_day: bool,
    /// Daily counters reset, idempotency windows roll.
    pub(super) starts_day: bool,
}

impl BusinessDay {
    pub(super) fn new() -> BusinessDay {
        BusinessDay {
            day: 0,
            date: 0,
            phase: DayPhase::Open as u8,
            reserved: [0; 3],
        }
    }

    pub(super) fn phase(&self) -> DayPhase {
        DayPhase::from_code(self.phase).expect("written from a DayPhase")
    }

    /// Whether no day has ended yet: the one before the first phase was set goes on in it.
    pub(super) fn is_first(&self) -> bool {
        self.day <= 1
    }

    /// What moving to `phase` brings with it; `None` where the day would run backwards.
    pub(super) fn work_until(&self, phase: DayPhase) -> Option<PhaseWork> {
        if self.phase() == phase && self.day > 0 {
            return Some(PhaseWork::default());
        }
        // Closed is both the end of one day and the beginning of the next.
        let begins = self.phase() == DayPhase::Closed || self.day == 0;
        let from = if begins { 0 } else { rank(self.phase()) };
        let (to, end) = (rank(phase), rank(DayPhase::Eod1));
        if to <= from && !begins {
            return None;
        }
        Some(PhaseWork {
            ends_day: from < end && to >= end,
            starts_day: begins,
        })
    }

    /// The business date of the present day; of one that has ended, until the next begins.
    pub(super) fn date(&self) -> u32 {
        self.date
    }

    /// The date after a move that brings `work` and names `asked` (0 where it names none): a day
    /// that begins has a later date than the one before, by default the next number, and keeps it.
    pub(super) fn date_after(&self, work: PhaseWork, asked: u32) -> Option<u32> {
        match (work.starts_day, asked) {
            (true, 0) => self.date.checked_add(1),
            (true, asked) => (asked > self.date).then_some(asked),
            (false, asked) => (asked == 0 || asked == self.date).then_some(self.date),
        }
    }

    pub(super) fn move_to(&mut self, phase: DayPhase, work: PhaseWork, date: u32) {
        if work.starts_day {
            self.day += 1;
        }
        self.date = date;
        self.phase = phase as u8;
    }

    /// Whether the present phase admits payments of that class. Once customer payments have ended
    /// (cut1), what remains is interbank: urgent or high.
    pub(super) fn admits_payment(&self, class: Priority) -> bool {
        match self.phase() {
            DayPhase::Open => true,
            DayPhase::Cut1 => class != Priority::Normal,
            DayPhase::Closed
            | DayPhase::Sod
            | DayPhase::Liquidity
            | DayPhase::Cut2
            | DayPhase::Eod1
            | DayPhase::Eod2
            | DayPhase::Recon => false,
        }
    }

    /// Whether the present phase admits payments whose time lies ahead.
    pub(super) fn admits_warehousing(&self) -> bool {
        self.admits_transfer()
    }

    /// Whether the present phase admits transfers: liquidity is brought in from start of day on and
    /// repaid at its end.
    #[inline]
    pub(super) fn admits_transfer(&self) -> bool {
        !matches!(self.phase(), DayPhase::Closed | DayPhase::Recon)
    }

    /// Whether the present phase admits orders, whose fills settle at once.
    #[inline]
    pub(super) fn admits_order(&self) -> bool {
        matches!(
            self.phase(),
            DayPhase::Liquidity | DayPhase::Open | DayPhase::Cut1 | DayPhase::Cut2
        )
    }
}

/// Place in the day; closed ends it.
fn rank(phase: DayPhase) -> u8 {
    match phase {
        DayPhase::Closed => 9,
        other => other as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_runs_forward_and_skipped_phases_do_their_work() {
        let mut day = BusinessDay::new();
        assert!(day.admits_payment(Priority::Normal));
        let work = day
            .work_until(DayPhase::Sod)
            .expect("the first day begins anywhere");
        assert!(work.starts_day && !work.ends_day);
        day.move_to(DayPhase::Sod, work, 1);
        let work = day.work_until(DayPhase::Closed).unwrap();
        assert!(work.ends_day && !work.starts_day);
        day.move_to(DayPhase::Closed, work, 1);
        let work = day.work_until(DayPhase::Open).unwrap();
        assert!(work.starts_day && !work.ends_day);
        assert_eq!(day.date_after(work, 0), Some(2));
        assert_eq!(day.date_after(work, 20_261_130), Some(20_261_130));
        assert_eq!(day.date_after(work, 1), None);
        day.move_to(DayPhase::Open, work, 2);
        assert_eq!(day.date_after(PhaseWork::default(), 3), None);
        assert_eq!(day.work_until(DayPhase::Liquidity), None);
        assert_eq!(day.work_until(DayPhase::Open), Some(PhaseWork::default()));
        assert!(day.work_until(DayPhase::Eod1).unwrap().ends_day);
    }
}
