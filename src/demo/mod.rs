//! The demonstration: a compressed business day through the real wire protocol and a durable
//! journal, then a kill -9, a recovery, and two digests that must be equal.
//!
//! `day` invents the day, `run` plays it against a node in a process of its own and measures,
//! `report` says what happened.

mod day;
mod play;
mod report;

use crate::client::{Client, ClientError, Options};
use crate::process::NodeProcess;
use crate::protocol::command::{CommandKind, Empty};
use crate::protocol::event::Event;
use crate::protocol::frame::CommandFrame;
use crate::replay::recovery::journal_options;
use day::Day;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How large a day to play.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Payments.
    pub payments: usize,
    /// Order commands.
    pub orders: usize,
    /// Commands per second, open loop.
    pub rate: u64,
    /// Seed of the day.
    pub seed: u64,
}

/// Who hears what happens while it happens.
pub trait Audience {
    /// A new part begins.
    fn says(&mut self, line: &str);
    /// `done` of `total` commands of the day are sent; `queued` payments wait.
    fn progress(&mut self, done: usize, total: usize, queued: u64);
}

/// What went wrong.
#[derive(Debug)]
pub enum DemoError {
    /// The node did not start.
    Node(String),
    /// The node did not answer.
    Client(ClientError),
    /// A file or process could not be handled.
    Io(String),
    /// What must not happen.
    Wrong(String),
}

impl std::fmt::Display for DemoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DemoError::Node(why) => write!(f, "the demo's node did not start: {why}"),
            DemoError::Client(error) => write!(f, "the demo's client: {error}"),
            DemoError::Io(why) => write!(f, "the demo: {why}"),
            DemoError::Wrong(why) => write!(f, "the demo found what must not be: {why}"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DemoError::Client(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ClientError> for DemoError {
    fn from(error: ClientError) -> DemoError {
        DemoError::Client(error)
    }
}

/// Plays the whole demonstration with the millrace binary at `binary`; returns the report.
pub fn demonstrate(
    binary: &Path,
    size: Size,
    audience: &mut impl Audience,
) -> Result<String, DemoError> {
    let dir = tempfile::Builder::new()
        .prefix("millrace-demo-")
        .tempdir()
        .map_err(|error| DemoError::Io(format!("cannot make a temporary directory: {error}")))?;
    let files = Files::in_dir(dir.path())?;
    let day = Day::invent(&size);
    audience.says(&format!("inventing a day: {}", day.summary()));
    let node = NodeProcess::start(binary, &files.config).map_err(DemoError::Node)?;
    audience.says(&format!("a node is up: {}", node.greeting));
    let mut client = Client::connect(node.address, Options::default())?;
    let outcome = play::play(&mut client, &day, size.rate, audience)?;
    let before = digest(&mut client)?;
    audience.says("kill -9 to the node");
    node.kill();
    drop(client);
    let started = Instant::now();
    let node = NodeProcess::start(binary, &files.config).map_err(DemoError::Node)?;
    let recovery = started.elapsed();
    audience.says(&format!("a new node recovers: {}", node.greeting));
    let mut client = Client::connect(node.address, Options::default())?;
    let after = digest(&mut client)?;
    drop(client);
    node.stop().map_err(DemoError::Wrong)?;
    let verified = verify(&files.journal)?;
    let proof = report::Proof {
        before,
        after,
        recovery,
        verified,
    };
    if proof.before.0 != proof.after.0 {
        return Err(DemoError::Wrong(
            "the recovered node has another digest".into(),
        ));
    }
    Ok(report::write(&day, &outcome, &proof))
}

/// Digest and sequence of the node's state.
fn digest(client: &mut Client) -> Result<([u8; 32], u64), DemoError> {
    let body = Empty {
        _reserved: Default::default(),
    };
    let events = client.call(&CommandFrame::new(CommandKind::QueryDigest, &body))?;
    match events.first().and_then(|event| event.event()) {
        Some(Event::Digest(digest)) => Ok((digest.digest, digest.at_sequence)),
        _ => Err(DemoError::Wrong("no digest came".into())),
    }
}

/// Records and bytes of a sound journal.
fn verify(dir: &Path) -> Result<(u64, u64), DemoError> {
    let verified = millrace_journal::verify(dir, &mut |_, _| {})
        .map_err(|error| DemoError::Wrong(error.to_string()))?;
    Ok((verified.records, verified.bytes))
}

struct Files {
    config: PathBuf,
    journal: PathBuf,
}

impl Files {
    /// A configuration with tables for one day, not for a year.
    fn in_dir(dir: &Path) -> Result<Files, DemoError> {
        let config = crate::config::Config {
            dir: dir.join("journal"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            limits: crate::engine::Limits {
                accounts: 4_096,
                transfers: 1 << 16,
                payments: 1 << 20,
                orders: 1 << 18,
                client_order_ids: 1 << 20,
                price_levels: 1 << 16,
                ..Default::default()
            },
            ..Default::default()
        };
        debug_assert_eq!(
            journal_options(&config).durability,
            millrace_journal::Durability::Disk
        );
        let text = toml::to_string(&config).map_err(|error| DemoError::Io(error.to_string()))?;
        let path = dir.join("demo.toml");
        std::fs::write(&path, text)
            .map_err(|error| DemoError::Io(format!("cannot write {}: {error}", path.display())))?;
        Ok(Files {
            config: path,
            journal: config.dir,
        })
    }
}
