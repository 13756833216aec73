//! What each stage of a node can do alone, and what it costs to hand something from core to core: what
//! bounds a plan whose threads all have cores of their own.
//!
//! ```text
//!  client, another core ==TCP==> read+check+publish -> append -> execute -> encode -> write   one thread,
//!                                  [stopwatch]        [...]      [...]      [...]     [...]   by turns
//! ```
//! The stages are those of a node, at the batches that a full window makes; a stopwatch runs in each only
//! while it has something to do. What is quoted is the median command's batch: what else runs on the machine
//! shows in the tail, not there.

use super::histogram;
use super::wire::{Wire, WireError};
use crate::config::Config;
use crate::engine::Take;
use crate::gateway::Gateway;
use crate::pipeline::threads::{Layout, Signal, pin};
use crate::pipeline::{Executor, Ingress, Journaler, Pipeline, Responder, Signals};
use crate::protocol::frame::{CommandSlot, SLOT_BYTES};
use crate::replay::recovery;
use crate::telemetry::{GatewayCounters, StageClock};
use disruptor::{BusySpin, EventPoller, Producer, SingleProducerBarrier, build_single_producer};
use hdrhistogram::Histogram;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a stage does, in the order in which a command passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The gateway reads, checks, numbers and publishes.
    Receive,
    /// The journaler appends and commits.
    Journal,
    /// The executor runs the engine.
    Execute,
    /// The responder keeps events, the gateway routes and encodes them.
    Encode,
    /// The gateway writes.
    Send,
}

impl Step {
    /// All of them.
    pub const ALL: [Step; 5] = [
        Step::Receive,
        Step::Journal,
        Step::Execute,
        Step::Encode,
        Step::Send,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Step::Receive => "gateway: read, check, publish",
            Step::Journal => "journaler: append, commit",
            Step::Execute => "executor: the engine",
            Step::Encode => "responder: keep, route, encode",
            Step::Send => "gateway: write",
        }
    }
}

/// What the stages took.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Commands that were measured.
    pub commands: u64,
    /// Duty cycles that they came in.
    pub batches: u64,
    /// Of each step, what a batch took per command, as often as it had commands; tenths of a nanosecond.
    tenths: [Histogram<u64>; Step::ALL.len()],
}

impl Costs {
    fn none() -> Costs {
        Costs {
            commands: 0,
            batches: 0,
            tenths: Step::ALL.map(|_| histogram()),
        }
    }

    /// Adds a batch of `commands`, and the time of each step.
    fn add(&mut self, commands: u64, took: &[Duration; Step::ALL.len()]) {
        self.commands += commands;
        self.batches += 1;
        for (tenths, took) in self.tenths.iter_mut().zip(took) {
            let each = took.as_nanos() as u64 * 10 / commands;
            tenths.saturating_record_n(each, commands);
        }
    }

    /// Nanoseconds per command in a step: the median.
    pub fn ns(&self, step: Step) -> f64 {
        self.tenths[step as usize].value_at_quantile(0.5) as f64 / 10.0
    }

    /// Nanoseconds per command in the busiest thread of a layout with a core for each, where `hop_ns` is
    /// what it takes at most to read a slot that another core wrote, and which thread that is.
    pub fn bound(&self, layout: Layout, hop_ns: f64) -> (f64, &'static str) {
        let sum = |steps: &[Step]| steps.iter().map(|step| self.ns(*step)).sum::<f64>();
        let gateway = sum(&[Step::Receive, Step::Encode, Step::Send]);
        let (journaler, executor) = (self.ns(Step::Journal), self.ns(Step::Execute));
        let threads: &[f64] = match layout {
            Layout::One => &[gateway + journaler + executor],
            Layout::Two => &[gateway + executor + hop_ns, journaler + hop_ns],
            Layout::Three => &[gateway + hop_ns, executor + hop_ns, journaler + hop_ns],
        };
        let named = threads.iter().copied().zip(layout.stages().iter().copied());
        named
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .expect("a layout has threads")
    }
}

/// How to load the stages.
#[derive(Clone, Debug)]
pub struct Load {
    /// Accounts that transfers go between.
    pub accounts: u64,
    /// Seed of the workload.
    pub seed: u64,
    /// Commands that are measured.
    pub commands: u64,
    /// Commands in flight.
    pub window: usize,
    /// Whether the client shares memory instead of speaking TCP.
    pub shared_memory: bool,
    /// The core of the stages.
    pub node_core: Option<usize>,
    /// The core of the client.
    pub client_core: Option<usize>,
}

