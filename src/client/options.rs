//! How a client behaves.

use std::time::Duration;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The session; a random one where `None`. Name one to go on with it.
    pub session: Option<u64>,
    /// Replies up to this client sequence were seen: for a session that goes on in a new process.
    pub replies_seen: u64,
    /// Wait for replies by spinning: lowest latency, a whole core.
    pub spin: bool,
    /// Go on over shared memory after the hello, with a node on the same host: no system calls while
    /// both sides are awake. Meant for clients that spin.
    pub shared_memory: bool,
    /// Commands and queries in flight at most; [`submit`](super::Client::submit) waits for room.
    pub window: usize,
    /// Bytes of them at most; a single command may be longer.
    pub window_bytes: usize,
    /// Events held that the caller has not taken yet. A call that waits while more come (for room, or for
    /// its own answer, on a session that watches) ends with [`NotTaken`](super::ClientError::NotTaken).
    pub held_events: usize,
    /// How long to wait for the node.
    pub timeout: Duration,
    /// For how long to try to connect again when the connection breaks; zero gives up at once.
    pub reconnect: Duration,
    /// How long to leave a node alone that said busy.
    pub busy_pause: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            session: None,
            replies_seen: 0,
            spin: false,
            shared_memory: false,
            window: 4_096,
            window_bytes: 64 << 20,
            held_events: 1 << 20,
            timeout: Duration::from_secs(10),
            reconnect: Duration::from_secs(5),
            busy_pause: Duration::from_micros(50),
        }
    }
}
