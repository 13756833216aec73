//! One simulation: whose turn it is, and what goes wrong.

use super::client::Client;
use super::clock;
use super::counts::Counts;
use super::disk::Disk;
use super::judge::{Judge, hash_of_event};
use super::network::Network;
use super::plan::Plan;
use super::process::Process;
use super::sabotage::Sabotage;
use super::scene::Scene;
use super::trace::Trace;
use super::watcher::Watcher;
use super::{Order, Outcome};
use millrace::config::Durability;
use millrace::gateway::Gateway;
use millrace::pipeline::Replies;
use millrace::protocol::frame::{CommandFrame, EventSlot};
use millrace::protocol::units::Timestamp;
use millrace_journal::storage::{CrashPlan, Operation, Storage};
use millrace_journal::{recover_in, verify_in};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps in which everything must come to rest once nothing goes wrong any more.
const REST_STEPS_MAX: u64 = 400_000;

/// A world that follows from one seed.
pub struct Simulation {
    random: Pcg64Mcg,
    plan: Plan,
    order: Order,
    network: Network,
    disk: Disk,
    process: Option<Process>,
    /// When a node that is down comes up again.
    up_at: u64,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    judge: Judge,
    /// Commands that the first client sends before anyone sends others.
    setup: VecDeque<CommandFrame>,
    setup_commands: u64,
    counts: Counts,
    trace: Trace,
    step: u64,
    /// Nothing new is asked for and nothing goes wrong any more.
    is_resting: bool,
    /// When space comes back.
    space_at: Option<u64>,
    /// Snapshots that were written in the middle of syncs.
    in_syncs: Arc<AtomicU64>,
}

impl Simulation {
    /// The world of `order.seed`, before anything has happened.
    pub fn new(order: &Order) -> Simulation {
        let mut random = Pcg64Mcg::seed_from_u64(order.seed);
        let scene = Scene::new(random.random_range(0..1 << 20));
        let plan = Plan::draw(&mut random, scene.limits());
        let setup: VecDeque<CommandFrame> = scene.setup().into();
        clock::begin(setup[0].header().received_at + clock::SECOND);
        let clients = (1..=plan.clients)
            .map(|session| {
                let window = [2, 8, 32][random.random_range(0..3)];
                let link_bytes = [300, 4_000, 60_000][random.random_range(0..3)];
                let eagerness = [20, 120, 256][random.random_range(0..3)];
                Client::new(session, window, link_bytes, eagerness)
            })
            .collect();
        let watchers = (0..plan.watchers)
            .map(|at| {
                let link_bytes = [500, 8_000, 60_000][random.random_range(0..3)];
                let eagerness = [2, 30, 250][random.random_range(0..3)];
                Watcher::new(1_000 + at, link_bytes, eagerness)
            })
            .collect();
        Simulation {
            disk: Disk::new(random.random(), order.sabotage),
            plan,
            order: *order,
            network: Network::default(),
            process: None,
            up_at: 0,
            clients,
            watchers,
            judge: Judge::new(scene),
            setup_commands: setup.len() as u64,
            setup,
            counts: Counts::default(),
            trace: Trace::new(order.is_loud),
            step: 0,
            is_resting: false,
            space_at: None,
            in_syncs: Arc::default(),
            random,
        }
    }

    /// The step it has come to.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Plays it to its end.
    pub fn run(&mut self) -> Result<Outcome, String> {
        self.trace.say("plan", || format!("{:#?}", self.plan));
        while self.step < self.order.steps {
            self.turn()?;
        }
        self.rest()?;
        self.end()?;
        self.counts.steps = self.step;
        self.counts.simulated_ms = clock::passed() / clock::MILLISECOND;
        self.counts.commands = self.judge.sequence();
        self.counts.events = self.judge.events;
        self.counts.ticks = self.judge.ticks;
        self.counts.snapshots_during_syncs = self.in_syncs.load(Ordering::Relaxed);
        self.counts.snapshots += self.counts.snapshots_during_syncs;
        Ok(Outcome {
            counts: self.counts.clone(),
            fingerprint: self.trace.fingerprint(),
        })
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.random_range(0..end)
    }

