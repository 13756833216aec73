//! A command as the journal keeps it: its bytes as they lie, or, where it is longer than a ring
//! slot, with the words that are zero folded away.
//!
//! ```text
//! plain    | header, flags 0 | body ..
//! folded   | header, flags 1 | mask | words .. | mask | words .. | ..
//! ```
//!
//! A batch of transfers is mostly zeros: upper halves of ids and amounts, user data nobody gave,
//! fields of other kinds of transfer. On a disk that takes every byte twice (zeros first, so that a
//! sync has no blocks to find) that was what bounded a node. Folded, 112 bytes become 42.
//!
//! The body is cut into words of 8 bytes and those into groups of 64. Each group is a mask, whose
//! bit `i` says that word `i` of the group is not zero, and the words that are not, in order. The
//! header keeps the length of the whole frame. A command has one folded form: bits beyond the body,
//! listed words that are zero and bytes left over are refused.

use super::frame::{CommandHeader, FRAME_BYTES_MAX, FrameError, HEADER_BYTES};

/// The header flag of a folded record. No frame on the wire has it.
pub const FOLDED: u32 = 1;

const WORD: usize = size_of::<u64>();
const GROUP: usize = 64;
const HEADER_WORDS: usize = HEADER_BYTES / WORD;
/// Words of the longest folded record.
const WORDS_MAX: usize = FRAME_BYTES_MAX / WORD + FRAME_BYTES_MAX / WORD / GROUP + 1;

/// Folds commands, in memory taken once.
pub struct Folder {
    words: Vec<u64>,
    /// Words in use.
    len: usize,
    /// Where the mask of the present group is.
    mask_at: usize,
    mask: u64,
    /// Words of the present group seen.
    seen: usize,
}

impl Default for Folder {
    fn default() -> Folder {
        Folder {
            words: vec![0; WORDS_MAX + 1],
            len: 0,
            mask_at: 0,
            mask: 0,
            seen: 0,
        }
    }
}

impl Folder {
    /// Begins a command.
    pub fn begin(&mut self, header: &CommandHeader) {
        let header = CommandHeader {
            flags: FOLDED,
            ..*header
        };
        bytemuck::cast_slice_mut(&mut self.words[..HEADER_WORDS])
            .copy_from_slice(bytemuck::bytes_of(&header));
        self.len = HEADER_WORDS;
        self.seen = GROUP;
        self.mask = 0;
        self.mask_at = HEADER_WORDS;
    }

    /// Adds a piece of the body: whole words, as many pieces as there are.
    #[inline]
    pub fn put(&mut self, piece: &[u8]) {
        let (mut words, rest) = piece.as_chunks::<WORD>();
        debug_assert!(rest.is_empty(), "bodies are cut at whole words");
        while !words.is_empty() {
            if self.seen == GROUP {
                self.next_group();
            }
            let (now, later) = words.split_at(words.len().min(GROUP - self.seen));
            self.fold(now);
            words = later;
        }
    }

    /// The record.
    pub fn finish(&mut self) -> &[u8] {
        self.close_group();
        bytemuck::cast_slice(&self.words[..self.len])
    }

    /// Every word is written where the next one goes; only those that are not zero move it on.
    #[inline]
    fn fold(&mut self, words: &[[u8; WORD]]) {
        let out = &mut self.words[self.len..self.len + words.len()];
        let mut kept = 0;
        for (at, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            out[kept] = word;
            let is_kept = usize::from(word != 0);
            kept += is_kept;
            self.mask |= (is_kept as u64) << (self.seen + at);
        }
        self.len += kept;
        self.seen += words.len();
    }

    fn next_group(&mut self) {
        self.close_group();
        self.mask_at = self.len;
        self.len += 1;
        self.mask = 0;
        self.seen = 0;
    }

    fn close_group(&mut self) {
        if self.mask_at < self.len {
            self.words[self.mask_at] = self.mask.to_le();
        }
    }
}

/// Whether the command in `record` lies folded; otherwise the record is its frame.
#[inline]
pub fn is_folded(record: &[u8]) -> bool {
    const FLAGS: usize = std::mem::offset_of!(CommandHeader, flags);
    record.get(FLAGS..FLAGS + 4) == Some(&FOLDED.to_le_bytes()[..])
}

/// Copies the command in `record` to `words` as it was before it was journaled, and returns its
/// length in bytes. The body is not validated here.
pub fn unfold(record: &[u8], words: &mut Vec<u128>) -> Result<usize, FrameError> {
    unfold_at(record, words, 0)
}

/// The same, from word `start` on.
pub fn unfold_at(record: &[u8], words: &mut Vec<u128>, start: usize) -> Result<usize, FrameError> {
    let bad_length = FrameError::BadLength(record.len() as u32);
    let head = record.get(..HEADER_BYTES).ok_or(bad_length)?;
    let mut header: CommandHeader = bytemuck::pod_read_unaligned(head);
    let length = header.length as usize;
    if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) || !length.is_multiple_of(16) {
        return Err(FrameError::BadLength(header.length));
    }
    let end = start + length / 16;
    if words.len() < end {
        words.resize(end, 0);
    }
    let frame = bytemuck::cast_slice_mut::<u128, u8>(&mut words[start..end]);
    if header.flags != FOLDED {
        if record.len() != length {
            return Err(FrameError::BadLength(header.length));
        }
        frame.copy_from_slice(record);
        return Ok(length);
    }
    header.flags = 0;
    let (front, body) = frame.split_at_mut(HEADER_BYTES);
    front.copy_from_slice(bytemuck::bytes_of(&header));
    let folded = &record[HEADER_BYTES..];
    unfold_body(folded, body).ok_or(FrameError::BadFold)?;
    Ok(length)
}

