//! The limits a directory was made with, in a file beside its journal.
//!
//! A full table refuses, and a refusal is an outcome, so replaying with other limits could end
//! elsewhere. The limits are therefore part of the history: written once when the journal begins,
//! read by everything that replays it, and a node that is configured otherwise does not start.
//!
//! The file is written once and never replaced, so a node locks it besides the journal's LOCK: whoever
//! removes that one, as leftover files of that name invite to, does not let a second node in.

use crate::engine::Limits;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "limits.toml";

/// Where the file is in a directory.
pub fn path_in(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// What can be wrong with the file.
#[derive(Debug)]
pub enum LimitsError {
    /// It could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a table of limits.
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It is not there, although the journal holds commands.
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The journal was made with others.
    Differ {
        /// The file.
        path: PathBuf,
        /// The first that differs: its name, what the file says, what was asked for.
        first: (String, String, String),
    },
}

impl std::fmt::Display for LimitsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LimitsError::Io { path, source } => {
                write!(f, "cannot read or write {}: {source}", path.display())
            }
            LimitsError::Parse { path, why } => write!(
                f,
                "{} is damaged: {why}; restore it from a copy of the directory",
                path.display()
            ),
            LimitsError::Missing { path } => write!(
                f,
                "{} is missing, and without it this journal cannot be replayed: restore it from a \
                 copy of the directory",
                path.display()
            ),
            LimitsError::Differ {
                path,
                first: (name, has, wanted),
            } => write!(
                f,
                "this journal was made with limits.{name} = {has}, the configuration says {wanted}: \
                 replay would differ; set it as in {}",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LimitsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LimitsError::Io { source, .. } => Some(source),
            LimitsError::Parse { .. }
            | LimitsError::Missing { .. }
            | LimitsError::Differ { .. } => None,
        }
    }
}

/// The limits of the journal in `dir`.
pub fn load(dir: &Path) -> Result<Limits, LimitsError> {
    read(dir)?.ok_or_else(|| LimitsError::Missing {
        path: dir.join(NAME),
    })
}

/// Checks that the journal in `dir` was made with `limits`, or, for one that has no command yet,
/// writes them down for good.
pub fn agree(dir: &Path, limits: &Limits, is_empty: bool) -> Result<(), LimitsError> {
    match read(dir)? {
        Some(written) if written == *limits => Ok(()),
        Some(written) if !is_empty => Err(LimitsError::Differ {
            path: dir.join(NAME),
            first: first_difference(&written, limits),
        }),
        None if !is_empty => Err(LimitsError::Missing {
            path: dir.join(NAME),
        }),
        _ => write(dir, limits).map_err(|source| LimitsError::Io {
            path: dir.join(NAME),
            source,
        }),
    }
}

/// Locks the file until what is returned is dropped; `None` where there is none yet. `WouldBlock` where another
/// process holds it.
pub fn claim(dir: &Path) -> io::Result<Option<File>> {
    let file = match File::open(dir.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read(dir: &Path) -> Result<Option<Limits>, LimitsError> {
    let path = dir.join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LimitsError::Io { path, source }),
    };
    match parse(&text) {
        Ok(limits) => Ok(Some(limits)),
        Err(why) => Err(LimitsError::Parse { path, why }),
    }
}

/// The limits in `text`, if its checksum is theirs. The sum is over the lines as they were written, so
/// that a release with more limits reads the files of those that had fewer. The error is a sentence.
pub fn parse(text: &str) -> Result<Limits, String> {
    let message = |error: toml::de::Error| error.message().replace('\n', " ");
    let mut table: toml::Table = toml::from_str(text).map_err(message)?;
    let checksum = table.remove("checksum");
    let limits: Limits = table.try_into().map_err(message)?;
    match checksum.as_ref().and_then(toml::Value::as_str) {
        Some(written) if written == checksum_of(text) => limits.check().map(|()| limits),
        _ => Err("its checksum is not that of its limits".into()),
    }
}

/// The sum over the lines of `text` that say limits.
fn checksum_of(text: &str) -> String {
    let is_limit = |line: &&str| !line.starts_with('#') && !line.starts_with("checksum");
    let lines = text.lines().filter(is_limit).flat_map(|line| [line, "\n"]);
    let lines = lines.collect::<String>();
    blake3::hash(lines.as_bytes()).to_hex().to_string()
}

/// The file of `limits`.
pub fn text_of(limits: &Limits) -> io::Result<String> {
    let text = toml::to_string(limits).map_err(io::Error::other)?;
    Ok(sealed(&format!(
        "# What this journal was made with: part of its history, not to be edited.\n{text}"
    )))
}

/// `text` with the checksum of its lines.
pub fn sealed(text: &str) -> String {
    format!("{text}checksum = \"{}\"\n", checksum_of(text))
}

fn write(dir: &Path, limits: &Limits) -> io::Result<()> {
    let draft = dir.join("limits.draft");
    let mut file = File::create(&draft)?;
    file.write_all(text_of(limits)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

fn first_difference(written: &Limits, wanted: &Limits) -> (String, String, String) {
    let table = |limits| toml::Table::try_from(limits).unwrap_or_default();
    let (has, asked) = (table(written), table(wanted));
    let differing = has
        .iter()
        .find(|(name, value)| asked.get(*name) != Some(value));
    differing.map_or_else(Default::default, |(name, value)| {
        let asked = asked
            .get(name)
            .map_or_else(String::new, ToString::to_string);
        (name.clone(), value.to_string(), asked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_limits_are_refused_once_there_is_history() {
        let dir = tempfile::tempdir().unwrap();
        let small = Limits::small();
        agree(dir.path(), &small, true).unwrap();
        assert_eq!(load(dir.path()).unwrap(), small);
        let larger = Limits {
            accounts: 1_000,
            ..small.clone()
        };
        let error = agree(dir.path(), &larger, false).unwrap_err().to_string();
        assert!(error.contains("limits.accounts = 256"), "{error}");
        agree(dir.path(), &larger, true).unwrap();
        assert_eq!(load(dir.path()).unwrap(), larger);
    }

    #[test]
    fn an_edited_or_missing_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let small = Limits::small();
        let missing = agree(dir.path(), &small, false).unwrap_err().to_string();
        assert!(missing.contains("is missing"), "{missing}");
        agree(dir.path(), &small, true).unwrap();
        let path = dir.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("accounts = 256", "accounts = 2")).unwrap();
        let edited = load(dir.path()).unwrap_err().to_string();
        assert!(edited.contains("checksum"), "{edited}");
    }

    #[test]
    fn a_file_of_a_release_with_fewer_limits_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = "accounts = 256\ntransfers = 512\n";
        let file = format!("# Older.\n{text}checksum = \"{}\"\n", checksum_of(text));
        fs::write(dir.path().join(NAME), file).unwrap();
        let limits = load(dir.path()).unwrap();
        assert_eq!((limits.accounts, limits.transfers), (256, 512));
        assert_eq!(limits.orders, Limits::default().orders);
    }
}
