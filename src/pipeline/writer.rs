//! The `writer` thread: the only one that opens write transactions in a serving process.
//!
//! It takes everything that waits, commits it in one transaction with an fsync, tells live, then answers. Nothing
//! is answered `OK true` before the commit that holds it is on disk (INV-1). It never waits on a client.

use std::time::{Duration, Instant};

use super::channel::{Receiver, RecvError, Sender};
use super::client::BatchReplies;
use super::queues::{Committed, LiveCommand, Verified, WriteCommand};
use super::retention::Chores;
use super::run::Shared;
use crate::metrics::EventOutcome;
use crate::nostr::{EventId, Prefix, Reason, RelayMessage, VerifiedEvent};
use crate::store::{Outcome, Removed, Seq, StoreError, Writer};

/// Events per commit. More does not make an event cheaper, and the first of them waits for the last.
const MAX_BATCH: usize = 1024;

/// Events of evictions that are removed at the most with a batch, for each event of it.
const EVICTED_FOR_STORED: usize = 2;

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
    let mut chores = Chores::default();
    let mut pace = Pace { interval: Duration::from_millis(shared.options.commit_interval_ms), last: None };
    loop {
        // Between steps of upkeep only what waits is taken: events always go first.
        let command = if chores.is_empty() { inbox.recv() } else { inbox.try_recv() };
        match command {
            Some(WriteCommand::Store(batch)) => {
                let batch = gather(batch, inbox, &mut chores, pace.until(Instant::now()));
                pace.last = Some(Instant::now());
                shared.beat.writer();
                // Also when events never stop, what must go goes as fast as they come.
                let evictable = EVICTED_FOR_STORED * batch.len();
                let riders = chores.riders(evictable);
                match store(shared, &mut writer, batch, &riders, live) {
                    Ok(Some(removed)) => chores.rode(riders.len(), removed),
                    Ok(None) => {}
                    Err(LiveEnded) => return,
                }
                chores.make_room(&mut writer, &shared.metrics, evictable - riders.len());
            }
            Some(WriteCommand::Upkeep) => {
                chores.upkeep();
                if let Err(error) = shared.store.forget_dead_copy() {
                    tracing::error!(%error, "what a killed compaction left could not be removed");
                }
            }
            Some(WriteCommand::Evict(eviction)) => chores.evict(eviction),
            None if !chores.is_empty() => {}
            None => return,
        }
        if inbox.is_empty() {
            chores.make_room(&mut writer, &shared.metrics, 1);
            if inbox.is_empty()
                && let Err(error) = chores.keep_up(&mut writer, shared.now())
            {
                tracing::error!(%error, "upkeep failed; it is tried again later");
            }
        }
        shared.beat.writer();
    }
}

/// Adds to `batch` what waits behind it and what comes `until` then.
fn gather(
    mut batch: Vec<Verified>,
    inbox: &Receiver<WriteCommand>,
    chores: &mut Chores,
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
            Some(WriteCommand::Upkeep) => chores.upkeep(),
            Some(WriteCommand::Evict(eviction)) => chores.evict(eviction),
            None => break,
        }
    }
    batch
}

/// Live has ended, which ends the process in order.
struct LiveEnded;

/// Commits and answers a batch, and removes `riders` in the same commit; what that removed, if it could.
fn store(
    shared: &Shared,
    writer: &mut Writer,
    batch: Vec<Verified>,
    riders: &[Seq],
    live: &Sender<LiveCommand>,
) -> Result<Option<Removed>, LiveEnded> {
    let started = Instant::now();
    let (events, origins): (Vec<VerifiedEvent>, Vec<_>) =
        batch.into_iter().map(|one| (one.event, (one.from, one.received))).unzip();
    let (result, removed) = match writer.commit_removing(&events, shared.now(), riders) {
        Ok((outcomes, removed)) => (Ok(outcomes), removed),
        Err(error) => (Err(error), None),
    };
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
    Ok(removed)
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
        let mut chores = Chores::default();
        let hour = || Some(Instant::now() + Duration::from_secs(3600));
        let late = std::thread::spawn(move || {
            tx.send(WriteCommand::Store(Vec::new())).unwrap_or_else(|_| panic!("the queue is open"));
            tx.send(WriteCommand::Upkeep).unwrap_or_else(|_| panic!("the queue is open"));
        });
        let batch = gather(Vec::new(), &rx, &mut chores, hour());
        late.join().expect("the sender ends");
        assert!(batch.is_empty() && !chores.is_empty(), "both commands were taken before the queue closed");
    }
}
