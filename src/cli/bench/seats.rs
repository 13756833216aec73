//! Who sits where when a node is measured over the wire: the node as `serve` would place it here, the
//! client on the core that this leaves free.

use super::ledger::on_core;
use super::{Args, wire_config};
use crate::bench::yardstick;
use crate::cli::CliError;
use crate::config::{Config, Durability};
use crate::engine::Limits;
use crate::pipeline::threads::{ThreadPlan, Wish, allowed_cores, journal_near_disk};
use std::path::Path;

/// Transfers beyond those that are counted on.
const SLACK: u64 = 65_536;

/// The node's plan and the client's core.
pub(super) struct Seats {
    plan: ThreadPlan,
    client: usize,
}

impl Seats {
    /// Chooses as `serve` does, for a journal in `dir`. Call it on a thread that is not pinned.
    pub(super) fn choose(durability: Durability, dir: &Path) -> Result<Seats, CliError> {
        let wish = Wish {
            syncs: durability == Durability::Disk,
            ..Wish::default()
        };
        let chosen = ThreadPlan::choose(&wish);
        let mut plan = chosen.map_err(|error| CliError::Failed(format!("cores: {error}")))?;
        if wish.syncs {
            journal_near_disk(&mut plan, dir);
        }
        let client = plan.left().unwrap_or(allowed_cores()[0]);
        Ok(Seats { plan, client })
    }

    /// Where the node journals: a raw append on this core is what software is compared with.
    pub(super) fn journal(&self) -> usize {
        self.plan.cores().last().copied().unwrap_or(self.client)
    }

    /// Where the node meets the network.
    pub(super) fn door(&self) -> usize {
        self.plan.core(0).unwrap_or(self.client)
    }

    /// Whether the client has a core to itself, so that it may spin.
    pub(super) fn apart(&self) -> bool {
        !self.plan.cores().contains(&self.client)
    }

    /// Puts this thread where the client belongs.
    pub(super) fn pin_client(&self) {
        yardstick::pin(Some(core_affinity::CoreId { id: self.client }));
    }

    /// Runs `work` where the node journals.
    pub(super) fn where_it_journals<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_core(self.journal(), work)
    }

    /// A node with this plan and room for so many transfers.
    pub(super) fn config(
        &self,
        args: &Args,
        dir: &Path,
        transfers: u64,
    ) -> Result<Config, CliError> {
        let mut config = wire_config(args, dir);
        // The node takes the cores that were chosen here, and looks for no others.
        config.cores = self.plan.as_choice();
        config.threads = self.plan.layout().threads() as u8;
        config.limits.transfers = u32::try_from(transfers.saturating_add(SLACK))
            .ok()
            .filter(|rows| *rows <= Limits::ENTRIES_MAX)
            .ok_or_else(|| {
                CliError::Usage(format!(
                    "this run would send {transfers} transfers and a node remembers {} at most: ask for a \
                     lower rate, less time or fewer commands",
                    Limits::ENTRIES_MAX
                ))
            })?;
        config.check().map_err(|why| {
            CliError::Usage(format!("this run would send {transfers} transfers: {why}"))
        })?;
        Ok(config)
    }
}
