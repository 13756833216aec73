//! What can go wrong, one enum per operation. Every message is one line, names the file and says
//! what to do.
//!
//! A [`Defect`] is a fact about the journal on the disk, found by opening, reading or verifying it;
//! an [`IoFault`] is the operating system's refusal. Nothing here is retried inside the crate,
//! except the preparation of a spare segment.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why [`Writer::open`](crate::Writer::open) refused. The journal on the disk is as it was.
#[derive(Debug)]
pub enum OpenError {
    /// The operating system refused.
    Io(IoFault),
    /// Another writer holds the lock.
    DirectoryInUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The options contradict themselves or the limits.
    Options {
        /// Which one, and what it must be.
        what: String,
    },
    /// The journal is not one that can be continued.
    Defect(Defect),
}

/// Why a record was not appended. Everything appended before is as it was.
#[derive(Debug)]
pub enum AppendError {
    /// The segment is full and there is no room on the disk for the next one. The journal tries
    /// again by itself: so may the caller, once there is space.
    NoSpace {
        /// The file that could not be prepared.
        path: PathBuf,
    },
    /// The record is longer than the options allow.
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// The next segment could not be prepared or named, for a reason other than space.
    Io(IoFault),
    /// An earlier failure ended this writer.
    Stopped(Stopped),
}

/// Why a commit failed. Nothing after the last successful commit may be acknowledged, and the
/// process should end: after a failed sync the kernel may drop the pages and report success for the
/// next one.
#[derive(Debug)]
pub enum CommitError {
    /// The sync failed. From here on the writer refuses everything.
    Io(IoFault),
    /// An earlier failure ended this writer.
    Stopped(Stopped),
}

/// Why a reader, or [`verify`](crate::verify), could not go on.
#[derive(Debug)]
pub enum ReadError {
    /// The operating system refused.
    Io(IoFault),
    /// The journal does not hold the wanted sequence, and the next one it will get is not it
    /// either.
    NoSuchSequence {
        /// The sequence sought.
        wanted: u64,
        /// The first sequence that is there.
        first: u64,
        /// The last one, 0 when there is none.
        last: u64,
    },
    /// The journal is broken, or is not a journal.
    Defect(Defect),
}

/// What is wrong with the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// No segment is here, but other files are (or, for a reader, nothing at all is).
    NotAJournal {
        /// The directory.
        path: PathBuf,
        /// A file that is not ours, if there is one.
        found: Option<String>,
    },
    /// A file with a segment's name that is not a segment, or a segment of another journal or under
    /// another's name.
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// A later release wrote the file.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u16,
    },
    /// A later release of the program wrote the file: it may hold what this one does not know.
    NewerRelease {
        /// The file.
        path: PathBuf,
        /// The release in its label.
        found: u16,
        /// The release that would open it.
        ours: u16,
    },
    /// A segment is not there although a later one is, or the first one is not.
    MissingSegment {
        /// The file that ought to be there.
        path: PathBuf,
    },
    /// The first segments were archived, and what was asked for is in them.
    Archived {
        /// The directory.
        path: PathBuf,
        /// The last segment that went.
        segments: u64,
        /// The last record in it.
        last_sequence: u64,
    },
    /// A file is not as long as its label says.
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Bytes it ought to have; 0 when it is too short even to say.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// Bytes that had been written, or that must be zero, are not what they were.
    Damaged(Damage),
}

/// A place where the journal is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Byte offset in the file: of the frame for a broken frame, of the byte for one that must be
    /// zero.
    pub offset: u64,
    /// The sequence of the record that is or would be there.
    pub sequence: u64,
    /// What is wrong.
    pub what: Fault,
}

/// What can be wrong with a frame or a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A frame's kind is none that this release knows.
    Kind(u16),
    /// A frame ends outside its segment.
    Length(u32),
    /// A frame does not match its checksum.
    Checksum,
    /// A frame has another sequence than its place demands.
    Sequence(u64),
    /// A frame claims that records after it were already durable.
    Watermark(u64),
    /// A field or a filler that must be zero is not.
    NotZero,
    /// A segment's label does not match its checksum.
    Label,
    /// A segment's link does not match its checksum.
    Link,
    /// A segment's link was never written.
    NoLink,
    /// A segment continues at another sequence than the one before it ends at.
    FirstSequence(u64),
    /// The hash of the segment before is not the one its successor was linked to.
    Chain,
    /// Nothing is where a record ought to be, although later ones are there.
    Gap,
    /// The note on archived segments does not match its checksum.
    Note,
}

/// The operating system's refusal: what was tried, on which file, and what an operator can do.
#[derive(Debug)]
pub struct IoFault {
    /// What was tried, as in "cannot ...".
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
    /// What to do.
    pub advice: &'static str,
}

/// The failure that ended a writer earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The first failure, as it was reported.
    pub cause: String,
}

impl IoFault {
    pub(crate) fn new(
        doing: &'static str,
        path: impl AsRef<Path>,
        source: io::Error,
        advice: &'static str,
    ) -> IoFault {
        IoFault {
            doing,
            path: path.as_ref().to_owned(),
            source,
            advice,
        }
    }
}

/// True for the errors that more space would cure.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// What looking at files can yield; becomes an [`OpenError`] or a [`ReadError`].
#[derive(Debug)]
pub(crate) enum Problem {
    Io(IoFault),
    Defect(Defect),
}

impl From<IoFault> for Problem {
    fn from(fault: IoFault) -> Problem {
        Problem::Io(fault)
    }
}

impl From<Defect> for Problem {
    fn from(defect: Defect) -> Problem {
        Problem::Defect(defect)
    }
}

