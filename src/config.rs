//! The configuration: one TOML file, every key with a default, every buffer of a node with its
//! bound. Command-line options override the file. Unknown keys are errors, so a typing mistake
//! never becomes a default.

use crate::engine::Limits;
use crate::pipeline::threads::{CoreChoice, IdleMode, Layout, Wish};
use crate::pipeline::{INGRESS_SLOTS_MIN, RingSizes};
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::ring_file;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// When a command counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In the page cache: survives the process (kill -9), not the machine.
    Process,
    /// On the disk: survives power loss.
    #[default]
    Disk,
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Durability::Process => "process",
            Durability::Disk => "disk",
        })
    }
}

impl std::str::FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Durability, String> {
        match text {
            "process" => Ok(Durability::Process),
            "disk" => Ok(Durability::Disk),
            "quorum" => {
                Err("durability quorum needs peers, which this release does not have".into())
            }
            _ => Err(format!("durability \"{text}\" is not process or disk")),
        }
    }
}

/// Everything that can be set. The defaults are those of [`Config::example`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of the journal and the snapshots.
    pub dir: PathBuf,
    /// Address of the binary protocol; port 0 takes a free one.
    pub listen: SocketAddr,
    /// When a command counts as safe.
    pub durability: Durability,
    /// Cores the node may use.
    #[serde(serialize_with = "write_cores", deserialize_with = "read_cores")]
    pub cores: CoreChoice,
    /// Threads the stages are spread over, 1 to 3; 0 chooses by durability and cores.
    pub threads: u8,
    /// How threads rest.
    pub idle: IdleMode,
    /// How long a thread spins after its last work before it sleeps, microseconds.
    pub idle_spin_us: u64,
    /// Sessions whose last client sequence is remembered.
    pub sessions: u32,
    /// Whether the node keeps histograms of what each stage takes (`millrace client stats`).
    pub stage_times: bool,
    /// Slots of the rings.
    pub rings: Rings,
    /// The journal's files.
    pub journal: Journal,
    /// What is kept of the past.
    pub snapshots: Snapshots,
    /// What a connection may hold.
    pub gateway: Gateway,
    /// Sizes of the engine's tables.
    pub limits: Limits,
}

/// Slots of the rings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rings {
    /// Commands between the door and the engine; 192 bytes each, a power of two.
    pub ingress_slots: usize,
    /// Events between the engine and the responder; 192 bytes each, a power of two.
    pub egress_slots: usize,
}

/// The journal's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// Bytes kept free for cancels when the disk is full.
    pub reserve_bytes: u64,
}

/// What is kept of the past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshots {
    /// Newest good snapshots that a start may begin from: `millrace archive` moves only what lies
    /// before the oldest of them.
    pub keep: u32,
}

/// What a connection may hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once that have not said hello yet; one more, and the one that has had the longest
    /// time for it is closed.
    pub connections_without_hello: usize,
    /// Bytes read from a connection at a time. A longer frame makes its connection's buffer grow
    /// to the length of the frame, at most the longest there is, until it has sent shorter ones for
    /// a while.
    pub read_buffer_bytes: usize,
    /// Bytes waiting to be sent on one connection; what is beyond waits in the reply window.
    pub write_buffer_bytes: usize,
    /// Clients on this host that may use shared memory at once; 0 allows none.
    pub shared_rings: usize,
    /// Bytes of each of the two rings of such a client: a power of two.
    pub shared_ring_bytes: u64,
    /// Recent events kept for sessions that reconnect and readers that lag; 192 bytes each.
    pub reply_window_events: usize,
    /// How long a new connection may take to say hello, milliseconds.
    pub hello_timeout_ms: u64,
    /// How long a stopping node waits for its clients to read their last replies, milliseconds.
    pub drain_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            dir: PathBuf::from("millrace-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
            durability: Durability::default(),
            cores: CoreChoice::default(),
            threads: 0,
            idle: IdleMode::default(),
            idle_spin_us: 200,
            sessions: 65_536,
            stage_times: true,
            rings: Rings::default(),
            journal: Journal::default(),
            snapshots: Snapshots::default(),
            gateway: Gateway::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Rings {
    fn default() -> Rings {
        Rings {
            ingress_slots: 16_384,
            egress_slots: 16_384,
        }
    }
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            segment_bytes: 64 << 20,
            reserve_bytes: 1 << 20,
        }
    }
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        Snapshots { keep: 2 }
    }
}

