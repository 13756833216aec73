//! Frames: a header (48 bytes for commands, 64 for events) and a body, and the ring slots they ride
//! in. All frames begin with length, kind and release, so a stream can be cut without knowing more.
//!
//! ```text
//! command  0        4     6        8        16               24            32    40     44
//!          | length | kind | release | session | client_sequence | received_at | user | flags | - | body ..
//! event    0        4     6         8          16        24                32   40      44      48            56
//!          | length | kind | release | sequence | session | client_sequence | at | index | flags | executed_at | - | body ..
//! ```
//! Lengths count the whole frame and are multiples of 16, so bodies stay aligned wherever frames
//! follow each other. A command longer than one slot (a batch) rides in consecutive slots, cut
//! every [`SLOT_BYTES`]; its pieces are published at once and put together by the executor.

use super::command::{BodyError, Command, CommandKind};
use super::event::{Event, EventKind};
use super::wire::{Field, WireType};
use super::{RELEASE, units::Timestamp};
use bytemuck::{Pod, Zeroable};
use zerocopy::{Immutable, IntoBytes};

/// Bytes of a ring slot: a header and a body of at most [`BODY_BYTES_MAX`].
pub const SLOT_BYTES: usize = 192;
/// Bytes of a command's header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of an event's header.
pub const EVENT_HEADER_BYTES: usize = 64;
/// Bytes of a command's longest body without a list.
pub const BODY_BYTES_MAX: usize = SLOT_BYTES - HEADER_BYTES;
/// Bytes of an event's longest body.
pub const EVENT_BODY_BYTES_MAX: usize = SLOT_BYTES - EVENT_HEADER_BYTES;
/// Bytes of the longest frame: a full batch of transfers.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + 16 + super::command::ITEMS_MAX * 112;

/// The first 8 bytes of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Prefix {
    /// Bytes of the whole frame, a multiple of 16.
    pub length: u32,
    /// Kind code: of a command, an event or a session message.
    pub kind: u16,
    /// Protocol release that wrote the frame.
    pub release: u16,
}

/// Head of a command. Every bit pattern is legal; the kind and the body are validated at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CommandHeader {
    /// Bytes of the whole frame, a multiple of 16.
    pub length: u32,
    /// Code of a [`CommandKind`].
    pub kind: u16,
    /// Protocol release that wrote the frame.
    pub release: u16,
    /// The session it came by, 0 for a script or the node itself.
    pub session: u64,
    /// Its number within the session: 1, 2, 3 ... A query carries any number, which its answer
    /// repeats.
    pub client_sequence: u64,
    /// When the door received it, ns since the Unix epoch. Stamped by the door.
    pub received_at: u64,
    /// Who asked, for commands that need a second person; 0 for nobody in particular.
    pub user: u64,
    /// Zero.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// Head of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EventHeader {
    /// Bytes of the whole frame, a multiple of 16.
    pub length: u32,
    /// Code of an [`EventKind`].
    pub kind: u16,
    /// Protocol release that wrote the frame.
    pub release: u16,
    /// Journal sequence of the command; a query repeats the last.
    pub sequence: u64,
    /// Session of the command.
    pub session: u64,
    /// Client sequence of the command.
    pub client_sequence: u64,
    /// The engine's now, ns since the Unix epoch.
    pub at: u64,
    /// Number of the event within its command: 0, 1, 2 ...
    pub index: u32,
    /// [`LAST_EVENT`], [`QUERY_ANSWER`].
    pub flags: u32,
    /// When the executor handed it on, ns since the Unix epoch: for measuring only, and 0 where no
    /// pipeline carried it.
    pub executed_at: u64,
    /// Zero.
    pub reserved: u64,
}

/// Flag of the last event of a command.
pub const LAST_EVENT: u32 = 1;
/// Flag of the answer to a query.
pub const QUERY_ANSWER: u32 = 2;

