//! Reading ahead: commands taken from a journal, checked and ready to apply, on a thread of their own.
//!
//! ```text
//!  reader's thread                                            caller's thread
//!  map, checksums, unfold, validate --- filled batches --->   hints, Engine::apply, watcher
//!                 ^------------------- used batches ----------'
//! ```
//! What a door does for a live node is done here once: whatever the engine gets has been validated.
//! A command that lies in the journal as it is stays where it is; one that was folded is unfolded
//! into the batch. There are a few batches, which go round, so memory is bounded and nothing is
//! allocated once they have grown. What is read for short is read on the caller's thread.

use super::{FollowError, NotACommand};
use crate::prefetch::prefetch_pair;
use crate::protocol::command::CommandKind;
use crate::protocol::frame::CommandRef;
use crate::protocol::record::{is_folded, unfold_at};
use millrace_journal::{Batch, Reader};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Bytes of journal in a batch: some five thousand payments. Small enough that a batch is still in a
/// cache when it is applied, large enough that handing it over does not count.
const BATCH_BYTES: usize = 1 << 20;

/// Batches that go round.
const BATCHES: usize = 4;

/// What is shorter than that is not worth a thread.
const SHORT_BYTES: u64 = 4 << 20;

/// Commands of a piece of the journal, in order, each validated.
#[derive(Default)]
pub(super) struct Commands {
    batch: Batch,
    /// Where each command lies.
    places: Vec<Place>,
    /// Commands that lay folded, whole, and how many words they take.
    words: Vec<u128>,
    words_used: usize,
    /// What follows them is no command, and why.
    broken: Option<FollowError>,
}

#[derive(Clone, Copy)]
struct Place {
    sequence: u64,
    /// Bytes behind the beginning of the batch's, or of `words`.
    start: u32,
    length: u32,
    is_folded: bool,
}

/// The commands of a batch where they lie.
#[derive(Clone, Copy)]
pub(super) struct Lying<'a> {
    places: &'a [Place],
    plain: &'a [u8],
    unfolded: &'a [u8],
}

impl<'a> Lying<'a> {
    /// Warms the caches for a command that will be looked at later: the other thread had it last.
    #[inline(always)]
    pub fn hint(&self, at: usize) {
        if let Some(place) = self.places.get(at)
            && let Some([first, ..]) = self.plain.get(place.start as usize..)
        {
            prefetch_pair(first);
        }
    }

    /// One of them, with its sequence; `None` behind the last.
    #[inline(always)]
    pub fn get(&self, at: usize) -> Option<(u64, CommandRef<'a>)> {
        let place = self.places.get(at)?;
        let bytes = if place.is_folded {
            self.unfolded
        } else {
            self.plain
        };
        let frame = &bytes[place.start as usize..][..place.length as usize];
        let command = CommandRef::from_bytes(frame).expect("validated when it was read");
        Some((place.sequence, command))
    }
}

impl Commands {
    /// All of them.
    pub fn all(&self) -> Lying<'_> {
        Lying {
            places: &self.places,
            plain: self.batch.bytes(),
            unfolded: bytemuck::cast_slice(&self.words),
        }
    }

    /// Reads the next ones, up to sequence `to`, in place of those there are; none at the end.
    fn fill(&mut self, reader: &mut Reader, to: u64) -> Result<(), FollowError> {
        self.places.clear();
        self.words_used = 0;
        reader.fill(&mut self.batch, BATCH_BYTES, to)?;
        for at in 0..self.batch.len() {
            match self.add(at) {
                Ok(place) => self.places.push(place),
                Err(error) => {
                    let record = self.batch.record(at);
                    self.broken = Some(FollowError::BadCommand {
                        file: record.segment.to_owned(),
                        offset: record.offset,
                        sequence: record.sequence,
                        error,
                    });
                    break;
                }
            }
        }
        Ok(())
    }

    /// Unfolds one command of the batch where it is folded, and checks it.
    fn add(&mut self, at: usize) -> Result<Place, NotACommand> {
        let record = self.batch.record(at);
        let place = |start: usize, length: usize, is_folded| Place {
            sequence: record.sequence,
            start: start as u32,
            length: length as u32,
            is_folded,
        };
        if !is_folded(record.payload) {
            check(record.payload)?;
            return Ok(place(
                self.batch.range(at).start,
                record.payload.len(),
                false,
            ));
        }
        let start = self.words_used;
        let length = unfold_at(record.payload, &mut self.words, start)?;
        self.words_used += length / 16;
        check(&bytemuck::cast_slice(&self.words[start..])[..length])?;
        Ok(place(start * 16, length, true))
    }
}

