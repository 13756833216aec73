//! The executor: the engine's thread. Runs commands in ring order and sends their events.
//!
//! It sees only what the journaler let go on. It works in bounded batches, touches what the next
//! commands will need a few ahead of their turn, and puts together what was cut over several
//! slots. When the egress ring is full it keeps its events and stands still: it never waits, since
//! the stage it waits for may be next on the same thread.

use super::threads::Signal;
use super::{EgressProducer, ExecutorPoller, Host};
use crate::engine::{Engine, Outbox};
use crate::protocol::command::CommandKind;
use crate::protocol::frame::{
    CommandRef, CommandSlot, EventSlot, FRAME_BYTES_MAX, SLOT_BYTES, slots_of,
};
use crate::telemetry::{NO_DEADLINE, Progress};
use disruptor::{MissingFreeSlots, Producer};
use std::sync::Arc;

/// Slots taken per duty cycle. Small enough that first replies do not wait for the last command of
/// a long queue.
const BATCH_SLOTS: u64 = 256;
/// How many slots ahead of execution the engine is shown a command, to warm where its lookups
/// begin, how many ahead to warm what they find, and how many ahead what that leads to.
const LOOKUPS_AHEAD: usize = 8;
const ROWS_AHEAD: usize = 4;
const LED_TO_AHEAD: usize = 2;
/// Commands shown in one go: a hint that misses the TLB waits for the page walk, and the walks of
/// some hints in a row overlap.
const LOOKUPS_AT_ONCE: usize = 4;
const SEATS: usize = 16;
const _: () = assert!(LOOKUPS_AHEAD + LOOKUPS_AT_ONCE <= SEATS);

/// Runs the engine.
pub struct Executor {
    poller: ExecutorPoller,
    engine: Engine,
    outbox: Outbox,
    /// Events of the outbox that are in the egress ring already.
    sent: usize,
    egress: EgressProducer,
    egress_slots: usize,
    long: LongCommand,
    slots_executed: u64,
    progress: Arc<Progress>,
    /// Wakes the thread that responds.
    responder: Option<Arc<Signal>>,
    host: Host,
}

impl Executor {
    pub(super) fn new(
        poller: ExecutorPoller,
        engine: Engine,
        egress: EgressProducer,
        egress_slots: usize,
        progress: Arc<Progress>,
        responder: Option<Arc<Signal>>,
        host: Host,
    ) -> Executor {
        let executor = Executor {
            poller,
            engine,
            outbox: Outbox::with_capacity(egress_slots),
            sent: 0,
            egress,
            egress_slots,
            long: LongCommand::new(),
            slots_executed: 0,
            progress,
            responder,
            host,
        };
        executor.publish_progress();
        executor
    }

    /// Sends what is left over, then executes one batch and sends its events. Returns how much was
    /// done; 0 also while the egress ring is full.
    pub fn do_work(&mut self) -> usize {
        let sent = self.send();
        if self.sent < self.outbox.events().len() {
            return sent;
        }
        let executed = self.execute();
        if executed == 0 {
            return sent;
        }
        self.publish_progress();
        sent + executed + self.send()
    }

