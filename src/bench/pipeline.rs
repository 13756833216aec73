//! The pipeline without sockets: ingress ring, journal (policy `process`), engine, egress ring, all
//! on one thread. Throughput over batches the size of a duty cycle; latency open-loop at a stated rate.

use super::engine::Measured;
use super::histogram;
use super::workload::Workload;
use crate::config::Config;
use crate::pipeline::Inline;
use crate::protocol::frame::{CommandFrame, CommandSlot, EventSlot};
use crate::telemetry::{StageClock, clock};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Commands pushed before the pipeline works: one busy duty cycle.
const BATCH: usize = 256;

/// A pipeline over `config` after the workload's setup.
pub fn prepare(config: &Config, workload: &mut dyn Workload) -> Result<Inline, String> {
    let (mut pipeline, _) = Inline::open(config).map_err(|error| error.to_string())?;
    for frame in workload.setup() {
        push(&mut pipeline, &frame, &mut 0)?;
    }
    pipeline.pump(&mut |_: &EventSlot| {});
    Ok(pipeline)
}

/// Has stages measured from now on, as a node does: the journaler logs its batches.
pub fn measure_stages(pipeline: &mut Inline) -> StageClock {
    StageClock::of(pipeline.ingress().progress(), 65_536)
}

/// Plays `commands` commands as fast as they go; returns the measured time and the events. Where `stages`
/// is given, it hears of every event as in a node.
// Apart, so that its instructions can be counted by its name.
#[inline(never)]
pub fn throughput(
    pipeline: &mut Inline,
    workload: &mut dyn Workload,
    commands: u64,
    mut stages: Option<StageClock>,
) -> Result<(Duration, u64), String> {
    let mut events = 0;
    let mut batch = Vec::with_capacity(BATCH);
    let mut elapsed = Duration::ZERO;
    let mut done = 0;
    while done < commands {
        batch.clear();
        let turn = (BATCH as u64).min(commands - done);
        batch.extend((0..turn).map(|_| next(workload)));
        let started = Instant::now();
        for frame in &batch {
            push(pipeline, frame, &mut events)?;
        }
        pipeline.pump(&mut |event: &EventSlot| {
            events += 1;
            if let Some(stages) = &mut stages
                && event.is_last()
            {
                let header = &event.header;
                stages.answered(header.sequence, header.at, header.executed_at);
            }
        });
        if let Some(stages) = &mut stages {
            stages.sent(clock().0);
        }
        elapsed += started.elapsed();
        done += turn;
    }
    Ok((elapsed, events))
}

/// Plays `commands` commands at `rate` per second; latency runs from each one's planned moment to
/// its last event out of the egress ring.
pub fn open_loop(
    pipeline: &mut Inline,
    workload: &mut dyn Workload,
    commands: u64,
    rate: u64,
) -> Result<Measured, String> {
    let mut paced = Paced {
        start: Instant::now(),
        gap_ns: 1e9 / rate as f64,
        latency: histogram(),
        answered: 0,
        events: 0,
    };
    let mut sent = 0;
    let mut frame = next(workload);
    while paced.answered < commands {
        // What is due, as a door would find it between two duty cycles.
        while sent < commands && paced.planned(sent) <= paced.start.elapsed() {
            let pushed = pipeline.push(&frame, &mut |event: &EventSlot| paced.event(event));
            pushed.map_err(|refusal| refusal.to_string())?;
            sent += 1;
            frame = next(workload);
        }
        pipeline.pump(&mut |event: &EventSlot| paced.event(event));
    }
    Ok(Measured {
        commands,
        elapsed: paced.start.elapsed(),
        events: paced.events,
        latency: Some(paced.latency),
    })
}

/// Commands at a stated rate, answered in order.
struct Paced {
    start: Instant,
    gap_ns: f64,
    latency: Histogram<u64>,
    answered: u64,
    events: u64,
}

impl Paced {
    fn planned(&self, command: u64) -> Duration {
        Duration::from_nanos((command as f64 * self.gap_ns) as u64)
    }

    fn event(&mut self, event: &EventSlot) {
        self.events += 1;
        if event.is_last() {
            let taken = self.start.elapsed() - self.planned(self.answered);
            self.latency.saturating_record(taken.as_nanos() as u64);
            self.answered += 1;
        }
    }
}

fn next(workload: &mut dyn Workload) -> CommandFrame {
    let mut slot = CommandSlot::default();
    workload.next(&mut slot);
    CommandFrame::copy_of(slot.command().expect("bench commands are short"))
}

fn push(pipeline: &mut Inline, frame: &CommandFrame, events: &mut u64) -> Result<(), String> {
    pipeline
        .push(frame, &mut |_: &EventSlot| *events += 1)
        .map_err(|refusal| refusal.to_string())
}
