//! The simulator: a whole node and its clients in one thread, where everything that happens follows from
//! one seed.
//!
//! ```text
//!  clients, watchers     Network: bytes arrive late, in pieces, or never
//!        |    ^               |
//!        v    |               v
//!      Gateway (real) --> Ingress --> ring --> Journaler --> Executor --> ring --> Responder --> Judge --> Gateway
//!                        sessions              | Disk:         engine              reply window   model
//!                                              v crashes, failing and slow syncs, no space
//!                                        journal, snapshots --> recovery (real) --> the next life
//! ```
//!
//! The stages, the gateway, the session table, the reply window, the journal with its recovery, the
//! snapshots and the engine are the product's own. The network, the disk, the clocks and the order in
//! which all of them get their turn are simulated. A step of a simulation is one turn of one of them.
//!
//! What must hold is checked from outside: by the clients' own record of what they were told
//! (`client`), by an independent model of the ledger (`scene`), and by a replay of the whole journal
//! after every crash (`judge`).
//!
//! **Invariant**: nothing here looks at a real clock, thread, file, socket or hash order.

mod client;
mod clock;
mod counts;
mod disk;
mod judge;
mod network;
mod plan;
mod process;
mod sabotage;
mod scene;
mod simulation;
mod trace;
mod watcher;

pub use counts::Counts;
pub use sabotage::Sabotage;

use simulation::Simulation;

/// Steps of a simulation where nobody says otherwise.
pub const STEPS: u64 = 20_000;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Everything follows from it.
    pub seed: u64,
    /// Turns that are taken before everything is left to come to rest.
    pub steps: u64,
    /// A mistake on purpose.
    pub sabotage: Option<Sabotage>,
    /// Whether every step is printed.
    pub is_loud: bool,
}

impl Order {
    /// A simulation of `seed` as it is run by the thousands.
    pub fn of(seed: u64) -> Order {
        Order {
            seed,
            steps: STEPS,
            sabotage: None,
            is_loud: false,
        }
    }
}

/// A simulation that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What happened in it.
    pub counts: Counts,
    /// A hash of everything that happened in it.
    pub fingerprint: [u8; 32],
}

/// A simulation that found something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Its steps, as ordered.
    pub steps: u64,
    /// The step that found it.
    pub at: u64,
    /// What is wrong.
    pub why: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}, step {}: {}", self.seed, self.at, self.why)?;
        write!(f, "{}", command(self.seed, self.steps))
    }
}

/// The command line that simulates a seed again.
pub fn command(seed: u64, steps: u64) -> String {
    let mut line =
        format!("cargo run --release -p millrace-tools --bin millrace-simulator -- --seed {seed}");
    if steps != STEPS {
        line += &format!(" --steps {steps}");
    }
    line
}

/// Runs one simulation. A bug that panics panics.
pub fn simulate(order: &Order) -> Result<Outcome, Failure> {
    let mut simulation = Simulation::new(order);
    simulation.run().map_err(|why| Failure {
        seed: order.seed,
        steps: order.steps,
        at: simulation.step(),
        why,
    })
}
