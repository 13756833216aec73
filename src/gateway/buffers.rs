//! The two buffers of a connection: bytes that came and bytes that wait to go.

use crate::protocol::frame::{FRAME_BYTES_MAX, Prefix};
use std::io::{self, Read, Write};

/// Bytes that came, cut into frames where they lie.
///
/// It is made of 16-byte words and every frame is a multiple of 16 long, so a frame always begins
/// at a multiple of 16 and is decoded, stamped and published without being moved first.
pub struct Input {
    words: Vec<u128>,
    start: usize,
    end: usize,
    normal_words: usize,
    /// What it has now where no long frame is in it: little until a read first fills it, so that a
    /// connection that is idle costs little.
    usual_words: usize,
    /// Reads since the buffer was last needed at its present size.
    too_large_for: u32,
}

/// Reads after which a buffer that grew for a long frame goes back to normal. Whoever sends batches
/// sends more of them, and pages given back are pages to be taken again.
const SHRINK_AFTER_READS: u32 = 64;

/// Words of a buffer that was never filled: 4 KiB.
const FIRST_WORDS: usize = 256;

/// What lies at the front of an [`Input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Not yet a whole frame.
    Partial,
    /// A whole frame.
    Frame(Prefix),
    /// A length that no frame has.
    BadLength(u32),
}

impl Input {
    /// A buffer of `bytes`, once it is needed.
    pub fn new(bytes: usize) -> Input {
        let normal_words = bytes.div_ceil(16);
        let usual_words = normal_words.min(FIRST_WORDS);
        Input {
            words: vec![0; usual_words],
            start: 0,
            end: 0,
            normal_words,
            usual_words,
            too_large_for: 0,
        }
    }

    /// Reads once, as much as there is room for. Returns the bytes read and whether the room was
    /// filled; 0 bytes are the end of the stream.
    pub fn read_from(&mut self, stream: &mut impl Read) -> io::Result<(usize, bool)> {
        self.make_room();
        let free = &mut bytemuck::cast_slice_mut(&mut self.words)[self.end..];
        debug_assert!(!free.is_empty(), "a whole frame fits and was taken");
        let room = free.len();
        let read = stream.read(free)?;
        self.end += read;
        if read == room {
            self.usual_words = self.normal_words;
        }
        Ok((read, read == room))
    }

    /// What lies at the front.
    #[inline]
    pub fn front(&self) -> Front {
        let bytes = self.bytes();
        let Some(head) = bytes.get(..size_of::<Prefix>()) else {
            return Front::Partial;
        };
        let prefix: Prefix = bytemuck::pod_read_unaligned(head);
        let length = prefix.length as usize;
        if !(16..=FRAME_BYTES_MAX).contains(&length) || !length.is_multiple_of(16) {
            Front::BadLength(prefix.length)
        } else if bytes.len() < length {
            Front::Partial
        } else {
            Front::Frame(prefix)
        }
    }

    /// The first `length` bytes, to stamp and to read.
    #[inline]
    pub fn frame_mut(&mut self, length: usize) -> &mut [u8] {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        &mut bytes[self.start..self.start + length]
    }

    /// Forgets the first `length` bytes.
    #[inline]
    pub fn consume(&mut self, length: usize) {
        self.start += length;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[self.start..self.end]
    }

    /// Moves a begun frame to the front, and fits the buffer to it: as large as the frame needs,
    /// back to normal when no long frame has come for a while.
    fn make_room(&mut self) {
        let held = self.end - self.start;
        let mut needed = self.usual_words;
        if let Some(head) = self.bytes().get(..size_of::<Prefix>()) {
            let length = bytemuck::pod_read_unaligned::<Prefix>(head).length as usize;
            needed = needed.max(length.min(FRAME_BYTES_MAX).div_ceil(16));
        }
        if self.start > 0 {
            let (start, end) = (self.start, self.end);
            bytemuck::cast_slice_mut::<u128, u8>(&mut self.words).copy_within(start..end, 0);
            self.start = 0;
            self.end = held;
        }
        if self.words.len() <= needed {
            self.words.resize(needed, 0);
            self.too_large_for = 0;
            return;
        }
        self.too_large_for += 1;
        if self.too_large_for > SHRINK_AFTER_READS && held <= needed * 16 {
            self.words.truncate(needed);
            self.words.shrink_to_fit();
            self.too_large_for = 0;
        }
    }
}

/// Bytes that wait to go.
pub struct Output {
    bytes: Vec<u8>,
    start: usize,
    bound: usize,
    /// Times in a row that it emptied and had been far too large.
    too_large_for: u32,
}

/// What a buffer of bytes to be sent keeps for good.
const OUTPUT_KEEPS_BYTES: usize = 64 << 10;

