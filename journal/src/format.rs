//! The bytes on the disk: the label and the link that open a segment, the header that opens a
//! frame, the checksum rules.
//!
//! ```text
//! segment file          0          512         4096                                                    segment_bytes
//!                       +----------+-----------+---------+---------+------------+-- ... --+-----------------+
//!                       | label    | link      | frame   | frame   | frame      |         | zeros, or a pad |
//!                       +----------+-----------+---------+---------+------------+-- ... --+-----------------+
//! frame                 | header 32 bytes | payload, `length` bytes | zeros up to a multiple of 32 |
//! ```
//!
//! The label is written and synced while the file is still a spare, so a file that carries a
//! segment's name always has a durable one. The link is written at the roll, when the history
//! before it is known, and becomes durable with the first commit after it. docs/journal.md has the
//! same tables with their reasons; a test holds the two together. Numbers are little-endian. This
//! file knows offsets and sums, never files.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[cfg(target_endian = "big")]
compile_error!("the journal maps little-endian structures straight into memory");

/// The first eight bytes of every segment.
pub const MAGIC: [u8; 8] = *b"MILLRJNL";
/// The format this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = 1;
/// The unit in which files are zeroed, dirtied and synced.
pub const PAGE_BYTES: usize = 4096;
/// Where the link stands: its own 512-byte sector, so that a torn write of it cannot hurt the
/// label.
pub const LINK_OFFSET: usize = 512;
/// Where the first frame stands. Everything between the link and this offset is zero.
pub const FRAMES_OFFSET: usize = 4096;
/// Frames begin at multiples of this, so a payload begins at a multiple of 16.
pub const FRAME_ALIGN: usize = 32;
/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 32;
/// The smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The largest segment: offsets within one fit in 32 bits with room to spare.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;
/// The segment size unless the options say otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// The longest payload unless the options say otherwise: 1 MiB and some slack for the caller's own
/// framing.
pub const RECORD_BYTES_DEFAULT: usize = (1 << 20) + (64 << 10);

/// A frame that carries a record.
pub const KIND_DATA: u16 = 1;
/// A frame that closes a segment: `length` zero bytes follow its header, up to the end of the file.
pub const KIND_PAD: u16 = 2;

/// Who a segment is: written into the spare, synced before the spare is used, never changed after.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Label {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u16,
    /// The release of the program that wrote the segment, as given in the options.
    pub writer_release: u16,
    /// [`FRAMES_OFFSET`].
    pub header_bytes: u32,
    /// The file's length.
    pub segment_bytes: u64,
    /// 1 for the first segment of a journal, then one more each; the file's name says the same.
    pub index: u64,
    /// Random, the same in every segment of one journal.
    pub journal_id: [u8; 16],
    /// Random, fresh for every use of a file: bytes left from an earlier use never verify.
    pub segment_id: u64,
    /// When the spare was prepared, nanoseconds since the Unix epoch. For people; nothing depends
    /// on it.
    pub created_at_ns: u64,
    /// Zero.
    pub reserved: [u8; 28],
    /// CRC32C of the bytes before it; never zero. The first frame's checksum is chained from it.
    pub crc: u32,
}

/// What came before a segment: written at the roll, never changed after.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Link {
    /// The sequence that the segment's first record has or will have.
    pub first_sequence: u64,
    /// The last sequence known to be on the disk when the segment was linked.
    pub watermark: u64,
    /// BLAKE3 of the previous segment's content (which begins with its own chain); zeros in the
    /// first segment.
    pub chain: [u8; 32],
    /// Zero.
    pub reserved: [u8; 12],
    /// CRC32C of the bytes before it, chained from the label's; written last, never zero once
    /// written.
    pub crc: u32,
}

/// What opens a frame.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub length: u32,
    /// See [`crc_seed`]; never zero once written.
    pub crc: u32,
    /// 1, 2, 3 and so on over the whole journal; a pad repeats the sequence of the record that
    /// follows it.
    pub sequence: u64,
    /// The last sequence known to be on the disk when the frame was appended: the proof that lets
    /// recovery tell damage from a torn tail.
    pub watermark: u64,
    /// [`KIND_DATA`] or [`KIND_PAD`].
    pub kind: u16,
    /// Zero.
    pub reserved: u16,
    /// Zero: room for the term of a replicated log.
    pub term: u32,
}

