//! What the clients of a simulation ask for, and the independent model that knows the answers.
//!
//! The model and the generator are those of the ledger's own test (`tests/it/ledger_model`): written
//! from docs/ledger.md, slow and obvious, and sharing no code with the engine. The generator looks at
//! the model to make commands in which every refusal happens; the model is fed what the journal holds,
//! in its order, and must say every event.

#[allow(dead_code, reason = "the test uses more of it")]
#[path = "../../../tests/it/ledger_model/generator.rs"]
mod generator;
#[allow(dead_code, reason = "the test uses more of it")]
#[path = "../../../tests/it/ledger_model/model.rs"]
mod model;

use generator::{ACCOUNTS_MAX, Generator, World};
use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::command::{AccountRef, CommandKind};
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, CommandRef, EventSlot};
use millrace::protocol::units::AccountId;
use millrace::protocol::wire::Zero;
use model::{Answer, Model};

/// A ledger in which everything happens often.
pub struct Scene {
    world: World,
    generator: Generator,
    model: Model,
}

impl Scene {
    /// The scene of a seed.
    pub fn new(seed: u64) -> Scene {
        let world = World::of(seed);
        Scene {
            generator: Generator::new(seed, &world),
            model: Model::new(&world.limits),
            world,
        }
    }

    /// What the engine's tables hold.
    pub fn limits(&self) -> &Limits {
        &self.world.limits
    }

    /// The commands that come before all others, in this order.
    pub fn setup(&self) -> Vec<CommandFrame> {
        self.world.setup()
    }

    /// The next command that somebody sends.
    pub fn next(&mut self) -> CommandFrame {
        self.generator.next(&self.model)
    }

    /// A question about an account.
    pub fn query(&self, pick: u64) -> CommandFrame {
        query_account(pick % (ACCOUNTS_MAX + 1))
    }

    /// The model runs a command of the journal; `events` must be what it says.
    pub fn apply(&mut self, command: CommandRef<'_>, events: &[EventSlot]) -> Result<(), String> {
        let decoded = command.decode().map_err(|error| error.to_string())?;
        let expected = self.model.apply(command.header.received_at, decoded);
        let last = events.len().saturating_sub(1);
        for (at, event) in events.iter().enumerate() {
            let header = &event.header;
            if header.index != at as u32
                || header.at != self.model.now
                || event.is_last() != (at == last)
            {
                return Err(format!("event {at} is stamped {header:?}"));
            }
        }
        let got: Vec<Option<Answer>> = events.iter().map(answer_of).collect();
        for at in 0..got.len().max(expected.len()) {
            let (got, expected) = (got.get(at).copied().flatten(), expected.get(at).copied());
            if got != expected {
                return Err(format!(
                    "event {at} of {:?}: the engine says {got:?}, the model {expected:?}",
                    command.kind()
                ));
            }
        }
        Ok(())
    }

    /// The answer to a query must be what the model holds now.
    pub fn answer(&self, event: &EventSlot) -> Result<(), String> {
        match event.event() {
            Some(Event::Account(got)) => {
                let expected = self.model.account_event(got.account.0);
                let is_same = expected.as_ref() == Some(got);
                is_same
                    .then_some(())
                    .ok_or_else(|| format!("the engine has {got:?}, the model {expected:?}"))
            }
            Some(Event::Rejected(rejected)) if rejected.cmd == CommandKind::QueryAccount => {
                let expected = self.model.account_event(rejected.id as u64);
                match expected {
                    None => Ok(()),
                    Some(there) => Err(format!("the engine has no {there:?}")),
                }
            }
            other => Err(format!("no answer to any query: {other:?}")),
        }
    }

    /// Every account of the engine must stand where the model's does.
    pub fn compare(&self, engine: &Engine) -> Result<(), String> {
        let mut outbox = Outbox::with_capacity(4);
        for account in 0..=ACCOUNTS_MAX {
            outbox.clear();
            engine.query(query_account(account).as_ref(), &mut outbox);
            for event in outbox.events() {
                self.answer(event)?;
            }
        }
        Ok(())
    }
}

fn query_account(account: u64) -> CommandFrame {
    let body = AccountRef {
        account: AccountId(account),
        _reserved: [Zero::Zero; 8],
    };
    CommandFrame::new(CommandKind::QueryAccount, &body)
}

/// An event in the model's words; `None` where it has none for it.
fn answer_of(event: &EventSlot) -> Option<Answer> {
    match event.event()? {
        Event::Ok(ok) => Some(Answer::Ok(ok.cmd)),
        Event::Rejected(body) => Some(Answer::Rejected(body.cmd, body.reason, body.id)),
        Event::Transfer(body) => Some(Answer::Transfer {
            id: body.id.0,
            status: body.status,
            amount: body.amount.0,
        }),
        Event::Authorisation(body) => Some(Answer::Authorisation {
            id: body.id.0,
            state: body.state,
            held: body.held.0,
            captured: body.captured.0,
            refunded: body.refunded.0,
        }),
        _ => None,
    }
}
