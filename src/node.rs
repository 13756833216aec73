//! A node: recovery, pipeline and gateway put together, on the threads of its plan, from start to
//! an orderly stop.
//!
//! ```text
//! check config -> choose cores -> bind -> lock and recover -> threads -> ... -> stop accepting,
//! refuse commands, finish what is in the ring, send replies, sync, close
//! ```
//! **Invariant**: whatever can fail before the first command is a [`StartError`] of one line;
//! whatever fails later in the journal ends the process.

use crate::config::{Config, ConfigError, Durability};
use crate::engine::{Engine, Take};
use crate::gateway::Gateway;
use crate::pipeline::threads::{
    CoreError, Idle, Layout, Signal, ThreadPlan, journal_near_disk, pin, within,
};
use crate::pipeline::{Executor, Ingress, Journaler, Pipeline, Responder, Signals};
use crate::replay::recovery::{self, Listener, RecoverError, Recovery};
use crate::telemetry::{GatewayCounters, Progress, StageClock, clock, thread_time};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration does not hold.
    Config(ConfigError),
    /// The cores asked for are not there.
    Cores(CoreError),
    /// The address could not be taken.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The journal did not open or replay.
    Recover(RecoverError),
    /// The operating system gave no threads, signals or polls.
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Cores(error) => write!(f, "cores: {error}"),
            StartError::Listen { address, source } => {
                write!(f, "cannot listen on {address}: {source}")?;
                match source.kind() {
                    io::ErrorKind::AddrInUse => {
                        f.write_str("; stop what listens there, or give another --listen")
                    }
                    _ => f.write_str("; give another --listen"),
                }
            }
            StartError::Recover(error) => error.fmt(f),
            StartError::System { doing, source } => write!(f, "cannot {doing}: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Config(error) => Some(error),
            StartError::Cores(error) => Some(error),
            StartError::Recover(error) => Some(error),
            StartError::Listen { source, .. } | StartError::System { source, .. } => Some(source),
        }
    }
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    durability: Durability,
    plan: ThreadPlan,
    recovery: Recovery,
    progress: Arc<Progress>,
    counters: Arc<GatewayCounters>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<Option<Engine>>>,
}

/// What a node left behind when it stopped.
pub struct Stopped {
    /// The engine after the last command.
    pub engine: Engine,
}

/// How the outside tells the threads to end.
#[derive(Default)]
struct Stop {
    /// Take nothing new, answer what was taken.
    asked: AtomicBool,
    /// Everything is answered: the stages behind the gateway may end.
    drained: AtomicBool,
    gateway: Arc<Signal>,
    executor: Arc<Signal>,
    journaler: Arc<Signal>,
}

impl Node {
    /// Starts a node and returns when it takes connections.
    pub fn start(config: &Config) -> Result<Node, StartError> {
        Node::start_listening(config, &mut recovery::Silent)
    }

    /// As [`Node::start`], telling how far recovery has come.
    pub fn start_listening(
        config: &Config,
        listener: &mut impl Listener,
    ) -> Result<Node, StartError> {
        config.check().map_err(StartError::Config)?;
        let wish = config.thread_wish();
        let mut plan = ThreadPlan::choose(&wish).map_err(StartError::Cores)?;
        let address = config.listen;
        let socket =
            TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?;
        // The tables lie where they are touched first: on the executor's NUMA node.
        let (parts, recovery) = within(&plan.home(), || {
            let (mut parts, recovery) = recovery::recover(config, listener)?;
            // No command pays for the first touch of a page.
            parts.engine.take_memory(Take::Now);
            Ok((parts, recovery))
        })
        .map_err(StartError::Recover)?;
        if wish.syncs {
            journal_near_disk(&mut plan, &config.dir);
        }
        let stop = Arc::new(Stop::default());
        let signals = signals_of(plan.layout(), &stop);
        let ended = parts.engine.sessions_with_orders_to_cancel();
        let pipeline = Pipeline::assemble(parts, &config.ring_sizes(), &signals);
        let counters = Arc::new(GatewayCounters::default());
        let stages = config
            .stage_times
            .then(|| StageClock::of(&pipeline.progress, config.batches_under_way()));
        let mut gateway = Gateway::new(
            socket,
            &config.gateway,
            &stop.gateway,
            counters.clone(),
            stages,
        )
        .map_err(|source| StartError::System {
            doing: "poll sockets",
            source,
        })?;
        gateway.tell_ended(ended);
        let mut node = Node {
            address: gateway.address(),
            durability: config.durability,
            plan,
            recovery,
            progress: pipeline.progress.clone(),
            counters,
            stop,
            threads: Vec::new(),
        };
        node.spawn(config, pipeline, gateway)
            .map_err(|source| StartError::System {
                doing: "start a thread",
                source,
            })?;
        Ok(node)
    }

