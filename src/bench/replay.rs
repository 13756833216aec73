//! Replay: a journal made of a workload, as one busy client after another leaves it, and the loop
//! that every start and every follower runs over it.

use super::workload::Workload;
use crate::engine::{Engine, Limits};
use crate::protocol::frame::CommandSlot;
use crate::replay::{Followed, Nobody, follow_on};
use crate::session::SessionTable;
use millrace_journal::{Batch, Durability, Options, Reader, Writer};
use std::path::Path;
use std::time::{Duration, Instant};

/// Sessions the commands come by, and how many of one come in a row.
const SESSIONS: u64 = 16;
const IN_A_ROW: u64 = 64;
/// Nanoseconds between two commands.
const GAP_NS: u64 = 1_000;
/// Records between two commits: one busy ring batch.
const COMMIT_EVERY: u64 = 256;

/// A journal that was made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Commands that set the scene.
    pub setup: u64,
    /// Commands in all.
    pub commands: u64,
    /// Bytes from its beginning to its end.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Writes the workload's setup and `commands` commands behind it into a journal in `dir`, durable at
/// its end. `begun` is the moment of the first one, ns.
pub fn make(
    dir: &Path,
    workload: &mut dyn Workload,
    commands: u64,
    begun: u64,
) -> Result<Made, String> {
    let started = Instant::now();
    let options = Options {
        durability: Durability::Process,
        writer_release: crate::protocol::RELEASE,
        ..Options::default()
    };
    let (writer, _) = Writer::open(dir, options).map_err(|error| error.to_string())?;
    let mut appender = Appender {
        writer,
        begun,
        count: 0,
    };
    let mut setup = 0;
    for mut frame in workload.setup() {
        appender.stamp(frame.header_mut());
        appender.append(frame.bytes())?;
        setup += 1;
    }
    let mut slot = CommandSlot::default();
    for _ in 0..commands {
        workload.next(&mut slot);
        let mut header = *slot.header();
        appender.stamp(&mut header);
        slot.bytes[..size_of_val(&header)].copy_from_slice(bytemuck::bytes_of(&header));
        appender.append(&slot.bytes[..header.length as usize])?;
    }
    let writer = appender.writer;
    writer.close().map_err(|error| error.to_string())?;
    let reader = Reader::open(dir).map_err(|error| error.to_string())?;
    Ok(Made {
        setup,
        commands: setup + commands,
        bytes: reader.bytes_total(),
        elapsed: started.elapsed(),
    })
}

struct Appender {
    writer: Writer,
    begun: u64,
    count: u64,
}

impl Appender {
    /// What a door writes into the header.
    fn stamp(&mut self, header: &mut crate::protocol::frame::CommandHeader) {
        let turn = self.count / IN_A_ROW;
        header.session = 1 + turn % SESSIONS;
        header.client_sequence = 1 + turn / SESSIONS * IN_A_ROW + self.count % IN_A_ROW;
        header.received_at = self.begun + self.count * GAP_NS;
        self.count += 1;
    }

    fn append(&mut self, record: &[u8]) -> Result<(), String> {
        let appended = self.writer.append(record);
        appended.map_err(|error| error.to_string())?;
        if self.count.is_multiple_of(COMMIT_EVERY) {
            self.writer.commit().map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Replays `commands` commands behind the first `setup` into `engine`, which is empty, on the loop
/// that recovery runs. Only what comes behind the setup is measured.
pub fn replay(
    dir: &Path,
    setup: u64,
    commands: u64,
    engine: &mut Engine,
) -> Result<Followed, String> {
    let mut reader = Reader::open(dir).map_err(|error| error.to_string())?;
    let mut sessions = SessionTable::new(SESSIONS as u32);
    let mut upto = |to| {
        follow_on(&mut reader, Some(to), engine, &mut sessions, &mut Nobody)
            .map_err(|error| error.to_string())
    };
    upto(setup)?;
    upto(setup + commands)
}

/// Reads and checks every frame up to command `to`, and does nothing with them.
pub fn read(dir: &Path, to: u64) -> Result<Duration, String> {
    let mut reader = Reader::open(dir).map_err(|error| error.to_string())?;
    let mut batch = Batch::default();
    let started = Instant::now();
    loop {
        let filled = reader.fill(&mut batch, 1 << 20, to);
        filled.map_err(|error| error.to_string())?;
        if batch.is_empty() {
            return Ok(started.elapsed());
        }
    }
}

/// Tables for the workload's rows, and hardly more.
pub fn limits(commands: u64, accounts: u64, resting: u64, rows: Rows) -> Limits {
    let room = |n: u64| (n as u32).clamp(65_536, Limits::ENTRIES_MAX);
    let only = |kind, entries| room(if rows == kind { entries } else { 0 });
    let all = commands + 65_536;
    Limits {
        accounts: room(accounts + 4_096),
        transfers: only(Rows::Transfers, all),
        payments: only(Rows::Payments, all),
        // New orders outnumber cancels and fills by one command in twenty.
        orders: only(Rows::Orders, resting + commands / 8 + 65_536),
        client_order_ids: only(Rows::Orders, resting + commands / 4 + 65_536),
        ..Limits::default()
    }
}

/// What a workload leaves a row of with every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Transfers.
    Transfers,
    /// Payments.
    Payments,
    /// Orders, with some of them.
    Orders,
}