const _: () = assert!(size_of::<Label>() == 96 && size_of::<Label>() <= LINK_OFFSET);
const _: () = assert!(size_of::<Link>() == 64 && LINK_OFFSET + size_of::<Link>() <= FRAMES_OFFSET);
const _: () = assert!(size_of::<FrameHeader>() == FRAME_HEADER_BYTES);
const _: () = assert!(FRAMES_OFFSET.is_multiple_of(FRAME_ALIGN) && FRAMES_OFFSET == PAGE_BYTES);

/// Bytes that a record of `payload_len` bytes occupies in a segment: header, payload, zeros up to
/// the alignment.
///
/// ```
/// assert_eq!(millrace_journal::slot_bytes(0), 32);
/// assert_eq!(millrace_journal::slot_bytes(1), 64);
/// assert_eq!(millrace_journal::slot_bytes(128), 160);
/// ```
#[inline]
pub const fn slot_bytes(payload_len: usize) -> usize {
    FRAME_HEADER_BYTES + payload_len.next_multiple_of(FRAME_ALIGN)
}

/// The longest payload that a segment of this size can hold.
pub const fn payload_bytes_max(segment_bytes: u64) -> usize {
    segment_bytes as usize - FRAMES_OFFSET - FRAME_HEADER_BYTES
}

/// The initial value of a frame's CRC: the previous frame's CRC (the label's for the first frame),
/// the segment's key and the length. The sum then runs over the slot from byte 8 to its end (a pad:
/// to the end of its header).
///
/// Chaining and the key make bytes of an earlier use of the file worthless; each of the three terms
/// enters bijectively, so a change of one alone is always seen.
#[inline]
pub fn crc_seed(previous_crc: u32, segment_key: u32, length: u32) -> u32 {
    previous_crc ^ segment_key ^ length
}

/// CRC32C from `seed`, with 0 stored as 1: a zero word must mean "not written".
#[inline]
pub fn crc(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes).max(1)
}

/// The segment's part in every checksum of its frames.
pub fn segment_key(segment_id: u64) -> u32 {
    crc32c::crc32c(&segment_id.to_le_bytes())
}

impl Label {
    /// The label with its checksum set.
    pub fn sealed(mut self) -> Label {
        self.crc = self.checksum();
        self
    }

    /// The checksum that the label ought to carry.
    pub fn checksum(&self) -> u32 {
        crc(0, &self.as_bytes()[..size_of::<Label>() - 4])
    }
}

impl Link {
    /// A link with its checksum, bound to the label of its own segment.
    pub fn sealed(label_crc: u32, first_sequence: u64, watermark: u64, chain: [u8; 32]) -> Link {
        let mut link = Link {
            first_sequence,
            watermark,
            chain,
            reserved: [0; 12],
            crc: 0,
        };
        link.crc = link.checksum(label_crc);
        link
    }

    /// The checksum that the link ought to carry.
    pub fn checksum(&self, label_crc: u32) -> u32 {
        crc(label_crc, &self.as_bytes()[..size_of::<Link>() - 4])
    }
}

impl FrameHeader {
    /// The header as the four words in which it is loaded and stored.
    #[inline]
    pub fn words(&self) -> [u64; 4] {
        zerocopy::transmute!(*self)
    }

    /// The header in four words.
    #[inline]
    pub fn from_words(words: [u64; 4]) -> FrameHeader {
        zerocopy::transmute!(words)
    }

    /// Bytes from the frame's beginning to the next frame's.
    #[inline]
    pub fn slot_bytes(&self) -> usize {
        slot_bytes(self.length as usize)
    }

    /// Bytes of the slot that the checksum covers, counted from the frame's beginning.
    #[inline]
    pub fn covered_bytes(&self) -> usize {
        if self.kind == KIND_PAD {
            FRAME_HEADER_BYTES
        } else {
            self.slot_bytes()
        }
    }
}

/// The file name of a segment.
pub fn segment_name(index: u64) -> String {
    format!("{index:016}{SEGMENT_SUFFIX}")
}

