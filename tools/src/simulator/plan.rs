//! How one seed's simulation behaves: its sizes, and what goes wrong in it how often. What happens often
//! in one never happens in another.

use super::clock::{MILLISECOND, SECOND};
use millrace::config::{Config, Durability};
use millrace::engine::Limits;
use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use std::path::Path;

/// The character of a simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    pub config: Config,
    pub clients: u64,
    pub watchers: u64,
    /// Steps in 10,000 in which each of these happens.
    pub power_loss: u64,
    pub kill: u64,
    pub failing_call: u64,
    pub full_disk: u64,
    pub cut: u64,
    pub snapshot: u64,
    pub damage: u64,
    pub clock_step: u64,
    pub idle_time: u64,
    pub hostile: u64,
    pub supersede: u64,
    /// Turns of 256 in which a client asks for something new.
    pub asking: u64,
    /// The longest that a step takes.
    pub step_ns_max: u64,
    /// The longest that a sync takes.
    pub sync_ns_max: u64,
    /// Bytes that arrive at once at most.
    pub piece_max: u64,
}

impl Plan {
    /// The plan that `random` gives.
    pub fn draw(random: &mut Pcg64Mcg, limits: &Limits) -> Plan {
        let mut pick = |of: &[u64]| of[random.random_range(0..of.len())];
        let durability = if pick(&[0, 1, 1, 1]) == 1 {
            Durability::Disk
        } else {
            Durability::Process
        };
        let mut config = Config::small(Path::new("simulated"));
        config.durability = durability;
        config.sessions = 64;
        config.limits = limits.clone();
        config.rings.egress_slots = pick(&[64, 256, 4_096]) as usize;
        config.journal.segment_bytes = pick(&[8, 10, 16, 32]) * 4_096;
        config.journal.reserve_bytes = 4_096;
        let (clients, watchers) = (pick(&[1, 2, 3, 5, 8]), pick(&[0, 1, 2]));
        config.gateway.connections = (clients + watchers + pick(&[1, 4, 50])) as usize;
        config.gateway.read_buffer_bytes = pick(&[256, 1_024, 16_384]) as usize;
        config.gateway.write_buffer_bytes = pick(&[512, 2_048, 65_536]) as usize;
        config.gateway.reply_window_events = pick(&[64, 256, 4_096, 4_096]) as usize;
        config.gateway.hello_timeout_ms = pick(&[200, 5_000]);
        // A power loss takes back what was never promised to be on the disk.
        let power_loss = match durability {
            Durability::Disk => pick(&[0, 2, 5, 15]),
            Durability::Process => 0,
        };
        Plan {
            config,
            clients,
            watchers,
            power_loss,
            kill: pick(&[0, 1, 3, 10]),
            failing_call: pick(&[0, 0, 3, 10]),
            full_disk: pick(&[0, 0, 5]),
            cut: pick(&[0, 5, 20]),
            snapshot: pick(&[0, 5, 15]),
            damage: pick(&[0, 0, 3]),
            clock_step: pick(&[0, 0, 20]),
            idle_time: pick(&[0, 3, 20]),
            hostile: pick(&[0, 5, 30]),
            supersede: pick(&[0, 0, 20]),
            asking: pick(&[60, 160, 250]),
            step_ns_max: pick(&[MILLISECOND / 10, MILLISECOND, 20 * MILLISECOND]),
            sync_ns_max: pick(&[MILLISECOND, 10 * MILLISECOND, 2 * SECOND]),
            piece_max: pick(&[30, 500, 5_000, 100_000]),
        }
    }
}