const _: () = {
    assert!(size_of::<Prefix>() == 8);
    assert!(size_of::<CommandHeader>() == HEADER_BYTES);
    assert!(size_of::<EventHeader>() == EVENT_HEADER_BYTES);
    assert!(size_of::<CommandSlot>() == SLOT_BYTES && align_of::<CommandSlot>() == 64);
    assert!(size_of::<EventSlot>() == SLOT_BYTES && align_of::<EventSlot>() == 64);
    assert!(FRAME_BYTES_MAX < 1 << 20);
    let mut at = 0;
    while at < CommandKind::ALL.len() {
        assert!(CommandKind::ALL[at].body_size() <= BODY_BYTES_MAX);
        at += 1;
    }
    let mut at = 0;
    while at < EventKind::ALL.len() {
        assert!(EventKind::ALL[at].body_size() <= EVENT_BODY_BYTES_MAX);
        at += 1;
    }
};

/// One slot of the ingress ring: a whole short command, or a piece of a long one.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct CommandSlot {
    /// Header and body, or the next bytes of a long command.
    pub bytes: [u8; SLOT_BYTES],
}

/// One slot of the egress ring: a whole event.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct EventSlot {
    /// Its head.
    pub header: EventHeader,
    /// Its body; what lies beyond the frame's length is stale.
    pub body: [u8; EVENT_BODY_BYTES_MAX],
}

impl Default for CommandSlot {
    fn default() -> CommandSlot {
        CommandSlot::zeroed()
    }
}

impl Default for EventSlot {
    fn default() -> EventSlot {
        EventSlot::zeroed()
    }
}

impl CommandSlot {
    /// The header of the command that begins in this slot.
    #[inline]
    pub fn header(&self) -> &CommandHeader {
        bytemuck::from_bytes(&self.bytes[..HEADER_BYTES])
    }

    /// The whole command, if this slot holds it whole.
    #[inline]
    pub fn command(&self) -> Option<CommandRef<'_>> {
        let length = self.header().length as usize;
        (length <= SLOT_BYTES).then(|| CommandRef {
            header: self.header(),
            body: &self.bytes[HEADER_BYTES..length],
        })
    }
}

/// Slots a frame of `length` bytes takes.
#[inline]
pub const fn slots_of(length: usize) -> usize {
    length.div_ceil(SLOT_BYTES)
}

/// A command frame where it lies: in a slot, a mapped journal, a socket buffer.
#[derive(Clone, Copy, Debug)]
pub struct CommandRef<'a> {
    /// Its head.
    pub header: &'a CommandHeader,
    /// Its body, its list included.
    pub body: &'a [u8],
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The length is shorter than a header, longer than a frame may be, or no multiple of 16.
    BadLength(u32),
    /// No such kind of command.
    UnknownKind(u16),
    /// Written by a release this one does not know.
    NewerRelease(u16),
    /// Reserved header fields are not zero.
    ReservedNotZero,
    /// A record says that it is folded, and is not as folding would leave it.
    BadFold,
    /// The bytes do not lie at a multiple of 16.
    Misaligned,
    /// The body is not one of its kind.
    BadBody(CommandKind, BodyError),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::BadLength(length) => write!(
                f,
                "frame length {length} is not a multiple of 16 between 16 and {FRAME_BYTES_MAX}"
            ),
            FrameError::UnknownKind(kind) => write!(f, "no command has kind {kind}"),
            FrameError::NewerRelease(release) => write!(
                f,
                "frame of release {release}, this is release {RELEASE}: upgrade first"
            ),
            FrameError::ReservedNotZero => f.write_str("reserved header fields are not zero"),
            FrameError::BadFold => f.write_str("the folded body is not one"),
            FrameError::Misaligned => f.write_str("frame is not aligned to 16 bytes"),
            FrameError::BadBody(kind, error) => write!(f, "{kind}: {error}"),
        }
    }
}

impl std::error::Error for FrameError {}

