//! The `writer` thread: the only one that opens write transactions in a serving process.
//!
//! It takes what waits as one batch, makes it durable with one small write to the write-ahead log, hands it to live and
//! answers it; the batches of some milliseconds share one commit. No event is answered `OK true` before it is on disk
//! (INV-1). The writer never waits on a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::{EventOutcome, Metrics, StoreOperation};
use crate::nostr::{EventId, RelayMessage, VerifiedEvent};
use crate::pipeline::channel::{Receiver, Sender};
use crate::pipeline::client::{BatchReplies, ClientHandle};
use crate::pipeline::clock::Clock;
use crate::pipeline::commit::background::BackgroundWork;
use crate::pipeline::commit::event_replies::{counted_as, refuse_all, reply_for};
use crate::pipeline::commit::uncommitted::Uncommitted;
use crate::pipeline::health::Health;
use crate::pipeline::heartbeat::Heartbeat;
use crate::pipeline::ingest::backlog::Backlog;
use crate::pipeline::ingest::gate::Gate;
use crate::pipeline::queues::{Committed, LiveCommand, Verified, WriteCommand};
use crate::pipeline::writable::Writable;
use crate::retention::Horizons;
use crate::store::{self, Evicted, Outcome, Removed, Seq, Store, StoreError, Writer};

/// Work per batch: about 500 events. Larger batches make no event cheaper, and the first event waits for the last.
const BATCH_US: u64 = 8_000;

/// The most events that are evicted with a batch, for each event in it.
const EVICTED_FOR_STORED: usize = 2;

/// Events that are removed while no batch waits, before the writer checks for one again: about a millisecond.
const STEP: usize = 32;

/// Events that are made durable and answered together.
struct Batch {
    events: Vec<VerifiedEvent>,
    origins: Vec<(Arc<ClientHandle>, Instant)>,
}

impl From<Vec<Verified>> for Batch {
    fn from(verified: Vec<Verified>) -> Self {
        let (events, origins) = verified.into_iter().map(|one| (one.event, (one.from, one.received))).unzip();
        Self { events, origins }
    }
}

/// What committing events takes. Queries `Q` wait for commits.
pub struct Writing<Q> {
    /// The store, for checks outside transactions.
    pub store: Store,
    /// How long batches share a commit; zero commits each before it is answered.
    pub commit_interval: Duration,
    /// From where on the retention rules keep events; stored with each eviction.
    pub horizons: Arc<Horizons>,
    /// What is acknowledged and not yet committed.
    pub uncommitted: Arc<Uncommitted<Q>>,
    /// Puts a query that waited for a commit back into Q4. Never blocks.
    pub resume: Box<dyn Fn(Q) + Send>,
    /// The gate, which events leave here.
    pub gate: Arc<Gate>,
    /// Whether the store has room.
    pub writable: Arc<Writable>,
    /// Signs of life.
    pub heartbeat: Arc<Heartbeat>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where failures are noted.
    pub health: Arc<Health>,
    /// The clocks.
    pub clock: Clock,
}

/// The `live` thread has ended, so the process is stopping.
struct LiveEnded;

/// Runs until Q2 is closed and empty.
pub fn run<Q>(writing: &Writing<Q>, mut writer: Writer, inbox: &Receiver<WriteCommand>, live: &Sender<LiveCommand>) {
    let (mut background, mut backlog) = (BackgroundWork::default(), Backlog::new(BATCH_US));
    loop {
        // Between steps of upkeep the writer does not wait for commands: events always go first.
        let is_idle = background.is_empty() && backlog.is_empty();
        let command = if is_idle { inbox.recv() } else { inbox.try_recv() };
        match command {
            Some(WriteCommand::Store(events)) => backlog.add(events),
            Some(WriteCommand::Commit) => {}
            Some(WriteCommand::Upkeep) => {
                background.upkeep();
                look_after(writing, &mut writer);
                if let Err(error) = writing.store.forget_dead_copy() {
                    tracing::error!(%error, "what a killed compaction left could not be removed");
                }
            }
            Some(WriteCommand::Evict(eviction)) => background.evict(eviction),
            Some(WriteCommand::Note(note, row)) => background.note(note, row),
            None if is_idle => return,
            None => {}
        }
        if !backlog.is_empty()
            && OpenCommit::new(writing, inbox, &mut backlog, &mut background, live).run(&mut writer).is_err()
        {
            return;
        }
        let nothing_waits = |backlog: &Backlog<Verified>| inbox.is_empty() && backlog.is_empty();
        if nothing_waits(&backlog)
            && background.has_evictions()
            && OpenCommit::new(writing, inbox, &mut backlog, &mut background, live).run(&mut writer).is_err()
        {
            return;
        }
        if nothing_waits(&backlog)
            && let Err(error) = background.keep_up(&mut writer, writing.clock.now())
        {
            writing.health.failed(StoreOperation::Commit, &error);
        }
        writing.heartbeat.writer();
    }
}

