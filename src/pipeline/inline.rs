//! The whole pipeline on the calling thread: what runs scripts, and what tests run.
//!
//! The same rings, the same stages and the same journal as a node, so a script exercises the path
//! that production runs; there is only nobody else on it.

use super::{Ingress, Parts, Pipeline, Refusal, ReplyWindow, RingSizes, Signals};
use crate::config::Config;
use crate::engine::Engine;
use crate::protocol::frame::{CommandFrame, EventSlot};
use crate::replay::recovery::{self, RecoverError, Recovery};
use crate::session::SessionTable;

/// A pipeline without threads or sockets.
pub struct Inline {
    pipeline: Pipeline,
}

/// Why a pipeline could not start.
pub type InlineError = RecoverError;

impl Inline {
    /// Recovers what `config.dir` holds (or begins a journal there) and stands ready.
    pub fn open(config: &Config) -> Result<(Inline, Recovery), InlineError> {
        let (mut parts, recovery) = recovery::recover(config, &mut recovery::Silent)?;
        // Nobody reconnects to a script.
        parts.window = ReplyWindow::new(2, recovery.sequence);
        Ok((Inline::assemble(parts, &config.ring_sizes()), recovery))
    }

    /// A pipeline on parts that are there already.
    pub fn assemble(parts: Parts, sizes: &RingSizes) -> Inline {
        Inline {
            pipeline: Pipeline::assemble(parts, sizes, &Signals::default()),
        }
    }

    /// Puts a command or query of a script into the ring. Where the ring is full, what is in it is
    /// worked off first. Events come out of [`Inline::pump`], and here where the ring was full.
    pub fn push(
        &mut self,
        frame: &CommandFrame,
        on_event: &mut impl FnMut(&EventSlot),
    ) -> Result<(), Refusal> {
        loop {
            match self.pipeline.ingress.submit_script(frame) {
                Err(Refusal::Busy) => self.pump(on_event),
                other => return other,
            }
        }
    }

    /// Works until every event of every command pushed has come out. One commit covers all that
    /// was pushed since the last call.
    pub fn pump(&mut self, on_event: &mut impl FnMut(&EventSlot)) {
        let Pipeline {
            ingress,
            journaler,
            executor,
            responder,
            ..
        } = &mut self.pipeline;
        while responder.answered() < ingress.published() {
            journaler.do_work();
            executor.do_work();
            responder.do_work(on_event);
        }
    }

    /// [`Inline::push`] and [`Inline::pump`]: one command, all its events.
    pub fn execute(
        &mut self,
        frame: &CommandFrame,
        on_event: &mut impl FnMut(&EventSlot),
    ) -> Result<(), Refusal> {
        self.push(frame, on_event)?;
        self.pump(on_event);
        Ok(())
    }

    /// The door, for doors that number their clients.
    pub fn ingress(&mut self) -> &mut Ingress {
        &mut self.pipeline.ingress
    }

    /// Last journal sequence executed.
    pub fn sequence(&self) -> u64 {
        self.pipeline.progress.executed.get()
    }

    /// The sessions as of the last command taken.
    pub fn sessions(&self) -> &SessionTable {
        self.pipeline.ingress.sessions()
    }

    /// Works off what is in the rings, closes the journal and returns the engine.
    pub fn close(mut self) -> Engine {
        self.pump(&mut |_: &EventSlot| {});
        self.pipeline.journaler.close();
        self.pipeline.executor.into_engine()
    }
}
