//! One life of the node: the real stages and the real gateway on the simulated network, disk and clock,
//! called one by one.

use super::clock;
use super::disk::Disk;
use super::network::{Network, Simulated};
use super::sabotage::Sabotage;
use millrace::config::Config;
use millrace::gateway::Gateway;
use millrace::pipeline::{Executor, Ingress, Journaler, Pipeline, Responder, Signals};
use millrace::protocol::command::{CommandKind, Empty};
use millrace::protocol::frame::CommandFrame;
use millrace::protocol::wire::Zero;
use millrace::replay::recovery::{self, Recovery, Start};
use millrace::telemetry::GatewayCounters;
use millrace_journal::{Background, Options, Reader, Recovered, Writer};
use std::sync::Arc;

/// The node, running.
pub struct Process {
    pub ingress: Ingress,
    pub journaler: Journaler,
    pub executor: Executor,
    pub responder: Responder,
    pub gateway: Gateway<Simulated>,
}

/// What its start found.
pub struct Found {
    pub journal: Recovered,
    pub recovery: Recovery,
    /// Snapshots of a tail that was lost.
    pub set_aside: u64,
    /// The engine's digest after recovery.
    pub digest: [u8; 32],
}

impl Process {
    /// Recovers what the disk holds and begins to listen, as a node does at start.
    pub fn start(
        disk: &Disk,
        config: &Config,
        network: &Network,
        lookup_secret: u64,
        sabotage: Option<Sabotage>,
    ) -> Result<(Process, Found), String> {
        let options = Options {
            check_from: disk.newest_snapshot() + 1,
            background: Background::ByHand,
            ..recovery::journal_options(config)
        };
        let storage = Arc::new(disk.clone());
        let (writer, journal) =
            Writer::open_in(storage.clone(), options).map_err(|error| error.to_string())?;
        let mut limits = config.limits.clone();
        limits.lookup_secret = lookup_secret;
        let last = journal.last_sequence;
        let set_aside = disk.set_aside_ahead(last);
        let mut start = disk.start(last, &limits, config.sessions, journal.journal_id);
        if sabotage == Some(Sabotage::SkipOnReplay) {
            skip_one(&mut start, last);
        }
        let reader = Reader::open_in(storage).map_err(|error| error.to_string())?;
        let (mut parts, recovery) = recovery::rebuild(
            config,
            writer,
            &journal,
            reader,
            start,
            &mut recovery::Silent,
        )
        .map_err(|error| error.to_string())?;
        parts.host = clock::host();
        let digest = parts.engine.digest();
        let ended = parts.engine.sessions_with_orders_to_cancel();
        let Pipeline {
            ingress,
            journaler,
            executor,
            responder,
            ..
        } = Pipeline::assemble(parts, &config.ring_sizes(), &Signals::default());
        let counters = Arc::new(GatewayCounters::default());
        let sockets = network.listen();
        let mut gateway = Gateway::over(sockets, &config.gateway, counters, None, clock::host());
        gateway.tell_ended(ended);
        let process = Process {
            ingress,
            journaler,
            executor,
            responder,
            gateway,
        };
        let found = Found {
            journal,
            recovery,
            set_aside,
            digest,
        };
        Ok((process, found))
    }

    /// Whether every command taken has been answered.
    pub fn is_idle(&self) -> bool {
        self.responder.answered() == self.ingress.published()
    }
}

/// A tick in place of the first command to replay.
fn skip_one(start: &mut Start, last_sequence: u64) {
    let sequence = start.engine.sequence() + 1;
    if sequence > last_sequence {
        return;
    }
    let body = Empty {
        _reserved: [Zero::Zero; 16],
    };
    let tick = CommandFrame::new(CommandKind::Tick, &body);
    let mut outbox = millrace::engine::Outbox::with_capacity(64);
    start.engine.apply(sequence, tick.as_ref(), &mut outbox);
}