/// Checks whether commits are possible even when no event arrives: after one that failed, and when files of the store
/// were removed.
fn look_after<Q>(writing: &Writing<Q>, writer: &mut Writer) {
    let found = if writing.health.is_failing() { writer.probe() } else { writing.store.check_files() };
    match found {
        Ok(()) => writing.health.committed(),
        Err(error) => writing.health.failed(StoreOperation::Commit, &error),
    }
}

/// The batch in hand.
#[derive(Default)]
enum InHand {
    /// There is none.
    #[default]
    Nothing,
    /// It is to be added.
    Waiting(Batch),
    /// It is added, with these outcomes. It was too much for the log, so its events are answered after the commit.
    Added(Batch, Vec<Outcome>),
}

impl InHand {
    const fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Waiting(batch) | Self::Added(batch, _) => batch.events.len(),
        }
    }
}

/// The batches and removals of one commit.
struct OpenCommit<'a, Q> {
    writing: &'a Writing<Q>,
    inbox: &'a Receiver<WriteCommand>,
    /// Events that were taken from there and are in no batch yet.
    backlog: &'a mut Backlog<Verified>,
    background: &'a mut BackgroundWork,
    live: &'a Sender<LiveCommand>,
    live_ended: bool,
    in_hand: InHand,
    /// Events that were answered.
    events: usize,
    /// Events that may still be removed in return for those that were added.
    evictable: usize,
    /// Evicted events that this commit removes, and what that frees.
    taken: usize,
    evicted: Removed,
}

impl<'a, Q> OpenCommit<'a, Q> {
    fn new(
        writing: &'a Writing<Q>,
        inbox: &'a Receiver<WriteCommand>,
        backlog: &'a mut Backlog<Verified>,
        background: &'a mut BackgroundWork,
        live: &'a Sender<LiveCommand>,
    ) -> Self {
        let (live_ended, in_hand, evicted) = (false, InHand::Nothing, Removed::default());
        let (events, evictable, taken) = (0, 0, 0);
        Self { writing, inbox, backlog, background, live, live_ended, in_hand, events, evictable, taken, evicted }
    }

    /// Takes batches until it is time to commit them, answers each when it is durable, and evicts in between. Without a
    /// first batch it only evicts.
    fn run(&mut self, writer: &mut Writer) -> Result<(), LiveEnded> {
        let writing = self.writing;
        self.background.begin();
        self.take_batch();
        let result =
            if writing.commit_interval.is_zero() { self.commit_at_once(writer) } else { self.commit_later(writer) };
        let is_full = matches!(result, Err(StoreError::Full));
        match &result {
            Ok(()) => {
                self.background.removed(self.taken, self.evicted);
                writing.health.committed();
            }
            Err(error) => writing.health.failed(StoreOperation::Commit, error),
        }
        // Before the answers: a client that has its OK finds its event counted.
        let events = self.events + self.in_hand.len();
        if events > 0 {
            writing.metrics.commit_events.observe(events as f64);
        }
        for query in writing.uncommitted.clear() {
            (writing.resume)(query);
        }
        let answered = match (std::mem::take(&mut self.in_hand), result) {
            (InHand::Nothing, Ok(())) => Ok(()),
            (InHand::Nothing, Err(error)) => {
                self.failed(error);
                Ok(())
            }
            (InHand::Added(batch, outcomes), Ok(())) => self.answer(batch, &Ok(outcomes), None),
            // A full store still takes deletions, but not through the log.
            (InHand::Waiting(batch) | InHand::Added(batch, _), Err(StoreError::Full))
            | (InHand::Waiting(batch), Ok(())) => {
                let outcomes = writer.commit(&batch.events, writing.clock.now());
                if let Err(error) = &outcomes {
                    writing.health.failed(StoreOperation::Commit, error);
                }
                self.answer(batch, &outcomes, None)
            }
            (InHand::Waiting(batch) | InHand::Added(batch, _), Err(error)) => self.answer(batch, &Err(error), None),
        };
        if is_full {
            self.background.make_room(writer, &writing.horizons);
        }
        if self.live_ended { Err(LiveEnded) } else { answered }
    }

