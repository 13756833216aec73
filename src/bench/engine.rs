//! The engine alone: no ring, no journal, no socket. Throughput over chunks the size of a ring,
//! generated outside the measured time; latency open-loop at a stated rate, from planned start.

use super::workload::Workload;
use super::{histogram, percentiles};
use crate::engine::{Engine, Limits, Outbox, Take};
use crate::protocol::command::{CommandKind, DayPhase, MassCancel, SetPhase, SideFilter};
use crate::protocol::frame::{CommandFrame, CommandRef, CommandSlot};
use crate::protocol::units::{InstrumentId, ParticipantId};
use crate::protocol::wire::Zero;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Commands generated at a time: few enough that they are still in the L2 cache when they are
/// executed, as they are in a ring whose consumer keeps up.
const CHUNK: usize = 1_024;

/// What one run measured.
pub struct Measured {
    /// Commands executed in the measured time.
    pub commands: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// Events they caused.
    pub events: u64,
    /// Latency from planned start, where a rate was given.
    pub latency: Option<Histogram<u64>>,
}

impl Measured {
    /// Commands per second of measured time.
    pub fn per_second(&self) -> f64 {
        self.commands as f64 / self.elapsed.as_secs_f64()
    }

    /// For `--json`.
    pub fn to_json(&self) -> Value {
        json!({
            "commands": self.commands,
            "events": self.events,
            "seconds": self.elapsed.as_secs_f64(),
            "commands_per_second": self.per_second(),
            "latency": self.latency.as_ref().map(percentiles),
        })
    }
}

/// An engine after the workload's setup.
pub fn prepare(workload: &mut dyn Workload, limits: &Limits) -> Engine {
    prepare_taking(workload, limits, Take::Now)
}

/// The same, whose tables come as `how` says.
pub fn prepare_taking(workload: &mut dyn Workload, limits: &Limits, how: Take) -> Engine {
    let mut engine = Engine::new(limits);
    engine.take_memory(how);
    let mut outbox = Outbox::with_capacity(CHUNK);
    for frame in workload.setup() {
        engine.apply(engine.sequence() + 1, frame.as_ref(), &mut outbox);
        outbox.clear();
    }
    engine
}

/// Executes `commands` commands as fast as they go.
pub fn throughput(engine: &mut Engine, workload: &mut dyn Workload, commands: u64) -> Measured {
    let mut slots = vec![CommandSlot::default(); CHUNK];
    let mut outbox = Outbox::with_capacity(CHUNK);
    let mut measured = Measured {
        commands: 0,
        elapsed: Duration::ZERO,
        events: 0,
        latency: None,
    };
    while measured.commands < commands {
        for slot in &mut slots {
            workload.next(slot);
        }
        let start = Instant::now();
        for batch in slots.chunks(CHUNK) {
            execute_batch(engine, batch, &mut outbox);
            measured.events += outbox.events().len() as u64;
            outbox.clear();
        }
        measured.elapsed += start.elapsed();
        measured.commands += CHUNK as u64;
    }
    measured
}