impl Output {
    /// A buffer that takes events until `bound` bytes wait.
    pub fn new(bound: usize) -> Output {
        Output {
            bytes: Vec::new(),
            start: 0,
            bound,
            too_large_for: 0,
        }
    }

    /// Adds a frame, or refuses because the bound is reached.
    #[inline]
    #[must_use]
    pub fn push(&mut self, frame: &[u8]) -> bool {
        if self.pending() + frame.len() > self.bound {
            return false;
        }
        self.bytes.extend_from_slice(frame);
        true
    }

    /// Adds a session message whatever waits: they are few, since a connection over its bound is
    /// not read from.
    pub fn push_message(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    /// Bytes that wait.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether the bound is reached.
    pub fn is_full(&self) -> bool {
        self.pending() >= self.bound
    }

    /// Writes once. True when nothing waits any more.
    pub fn write_to(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        let written = stream.write(&self.bytes[self.start..])?;
        self.start += written;
        if self.start == self.bytes.len() {
            self.empty();
            return Ok(true);
        }
        // What was written is cut off once it is the larger half, so every byte moves once at most.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        Ok(false)
    }

    /// All is sent. What one burst needed is given back when no other has come for a while.
    fn empty(&mut self) {
        let is_large = self.bytes.capacity() > OUTPUT_KEEPS_BYTES;
        if is_large && self.bytes.len() < self.bytes.capacity() / 4 {
            self.too_large_for += 1;
        } else {
            self.too_large_for = 0;
        }
        self.bytes.clear();
        self.start = 0;
        if self.too_large_for > SHRINK_AFTER_READS {
            self.bytes.shrink_to(OUTPUT_KEEPS_BYTES);
            self.too_large_for = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u32) -> Vec<u8> {
        let mut bytes = vec![7; length as usize];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// A stream that gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let bytes = self.1.min(out.len()).min(self.0.len());
            out[..bytes].copy_from_slice(&self.0[..bytes]);
            self.0 = &self.0[bytes..];
            Ok(bytes)
        }
    }

    #[test]
    fn frames_come_out_whole_and_aligned_however_they_arrive() {
        let lengths = [16, 96, 4_096, 64, 4_112, FRAME_BYTES_MAX as u32, 48, 16];
        let stream: Vec<u8> = lengths.iter().flat_map(|length| frame(*length)).collect();
        for step in [1, 7, 100, 4_096, 1 << 20] {
            // One byte at a time is slow over a long frame; begin it quickly then.
            if step < 100 && lengths.iter().any(|length| *length > 1 << 19) {
                let short: Vec<u8> = [16, 96, 4_096, 64].iter().flat_map(|l| frame(*l)).collect();
                assert_eq!(cut(&short, step), [16, 96, 4_096, 64]);
                continue;
            }
            assert_eq!(cut(&stream, step), lengths);
        }
    }

    fn cut(stream: &[u8], step: usize) -> Vec<u32> {
        let mut input = Input::new(4_096);
        let mut trickle = Trickle(stream, step);
        let mut found = Vec::new();
        while input.read_from(&mut trickle).unwrap().0 > 0 {
            while let Front::Frame(prefix) = input.front() {
                let bytes = input.frame_mut(prefix.length as usize);
                assert!(bytes.as_ptr().addr().is_multiple_of(16));
                assert_eq!(bytes, frame(prefix.length));
                input.consume(prefix.length as usize);
                found.push(prefix.length);
            }
        }
        assert!(input.words.len() * 16 <= FRAME_BYTES_MAX.max(4_096));
        found
    }

    #[test]
    fn impossible_lengths_are_seen() {
        for length in [0, 8, 15, 17, FRAME_BYTES_MAX as u32 + 16, u32::MAX] {
            let mut input = Input::new(4_096);
            let mut head = length.to_le_bytes().to_vec();
            head.extend([0; 4]);
            input.read_from(&mut &head[..]).unwrap();
            assert_eq!(input.front(), Front::BadLength(length));
        }
    }

    #[test]
    fn output_keeps_its_bound_and_its_order() {
        let mut output = Output::new(100);
        assert!(output.push(&[1; 60]));
        assert!(!output.push(&[2; 60]));
        output.push_message(&[3; 60]);
        assert!(output.is_full());
        let mut sent = Vec::new();
        struct Narrow<'a>(&'a mut Vec<u8>);
        impl Write for Narrow<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let bytes = &bytes[..bytes.len().min(7)];
                self.0.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        while !output.write_to(&mut Narrow(&mut sent)).unwrap() {}
        assert_eq!(sent, [[1; 60], [3; 60]].concat());
    }
}