    /// The commit failed with no batch in hand. What was answered is in the log, and the next transaction adds it.
    fn failed(&mut self, error: StoreError) {
        if self.events == 0 && !matches!(error, StoreError::Full) {
            self.background.fail(error);
        }
    }

    /// Commits the batch in hand, or a step of removals.
    fn commit_at_once(&mut self, writer: &mut Writer) -> Result<(), StoreError> {
        let (writing, began) = (self.writing, Instant::now());
        let InHand::Waiting(batch) = std::mem::take(&mut self.in_hand) else {
            let (seqs, row) = self.take_along(self.background.stride());
            self.evicted = writer.evict(Evicted { seqs: &seqs, horizons: row.as_deref() })?;
            self.learn(began);
            return Ok(());
        };
        let (seqs, row) = self.take_along_with(&batch);
        let gone = Evicted { seqs: &seqs, horizons: row.as_deref() };
        let result = writer.commit_evicting(&batch.events, writing.clock.now(), gone);
        writing.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        let (outcomes, removed) = match result {
            Ok(committed) => committed,
            Err(error) => {
                self.in_hand = InHand::Waiting(batch);
                return Err(error);
            }
        };
        self.in_hand = InHand::Added(batch, outcomes);
        match removed {
            Some(removed) => self.evicted = removed,
            None => self.taken = 0,
        }
        Ok(())
    }

    /// Answers batches from the log until the interval is over, evicts while none waits, and commits.
    fn commit_later(&mut self, writer: &mut Writer) -> Result<(), StoreError> {
        let writing = self.writing;
        let mut began = Instant::now();
        let until = began + writing.commit_interval;
        let result = writer.group(|group| {
            loop {
                began = Instant::now();
                if let InHand::Waiting(batch) = std::mem::take(&mut self.in_hand) {
                    let (seqs, row) = self.take_along_with(&batch);
                    let gone = Evicted { seqs: &seqs, horizons: row.as_deref() };
                    let added = match group.add(&batch.events, writing.clock.now(), gone) {
                        Ok(added) => added,
                        Err(error) => {
                            self.in_hand = InHand::Waiting(batch);
                            return Err(error);
                        }
                    };
                    self.evicted += added.evicted;
                    if let Some(error) = &added.log_failure {
                        writing.health.failed(StoreOperation::Log, error);
                    }
                    if !added.is_durable {
                        self.in_hand = InHand::Added(batch, added.outcomes);
                        return Ok(());
                    }
                    writing.metrics.log_seconds.observe(began.elapsed().as_secs_f64());
                    if self.answer(batch, &Ok(added.outcomes), Some(added.removed)).is_err() {
                        self.live_ended = true;
                        break;
                    }
                } else if self.may_evict(group) {
                    let (seqs, row) = self.take_along(STEP);
                    self.evicted += group.evict(Evicted { seqs: &seqs, horizons: row.as_deref() })?;
                    writing.metrics.eviction_seconds.observe(began.elapsed().as_secs_f64());
                }
                if !self.goes_on(until, group) {
                    break;
                }
            }
            began = Instant::now();
            Ok(())
        });
        writing.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        self.learn(began);
        result
    }

    /// Learns from a commit of removals alone how many fit into one.
    fn learn(&mut self, began: Instant) {
        if self.events == 0 && matches!(self.in_hand, InHand::Nothing) {
            self.background.learn(self.taken, began.elapsed());
        }
    }

    /// Whether this commit is to remove more events than those that go with its batches.
    fn may_evict(&self, group: &store::Group<'_, '_>) -> bool {
        self.background.has_more(self.taken) && self.taken < self.background.stride() && group.may_evict()
    }

    /// Events to remove in the same commit as a batch: even when events never stop, evictions keep pace with them.
    fn take_along_with(&mut self, batch: &Batch) -> (Vec<Seq>, Option<Vec<u8>>) {
        self.evictable += EVICTED_FOR_STORED * batch.events.len();
        let taken = self.take_along(self.evictable);
        self.evictable -= taken.0.len();
        taken
    }

    /// Up to `most` events to remove, and the horizons to store with them.
    fn take_along(&mut self, most: usize) -> (Vec<Seq>, Option<Vec<u8>>) {
        let seqs = self.background.next_removals(self.taken, most);
        self.taken += seqs.len();
        let row = self.background.has_evictions().then(|| self.writing.horizons.to_bytes());
        (seqs, row)
    }