impl<'a> CommandRef<'a> {
    /// The frame in `bytes`, which must be exactly one frame. Checks lengths only; call
    /// [`CommandRef::decode`] to validate kind and body.
    #[inline]
    pub fn from_bytes(bytes: &'a [u8]) -> Result<CommandRef<'a>, FrameError> {
        if bytes.len() < HEADER_BYTES {
            return Err(FrameError::BadLength(bytes.len() as u32));
        }
        let (head, body) = bytes.split_at(HEADER_BYTES);
        let header: &CommandHeader =
            bytemuck::try_from_bytes(head).map_err(|_| FrameError::Misaligned)?;
        if header.length as usize != bytes.len() {
            return Err(FrameError::BadLength(header.length));
        }
        Ok(CommandRef { header, body })
    }

    /// Its kind, if this release knows it.
    #[inline]
    pub fn kind(&self) -> Option<CommandKind> {
        CommandKind::from_code(self.header.kind)
    }

    /// Validates kind, reserved fields and body: the door's one check, and every reader's.
    #[inline(always)]
    pub fn decode(&self) -> Result<Command<'a>, FrameError> {
        if self.header.release > RELEASE {
            return Err(FrameError::NewerRelease(self.header.release));
        }
        let kind = self
            .kind()
            .ok_or(FrameError::UnknownKind(self.header.kind))?;
        if self.header.flags != 0 || self.header.reserved != 0 {
            return Err(FrameError::ReservedNotZero);
        }
        Command::decode(kind, self.body).map_err(|error| FrameError::BadBody(kind, error))
    }
}

/// A command frame that owns its bytes, 16-byte aligned: what scripts and clients build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFrame {
    words: Vec<u128>,
}

impl CommandFrame {
    /// A frame of `kind` around one body.
    pub fn new<B: IntoBytes + Immutable>(kind: CommandKind, body: &B) -> CommandFrame {
        CommandFrame::from_parts(kind, body.as_bytes(), &[])
    }

    /// A frame of `kind` around a head and its list.
    pub fn with_items<B, I>(kind: CommandKind, head: &B, items: &[I]) -> CommandFrame
    where
        B: IntoBytes + Immutable,
        I: IntoBytes + Immutable,
    {
        CommandFrame::from_parts(kind, head.as_bytes(), items.as_bytes())
    }

    /// A frame of `kind` around body bytes in two parts. Both must be multiples of 16 long.
    pub fn from_parts(kind: CommandKind, body: &[u8], items: &[u8]) -> CommandFrame {
        let length = HEADER_BYTES + body.len() + items.len();
        assert!(
            length.is_multiple_of(16),
            "bodies are multiples of 16 bytes"
        );
        let mut frame = CommandFrame {
            words: vec![0; length / 16],
        };
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut frame.words);
        bytes[HEADER_BYTES..][..body.len()].copy_from_slice(body);
        bytes[HEADER_BYTES + body.len()..].copy_from_slice(items);
        *frame.header_mut() = CommandHeader {
            length: length as u32,
            kind: kind as u16,
            release: RELEASE,
            ..Zeroable::zeroed()
        };
        frame
    }

    /// A copy of a frame that lies elsewhere.
    pub fn copy_of(command: CommandRef<'_>) -> CommandFrame {
        let mut words = vec![0u128; command.header.length as usize / 16];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(command.header));
        bytes[HEADER_BYTES..].copy_from_slice(command.body);
        CommandFrame { words }
    }

    /// The same frame, received at `at`.
    #[must_use]
    pub fn at(mut self, at: Timestamp) -> CommandFrame {
        self.header_mut().received_at = at.0;
        self
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    /// Its head.
    pub fn header(&self) -> &CommandHeader {
        bytemuck::from_bytes(&self.bytes()[..HEADER_BYTES])
    }

    /// Its head, to stamp.
    pub fn header_mut(&mut self) -> &mut CommandHeader {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        bytemuck::from_bytes_mut(&mut bytes[..HEADER_BYTES])
    }

    /// It, where it lies.
    pub fn as_ref(&self) -> CommandRef<'_> {
        CommandRef {
            header: self.header(),
            body: &self.bytes()[HEADER_BYTES..],
        }
    }
}

