//! The `writer` thread: the only one that opens write transactions in a serving process.
//!
//! It takes what waits as one batch, makes it durable with one small write to the write-ahead log, hands it to live and
//! answers it; the batches of some milliseconds share one commit. No event is answered `OK true` before it is on disk
//! (INV-1). The writer never waits on a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::{EventOutcome, StoreOperation};
use crate::nostr::{EventId, RelayMessage, VerifiedEvent};
use crate::pipeline::channel::{Receiver, Sender};
use crate::pipeline::client::BatchReplies;
use crate::pipeline::clock::thread_time;
use crate::pipeline::commit::event_replies::{counted_as, refuse_all, reply_for};
use crate::pipeline::commit::work::{Batch, InHand, Work};
use crate::pipeline::commit::writing::Writing;
use crate::pipeline::queues::{Committed, LiveCommand, WriteCommand};
use crate::store::{self, Evicted, Outcome, Removed, Seq, StoreError, Writer, footprint_of};

/// The most events that are evicted with a batch, for each event in it.
const EVICTED_FOR_STORED: usize = 2;

/// Events that are removed while no batch waits, before the writer checks for one again: about a millisecond.
const STEP: usize = 32;

/// More than the footprint of any batch, in bytes.
const AMPLE: u64 = 8 << 20;

/// The `live` thread has ended, so the process is stopping.
struct LiveEnded;

/// Runs until Q2 is closed and empty.
pub fn run<Q>(writing: &Writing<Q>, mut writer: Writer, inbox: &Receiver<WriteCommand>, live: &Sender<LiveCommand>) {
    let mut work = Work::default();
    loop {
        let was_idle = work.is_idle();
        match work.next(inbox) {
            Some(command) => {
                let is_upkeep = matches!(command, WriteCommand::Upkeep);
                work.add(command);
                if is_upkeep {
                    writing.look_after(&mut writer);
                }
            }
            None if was_idle => return,
            None => {}
        }
        if work.has_events() && OpenCommit::new(writing, inbox, &mut work, live).run(&mut writer).is_err() {
            return;
        }
        let nothing_waits = |work: &Work| inbox.is_empty() && !work.has_events();
        if nothing_waits(&work)
            && work.background.has_evictions()
            && OpenCommit::new(writing, inbox, &mut work, live).run(&mut writer).is_err()
        {
            return;
        }
        if nothing_waits(&work)
            && let Err(error) = work.background.keep_up(&mut writer, writing.clock.now())
        {
            writing.commit_failed(&error);
        }
        // Any of these may have made the commit that others failed to make.
        writing.settle();
        writing.heartbeat.writer(writing.clock.now_us());
    }
}