/// The index in a segment's file name; `None` when the name is not exactly one that
/// [`segment_name`] makes.
pub fn segment_index(name: &str) -> Option<u64> {
    let index = name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()?;
    (segment_name(index) == name && index > 0).then_some(index)
}

/// How the names of segments end.
pub const SEGMENT_SUFFIX: &str = ".segment";
/// The file that becomes the next segment.
pub const SPARE_NAME: &str = "spare";
/// The file on which a writer holds its exclusive lock.
pub const LOCK_NAME: &str = "LOCK";
/// The file that the sync probe writes and removes.
pub const PROBE_NAME: &str = "probe";

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::archived::Note;

    const DOCUMENT: &str = include_str!("../../docs/journal.md");

    /// The rows `| offset | bytes | field | ...` below a heading of the document.
    fn documented(heading: &str) -> Vec<(usize, usize, String)> {
        let section = DOCUMENT
            .split(&format!("### {heading}\n"))
            .nth(1)
            .expect(heading);
        let section = section.split("\n#").next().unwrap();
        let cells = section.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let (offset, bytes) = (cells.next()?.parse().ok()?, cells.next()?.parse().ok()?);
            Some((offset, bytes, cells.next()?.trim_matches('`').to_owned()))
        });
        cells.collect()
    }

    macro_rules! fields {
        ($type:ident at $base:expr; $($field:ident),*) => {{
            fn size_of_field<T>(_: impl FnOnce(&$type) -> &T) -> usize {
                size_of::<T>()
            }
            vec![$(($base + offset_of!($type, $field), size_of_field(|it| &it.$field), stringify!($field).to_owned())),*]
        }};
    }

    #[test]
    fn the_document_has_the_offsets_of_the_source() {
        let label = fields!(Label at 0; magic, format_version, writer_release, header_bytes, segment_bytes, index,
            journal_id, segment_id, created_at_ns, reserved, crc);
        assert_eq!(documented("Label"), label);
        let link = fields!(Link at LINK_OFFSET; first_sequence, watermark, chain, reserved, crc);
        assert_eq!(documented("Link"), link);
        let frame =
            fields!(FrameHeader at 0; length, crc, sequence, watermark, kind, reserved, term);
        assert_eq!(documented("Frame header"), frame);
        let note = fields!(Note at 0; magic, format_version, reserved, segments, last_sequence,
            journal_id, chain, reserved_end, crc);
        assert_eq!(documented("Note on archived segments"), note);
    }

    #[test]
    fn the_document_has_the_constants_of_the_source() {
        let magic = std::str::from_utf8(&MAGIC).unwrap();
        let document = DOCUMENT.split_whitespace().collect::<Vec<_>>().join(" ");
        for fact in [
            format!("magic `{magic}`"),
            format!("format version {FORMAT_VERSION}"),
            format!("link at byte {LINK_OFFSET}"),
            format!("frames from byte {FRAMES_OFFSET}"),
            format!("multiples of {FRAME_ALIGN}"),
            format!("kind {KIND_DATA} is data"),
            format!("kind {KIND_PAD} is a pad"),
            format!("default {} MiB", SEGMENT_BYTES_DEFAULT >> 20),
            format!("default {RECORD_BYTES_DEFAULT} bytes"),
        ] {
            assert!(
                document.contains(&fact),
                "docs/journal.md does not say: {fact}"
            );
        }
    }

    #[test]
    fn names_and_indices_agree() {
        assert_eq!(segment_name(7), "0000000000000007.segment");
        assert_eq!(segment_index("0000000000000007.segment"), Some(7));
        for wrong in [
            "7.segment",
            "0000000000000000.segment",
            "000000000000000x.segment",
            "spare",
            "+000000000000007.segment",
        ] {
            assert_eq!(segment_index(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_header_survives_the_trip_through_words() {
        let header = FrameHeader {
            length: 5,
            crc: 9,
            sequence: 1 << 40,
            watermark: 3,
            kind: KIND_DATA,
            reserved: 0,
            term: 0,
        };
        assert_eq!(FrameHeader::from_words(header.words()), header);
        assert_eq!(header.words()[0], 5 | 9 << 32);
    }
}
