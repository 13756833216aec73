//! The whole state as bytes, and its digest. Tables are written as they lie (rows are plain data
//! without padding); indexes are rebuilt when read. The store adds checksum, names and framing.

use super::Engine;
use super::approvals::Approvals;
use super::collateral::Collateral;
use super::deadlines::{DeadlineHead, Deadlines};
use super::instruments::InstrumentRow;
use super::intraday::Intraday;
use super::ledger::{AccountRow, Ledger};
use super::limits::Limits;
use super::matching::Matching;
use super::positions::Positions;
use super::reference_data::{ParticipantRow, Registry};
use super::settlement::groups::Groups;
use super::settlement::queue::Payments;
use super::settlement::saved::SavedPayments;
use super::state::State;
use super::throttles::Throttles;
use super::ticks::TickTables;
use super::window::{Window, WindowHead, WindowRow};
use crate::protocol::units::Timestamp;
use bytemuck::Pod;
use std::io::{self, Read, Write};

/// Rows read at a time: a damaged count cannot make the reader take memory it will not fill.
const ROWS_AT_ONCE: usize = 1 << 16;

impl Engine {
    /// Writes the whole state. Framing, checksum and naming are the snapshot store's.
    pub fn write_snapshot(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = &self.state;
        write_rows(out, &[self.sequence, state.now.0])?;
        write_rows(out, &[state.day])?;
        write_rows(out, &[state.schedule])?;
        write_rows(out, &[state.saving])?;
        write_rows(out, state.assets.rows())?;
        write_rows(out, state.participants.rows())?;
        write_rows(out, state.ledger.rows())?;
        write_window(out, &state.transfers)?;
        write_window(out, &state.authorisations)?;
        write_window(out, &state.authorisation_steps)?;
        let (head, heap, slots) = state.deadlines.tables();
        write_rows(out, &head)?;
        write_rows(out, heap)?;
        write_rows(out, slots)?;
        write_rows(out, state.payments.rows())?;
        write_rows(out, &state.payments.queue_order())?;
        write_rows(out, state.payments.desks())?;
        write_rows(out, state.payments.limits().rows())?;
        let (order, visit) = state.payments.marks();
        write_rows(out, &order)?;
        write_rows(out, &visit)?;
        write_rows(out, state.groups.rows())?;
        write_rows(out, state.collateral.pools())?;
        write_rows(out, state.collateral.values())?;
        write_rows(out, state.intraday.rows())?;
        write_rows(out, state.approvals.rows())?;
        write_rows(out, &[state.approvals.four_eyes()])?;
        write_rows(out, state.throttles.rows())?;
        write_rows(out, state.ticks.rows())?;
        write_rows(out, state.instruments.rows())?;
        state.matching.write_snapshot(out)?;
        if has_cycles(&state.instruments) {
            write_rows(out, state.positions.rows())?;
        }
        Ok(())
    }