    /// Once in 10,000 / `often`, as long as things go wrong at all.
    fn strikes(&mut self, often: u64) -> bool {
        // Always drawn, so that a plan changes no more than it says.
        let drawn = self.below(10_000);
        !self.is_resting && drawn < often
    }

    /// One step: time passes, something may go wrong, and somebody has a turn.
    fn turn(&mut self) -> Result<(), String> {
        self.step += 1;
        self.trace.step(self.step);
        let ns = self.below(if self.is_resting {
            clock::MILLISECOND / 10
        } else {
            self.plan.step_ns_max
        });
        clock::pass(ns);
        self.strike()?;
        if self.process.is_none() && clock::passed() >= self.up_at {
            self.begin_life()?;
        }
        match self.below(20) {
            0..5 => self.client_turn()?,
            5 => self.watcher_turn()?,
            6..10 => self.network_turn(),
            10..12 => self.gateway_receives()?,
            12..14 => self.journaler_turn()?,
            14 => self.background_turn(),
            15..17 => self.executor_turn(),
            17 => self.responder_turn()?,
            18 => self.gateway_sends(),
            _ => self.tick_turn(),
        }
        Ok(())
    }

    // What goes wrong.

    fn strike(&mut self) -> Result<(), String> {
        if self.strikes(self.plan.power_loss) {
            self.power_loss()?;
        }
        if self.strikes(self.plan.kill) && self.process.is_some() {
            self.counts.kills += 1;
            self.end_life("kill");
        }
        if self.strikes(self.plan.failing_call) {
            self.plan_failure();
        }
        if self.strikes(self.plan.full_disk) {
            self.fill_disk();
        }
        if self.space_at.is_some_and(|at| clock::passed() >= at) {
            self.space_at = None;
            self.disk.faults().set_capacity(None);
            self.trace.note("space", &[]);
        }
        if self.strikes(self.plan.cut) {
            self.cut_a_link();
        }
        if self.strikes(self.plan.snapshot) {
            self.write_snapshot()?;
        }
        if self.strikes(self.plan.damage) {
            let at = self.random.random();
            if self.disk.damage_snapshot(at) {
                self.counts.snapshots_damaged += 1;
                self.trace.note("damage snapshot", &[at]);
            }
        }
        if self.strikes(self.plan.clock_step) {
            let by = self.below(2 * 3_600) as i64 - 3_600;
            clock::step(by * clock::SECOND as i64);
            self.counts.clock_steps += 1;
            self.trace.note("clock step", &[by as u64]);
        }
        if self.strikes(self.plan.idle_time) {
            let ns = self.below(30 * clock::SECOND);
            clock::pass(ns);
            self.counts.idle_times += 1;
        }
        if self.strikes(self.plan.hostile) {
            self.hostile_turn();
        }
        if self.strikes(self.plan.power_loss * 2) {
            self.look_at_disk()?;
        }
        if self.order.sabotage == Some(Sabotage::TakeTwice) && self.below(400) == 0 {
            self.take_twice();
        }
        Ok(())
    }

    fn power_loss(&mut self) -> Result<(), String> {
        self.counts.power_losses += 1;
        self.end_life("power loss");
        let plan = CrashPlan {
            seed: self.random.random(),
            grain: [8, 512, 4_096][self.below(3) as usize],
            survivors: [0, 40, 128, 255][self.below(4) as usize],
        };
        self.disk = self.disk.crash(plan);
        self.space_at = None;
        Ok(())
    }

    /// The process is gone; what it wrote is in the page cache.
    fn end_life(&mut self, why: &str) {
        self.trace.note(why, &[self.judge.sequence()]);
        self.disk.call_off();
        self.disk.faults().heal();
        self.judge.end_life();
        self.network.node_ends();
        self.process = None;
        let pause = self.below(2 * clock::SECOND);
        self.up_at = clock::passed() + if self.is_resting { 0 } else { pause };
    }