impl Default for Gateway {
    fn default() -> Gateway {
        Gateway {
            connections: 1_024,
            connections_without_hello: 256,
            read_buffer_bytes: 64 << 10,
            write_buffer_bytes: 1 << 20,
            shared_rings: 16,
            shared_ring_bytes: 1 << 20,
            reply_window_events: 1 << 17,
            hello_timeout_ms: 10_000,
            drain_timeout_ms: 2_000,
        }
    }
}

/// Why a configuration does not hold.
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a configuration.
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A value is out of range.
    Value(String),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigError::Read { path, source } => {
                write!(f, "cannot read configuration {}: {source}", path.display())
            }
            ConfigError::Parse { path, line, why } => {
                write!(f, "configuration {} line {line}: {why}", path.display())
            }
            ConfigError::Value(why) => write!(f, "configuration: {why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// How many batches of the journaler can be on their way to the clients: each has a command in one
    /// of the rings or in the executor's hands.
    pub fn batches_under_way(&self) -> usize {
        self.rings.ingress_slots * 2 + self.rings.egress_slots
    }

    /// The configuration in the file at `path`.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(&text, path)
    }

    /// The configuration in `text`, which stands in the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            ConfigError::Parse {
                path: path.to_owned(),
                line: 1 + text[..at.min(text.len())].matches('\n').count(),
                why: error.message().replace('\n', " "),
            }
        })?;
        config.check()?;
        Ok(config)
    }

    /// Small tables and buffers in `dir`, on a free port, on whatever core is free: for tests and
    /// demonstrations.
    pub fn small(dir: &Path) -> Config {
        Config {
            dir: dir.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            durability: Durability::Process,
            cores: CoreChoice::Unpinned,
            sessions: 1_024,
            rings: Rings {
                ingress_slots: INGRESS_SLOTS_MIN,
                egress_slots: 4_096,
            },
            journal: Journal {
                segment_bytes: 8 << 20,
                ..Journal::default()
            },
            gateway: Gateway {
                reply_window_events: 1 << 14,
                ..Gateway::default()
            },
            limits: Limits::small(),
            ..Config::default()
        }
    }

    /// Checks what types cannot say.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |why: String| Err(ConfigError::Value(why));
        let ingress = self.rings.ingress_slots;
        if !ingress.is_power_of_two() || !(INGRESS_SLOTS_MIN..=1 << 20).contains(&ingress) {
            return value(format!(
                "rings.ingress_slots = {ingress} must be a power of two from {INGRESS_SLOTS_MIN} (the longest command) to {}",
                1 << 20
            ));
        }
        let egress = self.rings.egress_slots;
        if !egress.is_power_of_two() || !(64..=1 << 20).contains(&egress) {
            return value(format!(
                "rings.egress_slots = {egress} must be a power of two from 64 to {}",
                1 << 20
            ));
        }
        let gateway = &self.gateway;
        if !(1..=100_000).contains(&gateway.connections) {
            return value(format!(
                "gateway.connections = {} must be 1 to 100000",
                gateway.connections
            ));
        }
        if gateway.connections_without_hello == 0 {
            return value("gateway.connections_without_hello must be at least 1".into());
        }
        for (name, bytes) in [
            ("read_buffer_bytes", gateway.read_buffer_bytes),
            ("write_buffer_bytes", gateway.write_buffer_bytes),
        ] {
            if !(4_096..=1 << 30).contains(&bytes) {
                return value(format!(
                    "gateway.{name} = {bytes} must be 4096 to {}",
                    1 << 30
                ));
            }
        }
        let ring = gateway.shared_ring_bytes;
        if !ring.is_power_of_two() || !ring_file::CAPACITY.contains(&ring) {
            return value(format!(
                "gateway.shared_ring_bytes = {ring} must be a power of two from {} to {}",
                ring_file::CAPACITY.start(),
                ring_file::CAPACITY.end()
            ));
        }
        if gateway.shared_rings > 4_096 {
            return value(format!(
                "gateway.shared_rings = {} must be 0 to 4096",
                gateway.shared_rings
            ));
        }
        if !(64..=1 << 26).contains(&gateway.reply_window_events) {
            return value(format!(
                "gateway.reply_window_events = {} must be 64 to {}",
                gateway.reply_window_events,
                1 << 26
            ));
        }
        if self.threads > 3 {
            return value(format!("threads = {} must be 0 to 3", self.threads));
        }
        if !(1..=1_000_000).contains(&self.snapshots.keep) {
            return value(format!(
                "snapshots.keep = {} must be 1 to 1000000",
                self.snapshots.keep
            ));
        }
        if self.sessions == 0 {
            return value("sessions must be at least 1".into());
        }
        if let Err(why) = self.limits.check() {
            return value(why);
        }
        let (needed, there) = (self.limits.bytes_max(), memory_bytes());
        if needed > there {
            return value(format!(
                "the limits need up to {} MB of memory, this machine has {} MB; lower limits.transfers or others",
                needed >> 20,
                there >> 20
            ));
        }
        if self.journal.segment_bytes < 4 * FRAME_BYTES_MAX as u64 {
            return value(format!(
                "journal.segment_bytes = {} must be at least {}",
                self.journal.segment_bytes,
                4 << 20
            ));
        }
        Ok(())
    }

    /// What a thread plan is to fit.
    pub fn thread_wish(&self) -> Wish {
        Wish {
            cores: self.cores.clone(),
            syncs: self.durability == Durability::Disk,
            layout: Layout::of_threads(self.threads),
            idle: self.idle,
        }
    }

    /// The rings as the pipeline wants to know them.
    pub fn ring_sizes(&self) -> RingSizes {
        RingSizes {
            ingress_slots: self.rings.ingress_slots,
            egress_slots: self.rings.egress_slots,
            journal_reserve_bytes: self.journal.reserve_bytes,
        }
    }

    /// A commented configuration file with every key at its default.
    pub fn example() -> &'static str {
        include_str!("config.example.toml")
    }
}

