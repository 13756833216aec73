//! Session messages: what a client and a node say to each other besides commands and events.
//!
//! They share the first 8 bytes of every frame, have a 16-byte header, and their kinds start at
//! [`FIRST_SESSION_KIND`], above every command and event. None of them is journaled.

use super::RELEASE;
use super::frame::Prefix;
use super::units::{ParticipantId, Timestamp};
use super::wire::{Bool, Field, WireStruct, Zero, wire_enum, wire_struct};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// Kinds from here on are session messages.
pub const FIRST_SESSION_KIND: u16 = 0xF000;
/// Bytes of a session message's header: the prefix and 8 reserved bytes.
pub const SESSION_HEADER_BYTES: usize = 16;

wire_enum! {
    /// Why a session was refused or closed.
    pub enum SessionError : u16 {
        /// The first message of a connection is `hello`.
        HelloFirst = 1 "hello_first",
        /// A frame's length is impossible; the connection is closed.
        BadLength = 2 "bad_length",
        /// A frame's kind is unknown, or its body is invalid; the connection is closed.
        Malformed = 3 "malformed",
        /// The client speaks a newer release.
        NewerRelease = 4 "newer_release",
        /// A command's client sequence skips one; resend from `expected`.
        SequenceGap = 5 "sequence_gap",
        /// The ring is full; resend from `client_sequence`.
        Busy = 6 "busy",
        /// The node's journal has no room; only cancels and queries are taken.
        DiskFull = 7 "disk_full",
        /// The replies asked for are no longer kept.
        RepliesGone = 8 "replies_gone",
        /// The node takes no more connections; the connection is closed.
        TooManySessions = 9 "too_many_sessions",
        /// The session did not read what it was sent; the connection is closed.
        SlowConsumer = 10 "slow_consumer",
        /// Session 0 is the node's own.
        BadSession = 11 "bad_session",
        /// The session has logged on again elsewhere; this connection is closed.
        Superseded = 12 "superseded",
        /// The node is stopping.
        Stopping = 13 "stopping",
        /// The node gives this client no shared memory: it is on another host, or all rings are taken.
        NoSharedMemory = 14 "no_shared_memory",
    }
}

wire_enum! {
    /// What a watch is of.
    pub enum WatchScope : u8 {
        /// Every event of the node.
        Everything = 0 "everything",
        /// Execution reports and trades of participants.
        DropCopy = 1 "drop_copy",
        /// The drop copy of whoever joins a group from now on.
        DropCopyGroup = 2 "drop_copy_group",
        /// Trades, phases, indicative prices and published book changes of instruments.
        MarketData = 3 "market_data",
    }
}

wire_enum! {
    /// A stage of a command's way through the node.
    pub enum Stage : u8 {
        /// From the door until the journaler takes its batch from the ring.
        RingWait = 0 "ring_wait",
        /// Until the last command of the batch is appended.
        Journal = 1 "journal",
        /// Until the batch is durable under the node's policy.
        Sync = 2 "sync",
        /// Until the engine has executed it and its events are handed on.
        Engine = 3 "engine",
        /// Until its events are written to the socket.
        Reply = 4 "reply",
        /// From the door to the socket.
        Total = 5 "total",
    }
}

wire_enum! {
    /// Over which time something was counted.
    pub enum Span : u8 {
        /// The last whole second.
        LastSecond = 0 "last_second",
        /// Since the node started.
        SinceStart = 1 "since_start",
    }
}

wire_struct! {
    /// Client: who it is. First message of a connection.
    pub struct Hello {
        /// The session, chosen by the client (random), not 0; the same after a reconnect.
        session: u64,
        /// Replies up to this client sequence were seen; later ones are sent again.
        replies_seen: u64,
    }
}

wire_struct! {
    /// Node: the answer to hello; and to a watch of what comes next, which begins after `sequence`.
    pub struct Welcome {
        /// The session.
        session: u64,
        /// The last client sequence the node has taken from this session, 0 for none.
        last_client_sequence: u64,
        /// The last journal sequence executed.
        sequence: u64,
        /// The node's clock.
        at: Timestamp,
    }
}