/// Whether `frame` is a command that a door lets in and a node journals.
#[inline]
fn check(frame: &[u8]) -> Result<(), NotACommand> {
    let command = CommandRef::from_bytes(frame)?;
    command.decode()?;
    if command.header.kind >= CommandKind::FIRST_QUERY {
        return Err(NotACommand::Query);
    }
    Ok(())
}

/// Hands everything that `reader` has left for now, up to sequence `to`, to `apply`, in order. Returns
/// how long the caller's thread had nothing to apply.
pub(super) fn each_batch(
    reader: &mut Reader,
    to: u64,
    mut apply: impl FnMut(&Commands) -> Result<(), FollowError>,
) -> Result<Duration, FollowError> {
    if reader.bytes_total() - reader.bytes_read() < SHORT_BYTES {
        return one_by_one(reader, to, apply);
    }
    let (filled, to_apply) = sync_channel(BATCHES);
    let (used, to_fill) = sync_channel(BATCHES);
    for _ in 0..BATCHES {
        used.send(Commands::default()).expect("there is room");
    }
    let read = move || {
        for mut commands in to_fill {
            let outcome = commands.fill(reader, to).map(|()| commands);
            let is_over = outcome.as_ref().map_or(true, |commands: &Commands| {
                commands.batch.is_empty() || commands.broken.is_some()
            });
            // The other side has gone when something was wrong there.
            if filled.send(outcome).is_err() || is_over {
                return;
            }
        }
    };
    // The closure owns its ends of the channels: when it returns, the reading thread sees them go.
    std::thread::scope(move |scope| {
        std::thread::Builder::new()
            .name("read ahead".into())
            .spawn_scoped(scope, read)
            .map_err(FollowError::Thread)?;
        let mut waited = Duration::ZERO;
        loop {
            let idle = Instant::now();
            let Ok(outcome) = to_apply.recv() else {
                return Ok(waited);
            };
            waited += idle.elapsed();
            let mut commands = outcome?;
            apply(&commands)?;
            if let Some(error) = commands.broken.take() {
                return Err(error);
            }
            // Nobody takes it any more once the end was read.
            let _ = used.send(commands);
        }
    })
}

