//! The `writer` thread: the only one that opens write transactions in a serving process.
//!
//! It takes everything that waits, commits it in one transaction with an fsync, tells live, then answers. Nothing
//! is answered `OK true` before the commit that holds it is on disk (INV-1). It never waits on a client.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::channel::{Receiver, RecvError, Sender};
use super::client::BatchReplies;
use super::queues::{Committed, LiveCommand, Verified, WriteCommand};
use super::retention::{Chore, Eviction};
use super::run::Shared;
use crate::metrics::EventOutcome;
use crate::nostr::{EventId, Prefix, Reason, RelayMessage, VerifiedEvent};
use crate::store::{Outcome, Removed, Return, Seq, StoreError, Writer};

/// Events per commit. More does not make an event cheaper, and the first of them waits for the last.
const MAX_BATCH: usize = 1024;

/// Rows of upkeep in one transaction: a few milliseconds at most.
const UPKEEP_ROWS: usize = 256;

/// Events of evictions that are removed at the most between two batches, for each event of the first.
const EVICTED_FOR_STORED: usize = 2;

/// What packing some pages counts for: it costs as much as so many removals.
const PACKED: usize = 64;

/// What waits until no batch of events does.
#[derive(Default)]
struct Waiting {
    upkeep: bool,
    evictions: VecDeque<Eviction>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        !self.upkeep && self.evictions.is_empty()
    }
}

/// Keeps commits apart, so that events which come one by one share the pages and the fsync of one.
struct Pace {
    interval: Duration,
    /// When the last commit began.
    last: Option<Instant>,
}

impl Pace {
    /// Until when events are gathered for the next commit; `None` when it need not wait.
    fn until(&self, now: Instant) -> Option<Instant> {
        let until = self.last? + self.interval;
        (until > now).then_some(until)
    }
}

/// Runs until Q2 is closed and empty.
pub fn run(shared: &Shared, mut writer: Writer, inbox: &Receiver<WriteCommand>, live: &Sender<LiveCommand>) {
    let mut waiting = Waiting::default();
    let mut pace = Pace { interval: Duration::from_millis(shared.options.commit_interval_ms), last: None };
    loop {
        // Between steps of upkeep only what waits is taken: events always go first.
        let command = if waiting.is_empty() { inbox.recv() } else { inbox.try_recv() };
        match command {
            Some(WriteCommand::Store(batch)) => {
                let batch = gather(batch, inbox, &mut waiting, pace.until(Instant::now()));
                pace.last = Some(Instant::now());
                let events = batch.len();
                shared.beat.writer();
                if store(shared, &mut writer, batch, live).is_err() {
                    return;
                }
                // Also when events never stop, what must go goes as fast as they come.
                evict(&mut writer, &mut waiting.evictions, EVICTED_FOR_STORED * events);
            }
            Some(WriteCommand::Upkeep) => {
                waiting.upkeep = true;
                if let Err(error) = shared.store.forget_dead_copy() {
                    tracing::error!(%error, "what a killed compaction left could not be removed");
                }
            }
            Some(WriteCommand::Evict(eviction)) => waiting.evictions.push_back(eviction),
            None if !waiting.is_empty() => {}
            None => return,
        }
        if inbox.is_empty() {
            evict(&mut writer, &mut waiting.evictions, 1);
            if waiting.upkeep && inbox.is_empty() {
                waiting.upkeep = step_of_upkeep(shared, &mut writer);
            }
        }
        shared.beat.writer();
    }
}

/// Adds to `batch` what waits behind it and what comes `until` then.
fn gather(
    mut batch: Vec<Verified>,
    inbox: &Receiver<WriteCommand>,
    waiting: &mut Waiting,
    until: Option<Instant>,
) -> Vec<Verified> {
    while batch.len() < MAX_BATCH {
        let left = until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        let command = match left {
            None => inbox.try_recv(),
            Some(left) => match inbox.recv_timeout(left) {
                Ok(command) => Some(command),
                // What came at the last moment is not left behind.
                Err(RecvError::Timeout) => continue,
                Err(RecvError::Closed) => None,
            },
        };
        match command {
            Some(WriteCommand::Store(more)) => batch.extend(more),
            Some(WriteCommand::Upkeep) => waiting.upkeep = true,
            Some(WriteCommand::Evict(eviction)) => waiting.evictions.push_back(eviction),
            None => break,
        }
    }
    batch
}