    /// Reads what [`Engine::write_snapshot`] wrote into tables of these sizes; a table that held
    /// more than the limits say keeps what it held and takes no more.
    pub fn read_snapshot(limits: &Limits, input: &mut dyn Read) -> io::Result<Engine> {
        let head: Vec<u64> = read_rows(input)?;
        let [sequence, now] = head[..] else {
            return Err(damaged("head"));
        };
        let day = read_one(input)?;
        let schedule = read_one(input)?;
        let saving = read_one(input)?;
        let assets = Registry::restore(read_rows(input)?, limits.assets);
        let participants: Registry<ParticipantRow> =
            Registry::restore(read_rows(input)?, limits.participants);
        let accounts: Vec<AccountRow> = read_rows(input)?;
        let account_room = limits.accounts.max(accounts.len() as u32);
        let ledger = Ledger::restore(accounts, limits.accounts, limits.participants);
        let transfers = read_window(input, limits.window_days)?;
        let authorisations = read_window(input, limits.window_days)?;
        let authorisation_steps = read_window(input, limits.window_days)?;
        let head: Vec<DeadlineHead> = read_rows(input)?;
        let [head] = head[..] else {
            return Err(damaged("the head of the deadlines"));
        };
        let (heap, slots) = (read_rows(input)?, read_rows(input)?);
        let deadlines = Deadlines::restore(head, heap, slots, limits.deadlines());
        let saved = SavedPayments {
            rows: read_rows(input)?,
            queue_order: read_rows(input)?,
            desks: read_rows(input)?,
            limits: read_rows(input)?,
            order: read_one(input)?,
            visit: read_one(input)?,
        };
        let payments = Payments::restore(saved, limits.payments, account_room, limits.window_days);
        let payments = payments.ok_or_else(|| damaged("a queue"))?;
        let groups = Groups::restore(read_rows(input)?, limits.payments);
        let (pools, values) = (read_rows(input)?, read_rows(input)?);
        let collateral = Collateral::restore(pools, values, limits.accounts);
        let intraday = Intraday::restore(read_rows(input)?, limits.accounts);
        let proposals = read_rows(input)?;
        let approvals = Approvals::restore(proposals, read_one(input)?, limits.proposals);
        let throttles = Throttles::restore(read_rows(input)?, limits.throttles);
        let ticks = TickTables::restore(read_rows(input)?);
        let instruments = Registry::restore(read_rows(input)?, limits.instruments);
        let mut matching = Matching::read_snapshot(limits, input)?;
        let positions = match has_cycles(&instruments) {
            true => read_rows(input)?,
            false => Vec::new(),
        };
        for (handle, row) in participants.rows().iter().enumerate() {
            matching.join_group(handle as u32, row.group);
        }
        let mut state = State::new(&Limits::small());
        state.assets = assets;
        state.participants = participants;
        state.ledger = ledger;
        state.now = Timestamp(now);
        state.transfers = transfers;
        state.authorisations = authorisations;
        state.authorisation_steps = authorisation_steps;
        state.refund_days = limits.refund_days;
        state.deadlines = deadlines;
        state.payments = payments;
        state.groups = groups;
        state.collateral = collateral;
        state.intraday = intraday;
        state.approvals = approvals;
        state.throttles = throttles;
        state.ticks = ticks;
        state.instruments = instruments;
        state.matching = matching;
        state.positions = Positions::restore(positions, limits.positions);
        state.day = day;
        state.schedule = schedule;
        state.saving = saving;
        state.risen.sequence = sequence;
        Ok(Engine { sequence, state })
    }

    /// BLAKE3 over the whole state in canonical order. The clock and the sequence are not part of
    /// it: two nodes that reached the same books by different ticks agree.
    pub fn digest(&self) -> [u8; 32] {
        let state = &self.state;
        let mut hasher = blake3::Hasher::new();
        hash_rows(&mut hasher, "day", &[state.day]);
        hash_rows(&mut hasher, "schedule", &[state.schedule]);
        hash_rows(&mut hasher, "saving", &[state.saving]);
        hash_rows(&mut hasher, "assets", state.assets.rows());
        hash_rows(&mut hasher, "participants", state.participants.rows());
        hash_rows(&mut hasher, "accounts", state.ledger.rows());
        hash_window(&mut hasher, "transfers", &state.transfers);
        hash_window(&mut hasher, "authorisations", &state.authorisations);
        hash_window(&mut hasher, "steps", &state.authorisation_steps);
        let (head, heap, slots) = state.deadlines.tables();
        hash_rows(&mut hasher, "deadlines", &head);
        hash_rows(&mut hasher, "heap", heap);
        hash_rows(&mut hasher, "slots", slots);
        hasher.update(b"payments");
        for row in state.payments.rows() {
            hasher.update(&row.canonical());
        }
        hash_rows(&mut hasher, "queues", &state.payments.queue_order());
        hash_rows(&mut hasher, "desks", &state.payments.canonical_desks());
        hash_rows(&mut hasher, "limits", state.payments.limits().rows());
        let (order, visit) = state.payments.marks();
        hash_rows(&mut hasher, "order", &order);
        hash_rows(&mut hasher, "visit", &visit);
        hash_rows(&mut hasher, "groups", state.groups.rows());
        hash_rows(&mut hasher, "pools", state.collateral.pools());
        hash_rows(&mut hasher, "values", state.collateral.values());
        hash_rows(&mut hasher, "intraday", state.intraday.rows());
        hash_rows(&mut hasher, "proposals", state.approvals.rows());
        hash_rows(&mut hasher, "four eyes", &[state.approvals.four_eyes()]);
        hash_rows(&mut hasher, "throttles", state.throttles.rows());
        hash_rows(&mut hasher, "tick tables", state.ticks.rows());
        hash_rows(&mut hasher, "instruments", state.instruments.rows());
        state.matching.digest_into(&mut hasher);
        if has_cycles(&state.instruments) {
            hash_rows(&mut hasher, "positions", state.positions.rows());
        }
        *hasher.finalize().as_bytes()
    }
}