    /// Starts a node, says so in one line through `started`, and serves until the process is asked
    /// to end (SIGINT, SIGTERM). Then answers what was taken, and returns.
    pub fn run_until_signal(
        config: &Config,
        listener: &mut impl Listener,
        started: impl FnOnce(&Node),
    ) -> Result<Stopped, StartError> {
        let system = |source| StartError::System {
            doing: "wait for signals",
            source,
        };
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(system)?;
        let node = Node::start_listening(config, listener)?;
        started(&node);
        signals.forever().next();
        Ok(node.stop())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which stages run where.
    pub fn plan(&self) -> &ThreadPlan {
        &self.plan
    }

    /// What it found at start.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// How far its stages have come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What its gateway counted.
    pub fn counters(&self) -> &GatewayCounters {
        &self.counters
    }

    /// Takes no more commands, answers those it took, closes the journal and ends.
    pub fn stop(mut self) -> Stopped {
        self.stop.asked.store(true, Ordering::Release);
        self.stop.gateway.notify();
        let mut engine = None;
        for thread in std::mem::take(&mut self.threads) {
            // A stage panics only on a bug; this is the same panic, on the thread that asked.
            engine = thread.join().expect("a stage panicked").or(engine);
        }
        Stopped {
            engine: engine.expect("one thread ran the engine"),
        }
    }

    fn spawn(&mut self, config: &Config, pipeline: Pipeline, gateway: Gateway) -> io::Result<()> {
        let Pipeline {
            ingress,
            journaler,
            executor,
            responder,
            ..
        } = pipeline;
        if let Some(core) = self.plan.background() {
            journaler.background_on(core);
        }
        let spin_for = Duration::from_micros(config.idle_spin_us);
        let plan = self.plan.clone();
        let idle = |at| Idle::new(plan.rest(at), spin_for);
        let mut front = Front {
            gateway,
            ingress,
            responder,
            journaler: None,
            executor: None,
            idle: idle(0),
            spins_in_flight: !plan.is_crowded(),
            stop: self.stop.clone(),
            drain_for: Duration::from_millis(config.gateway.drain_timeout_ms),
        };
        let (mut own_journaler, mut own_executor) = (None, None);
        match plan.layout() {
            Layout::One => {
                front.journaler = Some(journaler);
                front.executor = Some(executor);
            }
            Layout::Two => {
                front.executor = Some(executor);
                own_journaler = Some((journaler, 1));
            }
            Layout::Three => {
                own_executor = Some((executor, 1));
                own_journaler = Some((journaler, 2));
            }
        }
        if let Some((journaler, at)) = own_journaler {
            let (stop, idle) = (self.stop.clone(), idle(at));
            self.spawn_one("journaler", plan.core(at), move || {
                run_journaler(journaler, idle, &stop);
                None
            })?;
        }
        if let Some((executor, at)) = own_executor {
            let (stop, idle) = (self.stop.clone(), idle(at));
            self.spawn_one("executor", plan.core(at), move || {
                Some(run_executor(executor, idle, &stop))
            })?;
        }
        self.spawn_one("gateway", plan.core(0), move || front.run())
    }

    fn spawn_one(
        &mut self,
        name: &str,
        core: Option<usize>,
        run: impl FnOnce() -> Option<Engine> + Send + 'static,
    ) -> io::Result<()> {
        let thread = std::thread::Builder::new()
            .name(format!("mr-{name}"))
            .spawn(move || {
                pin(core);
                run()
            })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "listening on {}, durability {}, {}, {}",
            self.address, self.durability, self.plan, self.recovery
        )
    }
}

/// Who wakes whom: a stage signals the thread of the stage behind it, where that is another one.
fn signals_of(layout: Layout, stop: &Stop) -> Signals {
    match layout {
        Layout::One => Signals::default(),
        Layout::Two => Signals {
            journaler: Some(stop.journaler.clone()),
            executor: Some(stop.gateway.clone()),
            responder: None,
        },
        Layout::Three => Signals {
            journaler: Some(stop.journaler.clone()),
            executor: Some(stop.executor.clone()),
            responder: Some(stop.gateway.clone()),
        },
    }
}

/// The longest a thread sleeps without looking up.
const NAP: Duration = Duration::from_millis(100);

fn run_journaler(mut journaler: Journaler, mut idle: Idle, stop: &Stop) {
    stop.journaler.attach_thread();
    loop {
        if journaler.do_work() > 0 {
            idle.worked();
        } else if stop.drained.load(Ordering::Acquire) {
            return journaler.close();
        } else if idle.may_sleep() {
            let has_work = || journaler.has_work() || stop.drained.load(Ordering::Acquire);
            stop.journaler
                .sleep_unless(has_work, || std::thread::park_timeout(NAP));
        }
    }
}