/// Memory of this machine, bytes; more than any limits need where the system does not say.
fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib << 10)
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CoresText {
    Word(String),
    List(Vec<usize>),
}

fn write_cores<S: Serializer>(cores: &CoreChoice, out: S) -> Result<S::Ok, S::Error> {
    match cores {
        CoreChoice::Auto => CoresText::Word("auto".into()),
        CoreChoice::Unpinned => CoresText::Word("unpinned".into()),
        CoreChoice::List(list) => CoresText::List(list.clone()),
    }
    .serialize(out)
}

fn read_cores<'de, D: Deserializer<'de>>(input: D) -> Result<CoreChoice, D::Error> {
    match CoresText::deserialize(input)? {
        CoresText::Word(word) => word.parse().map_err(serde::de::Error::custom),
        CoresText::List(list) if list.is_empty() => {
            Err(serde::de::Error::custom("cores is an empty list"))
        }
        CoresText::List(list) => Ok(CoreChoice::List(list)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("millrace.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| {
            error
                .to_string()
                .replace(&dir.path().display().to_string(), "")
        })
    }

    #[test]
    fn the_example_says_the_defaults() {
        assert_eq!(read(Config::example()).unwrap(), Config::default());
        // And every key: what serializing knows must stand in the text.
        let all = toml::to_string(&Config::default()).unwrap();
        for line in all.lines().filter_map(|line| line.split_once(" = ")) {
            let key = format!("{} = ", line.0);
            assert!(Config::example().contains(&key), "the example lacks {key}");
        }
    }

    #[test]
    fn a_mistake_is_one_line_that_says_where() {
        assert_eq!(
            read("dir = \"x\"\nlissten = \"127.0.0.1:1\"").unwrap_err(),
            "configuration /millrace.toml line 2: unknown field `lissten`, expected one of `dir`, `listen`, `durability`, `cores`, `threads`, `idle`, `idle_spin_us`, `sessions`, `stage_times`, `rings`, `journal`, `snapshots`, `gateway`, `limits`"
        );
        assert!(
            read("[rings]\ningress_slots = 1000")
                .unwrap_err()
                .contains("power of two")
        );
        assert!(read("cores = [0, 1]").unwrap().cores == CoreChoice::List(vec![0, 1]));
        assert!(read("cores = \"some\"").unwrap_err().contains("line 1"));
    }
}
