//! The proposer: a follower that solves what gridlock resolution leaves, and proposes the result.
//!
//! ```text
//!   journal --replay::follow_on--> engine --waiting()--> problems --solver--> choice
//!      ^                                                                        |
//!      +--- node <--------------------- propose_batch --------------------------+
//! ```
//! It stands beside a node as any follower does: the node never waits for it, and believes nothing
//! it says. A batch settles whole or is refused, so whatever goes wrong here moves no money.

mod problems;

pub use problems::{AssetProblem, problems};

use crate::client::{Client, ClientError};
use crate::engine::{Engine, Waiting};
use crate::protocol::command::{BatchItem, CommandKind, ITEMS_MAX, ProposeBatch};
use crate::protocol::event::Event;
use crate::protocol::frame::{CommandFrame, EventSlot};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AssetId, PaymentId};
use crate::protocol::wire::Zero;
use crate::replay::limits_file::{self, LimitsError};
use crate::replay::{FollowError, Nobody, follow, follow_on, snapshot_store};
use crate::session::SessionTable;
use crate::solver::{self, Budget, Solution};
use millrace_journal::{ReadError, Reader};
use std::path::Path;
use std::time::{Duration, Instant};

/// Sessions a follower keeps track of: as many as any node may.
const SESSIONS: u32 = 65_536;

/// Steps of the solver in a millisecond, about.
const STEPS_PER_MS: u64 = 20_000;

/// How a proposer works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long to solve, for each asset.
    pub budget: Duration,
    /// Payments of one batch at most, up to [`ITEMS_MAX`]: the node does nothing else meanwhile.
    pub batch: usize,
    /// How often to solve again where the state moved on meanwhile.
    pub attempts: u32,
    /// Seed of the solver.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            budget: Duration::from_secs(1),
            batch: ITEMS_MAX,
            attempts: 5,
            seed: 1,
        }
    }
}

/// What happened, as it happens.
#[derive(Clone, Debug)]
pub enum News {
    /// A problem was solved.
    Solved {
        /// The asset.
        asset: AssetId,
        /// The last command it knows of.
        sequence: u64,
        /// Payments that wait and take part.
        queued: usize,
        /// Minor units of them.
        queued_value: u128,
        /// Payments chosen.
        chosen: Vec<PaymentId>,
        /// Minor units chosen.
        value: u128,
        /// No choice is worth more.
        bound: u128,
        /// How long it took.
        elapsed: Duration,
    },
    /// A batch settled.
    Settled {
        /// The asset.
        asset: AssetId,
        /// Its command.
        sequence: u64,
        /// Payments settled.
        payments: u64,
        /// Minor units settled.
        value: u128,
    },
    /// The state had moved on: the batch was refused, and is solved anew.
    Overtaken {
        /// The asset.
        asset: AssetId,
        /// Its command.
        sequence: u64,
        /// What the node said.
        reason: Reason,
    },
}

/// What a round settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Payments that waited and took part when it began.
    pub queued: usize,
    /// Batches settled.
    pub batches: u64,
    /// Payments settled.
    pub payments: u64,
    /// Minor units settled, of all assets.
    pub value: u128,
}

/// Why a round ended early.
#[derive(Debug)]
pub enum ProposeError {
    /// The directory's limits could not be read.
    Limits(LimitsError),
    /// The snapshots could not be listed.
    Snapshots(std::io::Error),
    /// The journal could not be read.
    Read(ReadError),
    /// The journal could not be followed.
    Follow(FollowError),
    /// The node could not be asked.
    Client(ClientError),
    /// The day's phase lets nothing settle.
    PhaseForbids,
    /// The node refused a batch on the very state it was made for: a bug of ours.
    Wrong {
        /// The state it was made for.
        based_on: u64,
        /// What the node said.
        reason: Reason,
    },
    /// The node does not know what its journal says waits: it writes another one.
    OtherNode,
    /// The node refused a batch for a reason that solving again does not cure.
    Refused(Reason),
    /// The state moved on at every attempt.
    Outrun {
        /// How many there were.
        attempts: u32,
    },
}