impl EventSlot {
    /// Its kind, if this release knows it.
    pub fn kind(&self) -> Option<EventKind> {
        EventKind::from_code(self.header.kind)
    }

    /// Its body bytes.
    pub fn body(&self) -> &[u8] {
        &self.body[..self.header.length as usize - EVENT_HEADER_BYTES]
    }

    /// The bytes that travel.
    pub fn frame(&self) -> &[u8] {
        &bytemuck::bytes_of(self)[..self.header.length as usize]
    }

    /// The event, validated.
    pub fn event(&self) -> Option<Event<'_>> {
        Event::decode(self.kind()?, self.body())
    }

    /// Whether no event of the same command follows.
    pub fn is_last(&self) -> bool {
        self.header.flags & LAST_EVENT != 0
    }

    /// The event frame in `bytes`, which must be exactly one.
    pub fn from_frame(bytes: &[u8]) -> Option<EventSlot> {
        if bytes.len() < EVENT_HEADER_BYTES || bytes.len() > SLOT_BYTES {
            return None;
        }
        let mut slot = EventSlot::zeroed();
        bytemuck::bytes_of_mut(&mut slot)[..bytes.len()].copy_from_slice(bytes);
        (slot.header.length as usize == bytes.len()).then_some(slot)
    }
}

/// The rows of the two headers, for the byte map.
pub const COMMAND_HEADER_FIELDS: &[Field] = &[
    header_field(
        "length",
        "u32",
        0,
        4,
        "Bytes of the whole frame, a multiple of 16.",
    ),
    header_field("kind", "u16", 4, 2, "Code of the command kind."),
    header_field(
        "release",
        "u16",
        6,
        2,
        "Protocol release that wrote the frame.",
    ),
    header_field(
        "session",
        "u64",
        8,
        8,
        "Session it came by, 0 for a script or the node itself.",
    ),
    header_field(
        "client_sequence",
        "u64",
        16,
        8,
        "Its number within the session.",
    ),
    header_field(
        "received_at",
        "Timestamp",
        24,
        8,
        "When the door received it; clients send 0.",
    ),
    header_field(
        "user",
        "u64",
        32,
        8,
        "Who asked, 0 for nobody in particular.",
    ),
    header_field("flags", "u32", 40, 4, "Zero."),
    header_field("reserved", "u32", 44, 4, "Zero."),
];

/// The rows of the event header, for the byte map.
pub const EVENT_HEADER_FIELDS: &[Field] = &[
    header_field(
        "length",
        "u32",
        0,
        4,
        "Bytes of the whole frame, a multiple of 16.",
    ),
    header_field("kind", "u16", 4, 2, "Code of the event kind."),
    header_field(
        "release",
        "u16",
        6,
        2,
        "Protocol release that wrote the frame.",
    ),
    header_field(
        "sequence",
        "u64",
        8,
        8,
        "Journal sequence of the command; a query repeats the last.",
    ),
    header_field("session", "u64", 16, 8, "Session of the command."),
    header_field(
        "client_sequence",
        "u64",
        24,
        8,
        "Client sequence of the command.",
    ),
    header_field("at", "Timestamp", 32, 8, "The engine's now."),
    header_field(
        "index",
        "u32",
        40,
        4,
        "Number of the event within its command.",
    ),
    header_field(
        "flags",
        "u32",
        44,
        4,
        "1 last event of its command, 2 answer to a query.",
    ),
    header_field(
        "executed_at",
        "Timestamp",
        48,
        8,
        "When the executor handed it on, for measuring; 0 where no pipeline carried it.",
    ),
    header_field("reserved", "u64", 56, 8, "Zero."),
];

const fn header_field(
    name: &'static str,
    type_name: &'static str,
    offset: usize,
    size: usize,
    doc: &'static str,
) -> Field {
    Field {
        name,
        type_name,
        wire: WireType::Unsigned,
        offset,
        size,
        default: None,
        doc,
    }
}