    /// One of the next calls of some operation fails.
    fn plan_failure(&mut self) {
        let operations = [
            Operation::Sync,
            Operation::Sync,
            Operation::Sync,
            Operation::SyncNames,
            Operation::Rename,
            Operation::Open,
        ];
        let operation = operations[self.below(operations.len() as u64) as usize];
        let kinds = [ErrorKind::Other, ErrorKind::StorageFull];
        let kind = kinds[self.below(2) as usize];
        let from = self.disk.faults().calls(operation) + self.below(3);
        self.disk.faults().fail(operation, from..from + 1, kind);
        self.trace.note("plan failure", &[operation as u64, from]);
    }

    /// The disk has room for less than a segment, for a while.
    fn fill_disk(&mut self) {
        if self.space_at.is_some() || self.process.is_none() {
            return;
        }
        let names = self.disk.faults().names().unwrap_or_default();
        let used: u64 = names
            .iter()
            .map(|name| self.disk.faults().read_file(name).len() as u64)
            .sum();
        let room = self.below(self.plan.config.journal.segment_bytes);
        self.disk.faults().set_capacity(Some(used + room));
        let lasts = self.below(20 * clock::SECOND);
        self.space_at = Some(clock::passed() + lasts);
        self.counts.full_disks += 1;
        self.trace.note("full disk", &[used, room, lasts]);
    }

    fn links(&self) -> Vec<u64> {
        let clients = self.clients.iter().filter_map(Client::link);
        clients
            .chain(self.watchers.iter().filter_map(Watcher::link))
            .collect()
    }

    fn cut_a_link(&mut self) {
        let links = self.links();
        if links.is_empty() {
            return;
        }
        let link = links[self.below(links.len() as u64) as usize];
        self.network.cut(link);
        self.counts.cuts += 1;
        self.trace.note("cut", &[link]);
    }

    fn write_snapshot(&mut self) -> Result<(), String> {
        let limits = self.plan.config.limits.clone();
        let capacity = self.plan.config.sessions;
        if self.judge.sequence() == 0 {
            return Ok(());
        }
        if self.below(3) == 0 {
            self.snapshot_at_next_sync();
            return Ok(());
        }
        match self.disk.write_snapshot(&limits, capacity) {
            Ok(Some(sequence)) => {
                self.counts.snapshots += 1;
                self.trace.note("snapshot", &[sequence]);
            }
            Ok(None) => {}
            // A call that was planned to fail may hit the follower too.
            Err(_) if self.disk.faults().has_failures() => {}
            Err(why) => return Err(format!("no snapshot can be written: {why}")),
        }
        Ok(())
    }

    /// A follower that is at work while the node syncs. What it fails at, it tries another time.
    fn snapshot_at_next_sync(&mut self) {
        let limits = self.plan.config.limits.clone();
        let capacity = self.plan.config.sessions;
        let in_syncs = self.in_syncs.clone();
        self.disk.at_next_sync(move |disk| {
            if let Ok(Some(_)) = disk.write_snapshot(&limits, capacity) {
                in_syncs.fetch_add(1, Ordering::Relaxed);
            }
        });
        self.trace.note("snapshot at next sync", &[]);
    }

    /// Somebody who speaks no word of the protocol.
    fn hostile_turn(&mut self) {
        let Some(link) = self.network.connect(2_000) else {
            return;
        };
        let length = self.below(200) as usize;
        let bytes: Vec<u8> = (0..length).map(|_| self.random.random()).collect();
        let _ = self.network.client_writes(link, &bytes);
        self.network.deliver(link, length, 0);
        self.network.client_leaves(link);
        self.counts.hostile += 1;
        self.trace.note("hostile", &[link]);
    }

    /// What a power loss at this moment would leave must hold all that was said.
    fn look_at_disk(&mut self) -> Result<(), String> {
        if self.plan.config.durability != Durability::Disk || self.judge.sequence() == 0 {
            return Ok(());
        }
        let image = self.disk.crash(CrashPlan {
            seed: self.random.random(),
            grain: 512,
            survivors: 0,
        });
        let found = recover_in(&image, 1).map_err(|error| error.to_string())?;
        self.counts.disk_reads += 1;
        if found.last_sequence < self.judge.sequence() {
            return Err(format!(
                "the disk holds {} commands, {} were answered",
                found.last_sequence,
                self.judge.sequence()
            ));
        }
        Ok(())
    }

