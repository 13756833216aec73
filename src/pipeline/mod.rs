//! The pipeline: rings and stages between the doors and the engine, wired on this one screen.
//!
//! ```text
//!   frames          +--------------+                                        +-------------+   events
//!  --------> Ingress| INGRESS RING |--> Journaler --> Executor: the engine -| EGRESS RING |--> Responder --> Replies
//!            (door) +--------------+    (appends,     (runs what is         +-------------+    (window)
//!               ^          gated on      commits)      durable)                    gated on
//!               |          the executor                                           the responder
//!               +--- refuses at once when the ring is full
//! ```
//!
//! One producer, so one order. The executor is gated on the journaler, so it runs only what is
//! durable, and whatever leaves through the egress ring is safe already. Every stage is a plain
//! object with `do_work() -> work done`; who calls it, on which thread, is the thread plan's
//! affair ([`threads`]) and changes nothing about the results.
//!
//! **Invariant**: no stage but the journaler waits for a disk, no stage waits for a network, no
//! stage waits for a later one. **Invariant**: a ring guard is dropped only after its batch is
//! done: dropping it lets the next stage go on, and that is why a node never unwinds
//! (`panic = "abort"`).

mod affinity;
mod core_choice;
mod executor;
mod host;
mod ingress;
mod inline;
mod journaler;
mod plan;
mod responder;
pub mod threads;
mod topology;
mod usable;
mod window;

pub use executor::Executor;
pub use host::Host;
pub use ingress::{Ingress, Refusal};
pub use inline::{Inline, InlineError};
pub use journaler::{JournalFailure, Journaler};
pub use responder::{Replies, Responder};
pub use window::ReplyWindow;

use crate::engine::Engine;
use crate::protocol::frame::{CommandSlot, EventSlot, FRAME_BYTES_MAX, slots_of};
use crate::session::SessionTable;
use crate::telemetry::Progress;
use disruptor::{
    BusySpin, EventPoller, SingleConsumerBarrier, SingleProducer, SingleProducerBarrier,
    build_single_producer,
};
use journaler::Room;
use millrace_journal::Writer;
use std::path::PathBuf;
use std::sync::Arc;
use threads::Signal;

type IngressProducer = SingleProducer<CommandSlot, SingleConsumerBarrier>;
type JournalPoller = EventPoller<CommandSlot, SingleProducerBarrier>;
type ExecutorPoller = EventPoller<CommandSlot, SingleConsumerBarrier>;
type EgressProducer = SingleProducer<EventSlot, SingleConsumerBarrier>;
type EgressPoller = EventPoller<EventSlot, SingleProducerBarrier>;

/// The smallest ingress ring: one that holds the longest command.
pub const INGRESS_SLOTS_MIN: usize = slots_of(FRAME_BYTES_MAX).next_power_of_two();

/// How large the rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Slots of the ingress ring: a power of two, at least [`INGRESS_SLOTS_MIN`].
    pub ingress_slots: usize,
    /// Slots of the egress ring: a power of two.
    pub egress_slots: usize,
    /// Bytes of journal kept free for cancels when the disk is full.
    pub journal_reserve_bytes: u64,
}

impl Default for RingSizes {
    fn default() -> RingSizes {
        RingSizes {
            ingress_slots: 16_384,
            egress_slots: 16_384,
            journal_reserve_bytes: 1 << 20,
        }
    }
}

/// What a pipeline runs on: the state after recovery.
pub struct Parts {
    /// The engine, at the journal's last sequence.
    pub engine: Engine,
    /// The sessions, at the same point.
    pub sessions: SessionTable,
    /// The journal, open for the next command.
    pub writer: Writer,
    /// Where the journal is.
    pub journal_dir: PathBuf,
    /// Bytes of its segments.
    pub segment_bytes: u64,
    /// The replies to the last commands.
    pub window: ReplyWindow,
    /// The machine it runs on.
    pub host: Host,
}

/// Signals of the threads that run the stages: `None` where a stage never sleeps apart from the
/// one that feeds it.
#[derive(Default)]
pub struct Signals {
    /// The journaler's thread.
    pub journaler: Option<Arc<Signal>>,
    /// The executor's thread.
    pub executor: Option<Arc<Signal>>,
    /// The responder's thread.
    pub responder: Option<Arc<Signal>>,
}

/// The stages, wired and ready to be put on threads.
pub struct Pipeline {
    /// The door.
    pub ingress: Ingress,
    /// Makes commands durable.
    pub journaler: Journaler,
    /// Runs them.
    pub executor: Executor,
    /// Hands out their events.
    pub responder: Responder,
    /// How far each has come.
    pub progress: Arc<Progress>,
}

impl Pipeline {
    /// Makes the rings and hangs the stages on them.
    ///
    /// # Panics
    /// Where a ring's size is no power of two or too small; the configuration checks both.
    pub fn assemble(parts: Parts, sizes: &RingSizes, signals: &Signals) -> Pipeline {
        assert!(sizes.ingress_slots >= INGRESS_SLOTS_MIN);
        let sequence = parts.engine.sequence();
        let now = parts.engine.now();
        let progress = Arc::new(Progress::at(sequence));

        let ring = build_single_producer(sizes.ingress_slots, CommandSlot::default, BusySpin);
        let (journal_poller, ring) = ring.new_event_poller();
        let (executor_poller, ring) = ring.and_then().new_event_poller();
        let ingress_producer = ring.build();

        let ring = build_single_producer(sizes.egress_slots, EventSlot::default, BusySpin);
        let (egress_poller, ring) = ring.new_event_poller();
        let egress_producer = ring.build();

        let ingress = Ingress::new(
            ingress_producer,
            sizes.ingress_slots,
            parts.sessions,
            progress.clone(),
            now,
            sizes.journal_reserve_bytes,
            signals.journaler.clone(),
        );
        let reserve = ingress.reserve();
        let room = Room::new(parts.journal_dir, parts.segment_bytes, reserve, parts.host);
        let journaler = Journaler::new(
            journal_poller,
            parts.writer,
            sequence,
            room,
            progress.clone(),
            signals.executor.clone(),
        );
        let executor = Executor::new(
            executor_poller,
            parts.engine,
            egress_producer,
            sizes.egress_slots,
            progress.clone(),
            signals.responder.clone(),
            parts.host,
        );
        let responder = Responder::new(egress_poller, parts.window, signals.executor.clone());
        Pipeline {
            ingress,
            journaler,
            executor,
            responder,
            progress,
        }
    }
}
