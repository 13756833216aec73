//! Integration tests: features, not functions. One binary, so that they link once.

mod allocation;
mod archive;
mod bench;
mod bench_plans;
mod controls;
mod damage;
mod exchange;
mod floors;
mod full_books;
mod full_disk;
mod golden;
mod gridlock;
mod history;
mod hot_path;
mod hundred_days;
mod ledger_model;
mod netting;
mod pipeline;
mod pipeline_support;
mod proposer;
mod protocol_doc;
mod random;
mod recovery;
mod scenarios;
mod settlement_model;
mod shared_memory;
mod snapshot_power_loss;
mod snapshots;
mod solver;
mod solver_cases;
mod stats;
mod study;
mod threads;
mod two_ledgers;
mod wire;
mod wire_bounds;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;