impl From<Damage> for Problem {
    fn from(damage: Damage) -> Problem {
        Problem::Defect(Defect::Damaged(damage))
    }
}

impl From<Problem> for OpenError {
    fn from(problem: Problem) -> OpenError {
        match problem {
            Problem::Io(fault) => OpenError::Io(fault),
            Problem::Defect(defect) => OpenError::Defect(defect),
        }
    }
}

impl From<Problem> for ReadError {
    fn from(problem: Problem) -> ReadError {
        match problem {
            Problem::Io(fault) => ReadError::Io(fault),
            Problem::Defect(defect) => ReadError::Defect(defect),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(fault) => fault.fmt(f),
            OpenError::DirectoryInUse { path } => write!(
                f,
                "another process writes this journal ({} is locked): stop it, or choose another directory",
                path.display()
            ),
            OpenError::Options { what } => write!(f, "journal options: {what}"),
            OpenError::Defect(defect) => defect.fmt(f),
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::NoSpace { path } => write!(
                f,
                "no space for the next segment {}: free some, appending resumes by itself",
                path.display()
            ),
            AppendError::TooLong { length, limit } => {
                write!(
                    f,
                    "a record of {length} bytes is longer than the limit of {limit}: split it"
                )
            }
            AppendError::Io(fault) => fault.fmt(f),
            AppendError::Stopped(stopped) => stopped.fmt(f),
        }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::Io(fault) => fault.fmt(f),
            CommitError::Stopped(stopped) => stopped.fmt(f),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(fault) => fault.fmt(f),
            ReadError::NoSuchSequence {
                wanted, last: 0, ..
            } => {
                write!(
                    f,
                    "sequence {wanted} is not in the journal, which is empty: start at 1"
                )
            }
            ReadError::NoSuchSequence {
                wanted,
                first,
                last,
            } => write!(
                f,
                "sequence {wanted} is not in the journal, which holds {first} to {last}: \
                 check that the snapshot and the journal belong together"
            ),
            ReadError::Defect(defect) => defect.fmt(f),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::NotAJournal {
                path,
                found: Some(name),
            } => write!(
                f,
                "{} holds no journal but other files ({name}): choose an empty directory",
                path.display()
            ),
            Defect::NotAJournal { path, found: None } => {
                write!(
                    f,
                    "{} holds no journal: start a writer on it first",
                    path.display()
                )
            }
            Defect::ForeignFile { path, what } => {
                write!(
                    f,
                    "{} is {what}: move it out of the directory",
                    path.display()
                )
            }
            Defect::NewerFormat { path, found } => write!(
                f,
                "{} has format {found}, this release reads up to {}: use the release that wrote it",
                path.display(),
                crate::format::FORMAT_VERSION
            ),
            Defect::NewerRelease { path, found, ours } => write!(
                f,
                "release {found} wrote {}, this is release {ours}: use that release or a later one",
                path.display()
            ),
            Defect::MissingSegment { path } => write!(
                f,
                "{} is missing although later segments are here: restore it from a copy",
                path.display()
            ),
            Defect::Archived {
                path,
                segments,
                last_sequence,
            } => write!(
                f,
                "segments 1 to {segments} of {} (up to sequence {last_sequence}) were archived: give \
                 them back, say where they are with --archive, or begin with a snapshot of command \
                 {last_sequence} or later",
                path.display()
            ),
            Defect::WrongLength {
                path,
                expected,
                found,
            } => write!(
                f,
                "{} has {found} bytes and should have {expected}: restore it from a copy",
                path.display()
            ),
            Defect::Damaged(damage) => damage.fmt(f),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged at byte {} (sequence {}): {}; restore the file from a copy",
            self.path.display(),
            self.offset,
            self.sequence,
            self.what
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kind(kind) => write!(f, "unknown frame kind {kind}"),
            Fault::Length(length) => write!(f, "a length of {length} leaves the segment"),
            Fault::Checksum => write!(f, "the checksum does not match"),
            Fault::Sequence(found) => write!(f, "the frame has sequence {found}"),
            Fault::Watermark(found) => write!(f, "the watermark {found} is impossible here"),
            Fault::NotZero => write!(f, "bytes that must be zero are not"),
            Fault::Label => write!(f, "the label does not match its checksum"),
            Fault::Link => write!(f, "the link does not match its checksum"),
            Fault::NoLink => write!(f, "the link is not written"),
            Fault::FirstSequence(found) => write!(f, "the segment begins with sequence {found}"),
            Fault::Chain => write!(f, "the hash chain from the segment before is broken"),
            Fault::Note => write!(
                f,
                "the note on archived segments does not match its checksum"
            ),
            Fault::Gap => write!(f, "nothing is here although later records are"),
        }
    }
}

impl fmt::Display for IoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}; {}",
            self.doing,
            self.path.display(),
            self.source,
            self.advice
        )
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the journal stopped after an earlier failure ({}): restart",
            self.cause
        )
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io(fault) => Some(&fault.source),
            OpenError::DirectoryInUse { .. } | OpenError::Options { .. } | OpenError::Defect(_) => {
                None
            }
        }
    }
}

impl std::error::Error for AppendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AppendError::Io(fault) => Some(&fault.source),
            AppendError::NoSpace { .. } | AppendError::TooLong { .. } | AppendError::Stopped(_) => {
                None
            }
        }
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CommitError::Io(fault) => Some(&fault.source),
            CommitError::Stopped(_) => None,
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Io(fault) => Some(&fault.source),
            ReadError::NoSuchSequence { .. } | ReadError::Defect(_) => None,
        }
    }
}

impl std::error::Error for Defect {}

impl std::error::Error for Damage {}