/// Measures the stages of a node of this configuration under `load`.
///
/// # Errors
/// What kept the node from starting or the client from being served.
pub fn measure(config: &Config, load: &Load) -> Result<Costs, String> {
    let (stop, measuring) = (AtomicBool::new(false), AtomicBool::new(false));
    let listener = TcpListener::bind(config.listen).map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    std::thread::scope(|scope| {
        let node = scope.spawn(|| {
            pin(load.node_core);
            let mut stages = Stages::start(config, listener, load)?;
            while !stop.load(Ordering::Acquire) {
                stages.duty_cycle(measuring.load(Ordering::Relaxed))?;
            }
            Ok::<Costs, String>(stages.close())
        });
        let client = scope.spawn(|| {
            pin(load.client_core);
            let done = drive(address, load, &measuring);
            stop.store(true, Ordering::Release);
            done
        });
        let driven = client.join().expect("a panic aborts");
        let costs = node.join().expect("a panic aborts")?;
        driven.map(|()| costs)
    })
}

fn drive(address: SocketAddr, load: &Load, measuring: &AtomicBool) -> Result<(), String> {
    let text = |error: WireError| error.to_string();
    let mut wire = match load.shared_memory {
        true => Wire::open_shared(address, load.accounts, load.seed),
        false => Wire::open(address, load.accounts, load.seed, true),
    }
    .map_err(|error| error.to_string())?;
    wire.throughput(load.commands / 10 + 1, load.window)
        .map_err(text)?;
    measuring.store(true, Ordering::Relaxed);
    wire.throughput(load.commands, load.window).map_err(text)?;
    measuring.store(false, Ordering::Relaxed);
    Ok(())
}

/// A node's stages on one thread.
struct Stages {
    gateway: Gateway,
    ingress: Ingress,
    journaler: Journaler,
    executor: Executor,
    responder: Responder,
    costs: Costs,
}

impl Stages {
    fn start(config: &Config, listener: TcpListener, load: &Load) -> Result<Stages, String> {
        let recovered = recovery::recover(config, &mut recovery::Silent);
        let (mut parts, _) = recovered.map_err(|error| error.to_string())?;
        parts.engine.take_memory(Take::Now);
        let pipeline = Pipeline::assemble(parts, &config.ring_sizes(), &Signals::default());
        // As a node that measures its stages, which is the default.
        let stages = config
            .stage_times
            .then(|| StageClock::of(&pipeline.progress, config.batches_under_way()));
        let counters = Arc::new(GatewayCounters::default());
        let signal = Signal::default();
        let gateway = Gateway::new(listener, &config.gateway, &signal, counters, stages);
        let Pipeline {
            ingress,
            journaler,
            executor,
            responder,
            ..
        } = pipeline;
        if let Some(core) = load.client_core {
            journaler.background_on(core);
        }
        Ok(Stages {
            gateway: gateway.map_err(|error| error.to_string())?,
            ingress,
            journaler,
            executor,
            responder,
            costs: Costs::none(),
        })
    }

    /// One pass, in the order of a node's (`src/node.rs`).
    fn duty_cycle(&mut self, measures: bool) -> Result<(), String> {
        let Stages {
            gateway,
            ingress,
            journaler,
            executor,
            responder,
            costs,
        } = self;
        let mut watch = Stopwatch::default();
        let mut failed = None;
        watch.time(Step::Receive, || {
            gateway
                .receive(ingress, responder, Duration::ZERO)
                .unwrap_or_else(|error| {
                    failed = Some(error.to_string());
                    0
                })
        });
        if let Some(why) = failed {
            return Err(why);
        }
        // A transfer takes one slot.
        let commands = watch.time(Step::Journal, || journaler.do_work());
        loop {
            let executed = watch.time(Step::Execute, || executor.do_work());
            let encoded = watch.time(Step::Encode, || responder.do_work(gateway));
            watch.time(Step::Send, || gateway.send(responder));
            if executed + encoded == 0 {
                break;
            }
        }
        if measures && commands > 0 {
            costs.add(commands as u64, &watch.took);
        }
        Ok(())
    }

    fn close(self) -> Costs {
        self.journaler.close();
        self.costs
    }
}

/// What each step took in one pass.
#[derive(Default)]
struct Stopwatch {
    took: [Duration; Step::ALL.len()],
}

impl Stopwatch {
    fn time(&mut self, step: Step, work: impl FnOnce() -> usize) -> usize {
        let started = Instant::now();
        let done = work();
        if done > 0 {
            self.took[step as usize] += started.elapsed();
        }
        done
    }
}

