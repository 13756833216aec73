//! The limits a directory was made with, in a file beside its journal.
//!
//! A full table refuses, and a refusal is an outcome, so replaying with other limits could end
//! elsewhere. The limits are therefore part of the history: written once when the journal begins,
//! read by everything that replays it, and a node that is configured otherwise does not start.

use crate::engine::Limits;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "limits.toml";

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
            LimitsError::Parse { .. } | LimitsError::Differ { .. } => None,
        }
    }
}

/// The limits of the journal in `dir`; the defaults where none are written.
pub fn load(dir: &Path) -> Result<Limits, LimitsError> {
    Ok(read(dir)?.unwrap_or_default())
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
        _ => write(dir, limits).map_err(|source| LimitsError::Io {
            path: dir.join(NAME),
            source,
        }),
    }
}

fn read(dir: &Path) -> Result<Option<Limits>, LimitsError> {
    let path = dir.join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LimitsError::Io { path, source }),
    };
    match toml::from_str(&text) {
        Ok(limits) => Ok(Some(limits)),
        Err(error) => Err(LimitsError::Parse {
            path,
            why: error.message().replace('\n', " "),
        }),
    }
}

fn write(dir: &Path, limits: &Limits) -> io::Result<()> {
    let text = toml::to_string(limits).map_err(io::Error::other)?;
    let draft = dir.join("limits.draft");
    let mut file = File::create(&draft)?;
    file.write_all(
        format!(
            "# What this journal was made with: part of its history, not to be edited.\n{text}"
        )
        .as_bytes(),
    )?;
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
}
