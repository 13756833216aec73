//! Two rings of bytes in memory that a node and one client on the same host share: what a connection
//! is to a socket, without the kernel between them.
//!
//! ```text
//!   page 0: magic, capacity | to the node: head, tail | to the client: head, tail | the node sleeps
//!   then the bytes to the node, then those to the client
//! ```
//! The node makes the file in memory and seals its length, so that nobody can pull a page from under
//! the other; the client opens it through the node's file descriptors (`/proc/PID/fd/N`), which the
//! system allows to whoever might also trace the node. Each head and tail has one writer and a pair of
//! cache lines to itself. Everything is written and read as atomic words, so whatever the other side
//! does to the bytes meanwhile, they are bytes: frames are copied out first and validated then.
//!
//! **Invariant**: a side believes of the other only what is possible: a head beyond a full ring or a
//! tail beyond the head is [`Broken`], and the connection ends.
//!
//! Bytes come and go in multiples of 16, as frames do.

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The smallest and largest capacity of one ring, bytes.
pub const CAPACITY: std::ops::RangeInclusive<u64> = 4_096..=1 << 26;

const MAGIC: u64 = u64::from_le_bytes(*b"mrring01");
const HEADER_BYTES: u64 = 4_096;
/// Places in the header, in words: two cache lines apart.
const CAPACITY_AT: usize = 1;
const TO_NODE: Lane = Lane { head: 16, tail: 32 };
const TO_CLIENT: Lane = Lane { head: 48, tail: 64 };
const NODE_SLEEPS: usize = 80;
/// How the node is: awake, asleep, or asleep with something for the client that found no room.
const AWAKE: u64 = 0;
const SLEEPS: u64 = 1;
const WAITS_FOR_ROOM: u64 = 2;
/// Every position is a multiple of this.
const STEP: u64 = 16;
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Where a ring keeps its positions.
#[derive(Clone, Copy, Debug)]
struct Lane {
    head: usize,
    tail: usize,
}

/// The other side wrote a position that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the other side of a shared ring wrote a position that cannot be")
    }
}

impl std::error::Error for Broken {}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, broken)
    }
}

/// The mapped file.
#[derive(Debug)]
struct Shared {
    map: MmapRaw,
    /// Bytes of each ring; a power of two.
    capacity: u64,
}

impl Shared {
    fn words(&self) -> &[AtomicU64] {
        let words = self.map.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is page-aligned, `words * 8` bytes long at least, readable and writable, and
        // lives as long as `self`; its file is sealed against shrinking, so every page of it stays. All
        // access on either side is through atomics, and every bit pattern is an `AtomicU64`.
        unsafe { std::slice::from_raw_parts(self.map.as_mut_ptr().cast::<AtomicU64>(), words) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words()[at]
    }

    /// The bytes of a lane, as words.
    fn lane(&self, lane: Lane) -> &[AtomicU64] {
        let ring = (self.capacity / 8) as usize;
        let first = (HEADER_BYTES / 8) as usize;
        let from = if lane.head == TO_NODE.head {
            first
        } else {
            first + ring
        };
        &self.words()[from..from + ring]
    }
}

/// The writing end of a ring.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    lane: Lane,
    head: u64,
    tail_seen: u64,
}

impl Sender {
    /// Writes as much of `bytes` as there is room for, and returns how much that is: a multiple of 16.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut room = self.room();
        if room < bytes.len() as u64 {
            self.look()?;
            room = self.room();
        }
        let count = room.min(bytes.len() as u64) & !(STEP - 1);
        if count == 0 {
            return Ok(0);
        }
        let ring = self.shared.lane(self.lane);
        let mask = ring.len() - 1;
        let (words, _) = bytes[..count as usize].as_chunks();
        for (at, word) in ((self.head / 8) as usize..).zip(words) {
            ring[at & mask].store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        self.head += count;
        let head = self.shared.word(self.lane.head);
        head.store(self.head, Ordering::Release);
        Ok(count as usize)
    }

