//! What waits for the writer: events, removals, and a batch that found no room.
//!
//! It commits nothing. The gate bounds the events, and retention sends a few removals at a time.

use std::sync::Arc;
use std::time::Instant;

use crate::metrics::Metrics;
use crate::nostr::VerifiedEvent;
use crate::pipeline::channel::{Receiver, RecvError};
use crate::pipeline::client::ClientHandle;
use crate::pipeline::commit::background::BackgroundWork;
use crate::pipeline::commit::room::RoomWait;
use crate::pipeline::ingest::answers::refuse_unwelcome;
use crate::pipeline::ingest::backlog::Backlog;
use crate::pipeline::ingest::gate::Gate;
use crate::pipeline::queues::{Verified, WriteCommand};
use crate::policy::Settings;
use crate::store::Outcome;

/// Work per batch: about 500 events. Larger batches make no event cheaper, and the first event waits for the last.
const BATCH_US: u64 = 8_000;

/// Events that are made durable and answered together.
pub struct Batch {
    /// The events.
    pub events: Vec<VerifiedEvent>,
    /// Who is answered, and when the event was read.
    pub origins: Vec<(Arc<ClientHandle>, Instant)>,
}

impl From<Vec<Verified>> for Batch {
    fn from(verified: Vec<Verified>) -> Self {
        let (events, origins) = verified.into_iter().map(|one| (one.event, (one.from, one.received))).unzip();
        Self { events, origins }
    }
}

impl From<Batch> for Vec<Verified> {
    fn from(Batch { events, origins }: Batch) -> Self {
        let verified = |(event, (from, received))| Verified { event, from, received };
        events.into_iter().zip(origins).map(verified).collect()
    }
}

/// The batch in hand.
#[derive(Default)]
pub enum InHand {
    /// There is none.
    #[default]
    Nothing,
    /// It is to be added.
    Waiting(Batch),
    /// It has found no room, and goes first once there is some.
    Held(Batch),
    /// It is added, with these outcomes. It was too much for the log, so its events are answered after the commit.
    Added(Batch, Vec<Outcome>),
}

impl InHand {
    /// Events that are answered by the commit.
    pub const fn events(&self) -> usize {
        match self {
            Self::Nothing | Self::Held(_) => 0,
            Self::Waiting(batch) | Self::Added(batch, _) => batch.events.len(),
        }
    }
}

/// What waits for the writer.
pub struct Work {
    /// Events that are in no batch yet.
    pub backlog: Backlog<Verified>,
    /// A batch that found no room. It goes first once there is some.
    pub held: Option<Batch>,
    /// How long it may wait for that.
    pub room: RoomWait,
    /// Removals and upkeep.
    pub background: BackgroundWork,
}

impl Default for Work {
    /// Nothing.
    fn default() -> Self {
        let (backlog, background) = (Backlog::new(BATCH_US), BackgroundWork::default());
        Self { backlog, held: None, room: RoomWait::default(), background }
    }
}

impl Work {
    /// Whether events wait.
    pub fn has_events(&self) -> bool {
        self.held.is_some() || !self.backlog.is_empty()
    }

    /// Takes a command.
    pub fn add(&mut self, command: WriteCommand) {
        match command {
            WriteCommand::Store(events) => self.backlog.add(events),
            WriteCommand::Commit => {}
            WriteCommand::Upkeep => self.background.upkeep(),
            WriteCommand::Evict(eviction) => self.background.evict(eviction),
            WriteCommand::Note(note, row) => self.background.note(note, row),
        }
    }

    /// Takes the next batch of the events that wait, refusing those that are no longer welcome.
    pub fn next_batch(
        &mut self,
        settings: &Settings,
        answers: (&Arc<Metrics>, &Arc<Gate>),
        now_us: u64,
    ) -> Option<Batch> {
        loop {
            let waiting = match self.held.take() {
                Some(batch) => batch.into(),
                None if self.backlog.is_empty() => return None,
                None => self.backlog.take(now_us),
            };
            let welcome = refuse_unwelcome(settings, answers, waiting);
            if !welcome.is_empty() {
                return Some(welcome.into());
            }
        }
    }

    /// Waits for the next command if there is nothing to do without one. `None` when there is none, or nobody sends any
    /// more.
    pub fn next(&mut self, inbox: &Receiver<WriteCommand>) -> Option<WriteCommand> {
        if self.held.is_some() && !self.background.has_evictions() {
            let next = inbox.recv_timeout(self.room.pause(Instant::now()));
            if matches!(next, Err(RecvError::Closed)) {
                self.room.give_up();
            }
            return next.ok();
        }
        // Between steps of upkeep the writer does not wait for commands: events always go first.
        if self.is_idle() { inbox.recv() } else { inbox.try_recv() }
    }

    /// Whether there is nothing to do without another command.
    pub fn is_idle(&self) -> bool {
        self.background.is_empty() && !self.has_events()
    }
}
