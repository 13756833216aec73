//! The business day: its phase, and what each phase admits.
//!
//! closed -> sod -> liquidity -> open -> cut1 -> cut2 -> eod1 -> eod2 -> recon -> closed. A phase
//! may be skipped; what is due in it happens all the same. A fresh journal is open on day 0 and
//! stays so until a phase is set for the first time, so a deployment without a business day needs
//! none. Accounts for instant payments do not ask the phase ([`TABLE`] is for all others).

use crate::protocol::command::{DayPhase, Priority};
use bytemuck::{Pod, Zeroable};

/// Which payments and groups a phase lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Classes {
    None,
    /// Interbank payments: customer payments have ended.
    UrgentAndHigh,
    All,
}

/// What a phase admits.
#[derive(Clone, Copy, Debug)]
struct Admits {
    /// Transfers, authorisations and their steps: liquidity is brought in from start of day on and
    /// repaid at its end.
    transfers: bool,
    /// New payments and groups that are due.
    payments: Classes,
    /// What is queued settles.
    settles: bool,
    /// New payments whose earliest time lies ahead.
    warehousing: bool,
    /// Orders, whose fills settle at once.
    orders: bool,
    /// Intraday credit.
    credit: bool,
}

const NOTHING: Admits = Admits {
    transfers: false,
    payments: Classes::None,
    settles: false,
    warehousing: false,
    orders: false,
    credit: false,
};
const TRANSFERS: Admits = Admits {
    transfers: true,
    warehousing: true,
    ..NOTHING
};
const START: Admits = Admits {
    credit: true,
    ..TRANSFERS
};
const TRADING: Admits = Admits {
    orders: true,
    ..START
};
const PAYMENTS: Admits = Admits {
    payments: Classes::All,
    settles: true,
    ..TRADING
};
const INTERBANK: Admits = Admits {
    payments: Classes::UrgentAndHigh,
    ..PAYMENTS
};

/// What each phase admits, in the order of their codes.
const TABLE: [(DayPhase, Admits); DayPhase::ALL.len()] = [
    (DayPhase::Closed, NOTHING),
    (DayPhase::Sod, START),
    (DayPhase::Liquidity, TRADING),
    (DayPhase::Open, PAYMENTS),
    (DayPhase::Cut1, INTERBANK),
    (DayPhase::Cut2, TRADING),
    (DayPhase::Eod1, TRANSFERS),
    (DayPhase::Eod2, TRANSFERS),
    (DayPhase::Recon, NOTHING),
];

const _: () = {
    let mut at = 0;
    while at < TABLE.len() {
        assert!(TABLE[at].0 as usize == at);
        at += 1;
    }
};

/// The phases that a column of [`TABLE`] has, as bits: what the hot path asks is one test.
macro_rules! phases_with {
    ($($test:tt)*) => {{
        let mut bits = 0u16;
        let mut at = 0;
        while at < TABLE.len() {
            if TABLE[at].1.$($test)* {
                bits |= 1 << at;
            }
            at += 1;
        }
        bits
    }};
}