    /// Whether something can be written.
    pub fn has_room(&mut self) -> Result<bool, Broken> {
        if self.room() < STEP {
            self.look()?;
        }
        Ok(self.room() >= STEP)
    }

    fn room(&self) -> u64 {
        self.shared.capacity - (self.head - self.tail_seen)
    }

    fn look(&mut self) -> Result<(), Broken> {
        let tail = self.shared.word(self.lane.tail).load(Ordering::Acquire);
        if tail < self.tail_seen || tail > self.head || !tail.is_multiple_of(STEP) {
            return Err(Broken);
        }
        self.tail_seen = tail;
        Ok(())
    }
}

/// The reading end of a ring.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    lane: Lane,
    tail: u64,
}

impl Receiver {
    /// Whether there is something to read.
    #[inline]
    pub fn has_data(&self) -> bool {
        self.shared.word(self.lane.head).load(Ordering::Acquire) != self.tail
    }

    /// Reads as much as there is and fits, and returns how much that is: a multiple of 16.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        let head = self.shared.word(self.lane.head).load(Ordering::Acquire);
        if head < self.tail || head - self.tail > self.shared.capacity || !head.is_multiple_of(STEP)
        {
            return Err(Broken);
        }
        let count = (head - self.tail).min(into.len() as u64) & !(STEP - 1);
        if count == 0 {
            return Ok(0);
        }
        let ring = self.shared.lane(self.lane);
        let mask = ring.len() - 1;
        let (words, _) = into[..count as usize].as_chunks_mut::<8>();
        for (at, word) in ((self.tail / 8) as usize..).zip(words) {
            *word = ring[at & mask].load(Ordering::Relaxed).to_ne_bytes();
        }
        self.tail += count;
        let tail = self.shared.word(self.lane.tail);
        tail.store(self.tail, Ordering::Release);
        Ok(count as usize)
    }
}

impl io::Read for Receiver {
    /// As [`Receiver::read`]; [`io::ErrorKind::WouldBlock`] where there is nothing.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match Receiver::read(self, into)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl io::Write for Sender {
    /// As [`Sender::write`]; [`io::ErrorKind::WouldBlock`] where there is no room.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Sender::write(self, bytes)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            written => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The node's end.
#[derive(Debug)]
pub struct NodeEnd {
    /// Bytes from the client.
    pub input: Receiver,
    /// Bytes to the client.
    pub output: Sender,
    file: File,
}

impl NodeEnd {
    /// Makes a file in memory with two empty rings of `capacity` bytes, a power of two.
    ///
    /// # Errors
    /// What the system says where it gives no memory.
    pub fn create(capacity: u64) -> io::Result<NodeEnd> {
        assert!(capacity.is_power_of_two() && CAPACITY.contains(&capacity));
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let file = File::from(memfd_create("millrace-ring", flags)?);
        file.set_len(HEADER_BYTES + 2 * capacity)?;
        fcntl_add_seals(&file, SEALS)?;
        let map = MmapRaw::map_raw(&file)?;
        let shared = Arc::new(Shared { map, capacity });
        shared.word(CAPACITY_AT).store(capacity, Ordering::Relaxed);
        shared.word(0).store(MAGIC, Ordering::Release);
        Ok(NodeEnd {
            input: Receiver {
                shared: shared.clone(),
                lane: TO_NODE,
                tail: 0,
            },
            output: Sender {
                shared,
                lane: TO_CLIENT,
                head: 0,
                tail_seen: 0,
            },
            file,
        })
    }

    /// The file's descriptor in this process, which the client opens it by.
    pub fn descriptor(&self) -> u32 {
        self.file.as_raw_fd().unsigned_abs()
    }