/// Nanoseconds per command over more and more accounts, or orders in the book: one point per size,
/// the median of several runs on one engine, so that a busy moment of the machine does not bend the
/// curve.
pub fn grow(
    sizes: &[u64],
    mut workload: impl FnMut(u64) -> Box<dyn Workload>,
    limits: impl Fn(u64) -> Limits,
    commands: u64,
) -> Vec<(u64, f64)> {
    const RUNS: usize = 9;
    let point = |size: u64| {
        let mut workload = workload(size);
        let mut engine = prepare(workload.as_mut(), &limits(size));
        let mut runs: Vec<f64> = (0..RUNS)
            .map(|_| {
                let run = throughput(&mut engine, workload.as_mut(), commands / RUNS as u64);
                1e9 / run.per_second()
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        (size, runs[RUNS / 2])
    };
    sizes.iter().copied().map(point).collect()
}

/// One ring batch, as the executor does it: lookups touched 8 ahead, four at
/// a time, rows 4, what they lead to 2.
fn execute_batch(engine: &mut Engine, batch: &[CommandSlot], outbox: &mut Outbox) {
    fn command(slot: &CommandSlot) -> CommandRef<'_> {
        slot.command().expect("bench commands are short")
    }
    for (at, slot) in batch.iter().enumerate() {
        if at % 4 == 0 {
            for later in batch.iter().skip(at + 8).take(4) {
                engine.prefetch_lookups(command(later));
            }
        }
        if let Some(later) = batch.get(at + 4) {
            engine.prefetch_rows(command(later));
        }
        if let Some(later) = batch.get(at + 2) {
            engine.prefetch_led_to(command(later));
        }
        engine.apply(engine.sequence() + 1, command(slot), outbox);
    }
}

/// What single commands take that look at all orders, or at all of a participant: by name.
pub fn whole_book(engine: &mut Engine) -> Vec<(&'static str, Duration)> {
    let phase = |phase| {
        let body = SetPhase {
            phase,
            _reserved: [Zero::Zero; 3],
            business_date: 0,
            _reserved_end: [Zero::Zero; 8],
        };
        CommandFrame::new(CommandKind::SetPhase, &body)
    };
    let cancel = MassCancel {
        participant: ParticipantId(1),
        instrument: InstrumentId(u32::MAX),
        side: SideFilter::Both,
        _reserved: [Zero::Zero; 7],
        session: 0,
        _reserved_end: [Zero::Zero; 8],
    };
    let mut outbox = Outbox::with_capacity(1 << 16);
    let started = Instant::now();
    std::hint::black_box(engine.digest());
    let mut all = vec![("query_digest", started.elapsed())];
    let mut once = |name, frame: CommandFrame| {
        let started = Instant::now();
        engine.apply(engine.sequence() + 1, frame.as_ref(), &mut outbox);
        all.push((name, started.elapsed()));
        outbox.clear();
    };
    let cancel = CommandFrame::new(CommandKind::MassCancel, &cancel);
    once("mass_cancel of one participant", cancel);
    once("first day", phase(DayPhase::Open));
    once("eod1", phase(DayPhase::Eod1));
    once("closed", phase(DayPhase::Closed));
    once("sod", phase(DayPhase::Sod));
    all.retain(|(name, _)| *name != "first day");
    all
}

/// Latencies at a rate: of commands, and of nothing.
pub struct Paced {
    /// The commands, from each one's planned start.
    pub commands: Measured,
    /// How long each took, from its own start.
    pub service: Histogram<u64>,
    /// The same loop that does nothing but read the clock, in turns with the commands: what the
    /// machine does by itself.
    pub clock: Histogram<u64>,
}

/// Times that commands and the clock alone take turns.
const TURNS: u64 = 20;

/// Executes `commands` commands at `rate` per second; latency runs from each one's planned start.
pub fn open_loop(
    engine: &mut Engine,
    workload: &mut dyn Workload,
    commands: u64,
    rate: u64,
) -> Paced {
    let mut slots = vec![CommandSlot::default(); (commands / TURNS).max(1) as usize];
    let mut latency = histogram();
    let mut paced = Paced {
        commands: Measured {
            commands: 0,
            elapsed: Duration::ZERO,
            events: 0,
            latency: None,
        },
        service: histogram(),
        clock: histogram(),
    };
    let mut outbox = Outbox::with_capacity(CHUNK);
    let mut turn = Vec::with_capacity(slots.len());
    for _ in 0..TURNS {
        for slot in &mut slots {
            workload.next(slot);
        }
        let elapsed = at_rate(slots.len(), rate, &mut turn, |at| {
            let command = slots[at].command().expect("bench commands are short");
            engine.apply(engine.sequence() + 1, command, &mut outbox);
            paced.commands.events += outbox.events().len() as u64;
            outbox.clear();
        });
        paced.commands.elapsed += elapsed;
        paced.commands.commands += slots.len() as u64;
        for [from_plan, from_start] in turn.drain(..) {
            latency.saturating_record(from_plan);
            paced.service.saturating_record(from_start);
        }
        at_rate(slots.len(), rate, &mut turn, |at| {
            std::hint::black_box(&slots[at].header().kind);
        });
        for [from_plan, _] in turn.drain(..) {
            paced.clock.saturating_record(from_plan);
        }
    }
    paced.commands.latency = Some(latency);
    paced
}

/// Does `what` so often at a rate; how long each took, from its planned moment and from its start.
/// Nothing is counted meanwhile: a histogram is larger than the nearest cache.
fn at_rate(
    count: usize,
    rate: u64,
    taken: &mut Vec<[u64; 2]>,
    mut what: impl FnMut(usize),
) -> Duration {
    let gap = 1e9 / rate as f64;
    let start = Instant::now();
    for at in 0..count {
        let planned = Duration::from_nanos((at as f64 * gap) as u64);
        let mut begun = start.elapsed();
        while begun < planned {
            std::hint::spin_loop();
            begun = start.elapsed();
        }
        what(at);
        let done = start.elapsed();
        let ns = |from: Duration| (done - from).as_nanos() as u64;
        taken.push([ns(planned), ns(begun)]);
    }
    start.elapsed()
}