fn run_executor(mut executor: Executor, mut idle: Idle, stop: &Stop) -> Engine {
    stop.executor.attach_thread();
    loop {
        if executor.do_work() > 0 {
            idle.worked();
        } else if stop.drained.load(Ordering::Acquire) {
            return executor.into_engine();
        } else if idle.may_sleep() {
            let has_work = || executor.has_work() || stop.drained.load(Ordering::Acquire);
            stop.executor
                .sleep_unless(has_work, || std::thread::park_timeout(NAP));
        }
    }
}

/// The thread that faces the network, with the stages the plan put on it.
struct Front {
    gateway: Gateway,
    ingress: Ingress,
    responder: Responder,
    journaler: Option<Journaler>,
    executor: Option<Executor>,
    idle: Idle,
    /// Whether it has a core to wait on for what other threads are doing.
    spins_in_flight: bool,
    stop: Arc<Stop>,
    drain_for: Duration,
}

impl Front {
    fn run(mut self) -> Option<Engine> {
        while !self.stop.asked.load(Ordering::Acquire) {
            if self.timed_duty_cycle(Duration::ZERO) > 0 {
                self.idle.worked();
            } else if self.spins_in_flight && self.in_flight() {
                std::hint::spin_loop();
            } else if self.idle.may_sleep() {
                self.sleep();
            }
        }
        self.drain();
        if let Some(journaler) = self.journaler {
            journaler.close();
        }
        self.stop.drained.store(true, Ordering::Release);
        self.stop.executor.notify();
        self.stop.journaler.notify();
        self.executor.map(Executor::into_engine)
    }

    /// A duty cycle, and how long it took where somebody wants to know.
    #[inline]
    fn timed_duty_cycle(&mut self, wait: Duration) -> usize {
        let began = self.ingress.progress().busy.is_on().then(thread_time);
        let work = self.duty_cycle(wait);
        if let Some(began) = began
            && work > 0
        {
            let took = thread_time() - began;
            self.ingress.progress().busy_ns.add(took);
        }
        work
    }

    /// One pass over everything on this thread, in the order in which a command travels.
    #[inline]
    fn duty_cycle(&mut self, wait: Duration) -> usize {
        let received = self
            .gateway
            .receive(&mut self.ingress, &self.responder, wait);
        let mut work = received.unwrap_or_else(|error| {
            eprintln!("millrace: cannot poll sockets: {error}");
            std::process::exit(1)
        });
        work += usize::from(self.ingress.tick_if_due(clock));
        if let Some(journaler) = &mut self.journaler {
            work += journaler.do_work();
        }
        loop {
            let mut done = 0;
            if let Some(executor) = &mut self.executor {
                done += executor.do_work();
            }
            done += self.responder.do_work(&mut self.gateway);
            work += done + self.gateway.send(&self.responder);
            // With the journal on this thread, what it let go is finished before it is asked again:
            // what comes meanwhile shares one sync.
            if done == 0 || self.journaler.is_none() {
                return work;
            }
        }
    }

    fn in_flight(&self) -> bool {
        self.responder.answered() != self.ingress.published()
    }

    /// Sleeps on the sockets until one of them, another thread or the engine's clock wants
    /// something.
    fn sleep(&mut self) {
        let nap = self
            .ingress
            .until_tick(clock())
            .map_or(NAP, |tick| tick.min(NAP));
        let signal = self.stop.gateway.clone();
        let work = signal.while_sleeping(|| match self.must_look_up() {
            true => 0,
            false => self.timed_duty_cycle(nap),
        });
        if work > 0 {
            self.idle.worked();
        }
    }

    /// Whether another thread has left something that no socket will tell of.
    fn must_look_up(&self) -> bool {
        let executor = self.executor.as_ref();
        self.stop.asked.load(Ordering::Acquire)
            || self.responder.has_work()
            || executor.is_some_and(Executor::has_work)
    }

    /// Refuses what is new, finishes what was taken and gives clients a while to read.
    fn drain(&mut self) {
        self.gateway.stop_accepting();
        self.ingress.stop();
        let deadline = Instant::now() + self.drain_for;
        loop {
            let work = self.duty_cycle(Duration::ZERO);
            if self.in_flight() || work > 0 {
                continue;
            }
            if !self.gateway.has_unsent() || Instant::now() >= deadline {
                break;
            }
        }
        self.gateway.close_all();
        // The good-byes and what clients still have under way cross here; then it is over.
        let linger = Instant::now() + Duration::from_millis(20);
        while Instant::now() < linger && self.gateway.is_connected() {
            self.duty_cycle(Duration::from_millis(1));
        }
    }
}