    /// Whether it is too early to commit: then there is a batch in hand or something to remove.
    fn goes_on(&mut self, until: Instant, group: &store::Group<'_, '_>) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.writing.uncommitted.is_wanted() {
            return false;
        }
        let is_evicting = self.may_evict(group);
        if !is_evicting && self.events == 0 {
            return false;
        }
        if self.backlog.is_empty() {
            let command = if is_evicting { self.inbox.try_recv() } else { self.inbox.recv_timeout(left).ok() };
            match command {
                Some(WriteCommand::Commit) => return false,
                Some(command) => self.note(command),
                None => {}
            }
        }
        self.take_batch() || self.may_evict(group)
    }

    /// Takes the next batch from the events that wait; `false` when none does.
    fn take_batch(&mut self) -> bool {
        while let Some(command) = self.inbox.try_recv() {
            self.note(command);
        }
        if self.backlog.is_empty() {
            return false;
        }
        self.in_hand = InHand::Waiting(self.backlog.take(self.writing.clock.now_us()).into());
        true
    }

    fn note(&mut self, command: WriteCommand) {
        match command {
            WriteCommand::Store(more) => self.backlog.add(more),
            WriteCommand::Upkeep => self.background.upkeep(),
            WriteCommand::Evict(eviction) => self.background.evict(eviction),
            WriteCommand::Note(note, row) => self.background.note(note, row),
            WriteCommand::Commit => {}
        }
    }

    /// Hands a batch to live and answers it. `removed` is what the batch removes, if it is not committed yet.
    fn answer(
        &mut self,
        batch: Batch,
        result: &Result<Vec<Outcome>, StoreError>,
        removed: Option<Vec<Box<[u8]>>>,
    ) -> Result<(), LiveEnded> {
        let writing = self.writing;
        let Batch { events, origins } = batch;
        self.events += events.len();
        writing.heartbeat.writer();
        let is_full = match result {
            Ok(outcomes) => outcomes.contains(&Outcome::Full),
            Err(error) => matches!(error, StoreError::Full),
        };
        if is_full {
            writing.writable.set(false);
        } else if !writing.writable.get() && result.as_ref().is_ok_and(|outcomes| outcomes.iter().all(is_stored)) {
            // When nobody writes, the retention thread notices that there is room again.
            writing.writable.set(true);
        }
        let ids: Vec<(EventId, usize)> = events.iter().map(|e| (e.view().id(), e.view().record().len())).collect();
        let answers: Vec<RelayMessage> = match result {
            Ok(outcomes) => ids.iter().zip(outcomes).map(|((id, _), outcome)| reply_for(*id, *outcome)).collect(),
            Err(error) => refuse_all(ids.iter().map(|(id, _)| *id), error),
        };
        if let Ok(outcomes) = result {
            outcomes.iter().for_each(|outcome| writing.metrics.event(counted_as(*outcome), 1));
            self.tell(events, outcomes, removed)?;
        } else {
            writing.metrics.event(if is_full { EventOutcome::Full } else { EventOutcome::Failed }, ids.len() as u64);
        }
        writing.gate.leave(origins.iter().zip(&ids).map(|((from, _), (_, bytes))| (&*from.memory, *bytes)));
        let mut replies = BatchReplies::default();
        for ((from, received), message) in origins.iter().zip(&answers) {
            writing.metrics.event_ok_seconds.observe(received.elapsed().as_secs_f64());
            replies.answer(from, message);
        }
        Ok(())
    }

    /// Hands stored events to live, before the OKs: a client that reads its OK finds its event (INV-2).
    fn tell(
        &self,
        events: Vec<VerifiedEvent>,
        outcomes: &[Outcome],
        removed: Option<Vec<Box<[u8]>>>,
    ) -> Result<(), LiveEnded> {
        let stored = |(event, outcome): (VerifiedEvent, &Outcome)| match outcome {
            Outcome::Stored(seq) => Some(Committed { seq: *seq, event }),
            _ => None,
        };
        // The store numbers events in the order of the batch.
        let committed: Arc<[Committed]> = events.into_iter().zip(outcomes).filter_map(stored).collect();
        if committed.is_empty() {
            return Ok(());
        }
        if let Some(removed) = removed {
            self.writing.uncommitted.add(&committed, removed);
        }
        self.live.send(LiveCommand::Committed(committed, Instant::now())).map_err(|_| LiveEnded)
    }
}

const fn is_stored(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Stored(_))
}