/// What a ring like those between the stages costs from one core to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hop {
    /// Both sides flat out, a slot of 192 bytes copied in and read: ns per slot.
    pub slot_ns: f64,
    /// One slot there and another back, half of it: ns.
    pub one_way_ns: f64,
}

/// As many slots as a node's ring has.
const RING_SLOTS: usize = 16_384;

/// Measures a ring between two cores, over `slots` slots: the medians.
pub fn ring_hop(cores: [usize; 2], slots: u64) -> Hop {
    const RUNS: usize = 21;
    let run = |_| stream(cores, (slots / RUNS as u64).max(1));
    let mut runs: Vec<f64> = (0..RUNS).map(run).collect();
    runs.sort_unstable_by(f64::total_cmp);
    Hop {
        slot_ns: runs[RUNS / 2],
        one_way_ns: ping_pong(cores, (slots / 10).max(1)),
    }
}

fn stream(cores: [usize; 2], slots: u64) -> f64 {
    let ring = build_single_producer(RING_SLOTS, CommandSlot::default, BusySpin);
    let (mut poller, ring) = ring.new_event_poller();
    let mut producer = ring.build();
    let slot = CommandSlot::default();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            pin(Some(cores[1]));
            let mut seen = 0;
            while seen < slots {
                seen += read_all(&mut poller);
            }
        });
        let writer = scope.spawn(move || {
            pin(Some(cores[0]));
            let started = Instant::now();
            for _ in 0..slots {
                while producer
                    .try_publish(|free| free.bytes = slot.bytes)
                    .is_err()
                {
                    std::hint::spin_loop();
                }
            }
            started
        });
        let started = writer.join().expect("a panic aborts");
        reader.join().expect("a panic aborts");
        started.elapsed().as_nanos() as f64 / slots as f64
    })
}

/// Reads a word of each cache line of every slot that is there, and returns how many there were.
fn read_all(poller: &mut EventPoller<CommandSlot, SingleProducerBarrier>) -> u64 {
    let Ok(mut batch) = poller.poll() else {
        std::hint::spin_loop();
        return 0;
    };
    let mut seen = 0;
    for slot in &mut batch {
        let lines = slot.bytes.chunks_exact(64);
        std::hint::black_box(lines.map(|line| u64::from(line[0])).sum::<u64>());
        seen += 1;
    }
    seen
}

fn ping_pong(cores: [usize; 2], rounds: u64) -> f64 {
    let ring = || {
        let ring = build_single_producer(64, CommandSlot::default, BusySpin);
        let (poller, ring) = ring.new_event_poller();
        (ring.build(), poller)
    };
    let (mut there, mut arrived) = ring();
    let (mut back, mut returned) = ring();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(Some(cores[1]));
            let mut answered = 0;
            while answered < rounds {
                let got = read_all(&mut arrived);
                for _ in 0..got {
                    back.publish(|slot| slot.bytes[..SLOT_BYTES].fill(1));
                }
                answered += got;
            }
        });
        let caller = scope.spawn(move || {
            pin(Some(cores[0]));
            let mut round_trip = histogram();
            for _ in 0..rounds {
                let started = Instant::now();
                there.publish(|slot| slot.bytes[..SLOT_BYTES].fill(2));
                while read_all(&mut returned) == 0 {}
                round_trip.saturating_record(started.elapsed().as_nanos() as u64);
            }
            round_trip
        });
        let round_trip = caller.join().expect("a panic aborts");
        round_trip.value_at_quantile(0.5) as f64 / 2.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_slowest_thread() {
        let us = Duration::from_micros;
        let mut costs = Costs::none();
        // 300 ns to receive, 100 to journal, 150 to execute, 50 to encode, 100 to send.
        costs.add(1_000, &[us(300), us(100), us(150), us(50), us(100)]);
        // A small batch that something held up.
        costs.add(10, &[us(900); 5]);
        assert_eq!((costs.commands, costs.batches), (1_010, 2));
        assert_eq!(costs.ns(Step::Execute), 150.0);
        let bound = |layout| {
            let (ns, thread) = costs.bound(layout, 20.0);
            (ns.round(), thread)
        };
        assert_eq!(
            bound(Layout::One),
            (700.0, "gateway+journaler+executor+responder")
        );
        assert_eq!(bound(Layout::Two), (620.0, "gateway+executor+responder"));
        assert_eq!(bound(Layout::Three), (470.0, "gateway+responder"));
    }
}