const WITH_TRANSFERS: u16 = phases_with!(transfers);
const WITH_WAREHOUSING: u16 = phases_with!(warehousing);
const WITH_ORDERS: u16 = phases_with!(orders);
const WITH_CREDIT: u16 = phases_with!(credit);
const SETTLING: u16 = phases_with!(settles);
const WITH_PAYMENTS: [u16; Priority::ALL.len()] = {
    let interbank = phases_with!(payments as u8 >= Classes::UrgentAndHigh as u8);
    [
        interbank,
        interbank,
        phases_with!(payments as u8 >= Classes::All as u8),
    ]
};

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
    /// Queued payments are rejected, intraday credit is repaid, day orders expire.
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

    /// The number of the day, 0 before the first.
    pub(super) fn day(&self) -> u64 {
        self.day
    }

    /// Whether no day has ended yet: the one before the first phase was set goes on in it.
    pub(super) fn is_first(&self) -> bool {
        self.day <= 1
    }

    /// How many phases `phase` lies ahead, 1 to 9: the present one comes again last. Before the
    /// first day all lie ahead, in their order.
    pub(super) fn steps_to(&self, phase: DayPhase) -> usize {
        let phases = TABLE.len();
        let from = if self.day == 0 {
            0
        } else {
            self.phase as usize
        };
        (phase as usize + phases - from - 1) % phases + 1
    }

    /// The phase that lies so many ahead.
    pub(super) fn phase_ahead(&self, steps: usize) -> DayPhase {
        let from = if self.day == 0 {
            0
        } else {
            self.phase as usize
        };
        TABLE[(from + steps) % TABLE.len()].0
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

    #[inline(always)]
    fn is_one_of(&self, phases: u16) -> bool {
        phases >> (self.phase & 15) & 1 != 0
    }

    /// Whether the present phase admits payments of that class.
    pub(super) fn admits_payment(&self, class: Priority) -> bool {
        self.is_one_of(WITH_PAYMENTS[class as usize])
    }

    /// Whether what is queued settles in the present phase.
    pub(super) fn settles(&self) -> bool {
        self.is_one_of(SETTLING)
    }

    /// Whether the present phase admits payments whose time lies ahead.
    pub(super) fn admits_warehousing(&self) -> bool {
        self.is_one_of(WITH_WAREHOUSING)
    }

    /// Whether the present phase admits transfers.
    #[inline]
    pub(super) fn admits_transfer(&self) -> bool {
        self.is_one_of(WITH_TRANSFERS)
    }

    /// Whether the present phase admits orders.
    #[inline]
    pub(super) fn admits_order(&self) -> bool {
        self.is_one_of(WITH_ORDERS)
    }

    /// Whether there is intraday credit in the present phase.
    pub(super) fn gives_credit(&self) -> bool {
        self.is_one_of(WITH_CREDIT)
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

    #[test]
    fn phases_ahead_are_counted_around_the_day() {
        let mut day = BusinessDay::new();
        assert_eq!(day.steps_to(DayPhase::Sod), 1);
        assert_eq!(day.steps_to(DayPhase::Closed), 9);
        let work = day.work_until(DayPhase::Open).unwrap();
        day.move_to(DayPhase::Open, work, 1);
        for (phase, steps) in [
            (DayPhase::Cut1, 1),
            (DayPhase::Closed, 6),
            (DayPhase::Sod, 7),
            (DayPhase::Open, 9),
        ] {
            assert_eq!(day.steps_to(phase), steps);
            assert_eq!(day.phase_ahead(steps), phase);
        }
    }

    /// The table of docs/settlement.md, written from the source.
    fn table_of_phases() -> String {
        let word = |yes: bool| if yes { "yes" } else { "no" };
        let mut table = String::from(
            "| phase | transfers, authorisations | new payments and groups | what is queued settles \
             | warehousing | orders | intraday credit |\n|---|---|---|---|---|---|---|\n",
        );
        for (phase, _) in TABLE {
            let day = BusinessDay {
                phase: phase as u8,
                ..BusinessDay::new()
            };
            let classes = match (
                day.admits_payment(Priority::Urgent),
                day.admits_payment(Priority::High),
                day.admits_payment(Priority::Normal),
            ) {
                (true, true, true) => "yes",
                (true, true, false) => "urgent, high",
                (false, false, false) => "no",
                other => panic!("{phase}: {other:?}"),
            };
            table += &format!(
                "| {phase} | {} | {classes} | {} | {} | {} | {} |\n",
                word(day.admits_transfer()),
                word(day.settles()),
                word(day.admits_warehousing()),
                word(day.admits_order()),
                word(day.gives_credit()),
            );
        }
        table
    }

    #[test]
    fn the_table_in_the_docs_is_the_source() {
        let docs = include_str!("../../docs/settlement.md");
        let table = table_of_phases();
        assert!(
            docs.contains(&table),
            "docs/settlement.md should say\n{table}"
        );
    }
}
