//! Figures of others that ours are printed beside. They are constants: nothing of theirs runs here.

use std::time::Duration;

/// What another ledger did in one shape, measured separately.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Transfers per second.
    pub per_second: u64,
    /// Median latency of a command.
    pub p50: Duration,
    /// 99th percentile, where it was reported.
    pub p99: Option<Duration>,
}

const fn published(per_second: u64, p50_us: u64, p99_us: u64) -> Published {
    Published {
        per_second,
        p50: Duration::from_micros(p50_us),
        p99: match p99_us {
            0 => None,
            us => Some(Duration::from_micros(us)),
        },
    }
}

/// Where TigerBeetle's figures come from, and what its run does that ours does not.
pub const TIGERBEETLE: [&str; 3] = [
    "TigerBeetle's figures are constants, measured separately: one replica on disk, its own `tigerbeetle \
     benchmark`, the best of several quiet runs on another machine of this kind (2 cores, virtual disk); it is \
     not run here.",
    "Its run keeps what ours does not: the history of every account's balances, and 33 indexes for \
     queries by any field; 1.8 kB of disk per transfer against the journal column here. It closes the \
     loop with one batch in flight.",
    "Here every transfer is durable (fdatasync) before its event leaves, and every event is read and counted.",
];

/// Batches of 8,189.
pub const BATCHES_OF_8189: Published = published(211_000, 33_000, 0);
/// Batches of 1,000.
pub const BATCHES_OF_1000: Published = published(147_000, 3_000, 76_000);
/// Batches of 100.
pub const BATCHES_OF_100: Published = published(37_000, 890, 67_000);
/// One transfer at a time.
pub const ONE_AT_A_TIME: Published = published(2_294, 330, 2_400);
/// 32 clients with one transfer each in flight.
pub const CLIENTS_32: Published = published(1_705, 16_900, 0);