/// Makes room, each chore a commit of a few milliseconds, until that comes to `events`.
fn evict(writer: &mut Writer, evictions: &mut VecDeque<Eviction>, mut events: usize) {
    while events > 0
        && let Some(Eviction { chore, done }) = evictions.pop_front()
    {
        let began = Instant::now();
        let removed = match chore {
            Chore::Remove(seqs) => {
                events = events.saturating_sub(seqs.len());
                match writer.remove(&seqs, Return::Allowed) {
                    // New pages are written before old ones are free: on a full disk only a few at a time.
                    Err(StoreError::Full) => remove_piecemeal(writer, &seqs),
                    removed => removed,
                }
            }
            Chore::Pack(run) => {
                events = events.saturating_sub(PACKED);
                writer.pack(run).map(|()| Removed::default())
            }
        };
        // The retention thread is gone only when the process ends.
        let _ = done.send((removed, began.elapsed()));
    }
}

fn remove_piecemeal(writer: &mut Writer, seqs: &[Seq]) -> Result<Removed, StoreError> {
    let mut sum = Removed::default();
    for seqs in seqs.chunks(4) {
        let removed = writer.remove(seqs, Return::Allowed)?;
        (sum.events, sum.bytes) = (sum.events + removed.events, sum.bytes + removed.bytes);
    }
    Ok(sum)
}

/// Live has ended, which ends the process in order.
struct LiveEnded;

fn store(
    shared: &Shared,
    writer: &mut Writer,
    batch: Vec<Verified>,
    live: &Sender<LiveCommand>,
) -> Result<(), LiveEnded> {
    let started = Instant::now();
    let (events, origins): (Vec<VerifiedEvent>, Vec<_>) =
        batch.into_iter().map(|one| (one.event, (one.from, one.received))).unzip();
    let result = writer.commit(&events, shared.now());
    shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
    shared.metrics.commit_events.observe(events.len() as f64);
    let is_full = match &result {
        Ok(outcomes) => outcomes.contains(&Outcome::Full),
        Err(error) => matches!(error, StoreError::Full),
    };
    if is_full {
        // The retention thread says when there is room again.
        shared.storage_writable(false);
    }

    let ids: Vec<(EventId, usize)> = events.iter().map(|e| (e.view().id(), e.view().record().len())).collect();
    let answers: Vec<RelayMessage> = match &result {
        Ok(outcomes) => ids.iter().zip(outcomes).map(|((id, _), outcome)| answer(*id, *outcome)).collect(),
        Err(error) => refuse_all(&ids, error),
    };
    if let Ok(outcomes) = result {
        outcomes.iter().for_each(|outcome| shared.metrics.event(counted(*outcome), 1));
        tell_live(events, &outcomes, live)?;
    } else {
        shared.metrics.event(EventOutcome::Failed, ids.len() as u64);
    }
    let mut replies = BatchReplies::default();
    for (((from, received), (_, bytes)), message) in origins.iter().zip(&ids).zip(&answers) {
        shared.ingest.leave(1, *bytes);
        shared.metrics.event_ok_seconds.observe(received.elapsed().as_secs_f64());
        replies.answer(from, message);
    }
    Ok(())
}

/// Hands what was stored to live, before the OKs: a client that reads its OK finds its event (INV-2).
fn tell_live(events: Vec<VerifiedEvent>, outcomes: &[Outcome], live: &Sender<LiveCommand>) -> Result<(), LiveEnded> {
    let stored = |(event, outcome): (VerifiedEvent, &Outcome)| match outcome {
        Outcome::Stored(seq) => Some(Committed { seq: *seq, event }),
        _ => None,
    };
    let mut committed: Vec<Committed> = events.into_iter().zip(outcomes).filter_map(stored).collect();
    if committed.is_empty() {
        return Ok(());
    }
    committed.sort_unstable_by_key(|one| one.seq);
    live.send(LiveCommand::Committed(committed, Instant::now())).map_err(|_| LiveEnded)
}