    /// A mistake on purpose: the door takes a command that it took before, as the node's own.
    fn take_twice(&mut self) {
        let frame = self.judge.scene.setup().remove(0);
        if let Some(process) = &mut self.process {
            let _ = process.ingress.submit_script(&frame);
        }
    }

    // A life of the node.

    fn begin_life(&mut self) -> Result<(), String> {
        let secret = self.random.random();
        let started = Process::start(
            &self.disk,
            &self.plan.config,
            &self.network,
            secret,
            self.order.sabotage,
        );
        let (process, found) = match started {
            Ok(started) => started,
            Err(why) => return self.failed_start(&why),
        };
        self.counts.starts += 1;
        self.counts.torn_tails += u64::from(found.journal.cut.is_some());
        self.counts.snapshots_ahead += found.set_aside;
        self.counts.starts_from_snapshot += u64::from(found.recovery.snapshot.is_some());
        self.counts.segments = self.counts.segments.max(found.journal.segments - 1);
        let known = self.judge.sequence();
        let digest = self.judge.begin_life(&self.disk)?;
        self.counts.found_again += self.judge.sequence() - known;
        self.trace.say("start", || {
            format!("{:?} {:?}", found.journal, found.recovery.notes)
        });
        self.trace
            .note("started at", &[found.journal.last_sequence]);
        self.trace.fold(&digest);
        if digest != found.digest {
            return Err(format!(
                "after recovery to {} from {:?} the digest is not that of a replay",
                found.recovery.sequence, found.recovery.snapshot
            ));
        }
        if self.judge.sequence() != found.recovery.sequence {
            return Err("recovery and replay end at different commands".into());
        }
        self.process = Some(process);
        Ok(())
    }

    /// A start may fail while the disk does, and only then.
    fn failed_start(&mut self, why: &str) -> Result<(), String> {
        self.trace.say("failed start", || why.to_string());
        let is_planned = self.disk.faults().has_failures();
        if !is_planned {
            return Err(format!("the node does not start: {why}"));
        }
        self.counts.failed_starts += 1;
        self.disk.faults().heal();
        self.up_at = clock::passed() + clock::SECOND;
        Ok(())
    }

    // Turns.

    fn client_turn(&mut self) -> Result<(), String> {
        let at = self.below(self.clients.len() as u64) as usize;
        let choice = self.below(256);
        let piece = 1 + self.below(self.plan.piece_max.max(16)) as usize;
        let pick = self.random.random();
        let is_set_up = self.setup.is_empty() && self.judge.sequence() >= self.setup_commands;
        let client = &mut self.clients[at];
        if client.link().is_none() {
            // A client that has been refused a link tries again; so does one that was cut off.
            if choice < 200 && client.connect(&self.network) {
                self.counts.connections += 1;
                self.trace.note("connect", &[client.session]);
            }
            return Ok(());
        }
        while !self.is_resting && client.wants_a_command() && choice < self.plan.asking {
            let next = match at {
                0 if !self.setup.is_empty() => self.setup.pop_front(),
                _ if is_set_up => Some(self.judge.scene.next()),
                _ => None,
            };
            match next {
                Some(frame) => client.give(frame, &mut self.judge),
                None => break,
            }
        }
        match choice {
            _ if self.is_resting => {}
            0..4 if client.repeat(pick) => self.counts.resends += 1,
            4..8 => drop(client.ask_again(pick)),
            8..12 => drop(client.query(&self.judge.scene.query(pick))),
            12 if pick % 10_000 < self.plan.supersede * 100 => {
                client.leave(&self.network);
                self.trace.note("leave", &[client.session]);
                return Ok(());
            }
            _ => {}
        }
        client.fill();
        client.write(&self.network, piece);
        if self.is_resting || pick % 256 < client.eagerness {
            client.read(&self.network, piece, &self.judge, &mut self.counts)?;
            self.trace.note("read", &[client.session, client.done]);
        }
        Ok(())
    }

