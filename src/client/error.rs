//! What a client cannot do, and why.

use crate::protocol::session::SessionError;
use std::io;
use std::net::SocketAddr;

/// What went wrong.
#[derive(Debug)]
pub enum ClientError {
    /// The node could not be reached.
    Connect {
        /// Where it was looked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The memory that the node offered to share could not be opened.
    SharedMemory(io::Error),
    /// The connection broke and could not be made again.
    Io(io::Error),
    /// The node did not answer in time.
    Timeout,
    /// The node refused a command, and everything sent after it; or it closed the session. What
    /// was refused was not taken: commands from client sequence `expected` on are forgotten here.
    Refused {
        /// Why.
        error: SessionError,
        /// The command, 0 where it is about the session.
        client_sequence: u64,
        /// The next client sequence the node takes.
        expected: u64,
    },
    /// Commands were taken, but their replies are no longer kept: ask for their outcome by query.
    RepliesGone {
        /// The first of them.
        from: u64,
        /// The first client sequence whose reply there is, or may be.
        available: u64,
    },
    /// The events asked for are no longer kept; those from here on follow.
    WatchGone {
        /// First journal sequence there is.
        available: u64,
    },
    /// So many events are held and not taken: take them, with [`poll`](super::Client::poll) or [`received`](super::Client::received),
    /// and go on.
    NotTaken {
        /// Events held.
        held: usize,
    },
    /// The node knows the session otherwise than this client does.
    SessionForgotten {
        /// The last command the node has taken.
        node: u64,
        /// The last command that was answered here.
        client: u64,
    },
    /// The node sent something that this client does not understand.
    Protocol(String),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Connect { address, source } => {
                write!(f, "cannot reach a node at {address}: {source}")
            }
            ClientError::SharedMemory(error) => write!(
                f,
                "cannot open the node's shared memory: {error}; it must run on this host, under the same user"
            ),
            ClientError::Io(error) => write!(f, "the connection broke: {error}"),
            ClientError::Timeout => f.write_str("the node did not answer in time"),
            ClientError::Refused {
                error,
                client_sequence: 0,
                ..
            } => write!(f, "the node closed the session: {error}"),
            ClientError::Refused {
                error: SessionError::DiskFull,
                client_sequence,
                ..
            } => write!(
                f,
                "the node refused command {client_sequence}: its disk is full; make room there \
                 and send the rest again"
            ),
            ClientError::Refused {
                error,
                client_sequence,
                ..
            } => write!(f, "the node refused command {client_sequence}: {error}"),
            ClientError::RepliesGone { from, available } => write!(
                f,
                "commands {from} to {} were taken, but their replies are no longer kept",
                available.saturating_sub(1)
            ),
            ClientError::WatchGone { available } => write!(
                f,
                "events before sequence {available} are no longer kept; those from there on follow"
            ),
            ClientError::NotTaken { held } => {
                write!(
                    f,
                    "{held} events are held and not taken; take them and go on"
                )
            }
            ClientError::SessionForgotten { node, client } => write!(
                f,
                "the node has taken {node} commands of this session, this client saw {client} answered"
            ),
            ClientError::Protocol(what) => write!(f, "unexpected from the node: {what}"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Connect { source, .. }
            | ClientError::SharedMemory(source)
            | ClientError::Io(source) => Some(source),
            _ => None,
        }
    }
}
