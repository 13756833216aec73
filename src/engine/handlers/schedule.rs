//! The schedule of the business day: phases that begin by the clock, later ones that move with an
//! extension, and the answer to where the day stands.

use super::{clock, ok, rejected};
use crate::engine::deadlines::{Due, NO_DEADLINE};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, DayPhase, ExtendPhase, SchedulePhase};
use crate::protocol::event::{self, EventKind, PhaseChanged, ScheduledPhase};
use crate::protocol::reason::Reason;
use crate::protocol::units::Timestamp;
use crate::protocol::wire::Zero;

/// Has a phase begin by the clock, at another time, or no longer.
pub(in crate::engine) fn schedule_phase(
    state: &mut State,
    asked: &SchedulePhase,
    out: &mut Outbox,
) {
    if let Err(reason) = check_phase(state, asked) {
        rejected(CommandKind::SchedulePhase, 0, reason, out);
        return;
    }
    // From here it succeeds.
    unschedule(state, asked.phase);
    if asked.begins_at.0 != 0 {
        plan(state, asked.phase, asked.begins_at);
    }
    ok(CommandKind::SchedulePhase, out);
}

fn check_phase(state: &State, asked: &SchedulePhase) -> Result<(), Reason> {
    let at = (asked.begins_at.0 != 0).then_some(asked.begins_at);
    match at {
        None if state.schedule.at(asked.phase).is_none() => return Err(Reason::PhaseNotScheduled),
        Some(at) if at <= state.now => return Err(Reason::TimeOutOfRange),
        _ => {}
    }
    state.schedule.check(&state.day, asked.phase, at)
}

/// Moves the end of a phase, and everything scheduled behind it until the day closes.
pub(in crate::engine) fn extend_phase(state: &mut State, asked: &ExtendPhase, out: &mut Outbox) {
    let moved = match check_extension(state, asked) {
        Ok(moved) => moved,
        Err(reason) => {
            rejected(CommandKind::ExtendPhase, 0, reason, out);
            return;
        }
    };
    // From here it succeeds.
    ok(CommandKind::ExtendPhase, out);
    for phase in moved {
        tell(phase.0, phase.1, out);
        unschedule(state, phase.0);
        plan(state, phase.0, phase.1);
    }
}

/// Which phases begin at another time, and when.
fn check_extension(
    state: &State,
    asked: &ExtendPhase,
) -> Result<impl Iterator<Item = (DayPhase, Timestamp)> + use<>, Reason> {
    if asked.by_s == 0 {
        return Err(Reason::OutOfRange);
    }
    let by_ns = i64::from(asked.by_s) * 1_000_000_000;
    let phase = DayPhase::from_code(asked.phase as u8);
    let (before, day) = (state.schedule, state.day);
    let after = before.extended(&day, state.now, phase, by_ns)?;
    let moved = after
        .ahead(&day)
        .filter(move |(_, phase, at)| before.at(*phase) != Some(*at));
    Ok(moved.map(|(_, phase, at)| (phase, at)))
}

fn plan(state: &mut State, phase: DayPhase, at: Timestamp) {
    let slot = state.deadlines.insert(at, Due::Phase(phase));
    state.schedule.set(phase, at, slot);
}

fn unschedule(state: &mut State, phase: DayPhase) {
    if let Some(slot) = state.schedule.deadline(phase) {
        state.deadlines.remove(slot);
        state.schedule.clear(phase);
    }
}

/// The day moves on to `phase`: what was scheduled until then has been passed.
pub(super) fn pass(state: &mut State, phase: DayPhase) {
    if state.day.phase() == phase && state.day.day() > 0 {
        return;
    }
    for steps in 1..=state.day.steps_to(phase) {
        let passed = state.day.phase_ahead(steps);
        unschedule(state, passed);
    }
}

/// A phase begins by the clock.
pub(super) fn begin(state: &mut State, phase: DayPhase, out: &mut Outbox) {
    state.schedule.set(phase, Timestamp(0), NO_DEADLINE);
    let work = state.day.work_until(phase);
    let work = work.expect("the schedule follows the day");
    // Behind the last number there is no later date: the day keeps it.
    let date = state.day.date_after(work, 0).unwrap_or(state.day.date());
    let body = PhaseChanged {
        day: state.day.day() + u64::from(work.starts_day),
        business_date: date,
        phase,
        _reserved: [Zero::Zero; 3],
    };
    out.push(EventKind::PhaseChanged, &body);
    clock::move_on(state, phase, (work, date), out);
}

/// Which day it is, its phase, and what is scheduled.
pub(in crate::engine) fn query_day(state: &State, out: &mut Outbox) {
    let body = event::Day {
        day: state.day.day(),
        business_date: state.day.date(),
        count: state.schedule.ahead(&state.day).count() as u16,
        phase: state.day.phase(),
        _reserved: [Zero::Zero; 1],
    };
    out.push(EventKind::Day, &body);
    for (_, phase, at) in state.schedule.ahead(&state.day) {
        tell(phase, at, out);
    }
}

fn tell(phase: DayPhase, at: Timestamp, out: &mut Outbox) {
    let body = ScheduledPhase {
        begins_at: at,
        phase,
        _reserved: [Zero::Zero; 7],
    };
    out.push(EventKind::ScheduledPhase, &body);
}