/// What the client is told (NIP-01).
fn answer(id: EventId, outcome: Outcome) -> RelayMessage {
    let accepted = |reason| RelayMessage::Ok { id, accepted: true, reason };
    match outcome {
        Outcome::Stored(_) => accepted(None),
        Outcome::Duplicate => accepted(Some(Reason::new(Prefix::Duplicate, "already have this event"))),
        Outcome::Replaced => RelayMessage::refused(id, Prefix::Duplicate, "a newer version is already stored"),
        Outcome::Deleted => RelayMessage::refused(id, Prefix::Blocked, "the author deleted this event"),
        Outcome::Vanished => RelayMessage::refused(id, Prefix::Blocked, "the author asked to vanish"),
        Outcome::Expired => RelayMessage::refused(id, Prefix::Invalid, "the event is expired"),
        Outcome::Ephemeral => RelayMessage::refused(id, Prefix::Error, "an ephemeral event reached the store"),
        Outcome::Full => RelayMessage::refused(id, Prefix::Error, "storage full"),
        Outcome::InvalidDeletion => {
            RelayMessage::refused(id, Prefix::Invalid, "the deletion names nothing that its author may delete")
        }
    }
}

const fn counted(outcome: Outcome) -> EventOutcome {
    match outcome {
        Outcome::Stored(_) => EventOutcome::Stored,
        Outcome::Duplicate => EventOutcome::Duplicate,
        Outcome::Replaced => EventOutcome::Replaced,
        Outcome::Deleted => EventOutcome::Deleted,
        Outcome::Vanished => EventOutcome::Vanished,
        Outcome::Expired => EventOutcome::Expired,
        Outcome::Ephemeral | Outcome::Full => EventOutcome::Failed,
        Outcome::InvalidDeletion => EventOutcome::Invalid,
    }
}

/// The batch was not committed: nothing of it is held, and every client may try again.
fn refuse_all(ids: &[(EventId, usize)], error: &StoreError) -> Vec<RelayMessage> {
    let text = match error {
        StoreError::Full => "storage full",
        _ => "the event could not be stored",
    };
    tracing::error!(%error, events = ids.len(), "a commit failed");
    ids.iter().map(|(id, _)| RelayMessage::refused(*id, Prefix::Error, text)).collect()
}

/// Reaps and purges a little; returns whether there is more.
fn step_of_upkeep(shared: &Shared, writer: &mut Writer) -> bool {
    let reaped = writer.reap_expired(shared.now(), UPKEEP_ROWS);
    let purged = writer.purge_vanished(UPKEEP_ROWS);
    match (reaped, purged) {
        (Ok(reaped), Ok(more)) => reaped.events as usize == UPKEEP_ROWS || more,
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "upkeep failed; it is tried again later");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel::channel;
    use super::*;

    #[test]
    fn commits_are_an_interval_apart_and_the_first_after_a_quiet_one_does_not_wait() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace { interval: Duration::from_millis(20), last: None };
        assert_eq!(pace.until(at(0)), None, "nothing was committed yet");
        pace.last = Some(at(0));
        assert_eq!(pace.until(at(5)), Some(at(20)));
        assert_eq!(pace.until(at(20)), None);
        pace.interval = Duration::ZERO;
        assert_eq!(pace.until(at(0)), None, "commits at once");
    }

    #[test]
    fn what_comes_in_the_interval_is_gathered_and_a_closing_queue_ends_it() {
        let (tx, rx) = channel(4);
        let mut waiting = Waiting::default();
        let hour = || Some(Instant::now() + Duration::from_secs(3600));
        let late = std::thread::spawn(move || {
            tx.send(WriteCommand::Store(Vec::new())).unwrap_or_else(|_| panic!("the queue is open"));
            tx.send(WriteCommand::Upkeep).unwrap_or_else(|_| panic!("the queue is open"));
        });
        let batch = gather(Vec::new(), &rx, &mut waiting, hour());
        late.join().expect("the sender ends");
        assert!(batch.is_empty() && waiting.upkeep, "both commands were taken before the queue closed");
    }
}