/// Whether any instrument settles in cycles: without one there are no positions, and snapshot and
/// digest are what they were before there could be.
fn has_cycles(instruments: &Registry<InstrumentRow>) -> bool {
    instruments.rows().iter().any(InstrumentRow::is_deferred)
}

fn hash_rows<R: Pod>(hasher: &mut blake3::Hasher, name: &str, rows: &[R]) {
    hasher.update(name.as_bytes());
    hasher.update(&(rows.len() as u64).to_le_bytes());
    hasher.update(bytemuck::cast_slice(rows));
}

fn hash_window<R: WindowRow>(hasher: &mut blake3::Hasher, name: &str, window: &Window<R>) {
    let (head, days) = window.head();
    hash_rows(hasher, name, &head);
    hash_rows(hasher, "days", days);
    for rows in window.slices() {
        hasher.update(bytemuck::cast_slice(rows));
    }
}

fn write_window<R: WindowRow>(out: &mut dyn Write, window: &Window<R>) -> io::Result<()> {
    let (head, days) = window.head();
    write_rows(out, &head)?;
    write_rows(out, days)?;
    for rows in window.slices() {
        write_rows(out, rows)?;
    }
    Ok(())
}

fn read_window<R: WindowRow>(input: &mut dyn Read, days_max: u32) -> io::Result<Window<R>> {
    let head: Vec<WindowHead> = read_rows(input)?;
    let [head] = head[..] else {
        return Err(damaged("the head of a window"));
    };
    let days: Vec<u64> = read_rows(input)?;
    let mut rows = read_rows(input)?;
    rows.extend(read_rows::<R>(input)?);
    Window::restore(head, &days, &rows, days_max).map_err(damaged)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("snapshot: {what} is not what this release writes"),
    )
}

/// Appends a table: row size, count, rows.
pub(super) fn write_rows<R: Pod>(out: &mut dyn Write, rows: &[R]) -> io::Result<()> {
    out.write_all(&(size_of::<R>() as u64).to_le_bytes())?;
    out.write_all(&(rows.len() as u64).to_le_bytes())?;
    out.write_all(bytemuck::cast_slice(rows))
}

/// Reads a table of one row.
fn read_one<R: Pod>(input: &mut dyn Read) -> io::Result<R> {
    match read_rows(input)?[..] {
        [row] => Ok(row),
        _ => Err(damaged("a table of one row")),
    }
}

/// Reads a table written by [`write_rows`].
pub(super) fn read_rows<R: Pod>(input: &mut dyn Read) -> io::Result<Vec<R>> {
    let mut word = [0; 8];
    input.read_exact(&mut word)?;
    if u64::from_le_bytes(word) != size_of::<R>() as u64 {
        return Err(damaged("a row size"));
    }
    input.read_exact(&mut word)?;
    let count = usize::try_from(u64::from_le_bytes(word)).map_err(|_| damaged("a row count"))?;
    let mut rows: Vec<R> = Vec::new();
    while rows.len() < count {
        let start = rows.len();
        let step = (count - start).min(ROWS_AT_ONCE);
        rows.resize(start + step, R::zeroed());
        input.read_exact(bytemuck::cast_slice_mut(&mut rows[start..]))?;
    }
    Ok(rows)
}
