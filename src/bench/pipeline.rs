//! The pipeline without sockets: ingress ring, journal (policy `process`), engine, egress ring, all
//! on one thread.

use super::workload::Workload;
use crate::config::Config;
use crate::pipeline::Inline;
use crate::protocol::frame::{CommandFrame, CommandSlot, EventSlot};
use std::time::{Duration, Instant};

/// Commands pushed before the pipeline works: one busy duty cycle.
const BATCH: usize = 256;

/// Plays `commands` commands through a pipeline over `config`; returns the measured time and the
/// events.
pub fn throughput(
    config: &Config,
    workload: &mut dyn Workload,
    commands: u64,
) -> Result<(Duration, u64), String> {
    let (mut pipeline, _) = Inline::open(config).map_err(|error| error.to_string())?;
    let mut events = 0u64;
    for frame in workload.setup() {
        push(&mut pipeline, &frame, &mut events)?;
    }
    pipeline.pump(&mut |_: &EventSlot| {});
    events = 0;
    let mut slot = CommandSlot::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut elapsed = Duration::ZERO;
    let mut done = 0;
    while done < commands {
        batch.clear();
        for _ in 0..BATCH {
            workload.next(&mut slot);
            batch.push(CommandFrame::copy_of(
                slot.command().expect("bench commands are short"),
            ));
        }
        let started = Instant::now();
        for frame in &batch {
            push(&mut pipeline, frame, &mut events)?;
        }
        pipeline.pump(&mut |_: &EventSlot| events += 1);
        elapsed += started.elapsed();
        done += BATCH as u64;
    }
    pipeline.close();
    Ok((elapsed, events))
}

fn push(pipeline: &mut Inline, frame: &CommandFrame, events: &mut u64) -> Result<(), String> {
    pipeline
        .push(frame, &mut |_: &EventSlot| *events += 1)
        .map_err(|refusal| refusal.to_string())
}