/// `None` where `folded` is not the one folded form of a body of that length.
fn unfold_body(folded: &[u8], body: &mut [u8]) -> Option<()> {
    let (words, rest) = folded.as_chunks::<WORD>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let (body, _) = body.as_chunks_mut::<WORD>();
    for group in body.chunks_mut(GROUP) {
        let mut mask = words.next()?;
        for word in &mut *group {
            let value = if mask & 1 == 1 { words.next()? } else { 0 };
            if mask & 1 == 1 && value == 0 {
                return None;
            }
            *word = value.to_le_bytes();
            mask >>= 1;
        }
        if mask != 0 {
            return None;
        }
    }
    (rest.is_empty() && words.next().is_none()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn frame(body: &[u64]) -> Vec<u8> {
        let header = CommandHeader {
            length: (HEADER_BYTES + body.len() * WORD) as u32,
            kind: 5,
            session: 7,
            client_sequence: 9,
            ..CommandHeader::zeroed()
        };
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    /// Folds `frame` cut into pieces of `piece` bytes.
    fn folded(frame: &[u8], piece: usize) -> Vec<u8> {
        let mut folder = Folder::default();
        // A command before it leaves nothing behind.
        folder.begin(&CommandHeader::zeroed());
        folder.put(&[0xff; 192]);
        folder.begin(&bytemuck::pod_read_unaligned(&frame[..HEADER_BYTES]));
        for piece in frame[HEADER_BYTES..].chunks(piece) {
            folder.put(piece);
        }
        folder.finish().to_vec()
    }

    /// Bodies of every density, in lengths around whole groups.
    fn bodies() -> Vec<Vec<u64>> {
        let mut state = 1u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 33
        };
        let mut bodies = Vec::new();
        for words in [2, 62, 64, 66, 128, 190, 4_096] {
            for percent in [0, 1, 36, 50, 100] {
                let word = |_| {
                    if random() % 100 < percent {
                        random() | 1
                    } else {
                        0
                    }
                };
                bodies.push((0..words).map(word).collect());
            }
        }
        bodies
    }

    #[test]
    fn what_was_folded_unfolds_to_the_same_bytes() {
        let mut words = vec![u128::MAX; 4];
        for body in bodies() {
            let frame = frame(&body);
            for piece in [8, 144, 192, 1 << 20] {
                let record = folded(&frame, piece);
                assert!(is_folded(&record) && !is_folded(&frame));
                let kept = body.iter().filter(|word| **word != 0).count();
                let masks = body.len().div_ceil(GROUP);
                assert_eq!(record.len(), HEADER_BYTES + (kept + masks) * WORD);
                let length = unfold(&record, &mut words).unwrap();
                let unfolded = &bytemuck::cast_slice::<u128, u8>(&words)[..length];
                assert_eq!(unfolded, frame);
            }
            let length = unfold(&frame, &mut words).unwrap();
            assert_eq!(
                &bytemuck::cast_slice::<u128, u8>(&words)[..length],
                frame,
                "plain"
            );
        }
    }

    #[test]
    fn a_record_that_is_no_folded_command_is_refused() {
        let mut words = Vec::new();
        let mut unfolded = |record: &[u8]| unfold(record, &mut words);
        let record = folded(&frame(&[1, 0, 2, 0]), 1 << 20);
        assert!(unfolded(&record).is_ok());
        for cut in 0..record.len() {
            assert!(unfolded(&record[..cut]).is_err(), "cut at {cut}");
        }
        let with = |at: usize, word: u64| {
            let mut record = record.clone();
            record.extend_from_slice(&word.to_le_bytes());
            if at < record.len() {
                record.truncate(record.len() - WORD);
                record[at..at + WORD].copy_from_slice(&word.to_le_bytes());
            }
            record
        };
        let mask = HEADER_BYTES;
        assert_eq!(
            unfolded(&with(mask, 0b101)),
            Ok(HEADER_BYTES + 32),
            "as it was"
        );
        for (what, bad) in [
            ("a listed word is zero", with(mask + WORD, 0)),
            ("a bit beyond the body", with(mask, 0b10001)),
            ("more words than bits", with(mask, 0b1)),
            ("fewer words than bits", with(mask, 0b111)),
            ("bytes left over", with(usize::MAX, 3)),
        ] {
            assert_eq!(unfolded(&bad), Err(FrameError::BadFold), "{what}");
        }
        for length in [0u32, 16, 40, FRAME_BYTES_MAX as u32 + 16] {
            let mut record = record.clone();
            record[..4].copy_from_slice(&length.to_le_bytes());
            assert_eq!(unfolded(&record), Err(FrameError::BadLength(length)));
        }
    }
}
