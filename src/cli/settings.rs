//! Settings that several verbs share: a configuration file, and what the command line overrides.

use super::CliError;
use crate::config::{Config, Durability};
use crate::engine::Limits;
use crate::pipeline::threads::CoreChoice;
use crate::protocol::RELEASE;
use crate::replay::limits_file;
use millrace_journal::storage::MappedFiles;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the journal lies and how it is kept.
#[derive(clap::Args)]
pub(crate) struct NodeArgs {
    /// Configuration file (TOML); see docs/operations.md
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of journal and snapshots
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// When a command counts as safe: process (survives kill -9) or disk (survives power loss)
    #[arg(long, value_name = "POLICY")]
    pub(crate) durability: Option<Durability>,
    /// Cores to run on: auto, or a list such as 0,1
    #[arg(long, value_name = "LIST")]
    pub(crate) cores: Option<CoreChoice>,
}

impl NodeArgs {
    /// The configuration: defaults, then the file, then the command line.
    pub(crate) fn config(&self) -> Result<Config, CliError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path).map_err(|error| CliError::Usage(error.to_string()))?,
            None => Config::default(),
        };
        if let Some(dir) = &self.dir {
            config.dir.clone_from(dir);
        }
        if let Some(durability) = self.durability {
            config.durability = durability;
        }
        if let Some(cores) = &self.cores {
            config.cores = cores.clone();
        }
        config
            .check()
            .map_err(|error| CliError::Usage(error.to_string()))?;
        Ok(config)
    }
}

/// Where the segments that `millrace archive` moved away are found.
#[derive(clap::Args)]
pub(crate) struct ArchiveArgs {
    /// Directory with the journal's archived segments, to read those, too
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: Option<PathBuf>,
}

impl ArchiveArgs {
    /// The journal in `dir`, with what was archived from it where that was given.
    pub(crate) fn journal_of(&self, dir: &Path) -> Result<MappedFiles, CliError> {
        match &self.archive {
            Some(archive) if !archive.is_dir() => Err(CliError::Usage(format!(
                "--archive {} is not a directory",
                archive.display()
            ))),
            archive => Ok(MappedFiles::at(dir).with_archive(archive.as_deref())),
        }
    }
}

/// Parses `HOST:PORT`, names included.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs as _;
    text.to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(|| format!("\"{text}\" is not an address such as 127.0.0.1:7411"))
}

/// The limits of the journal in `dir`, which must be there.
pub(crate) fn limits_of(dir: &Path) -> Result<Limits, CliError> {
    if !dir.is_dir() {
        return Err(CliError::Usage(format!(
            "{} is not a directory; give the one a node writes to with --dir",
            dir.display()
        )));
    }
    refuse_newer(dir)?;
    limits_file::load(dir).map_err(CliError::failed)
}

/// A newer release may have written anything: it is named before anything else is found strange.
fn refuse_newer(dir: &Path) -> Result<(), CliError> {
    match millrace_journal::newest_release(dir) {
        Ok(found) if found > RELEASE => Err(CliError::Failed(format!(
            "release {found} wrote the journal in {}, this is release {RELEASE}: use that release or a \
             later one",
            dir.display()
        ))),
        _ => Ok(()),
    }
}
