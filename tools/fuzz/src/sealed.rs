//! The journal, forged: labels, links and frames whose checksums are right and whose numbers are
//! the input's. No disk makes such bytes by accident; a careless tool could, and checksums are no
//! secret.
//!
//! - No reader panics, hangs or takes memory that a number asks for.
//! - What comes out of a reader comes in order, and what opens can be read and goes on.

use crate::journal::examine;
use crate::source::Source;

const FRAMES_OFFSET: usize = 4_096;
const HEADER_BYTES: usize = 32;

/// One input: up to three segments.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let from = source.odd_u64();
    let mut chain = [0; 32];
    let mut sequence = 1;
    let count = 1 + source.below(3);
    let files: Vec<Option<Vec<u8>>> = (1..=count as u64)
        .map(|index| {
            let forged = segment(&mut source, index, &mut sequence, chain);
            chain = forged.chain;
            Some(forged.bytes)
        })
        .collect();
    examine(&files, from, &|_, _, _| 0);
}

struct Forged {
    bytes: Vec<u8>,
    /// The fingerprint that the next link ought to carry.
    chain: [u8; 32],
}

/// A number as it ought to be, or, now and then, any.
fn bent(source: &mut Source<'_>, right: u64) -> u64 {
    if source.chance(16) {
        source.odd_u64()
    } else {
        right
    }
}

fn segment(source: &mut Source<'_>, index: u64, sequence: &mut u64, chain: [u8; 32]) -> Forged {
    let pages = 2 + source.below(2);
    let mut bytes = vec![0; pages * 4_096];
    let segment_id = source.u16();
    bytes[..8].copy_from_slice(b"MILLRJNL");
    put(&mut bytes, 8, &(bent(source, 1) as u16).to_le_bytes());
    put(&mut bytes, 10, &source.byte().to_le_bytes());
    put(&mut bytes, 12, &(bent(source, 4_096) as u32).to_le_bytes());
    let len = bytes.len() as u64;
    put(&mut bytes, 16, &bent(source, len).to_le_bytes());
    put(&mut bytes, 24, &bent(source, index).to_le_bytes());
    put(&mut bytes, 48, &segment_id.to_le_bytes());
    let label_crc = seal(&mut bytes, 0, 96, 0);

    *sequence = bent(source, *sequence);
    let watermark = bent(source, sequence.saturating_sub(1));
    put(&mut bytes, 512, &sequence.to_le_bytes());
    put(&mut bytes, 520, &watermark.to_le_bytes());
    put(&mut bytes, 528, &chain);
    if !source.chance(16) {
        seal(&mut bytes, 512, 64, label_crc);
    }

    let key = crc32c::crc32c(&u64::from(segment_id).to_le_bytes());
    let content_end = frames(source, &mut bytes, sequence, label_crc, key);
    Forged {
        chain: *blake3::hash(&bytes[..content_end]).as_bytes(),
        bytes,
    }
}

fn frames(
    source: &mut Source<'_>,
    bytes: &mut [u8],
    sequence: &mut u64,
    mut previous: u32,
    key: u32,
) -> usize {
    let mut at = FRAMES_OFFSET;
    for _ in 0..source.below(24) {
        let room = bytes.len() - at - HEADER_BYTES;
        let is_pad = source.chance(24);
        let right = if is_pad {
            room
        } else {
            source.below(200).min(room)
        };
        let length = bent(source, right as u64) as u32;
        let kind = bent(source, if is_pad { 2 } else { 1 }) as u16;
        let number = bent(source, *sequence);
        let watermark = bent(source, number.saturating_sub(1));
        put(bytes, at, &length.to_le_bytes());
        put(bytes, at + 8, &number.to_le_bytes());
        put(bytes, at + 16, &watermark.to_le_bytes());
        put(bytes, at + 24, &kind.to_le_bytes());
        let slot = HEADER_BYTES + (length as usize).next_multiple_of(32);
        let covered = if kind == 2 { HEADER_BYTES } else { slot };
        let covered = covered.min(bytes.len() - at);
        let crc = crc32c::crc32c_append(previous ^ key ^ length, &bytes[at + 8..at + covered]);
        previous = crc.max(1);
        put(bytes, at + 4, &previous.to_le_bytes());
        if kind == 1 {
            *sequence = number.wrapping_add(1);
        }
        let end = (at + covered).min(bytes.len());
        at = at.saturating_add(slot);
        if at + HEADER_BYTES > bytes.len() {
            return end;
        }
    }
    at
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// Writes the checksum that the last four bytes of a structure hold.
fn seal(bytes: &mut [u8], at: usize, length: usize, seed: u32) -> u32 {
    let sum = crc32c::crc32c_append(seed, &bytes[at..at + length - 4]).max(1);
    put(bytes, at + length - 4, &sum.to_le_bytes());
    sum
}