    /// The node will sleep: from now on the client says when it has written, and where the node
    /// `waits_for_room`, when it has read. Whoever sleeps looks at the rings once more after this.
    pub fn will_sleep(&self, waits_for_room: bool) {
        let sleeps = self.input.shared.word(NODE_SLEEPS);
        let how = if waits_for_room {
            WAITS_FOR_ROOM
        } else {
            SLEEPS
        };
        sleeps.store(how, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The node is awake.
    pub fn is_awake(&self) {
        let sleeps = self.input.shared.word(NODE_SLEEPS);
        sleeps.store(AWAKE, Ordering::Relaxed);
    }
}

/// The client's end.
#[derive(Debug)]
pub struct ClientEnd {
    /// Bytes from the node.
    pub input: Receiver,
    /// Bytes to the node.
    pub output: Sender,
}

impl ClientEnd {
    /// Opens what process `pid` holds under `descriptor`.
    ///
    /// # Errors
    /// What the system says where it may not be opened, or why it is no ring of a node.
    pub fn open(pid: u32, descriptor: u32) -> io::Result<ClientEnd> {
        let path = format!("/proc/{pid}/fd/{descriptor}");
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let not = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
        if !fcntl_get_seals(&file)?.contains(SEALS) {
            return Err(not("the file that the node named may change its length"));
        }
        let length = file.metadata()?.len();
        let capacity = length.saturating_sub(HEADER_BYTES) / 2;
        if !capacity.is_power_of_two()
            || !CAPACITY.contains(&capacity)
            || length != HEADER_BYTES + 2 * capacity
        {
            return Err(not(
                "the file that the node named has not the length of a ring",
            ));
        }
        let map = MmapRaw::map_raw(&file)?;
        let shared = Arc::new(Shared { map, capacity });
        if shared.word(0).load(Ordering::Acquire) != MAGIC
            || shared.word(CAPACITY_AT).load(Ordering::Relaxed) != capacity
        {
            return Err(not("the file that the node named is no ring"));
        }
        Ok(ClientEnd {
            input: Receiver {
                shared: shared.clone(),
                lane: TO_CLIENT,
                tail: 0,
            },
            output: Sender {
                shared,
                lane: TO_NODE,
                head: 0,
                tail_seen: 0,
            },
        })
    }

    /// Whether the node sleeps and must be woken for what was just written. Says so once.
    #[inline]
    pub fn must_wake_having_written(&self) -> bool {
        self.must_wake(SLEEPS)
    }

    /// Whether the node sleeps until there is room, and must be woken for what was just read. Says so
    /// once.
    #[inline]
    pub fn must_wake_having_read(&self) -> bool {
        self.must_wake(WAITS_FOR_ROOM)
    }

    #[inline]
    fn must_wake(&self, from: u64) -> bool {
        fence(Ordering::SeqCst);
        let sleeps = self.output.shared.word(NODE_SLEEPS);
        sleeps.load(Ordering::Relaxed) >= from && sleeps.swap(AWAKE, Ordering::AcqRel) != AWAKE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(capacity: u64) -> (NodeEnd, ClientEnd) {
        let node = NodeEnd::create(capacity).expect("made");
        let client = ClientEnd::open(std::process::id(), node.descriptor()).expect("opened");
        (node, client)
    }

    fn bytes(count: usize, first: u8) -> Vec<u8> {
        (0..count).map(|at| first.wrapping_add(at as u8)).collect()
    }

    #[test]
    fn bytes_come_out_as_they_went_in_around_the_end() {
        let (mut node, mut client) = both(4_096);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        let mut room = [0; 992];
        for round in 0..100u8 {
            let piece = bytes(16 * (usize::from(round) % 61 + 1), round);
            let mut rest = &piece[..];
            while !rest.is_empty() {
                rest = &rest[client.output.write(rest).unwrap()..];
                assert!(node.input.has_data());
                let read = node.input.read(&mut room).unwrap();
                received.extend_from_slice(&room[..read]);
            }
            sent.extend(piece);
        }
        while node.input.has_data() {
            let read = node.input.read(&mut room).unwrap();
            received.extend_from_slice(&room[..read]);
        }
        assert_eq!(received, sent);
        assert_eq!(node.input.read(&mut room), Ok(0));
    }

    #[test]
    fn a_full_ring_takes_no_more_until_it_is_read() {
        let (mut node, mut client) = both(4_096);
        assert_eq!(node.output.write(&bytes(5_000, 0)), Ok(4_096));
        assert_eq!(node.output.has_room(), Ok(false));
        assert_eq!(node.output.write(&bytes(16, 0)), Ok(0));
        let mut room = [0; 40];
        assert_eq!(client.input.read(&mut room), Ok(32), "a multiple of 16");
        assert_eq!(node.output.has_room(), Ok(true));
        assert_eq!(node.output.write(&bytes(64, 0)), Ok(32));
    }

    #[test]
    fn positions_that_cannot_be_end_it() {
        for (place, value) in [
            (TO_NODE.head, 4_096 + 16),
            (TO_NODE.head, u64::MAX),
            (TO_NODE.head, 8),
        ] {
            let (mut node, client) = both(4_096);
            client
                .output
                .shared
                .word(place)
                .store(value, Ordering::Release);
            assert_eq!(node.input.read(&mut [0; 64]), Err(Broken), "{value}");
        }
        for value in [16, u64::MAX, 8] {
            let (mut node, client) = both(4_096);
            let tail = client.input.shared.word(TO_CLIENT.tail);
            node.output.write(&bytes(4_096, 0)).unwrap();
            tail.store(
                if value == 16 { 4_096 + 16 } else { value },
                Ordering::Release,
            );
            assert_eq!(node.output.has_room(), Err(Broken), "{value}");
        }
    }

    #[test]
    fn the_file_keeps_its_length() {
        let (node, _client) = both(4_096);
        assert!(node.file.set_len(0).is_err());
        assert!(node.file.set_len(1 << 20).is_err());
    }

    #[test]
    fn what_is_no_ring_is_not_opened() {
        let pid = std::process::id();
        let file = tempfile::tempfile().unwrap();
        file.set_len(HEADER_BYTES + 2 * 4_096).unwrap();
        assert!(ClientEnd::open(pid, file.as_raw_fd().unsigned_abs()).is_err());
        assert!(ClientEnd::open(pid, 1_000_000).is_err());
        let sealed = File::from(memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap());
        sealed.set_len(HEADER_BYTES + 2 * 4_096).unwrap();
        fcntl_add_seals(&sealed, SEALS).unwrap();
        let error = ClientEnd::open(pid, sealed.as_raw_fd().unsigned_abs()).unwrap_err();
        assert!(error.to_string().contains("is no ring"), "{error}");
    }

    #[test]
    fn a_sleeping_node_is_woken_once() {
        let (node, client) = both(4_096);
        assert!(!client.must_wake_having_written());
        node.will_sleep(false);
        assert!(!client.must_wake_having_read());
        assert!(client.must_wake_having_written());
        assert!(!client.must_wake_having_written());
        node.will_sleep(true);
        assert!(client.must_wake_having_read());
        assert!(!client.must_wake_having_read());
        node.will_sleep(true);
        node.is_awake();
        assert!(!client.must_wake_having_written());
    }

    #[test]
    fn two_threads_pass_many_frames() {
        let (mut node, mut client) = both(4_096);
        const WORDS: u64 = 200_000;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for word in 0..WORDS {
                    let frame = [word.to_le_bytes(), (!word).to_le_bytes()].concat();
                    while client.output.write(&frame).unwrap() == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0;
            let mut room = [0; 1_024];
            while next < WORDS {
                let read = node.input.read(&mut room).unwrap();
                for frame in room[..read].as_chunks::<16>().0 {
                    assert_eq!(frame[..8], next.to_le_bytes());
                    assert_eq!(frame[8..], (!next).to_le_bytes());
                    next += 1;
                }
                if read == 0 {
                    std::thread::yield_now();
                }
            }
        });
    }
}