    /// Whether there is something to execute or to send.
    pub fn has_work(&self) -> bool {
        self.sent < self.outbox.events().len() || self.poller.has_available()
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, when the work is over.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    fn execute(&mut self) -> usize {
        let Ok(mut batch) = self.poller.take(BATCH_SLOTS) else {
            return 0;
        };
        let mut slots = &mut batch;
        let count = slots.len();
        let durable = self.progress.durable.get();
        let mut pieces = self.long.pieces_missing();
        // Seats of the commands that come next; `seated` have been taken from the batch so far.
        let mut ahead = [None; SEATS];
        let mut seated = 0;
        for at in 0.. {
            if at % LOOKUPS_AT_ONCE == 0 {
                while seated < at + LOOKUPS_AHEAD + LOOKUPS_AT_ONCE {
                    let seat = &mut ahead[seated % SEATS];
                    *seat = next_step(&mut slots, &mut pieces);
                    warm_lookups(&self.engine, *seat);
                    seated += 1;
                }
            }
            let Some(step) = ahead[at % SEATS] else { break };
            warm_rows(&self.engine, ahead[(at + ROWS_AHEAD) % SEATS]);
            warm_led_to(&self.engine, ahead[(at + LED_TO_AHEAD) % SEATS]);
            let whole = match step {
                Step::Whole(command) => Some(command),
                Step::Piece(slot) => self.long.add(slot),
            };
            if let Some(command) = whole {
                run(&mut self.engine, command, durable, &mut self.outbox);
            }
        }
        self.slots_executed += count as u64;
        count
    }

    /// Moves events into the egress ring, as many as fit.
    fn send(&mut self) -> usize {
        let rest = &self.outbox.events()[self.sent..];
        if rest.is_empty() {
            return 0;
        }
        let wanted = rest.len().min(self.egress_slots);
        let at = (self.host.clock)().0;
        let sent = match publish(&mut self.egress, &rest[..wanted], at) {
            Ok(()) => wanted,
            Err(MissingFreeSlots(missing)) => {
                let fit = wanted - (missing as usize).min(wanted);
                publish(&mut self.egress, &rest[..fit], at).expect("these slots are free");
                fit
            }
        };
        self.sent += sent;
        if self.sent == self.outbox.events().len() {
            self.outbox.clear();
            self.sent = 0;
        }
        if let Some(signal) = &self.responder {
            signal.notify();
        }
        sent
    }

    fn publish_progress(&self) {
        let deadline = self.engine.next_deadline();
        self.progress
            .next_deadline
            .set(deadline.map_or(NO_DEADLINE, |at| at.0));
        self.progress.executed.set(self.engine.sequence());
        self.progress.slots_executed.set(self.slots_executed);
    }
}

#[inline]
fn run(engine: &mut Engine, command: CommandRef<'_>, durable: u64, outbox: &mut Outbox) {
    if command.header.kind >= CommandKind::FIRST_QUERY {
        engine.query(command, outbox);
        return;
    }
    let sequence = engine.sequence() + 1;
    assert!(
        sequence <= durable,
        "command {sequence} is not durable yet, only {durable} is"
    );
    engine.apply(sequence, command, outbox);
}

/// What a slot is to the executor.
#[derive(Clone, Copy)]
enum Step<'a> {
    Whole(CommandRef<'a>),
    Piece(&'a CommandSlot),
}

/// The next slot of the batch; `pieces` counts those that a long command still has to come.
#[inline]
fn next_step<'a>(
    slots: &mut impl Iterator<Item = &'a CommandSlot>,
    pieces: &mut usize,
) -> Option<Step<'a>> {
    let slot = slots.next()?;
    if *pieces > 0 {
        *pieces -= 1;
        return Some(Step::Piece(slot));
    }
    if let Some(command) = slot.command() {
        return Some(Step::Whole(command));
    }
    *pieces = slots_of(slot.header().length as usize) - 1;
    Some(Step::Piece(slot))
}

#[inline]
fn warm_lookups(engine: &Engine, step: Option<Step<'_>>) {
    if let Some(Step::Whole(command)) = step {
        engine.prefetch_lookups(command);
    }
}

#[inline]
fn warm_rows(engine: &Engine, step: Option<Step<'_>>) {
    if let Some(Step::Whole(command)) = step {
        engine.prefetch_rows(command);
    }
}

#[inline]
fn warm_led_to(engine: &Engine, step: Option<Step<'_>>) {
    if let Some(Step::Whole(command)) = step {
        engine.prefetch_led_to(command);
    }
}

fn publish(
    egress: &mut EgressProducer,
    events: &[EventSlot],
    executed_at: u64,
) -> Result<(), MissingFreeSlots> {
    egress
        .try_batch_publish(events.len(), |free| {
            for (slot, event) in free.zip(events) {
                *slot = *event;
                slot.header.executed_at = executed_at;
            }
        })
        .map(|_| ())
}

/// Puts the pieces of a long command together, in memory taken once.
struct LongCommand {
    words: Vec<u128>,
    filled: usize,
    length: usize,
}

impl LongCommand {
    fn new() -> LongCommand {
        LongCommand {
            words: vec![0; FRAME_BYTES_MAX.div_ceil(16)],
            filled: 0,
            length: 0,
        }
    }

    #[inline]
    fn pieces_missing(&self) -> usize {
        slots_of(self.length - self.filled)
    }

    /// Adds a piece; the last one gives the command.
    fn add(&mut self, slot: &CommandSlot) -> Option<CommandRef<'_>> {
        if self.filled == self.length {
            self.length = slot.header().length as usize;
            self.filled = 0;
        }
        let bytes = SLOT_BYTES.min(self.length - self.filled);
        let buffer: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        buffer[self.filled..self.filled + bytes].copy_from_slice(&slot.bytes[..bytes]);
        self.filled += bytes;
        if self.filled < self.length {
            return None;
        }
        let frame = &bytemuck::cast_slice(&self.words)[..self.length];
        Some(CommandRef::from_bytes(frame).expect("the door let it in"))
    }
}