/// The same on this thread.
fn one_by_one(
    reader: &mut Reader,
    to: u64,
    mut apply: impl FnMut(&Commands) -> Result<(), FollowError>,
) -> Result<Duration, FollowError> {
    let mut commands = Commands::default();
    let mut waited = Duration::ZERO;
    loop {
        let idle = Instant::now();
        commands.fill(reader, to)?;
        waited += idle.elapsed();
        if commands.batch.is_empty() {
            return Ok(waited);
        }
        apply(&commands)?;
        if let Some(error) = commands.broken.take() {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::{ITEMS_MAX, Transfer, TransferFlags, Transfers};
    use crate::protocol::frame::CommandFrame;
    use crate::protocol::record::Folder;
    use crate::protocol::units::{AccountId, Amount, AssetId, TransferId};
    use crate::protocol::wire::Zero;
    use millrace_journal::{Options, Writer};
    use std::path::Path;

    fn transfer(id: u128) -> Transfer {
        Transfer {
            id: TransferId(id),
            debit_account: AccountId(1),
            credit_account: AccountId(2),
            amount: Amount(id),
            pending_id: TransferId(0),
            user_data_128: 0,
            user_data_64: 0,
            user_data_32: 0,
            timeout_s: 0,
            asset: AssetId(0),
            code: 1,
            flags: TransferFlags::NONE,
            _reserved: [Zero::Zero; 8],
        }
    }

    /// Command `id` as it was sent: every hundredth a batch, of the longest kind now and then.
    fn frame(id: u128) -> CommandFrame {
        if !id.is_multiple_of(100) {
            return CommandFrame::new(CommandKind::Transfer, &transfer(id));
        }
        let count = if id.is_multiple_of(1_000) {
            ITEMS_MAX
        } else {
            30
        };
        let items: Vec<Transfer> = (0..count as u128)
            .map(|at| transfer(id << 32 | at))
            .collect();
        let head = Transfers {
            count: count as u32,
            _reserved: [Zero::Zero; 12],
        };
        CommandFrame::with_items(CommandKind::Transfers, &head, &items)
    }

    /// A journal of such commands, batches folded, and `last` behind them.
    fn journal(dir: &Path, commands: u128, last: &[u8]) {
        let options = Options {
            segment_bytes: 8 << 20,
            ..Options::default()
        };
        let (mut writer, _) = Writer::open(dir, options).unwrap();
        let mut folder = Folder::default();
        for id in 1..=commands {
            let frame = frame(id);
            if frame.header().kind == CommandKind::Transfers as u16 {
                folder.begin(frame.header());
                folder.put(frame.as_ref().body);
                writer.append(folder.finish()).unwrap();
            } else {
                writer.append(frame.bytes()).unwrap();
            }
        }
        if !last.is_empty() {
            writer.append(last).unwrap();
        }
        writer.close().unwrap();
    }

    /// The sequences handed out up to `to`, each command held against what was written.
    fn handed_out(reader: &mut Reader, to: u64) -> (u64, Result<Duration, FollowError>) {
        let mut last = reader.next_sequence() - 1;
        let outcome = each_batch(reader, to, |commands| {
            let all = commands.all();
            for at in 0.. {
                let Some((sequence, command)) = all.get(at) else {
                    return Ok(());
                };
                assert_eq!(sequence, last + 1);
                let written = frame(u128::from(sequence));
                assert_eq!(command.header, written.header());
                assert_eq!(command.body, written.as_ref().body);
                last = sequence;
            }
            Ok(())
        });
        (last, outcome)
    }

    #[test]
    fn every_command_comes_once_in_order_as_it_was_written_and_none_behind_to() {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path(), 60_000, &[]);
        let mut reader = Reader::open(dir.path()).unwrap();
        assert!(reader.bytes_total() > 2 * SHORT_BYTES, "a thread reads");
        for to in [1, 2, 4_711, 50_000, 59_999] {
            let (last, outcome) = handed_out(&mut reader, to);
            outcome.unwrap();
            assert_eq!((last, reader.next_sequence()), (to, to + 1));
        }
        handed_out(&mut reader, u64::MAX).1.unwrap();
        assert_eq!(reader.next_sequence(), 60_001);
    }

    #[test]
    fn what_is_no_command_is_refused_with_its_place_and_everything_before_it_is_handed_out() {
        for commands in [7, 60_000] {
            let dir = tempfile::tempdir().unwrap();
            let mut query = frame(1);
            query.header_mut().kind = CommandKind::FIRST_QUERY;
            journal(dir.path(), commands, query.bytes());
            let (last, outcome) = handed_out(&mut Reader::open(dir.path()).unwrap(), u64::MAX);
            assert_eq!(u128::from(last), commands);
            let why = outcome.unwrap_err().to_string();
            let place = format!("record {} is no command", commands + 1);
            assert!(why.contains(&place), "{why}");
        }
    }

    #[test]
    fn who_applies_may_stop_at_any_time() {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path(), 60_000, &[]);
        let mut reader = Reader::open(dir.path()).unwrap();
        let stopped = each_batch(&mut reader, u64::MAX, |_| {
            Err(FollowError::Watcher {
                sequence: 1,
                why: "enough".into(),
            })
        });
        assert!(matches!(stopped, Err(FollowError::Watcher { .. })));
    }
}