    fn watcher_turn(&mut self) -> Result<(), String> {
        if self.watchers.is_empty() {
            return Ok(());
        }
        let at = self.below(self.watchers.len() as u64) as usize;
        let piece = 1 + self.below(self.plan.piece_max.max(16)) as usize;
        let choice = self.below(256);
        let watcher = &mut self.watchers[at];
        if watcher.link().is_none() {
            if watcher.connect(&self.network) {
                self.counts.connections += 1;
                self.trace.note("watch", &[at as u64, watcher.next()]);
            }
            return Ok(());
        }
        watcher.write(&self.network, piece);
        if self.is_resting || choice < watcher.eagerness {
            watcher.read(&self.network, piece, &self.judge, &mut self.counts)?;
        }
        Ok(())
    }

    fn network_turn(&mut self) {
        let busy = self.network.busy();
        if busy.is_empty() {
            return;
        }
        let first = self.below(busy.len() as u64) as usize;
        let many = 1 + self.below(busy.len() as u64) as usize;
        let most = if self.is_resting {
            100_000
        } else {
            self.plan.piece_max
        };
        for at in first..first + many {
            let link = busy[at % busy.len()];
            let (up, down) = (1 + self.below(most), 1 + self.below(most));
            self.network.deliver(link, up as usize, down as usize);
            self.trace.note("deliver", &[link, up, down]);
        }
    }

    fn gateway_receives(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let received =
            process
                .gateway
                .receive(&mut process.ingress, &process.responder, Duration::ZERO);
        let work = received.map_err(|error| error.to_string())?;
        self.trace
            .note("receive", &[work as u64, process.ingress.published()]);
        Ok(())
    }

    fn journaler_turn(&mut self) -> Result<(), String> {
        if self.process.is_none() {
            return Ok(());
        }
        // The power fails in the middle of what this turn writes.
        let is_cut_off = self.strikes(self.plan.power_loss * 20);
        if is_cut_off {
            self.cut_off_next_sync();
        }
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let syncs = self.disk.faults().calls(Operation::Sync);
        let worked = process.journaler.try_work();
        let took = self.disk.faults().calls(Operation::Sync) - syncs;
        if took > 0 {
            let ns = self.below(self.plan.sync_ns_max);
            clock::pass(ns);
        }
        match worked {
            Ok(slots) => self.trace.note("journal", &[slots as u64]),
            Err(failure) => {
                self.trace.say("journal failure", || failure.to_string());
                self.counts.failed_syncs += 1;
                // What had been let go before may still come out.
                if self.below(2) == 0 {
                    self.executor_turn();
                    self.responder_turn()?;
                    self.gateway_sends();
                }
                let is_power_loss = is_cut_off || (self.plan.power_loss > 0 && self.below(2) == 0);
                if is_power_loss {
                    self.power_loss()?;
                } else {
                    self.end_life("exit");
                }
            }
        }
        Ok(())
    }

    /// One of the next syncs never returns; what a follower read meanwhile may be in its snapshot.
    fn cut_off_next_sync(&mut self) {
        let from = self.disk.faults().calls(Operation::Sync) + self.below(2);
        self.disk
            .faults()
            .fail(Operation::Sync, from..from + 1, ErrorKind::Other);
        if self.below(4) == 0 && self.judge.sequence() > 0 {
            self.snapshot_at_next_sync();
        }
        self.trace.note("cut off", &[from]);
    }

    fn background_turn(&mut self) {
        if let Some(process) = &mut self.process {
            let worked = process.journaler.work_in_background();
            self.trace.note("background", &[u64::from(worked)]);
        }
    }

    fn executor_turn(&mut self) {
        if let Some(process) = &mut self.process {
            let done = process.executor.do_work();
            self.trace.note("execute", &[done as u64]);
        }
    }