wire_struct! {
    /// Client: send replies again from this client sequence on.
    pub struct Resend {
        /// First client sequence wanted.
        from: u64,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// Client: send every event of the node from now on, or from a journal sequence on.
    pub struct Watch {
        /// First journal sequence wanted, 0 for the next.
        from_sequence: u64,
        /// Off ends it.
        on: Bool,
        /// What is sent.
        scope: WatchScope = 0,
        /// Reserved.
        _reserved: [Zero; 2],
        /// The participant, group or instrument of the scope; another message adds another. 0 where
        /// everything is sent.
        participant: ParticipantId = 0,
    }
}

wire_struct! {
    /// Node: something was not taken, or the connection ends.
    pub struct Refused {
        /// Why.
        error: SessionError,
        /// Whether the node closes the connection after this.
        closing: Bool,
        /// Reserved.
        _reserved: [Zero; 5],
        /// The client sequence it is about, 0 for none.
        client_sequence: u64,
        /// What the node expects next, 0 where that says nothing.
        expected: u64,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// Client: say how you are. The answer is a `stage_times` for each stage and span, where the node
    /// measures them, and then a `node_stats`.
    pub struct StatsRequest {
        /// Reserved.
        _reserved: [Zero; 16],
    }
}

wire_struct! {
    /// Node: what one stage took of the commands of a span, within 6 %.
    pub struct StageTimes {
        /// Which stage.
        stage: Stage,
        /// Over which time.
        span: Span,
        /// Reserved.
        _reserved: [Zero; 6],
        /// Commands that count.
        commands: u64,
        /// Their mean, ns.
        mean_ns: u64,
        /// Half took no longer, ns.
        p50_ns: u64,
        /// Nine of ten took no longer, ns.
        p90_ns: u64,
        /// 99 of 100 took no longer, ns.
        p99_ns: u64,
        /// 999 of 1,000 took no longer, ns.
        p999_ns: u64,
        /// The longest, ns.
        max_ns: u64,
    }
}

wire_struct! {
    /// Node: how it is. Counts are since it started.
    pub struct NodeStats {
        /// The node's clock.
        at: Timestamp,
        /// When it started.
        started_at: Timestamp,
        /// The last journal sequence executed.
        sequence: u64,
        /// The last journal sequence that is durable under the node's policy.
        durable: u64,
        /// Commands and queries taken.
        commands: u64,
        /// Commands and queries answered.
        answered: u64,
        /// Commands refused because the ring was full.
        busy: u64,
        /// Commits of the journal.
        commits: u64,
        /// Slots of the ingress ring whose commands are not executed yet.
        ring_slots_used: u64,
        /// The most of them in the last whole second.
        ring_slots_peak: u64,
        /// Bytes the journal can still take; the largest number where it is not short of room.
        journal_space: u64,
        /// Connections open.
        connections: u64,
        /// Connections accepted.
        accepted: u64,
        /// Connections dropped because they did not read.
        slow_consumers: u64,
        /// Connections closed for frames that are none.
        malformed: u64,
        /// Sessions whose last client sequence is remembered.
        sessions: u64,
    }
}

wire_struct! {
    /// Client on the node's host: let us go on over shared memory. It sends nothing more until
    /// `ring_ready`.
    pub struct UseRing {
        /// Reserved.
        _reserved: [Zero; 16],
    }
}

wire_struct! {
    /// Node: the rings are ready. From here on both sides write frames there; this connection stays for
    /// `wake`, and for its end to be seen.
    pub struct RingReady {
        /// The node's process.
        process: u32,
        /// The descriptor of the file in it: `/proc/PROCESS/fd/DESCRIPTOR`.
        descriptor: u32,
        /// Bytes of each of the two rings.
        capacity: u64,
    }
}

wire_struct! {
    /// Client: something is in the ring for a node that had said it sleeps.
    pub struct Wake {
        /// Reserved.
        _reserved: [Zero; 16],
    }
}

/// A session message with its body.
pub trait SessionMessage: TryFromBytes + IntoBytes + Immutable + KnownLayout + WireStruct {
    /// Code of its kind.
    const KIND: u16;
    /// Its name in docs/protocol.md.
    const NAME: &'static str;
}

macro_rules! session_messages {
    ($($body:ident = $kind:literal $name:literal;)*) => {
        $(impl SessionMessage for $body {
            const KIND: u16 = $kind;
            const NAME: &'static str = $name;
        })*

        /// Kind, name and fields of every session message.
        pub const SESSION_MESSAGES: &[(u16, &str, &[Field])] =
            &[$(($kind, $name, <$body as WireStruct>::FIELDS)),*];
    };
}

session_messages! {
    Hello = 0xF001 "hello";
    Welcome = 0xF002 "welcome";
    Resend = 0xF003 "resend";
    Watch = 0xF004 "watch";
    Refused = 0xF005 "refused";
    StatsRequest = 0xF006 "stats";
    StageTimes = 0xF007 "stage_times";
    NodeStats = 0xF008 "node_stats";
    UseRing = 0xF009 "use_ring";
    RingReady = 0xF00A "ring_ready";
    Wake = 0xF00B "wake";
}

/// The bytes of a session message.
pub fn encode<M: SessionMessage>(message: &M) -> Vec<u8> {
    let body = message.as_bytes();
    let prefix = Prefix {
        length: (SESSION_HEADER_BYTES + body.len()) as u32,
        kind: M::KIND,
        release: RELEASE,
    };
    let mut out = Vec::with_capacity(prefix.length as usize);
    out.extend_from_slice(bytemuck::bytes_of(&prefix));
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(body);
    out
}

/// The message in `frame` (exactly one frame), or `None` where it is no valid one of that kind.
pub fn decode<M: SessionMessage>(frame: &[u8]) -> Option<M> {
    M::try_read_from_bytes(frame.get(SESSION_HEADER_BYTES..)?).ok()
}