/// The batches and removals of one commit.
struct OpenCommit<'a, Q> {
    writing: &'a Writing<Q>,
    inbox: &'a Receiver<WriteCommand>,
    work: &'a mut Work,
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
        work: &'a mut Work,
        live: &'a Sender<LiveCommand>,
    ) -> Self {
        let (live_ended, in_hand, evicted) = (false, InHand::Nothing, Removed::default());
        let (events, evictable, taken) = (0, 0, 0);
        Self { writing, inbox, work, live, live_ended, in_hand, events, evictable, taken, evicted }
    }

    /// Takes batches until it is time to commit them, answers each when it is durable, and evicts in between. Without a
    /// first batch it only evicts.
    fn run(&mut self, writer: &mut Writer) -> Result<(), LiveEnded> {
        let writing = self.writing;
        self.work.background.begin();
        if !self.take_batch() && !self.work.background.has_evictions() {
            return Ok(());
        }
        let result =
            if writing.commit_interval.is_zero() { self.commit_at_once(writer) } else { self.commit_later(writer) };
        let is_full = matches!(result, Err(StoreError::Full));
        match &result {
            Ok(()) => {
                self.work.background.removed(self.taken, self.evicted);
                writing.committed();
            }
            // Want of room is told by what becomes of the batch in hand.
            Err(error) => writing.health.failed(StoreOperation::Commit, error),
        }
        // Before the answers: a client that has its OK finds its event counted.
        let events = self.events + self.in_hand.events();
        if events > 0 {
            writing.metrics.commit_events.observe(events as f64);
        }
        writing.settle();
        let answered = match (std::mem::take(&mut self.in_hand), result) {
            (InHand::Nothing, Ok(())) => Ok(()),
            (InHand::Held(batch), Ok(()) | Err(StoreError::Full)) => {
                writing.writable.committed(!is_full);
                self.work.held = Some(batch);
                Ok(())
            }
            (InHand::Nothing, Err(error)) => {
                writing.writable.committed(!is_full);
                self.failed(error);
                Ok(())
            }
            (InHand::Added(batch, outcomes), Ok(())) => self.answer(batch, &Ok(outcomes), None),
            // A full store still takes deletions, but not through the log.
            (InHand::Waiting(batch) | InHand::Added(batch, _), Err(StoreError::Full))
            | (InHand::Waiting(batch), Ok(())) => {
                let outcomes = writer.commit(&batch.events, writing.clock.now());
                match &outcomes {
                    Ok(_) => writing.committed(),
                    Err(error) => writing.commit_failed(error),
                }
                self.answer(batch, &outcomes, None)
            }
            (InHand::Waiting(batch) | InHand::Held(batch) | InHand::Added(batch, _), Err(error)) => {
                self.answer(batch, &Err(error), None)
            }
        };
        if is_full {
            self.work.background.make_room(writer, &writing.horizons);
        }
        if self.live_ended { Err(LiveEnded) } else { answered }
    }

    /// The commit failed with no batch in hand. What was answered is in the log, and the next transaction adds it.
    fn failed(&mut self, error: StoreError) {
        if self.events == 0 && !matches!(error, StoreError::Full) {
            self.work.background.fail(error);
        }
    }

    /// Commits the batch in hand, or a step of removals.
    fn commit_at_once(&mut self, writer: &mut Writer) -> Result<(), StoreError> {
        let (writing, began) = (self.writing, Instant::now());
        let InHand::Waiting(batch) = std::mem::take(&mut self.in_hand) else {
            return self.evict_alone(writer);
        };
        let (needed, room) = (footprint_of(&batch.events), writing.store.room());
        let lacks = |bytes| needed > 0 && room.as_ref().is_ok_and(|room| !room.has_room_for(bytes));
        if lacks(needed) && self.work.background.has_evictions() {
            self.in_hand = InHand::Held(batch);
            return self.evict_alone(writer);
        }
        if needed > 0 && self.is_held(lacks(0)) {
            self.in_hand = InHand::Held(batch);
            return Ok(());
        }
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

    /// Removes events in a commit of their own.
    fn evict_alone(&mut self, writer: &mut Writer) -> Result<(), StoreError> {
        let began = Instant::now();
        let (seqs, row) = self.take_along(self.work.background.stride());
        self.evicted = writer.evict(Evicted { seqs: &seqs, horizons: row.as_deref() })?;
        self.work.background.learn(self.taken, began.elapsed());
        Ok(())
    }

    /// Answers batches from the log until the interval is over, evicts while none waits, and commits.
    fn commit_later(&mut self, writer: &mut Writer) -> Result<(), StoreError> {
        let writing = self.writing;
        let opened = Instant::now();
        let (mut began, mut worked) = (opened, Duration::ZERO);
        let result = writer.group(|group| {
            // Another process may have added what a failed commit of ours left in the log. If not, this transaction
            // has, so the log takes no more: whatever is listed below belongs to one group.
            writing.settle();
            loop {
                began = Instant::now();
                if let InHand::Waiting(batch) = std::mem::take(&mut self.in_hand) {
                    let has_room = self.makes_room(group, &batch);
                    if !matches!(has_room, Ok(true)) {
                        self.in_hand = InHand::Held(batch);
                        has_room?;
                        break;
                    }
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
                    self.evict_step(group)?;
                }
                if !self.goes_on(opened, group) {
                    break;
                }
            }
            (began, worked) = (Instant::now(), thread_time());
            Ok(())
        });
        writing.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        if result.is_ok() && !worked.is_zero() {
            writing.metrics.commit_work_seconds.observe(thread_time().saturating_sub(worked).as_secs_f64());
            self.work.background.learn(self.taken, began.elapsed());
        }
        result
    }

    /// Removes a few events.
    fn evict_step(&mut self, group: &mut store::Group<'_, '_>) -> Result<(), StoreError> {
        let began = Instant::now();
        let (seqs, row) = self.take_along(STEP);
        self.evicted += group.evict(Evicted { seqs: &seqs, horizons: row.as_deref() })?;
        self.writing.metrics.eviction_seconds.observe(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Removes events until the batch fits, as far as there are any to remove. False when it is to wait: the store is
    /// full.
    fn makes_room(&mut self, group: &mut store::Group<'_, '_>, batch: &Batch) -> Result<bool, StoreError> {
        if group.has_room_for(AMPLE)? {
            return Ok(!self.is_held(false));
        }
        let needed = footprint_of(&batch.events);
        if needed == 0 {
            return Ok(true);
        }
        while !group.has_room_for(needed)? && self.work.background.has_more(self.taken) {
            if !group.may_evict() {
                return Ok(false);
            }
            self.evict_step(group)?;
        }
        let is_full = !group.has_room_for(0)?;
        Ok(!self.is_held(is_full))
    }

    /// Whether the batch in hand is to wait for room.
    fn is_held(&mut self, is_full: bool) -> bool {
        if !is_full {
            self.work.room.found();
        }
        is_full && self.work.room.is_worth_it(self.writing.writable.is_room_made(), Instant::now())
    }

    /// Whether this commit is to remove more events than those that go with its batches.
    fn may_evict(&self, group: &store::Group<'_, '_>) -> bool {
        let background = &self.work.background;
        background.has_more(self.taken) && self.taken < background.stride() && group.may_evict()
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
        let seqs = self.work.background.next_removals(self.taken, most);
        self.taken += seqs.len();
        let row = self.work.background.has_evictions().then(|| self.writing.horizons.to_bytes());
        (seqs, row)
    }

    /// Whether it is too early to commit: then there is a batch in hand or something to remove.
    fn goes_on(&mut self, opened: Instant, group: &store::Group<'_, '_>) -> bool {
        let (is_evicting, interval) = (self.may_evict(group), self.writing.commit_interval);
        // More is to be removed than this commit may: the next one is made sooner.
        let is_spent = !is_evicting && self.work.background.has_more(self.taken);
        let open_for = if is_spent { interval.min(self.work.background.pause()) } else { interval };
        let left = open_for.saturating_sub(opened.elapsed());
        if left.is_zero() || self.writing.uncommitted.is_wanted() {
            return false;
        }
        if !is_evicting && self.events == 0 {
            return false;
        }
        if self.work.backlog.is_empty() {
            let command = if is_evicting { self.inbox.try_recv() } else { self.inbox.recv_timeout(left).ok() };
            match command {
                Some(WriteCommand::Commit) => return false,
                Some(command) => self.work.add(command),
                None => {}
            }
        }
        self.take_batch() || self.may_evict(group)
    }

    /// Takes the next batch from the events that wait; `false` when none does.
    fn take_batch(&mut self) -> bool {
        while let Some(command) = self.inbox.try_recv() {
            self.work.add(command);
        }
        let writing = self.writing;
        let answers = (&writing.metrics, &writing.gate);
        let next = self.work.next_batch(&writing.settings.load(), answers, writing.clock.now_us());
        let has_one = next.is_some();
        if let Some(batch) = next {
            self.in_hand = InHand::Waiting(batch);
        }
        has_one
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
        writing.heartbeat.writer(writing.clock.now_us());
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
            let stored = events.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Stored(_)));
            writing.metrics.stored_kinds.count(stored.map(|(event, _)| event.view().kind().0));
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
