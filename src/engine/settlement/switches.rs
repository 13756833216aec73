//! The switches of liquidity saving: each part can be run and tested alone. They are journaled
//! state like any other.

use super::payment::{NONE, some};
use crate::protocol::command::{Algorithm, AlgorithmChoice, SetLiquiditySaving, Switch};
use crate::protocol::units::Timestamp;
use bytemuck::{Pod, Zeroable};

/// Payments that release looks at in one command, unless told otherwise.
const SCAN_BOUND: u32 = 1_024;
/// An automatic run waits until one in so many of what is queued is new, so that what runs cost
/// stays in proportion to what comes in.
const NEW_SHARE: u64 = 64;

/// How liquidity is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine) struct LiquiditySaving {
    bypass: u8,
    entry_offset: u8,
    automatic: u8,
    algorithm: u8,
    scan_bound: u32,
    /// Newly queued payments that make an automatic run, 0 for none.
    every_queued: u32,
    /// Milliseconds between automatic runs, 0 for none.
    interval_ms: u32,
    /// Payments queued since the last run.
    new_queued: u64,
    /// The deadline of the next run by the clock.
    deadline: u32,
    reserved: u32,
}

impl LiquiditySaving {
    pub(in crate::engine) fn new() -> LiquiditySaving {
        LiquiditySaving {
            bypass: 1,
            entry_offset: 1,
            automatic: 0,
            algorithm: Algorithm::Multiple as u8,
            scan_bound: SCAN_BOUND,
            every_queued: 1,
            interval_ms: 0,
            new_queued: 0,
            deadline: NONE,
            reserved: 0,
        }
    }

    /// Whether normal payments may overtake queued normal ones.
    #[inline]
    pub(in crate::engine) fn bypass(&self) -> bool {
        self.bypass != 0
    }

    /// Whether a payment that lacks cover at entry may settle against what its creditor owes.
    #[inline]
    pub(in crate::engine) fn entry_offset(&self) -> bool {
        self.entry_offset != 0
    }

    /// What automatic runs run.
    pub(in crate::engine) fn algorithm(&self) -> Algorithm {
        Algorithm::from_code(self.algorithm).expect("written from an Algorithm")
    }

    /// Payments that release looks at in one command.
    #[inline]
    pub(in crate::engine) fn scan_bound(&self) -> u32 {
        self.scan_bound
    }

    /// Changes what the command names.
    pub(in crate::engine) fn set(&mut self, asked: &SetLiquiditySaving) {
        let set = |switch: &mut u8, to: Switch| match to {
            Switch::Keep => {}
            Switch::Off => *switch = 0,
            Switch::On => *switch = 1,
        };
        set(&mut self.bypass, asked.bypass);
        set(&mut self.entry_offset, asked.entry_offset);
        set(&mut self.automatic, asked.automatic);
        if asked.algorithm != AlgorithmChoice::Keep {
            self.algorithm = asked.algorithm as u8;
        }
        if asked.scan_bound != 0 {
            self.scan_bound = asked.scan_bound;
        }
        if asked.every_queued != u32::MAX {
            self.every_queued = asked.every_queued;
        }
        if asked.interval_ms != u32::MAX {
            self.interval_ms = asked.interval_ms;
        }
    }

    /// A payment has been queued.
    #[inline]
    pub(in crate::engine) fn note_queued(&mut self) {
        self.new_queued += 1;
    }

    /// Whether so much has been queued that a run is due, with `queued` payments waiting.
    #[inline]
    pub(in crate::engine) fn is_run_due(&self, queued: u64) -> bool {
        self.automatic != 0
            && self.every_queued != 0
            && self.new_queued >= u64::from(self.every_queued).max(queued / NEW_SHARE)
    }

    /// When the next run by the clock is due, if they are made.
    pub(in crate::engine) fn next_run_after(&self, now: Timestamp) -> Option<Timestamp> {
        let interval = u64::from(self.interval_ms) * 1_000_000;
        (self.automatic != 0 && interval != 0).then(|| Timestamp(now.0.saturating_add(interval)))
    }

    /// The deadline of the next run by the clock.
    pub(in crate::engine) fn deadline(&self) -> Option<u32> {
        some(self.deadline)
    }

    pub(in crate::engine) fn set_deadline(&mut self, slot: u32) {
        self.deadline = slot;
    }

    /// A run has been made.
    pub(in crate::engine) fn note_run(&mut self) {
        self.new_queued = 0;
    }
}