impl std::fmt::Display for ProposeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProposeError::Limits(error) => error.fmt(f),
            ProposeError::Snapshots(error) => write!(f, "cannot list snapshots: {error}"),
            ProposeError::Read(error) => error.fmt(f),
            ProposeError::Follow(error) => error.fmt(f),
            ProposeError::Client(error) => error.fmt(f),
            ProposeError::PhaseForbids => {
                f.write_str("the phase of the business day lets no payment settle: phase_forbids")
            }
            ProposeError::Wrong { based_on, reason } => write!(
                f,
                "BUG: the node refused a batch on the state it was made for (command {based_on}): \
                 {reason}; nothing moved; please report it with the journal up to that command"
            ),
            ProposeError::OtherNode => f.write_str(
                "the node does not know the payments of this journal: it writes to another directory",
            ),
            ProposeError::Refused(reason) => write!(f, "the node refused the batch: {reason}"),
            ProposeError::Outrun { attempts } => write!(
                f,
                "the state moved on at each of {attempts} attempts; a smaller --budget-ms may keep up"
            ),
        }
    }
}

impl std::error::Error for ProposeError {}

/// A follower that proposes.
pub struct Proposer {
    engine: Engine,
    sessions: SessionTable,
    reader: Reader,
    options: Options,
}

impl Proposer {
    /// Opens the journal in `dir` and follows it to its end.
    pub fn open(dir: &Path, options: Options) -> Result<Proposer, ProposeError> {
        let limits = limits_file::load(dir).map_err(ProposeError::Limits)?;
        let mut reader = Reader::open(dir).map_err(ProposeError::Read)?;
        let end = reader.last_sequence();
        let (loaded, _) = snapshot_store::load_newest(dir, end, &limits, SESSIONS)
            .map_err(ProposeError::Snapshots)?;
        let (mut engine, mut sessions) = match loaded {
            Some(loaded) => (loaded.engine, loaded.sessions),
            None => (Engine::new(&limits), SessionTable::new(SESSIONS)),
        };
        follow(dir, Some(end), &mut engine, &mut sessions, &mut Nobody)
            .map_err(ProposeError::Follow)?;
        let next = engine.sequence() + 1;
        reader.seek(next).map_err(ProposeError::Read)?;
        Ok(Proposer {
            engine,
            sessions,
            reader,
            options,
        })
    }

    /// Follows the journal as far as it goes now.
    pub fn catch_up(&mut self) -> Result<(), ProposeError> {
        let Proposer {
            reader,
            engine,
            sessions,
            ..
        } = self;
        follow_on(reader, None, engine, sessions, &mut Nobody).map_err(ProposeError::Follow)?;
        Ok(())
    }

    /// What waits, as far as the journal was followed.
    pub fn waiting(&self) -> Waiting {
        self.engine.waiting()
    }

    /// Solves what waits in each asset and proposes it to the node; without one it only solves.
    /// Solving ends early once `is_over` says so.
    pub fn round(
        &mut self,
        mut node: Option<&mut Client>,
        is_over: &mut dyn FnMut() -> bool,
        news: &mut dyn FnMut(News),
    ) -> Result<Tally, ProposeError> {
        self.catch_up()?;
        let waiting = self.waiting();
        let mut tally = Tally {
            queued: waiting.payments.len(),
            ..Tally::default()
        };
        if self.engine.queued_payments() > 0 && !waiting.may_settle {
            return Err(ProposeError::PhaseForbids);
        }
        for AssetProblem { asset, .. } in problems(&waiting) {
            let node = node.as_deref_mut();
            self.asset_round(asset, node, is_over, news, &mut tally)?;
        }
        Ok(tally)
    }