    fn responder_turn(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let mut replies = Judged {
            gateway: &mut process.gateway,
            judge: &mut self.judge,
            trace: &mut self.trace,
            sabotage: self.order.sabotage,
            verdict: Ok(()),
        };
        process.responder.do_work(&mut replies);
        replies.verdict
    }

    fn gateway_sends(&mut self) {
        if let Some(process) = &mut self.process {
            let work = process.gateway.send(&process.responder);
            self.trace.note("send", &[work as u64]);
        }
    }

    fn tick_turn(&mut self) {
        if let Some(process) = &mut self.process {
            let ticked = process.ingress.tick_if_due(|| Timestamp(clock::wall()));
            self.trace.note("tick", &[u64::from(ticked)]);
        }
    }

    // The end.

    /// Nothing goes wrong any more: every client gets every reply.
    fn rest(&mut self) -> Result<(), String> {
        self.is_resting = true;
        self.trace.note("rest", &[]);
        self.disk.faults().heal();
        self.disk.faults().set_capacity(None);
        self.space_at = None;
        self.up_at = 0;
        let until = self.step + REST_STEPS_MAX;
        while self.step < until {
            for _ in 0..64 {
                self.turn()?;
            }
            if self.is_at_rest() {
                return Ok(());
            }
        }
        let waiting: Vec<u64> = self
            .clients
            .iter()
            .filter(|client| !client.is_done())
            .map(|client| client.session)
            .collect();
        Err(format!(
            "it does not come to rest: clients {waiting:?} wait for replies, watchers for {:?}, of {} commands",
            self.watchers.iter().map(Watcher::next).collect::<Vec<_>>(),
            self.judge.sequence()
        ))
    }

    fn is_at_rest(&self) -> bool {
        let all = self.judge.sequence() + 1;
        self.process.as_ref().is_some_and(Process::is_idle)
            && self.clients.iter().all(Client::is_done)
            && self.watchers.iter().all(|watcher| watcher.next() == all)
    }

    /// The last look: everybody's record, the live engine, and what is on the disk.
    fn end(&mut self) -> Result<(), String> {
        for client in &self.clients {
            client.check(&self.judge)?;
        }
        let process = self.process.take().ok_or("the node is down")?;
        let engine = process.executor.engine();
        engine.audit()?;
        self.judge.scene.compare(engine)?;
        let live = engine.digest();
        process.journaler.close();
        self.judge.end_life();
        let replayed = self.judge.begin_life(&self.disk)?;
        if live != replayed {
            return Err("the live engine's digest is not that of a replay".into());
        }
        let verified = verify_in(&self.disk, &mut |_, _| {}).map_err(|error| error.to_string())?;
        if verified.last_sequence != self.judge.sequence() {
            return Err("the journal verifies to another end".into());
        }
        self.trace.fold(&live);
        for name in self.disk.faults().names().map_err(|e| e.to_string())? {
            self.trace.fold(name.as_bytes());
            self.trace.fold(&self.disk.faults().read_file(&name));
        }
        Ok(())
    }
}

/// The judge sees every event before the gateway does.
struct Judged<'a> {
    gateway: &'a mut Gateway<super::network::Simulated>,
    judge: &'a mut Judge,
    trace: &'a mut Trace,
    sabotage: Option<Sabotage>,
    verdict: Result<(), String>,
}

impl Replies for Judged<'_> {
    fn event(&mut self, event: &EventSlot, position: u64) {
        if self.verdict.is_err() {
            return;
        }
        self.verdict = self.judge.event(event);
        self.trace
            .note("event", &[event.header.sequence, hash_of_event(event)]);
        let is_chosen = event.header.sequence.is_multiple_of(97);
        match self.sabotage {
            Some(Sabotage::LoseEvent) if is_chosen => {}
            Some(Sabotage::RepeatEvent) if is_chosen => {
                self.gateway.event(event, position);
                self.gateway.event(event, position);
            }
            Some(Sabotage::AlterEvent) if is_chosen => {
                let mut event = *event;
                event.body[0] ^= 1;
                self.gateway.event(&event, position);
            }
            _ => self.gateway.event(event, position),
        }
    }
}