    fn asset_round(
        &mut self,
        asset: AssetId,
        mut node: Option<&mut Client>,
        is_over: &mut dyn FnMut() -> bool,
        news: &mut dyn FnMut(News),
        tally: &mut Tally,
    ) -> Result<(), ProposeError> {
        // What was chosen and is not settled yet.
        let mut plan: Vec<PaymentId> = Vec::new();
        let mut attempts = 0;
        loop {
            self.catch_up()?;
            let found = problems(&self.waiting());
            let Some(at) = found.into_iter().find(|one| one.asset == asset) else {
                return Ok(());
            };
            let chosen = match at.places(&plan) {
                Some(places) if !places.is_empty() && solver::fits(&at.problem, &places) => places,
                _ if attempts == self.options.attempts => {
                    return Err(ProposeError::Outrun { attempts });
                }
                _ => {
                    attempts += 1;
                    self.solve(&at, is_over, news).payments
                }
            };
            let Some(node) = node.as_deref_mut() else {
                return Ok(());
            };
            let part = solver::first_part(&at.problem, &chosen, self.options.batch);
            if part.is_empty() {
                return Ok(());
            }
            let based_on = self.engine.sequence();
            let events = propose(node, based_on, &at.ids(&part))?;
            match outcome(&events, based_on)? {
                Outcome::Settled {
                    sequence,
                    payments,
                    value,
                } => {
                    news(News::Settled {
                        asset,
                        sequence,
                        payments,
                        value,
                    });
                    tally.batches += 1;
                    tally.payments += payments;
                    tally.value += value;
                    let is_left = |at: &u32| part.binary_search(at).is_err();
                    let left: Vec<u32> = chosen.iter().copied().filter(is_left).collect();
                    plan = at.ids(&left);
                    if plan.is_empty() {
                        return Ok(());
                    }
                }
                Outcome::Overtaken { sequence, reason } => {
                    news(News::Overtaken {
                        asset,
                        sequence,
                        reason,
                    });
                    plan.clear();
                }
            }
        }
    }

    fn solve(
        &self,
        at: &AssetProblem,
        is_over: &mut dyn FnMut() -> bool,
        news: &mut dyn FnMut(News),
    ) -> Solution {
        let started = Instant::now();
        let budget = Budget {
            steps: self.options.budget.as_millis() as u64 * STEPS_PER_MS,
            seed: self.options.seed,
        };
        let mut is_over = || started.elapsed() >= self.options.budget || is_over();
        let solution = solver::solve_until(&at.problem, budget, &mut is_over);
        news(News::Solved {
            asset: at.asset,
            sequence: self.engine.sequence(),
            queued: at.problem.payments().len(),
            queued_value: at.problem.value(),
            chosen: at.ids(&solution.payments),
            value: solution.value,
            bound: solution.bound,
            elapsed: started.elapsed(),
        });
        solution
    }
}

/// Proposes a batch and waits for what becomes of it.
fn propose(
    node: &mut Client,
    based_on_seq: u64,
    ids: &[PaymentId],
) -> Result<Vec<EventSlot>, ProposeError> {
    let head = ProposeBatch {
        based_on_seq,
        count: ids.len() as u32,
        _reserved: [Zero::Zero; 4],
    };
    let items: Vec<BatchItem> = ids.iter().map(|id| BatchItem { id: *id }).collect();
    let frame = CommandFrame::with_items(CommandKind::ProposeBatch, &head, &items);
    node.call(&frame).map_err(ProposeError::Client)
}

enum Outcome {
    Settled {
        sequence: u64,
        payments: u64,
        value: u128,
    },
    Overtaken {
        sequence: u64,
        reason: Reason,
    },
}

/// What became of a batch made on the state after command `based_on`.
fn outcome(events: &[EventSlot], based_on: u64) -> Result<Outcome, ProposeError> {
    for event in events {
        let sequence = event.header.sequence;
        match event.event() {
            Some(Event::LiquiditySavingDone(done)) => {
                return Ok(Outcome::Settled {
                    sequence,
                    payments: done.settled,
                    value: done.value.0,
                });
            }
            Some(Event::Rejected(refused)) => {
                let reason = refused.reason;
                return match reason {
                    // Another command came between: a payment of the batch settled, or what it was
                    // to be paid with is gone.
                    Reason::BatchStale | Reason::BatchInfeasible if sequence > based_on + 1 => {
                        Ok(Outcome::Overtaken { sequence, reason })
                    }
                    Reason::BatchStale | Reason::BatchInfeasible => {
                        Err(ProposeError::Wrong { based_on, reason })
                    }
                    Reason::PhaseForbids => Err(ProposeError::PhaseForbids),
                    Reason::PaymentNotFound | Reason::OutOfRange => Err(ProposeError::OtherNode),
                    other => Err(ProposeError::Refused(other)),
                };
            }
            _ => {}
        }
    }
    let what = "a batch was answered without an outcome".into();
    Err(ProposeError::Client(ClientError::Protocol(what)))
}
