//! What the writer does between batches of events: it makes room, reaps and purges, in steps of a few milliseconds.
//!
//! Each sort of work has a [`Stride`], so a slow disk or large events make for smaller steps, not for longer waits.
//! A chore that is cut off is lost with the process: whoever found it finds it again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Chore, Eviction, Horizons};
use crate::metrics::Metrics;
use crate::nostr::Timestamp;
use crate::store::{Evicted, Removed, Seq, StoreError, Writer};

/// How long a step should hold the writer, its sync with the disk included.
const AIM: Duration = Duration::from_millis(3);

/// Rows of a step: with fewer, the sync would be nearly all that it costs; more are never found at a time.
const ROWS: std::ops::RangeInclusive<usize> = 16..=256;

/// Rows that are packed as fast as one event is removed.
const PACKED: usize = 4;

/// How many rows the next step of one sort of work takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stride(usize);

impl Stride {
    /// Learns from a step that took so long for so many rows. One that found less than a whole one tells little.
    fn learn(&mut self, rows: usize, took: Duration) {
        if rows < self.0 && took <= AIM {
            return;
        }
        let fit = (rows as f64 * AIM.as_secs_f64() / took.as_secs_f64().max(1e-6)).round() as usize;
        self.0 = fit.clamp(self.0 / 2, 2 * self.0).clamp(*ROWS.start(), *ROWS.end());
    }
}

/// See the module.
pub struct Chores {
    evictions: VecDeque<Eviction>,
    /// What was removed and not told yet.
    removed: Removed,
    /// Asked for, and not known to be done.
    upkeep: bool,
    remove: Stride,
    pack: Stride,
    reap: Stride,
    purge: Stride,
}

impl Default for Chores {
    fn default() -> Self {
        let [remove, pack, reap, purge] = [Stride(64); 4];
        Self { evictions: VecDeque::new(), removed: Removed::default(), upkeep: false, remove, pack, reap, purge }
    }
}

impl Chores {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.upkeep && self.evictions.is_empty()
    }

    /// Asks for what makes room.
    pub fn evict(&mut self, eviction: Eviction) {
        self.evictions.push_back(eviction);
    }

    /// Asks for upkeep.
    pub const fn upkeep(&mut self) {
        self.upkeep = true;
    }

    /// Up to `most` events to remove, behind the first `ridden`: in the commit of a batch they need no sync of their own.
    #[must_use]
    pub fn riders(&self, ridden: usize, most: usize) -> Vec<Seq> {
        let to_remove = self.evictions.iter().filter_map(|eviction| match &eviction.chore {
            Chore::Remove(seqs) => Some(seqs),
            Chore::Pack(_) => None,
        });
        to_remove.flatten().skip(ridden).take(most).copied().collect()
    }

    /// The first so many [`Self::riders`] were removed.
    pub fn rode(&mut self, mut riders: usize, removed: Removed) {
        self.removed += removed;
        self.evictions.retain_mut(|Eviction { chore, done }| {
            let Chore::Remove(seqs) = chore else { return true };
            let gone = riders.min(seqs.len());
            riders -= gone;
            seqs.drain(..gone);
            if gone > 0 && seqs.is_empty() {
                // The retention thread is gone only when the process ends.
                let _ = done.send(Ok(std::mem::take(&mut self.removed)));
                return false;
            }
            true
        });
    }

    /// Makes room in steps until that comes to `events`.
    pub fn make_room(&mut self, writer: &mut Writer, horizons: &Horizons, metrics: &Metrics, mut events: usize) {
        while events > 0
            && let Some(Eviction { chore, done }) = self.evictions.front_mut()
        {
            let began = Instant::now();
            let (stride, unit, result) = match chore {
                Chore::Remove(seqs) => {
                    let rest = seqs.split_off(self.remove.0.min(seqs.len()));
                    let step = std::mem::replace(seqs, rest);
                    (
                        &mut self.remove,
                        1,
                        evict(writer, &step, horizons).map(|removed| (step.len(), removed, seqs.is_empty())),
                    )
                }
                Chore::Pack(run) => {
                    let packed = writer.pack(*run, self.pack.0).map(|(rows, rest)| {
                        rest.inspect(|rest| *run = *rest);
                        (rows, Removed::default(), rest.is_none())
                    });
                    (&mut self.pack, PACKED, packed)
                }
            };
            let took = began.elapsed();
            let end = match result {
                Ok((rows, removed, is_done)) => {
                    stride.learn(rows, took);
                    metrics.eviction_seconds.observe(took.as_secs_f64());
                    events = events.saturating_sub((rows / unit).max(1));
                    self.removed += removed;
                    is_done.then(|| Ok(std::mem::take(&mut self.removed)))
                }
                Err(error) => Some(Err(error)),
            };
            if let Some(end) = end {
                // The retention thread is gone only when the process ends.
                let _ = done.send(end);
                self.evictions.pop_front();
            }
        }
    }

    /// Reaps and purges a little, if that was asked for.
    ///
    /// # Errors
    /// When a commit fails; it is left until it is asked for again.
    pub fn keep_up(&mut self, writer: &mut Writer, now: Timestamp) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.upkeep) {
            return Ok(());
        }
        let began = Instant::now();
        let reaped = writer.reap_expired(now, self.reap.0)?.events as usize;
        let has_more = reaped == self.reap.0;
        self.reap.learn(reaped, began.elapsed());
        let began = Instant::now();
        let purged = writer.purge_vanished(self.purge.0)?;
        self.purge.learn(self.purge.0, began.elapsed());
        self.upkeep = has_more || purged;
        Ok(())
    }
}

fn evict(writer: &mut Writer, seqs: &[Seq], horizons: &Horizons) -> Result<Removed, StoreError> {
    let row = horizons.to_bytes();
    let mut sum = match writer.evict(Evicted { seqs, horizons: Some(&row) }) {
        // New pages are written before old ones are free: on a full disk only a few at a time.
        Err(StoreError::Full) => Removed::default(),
        result => return result,
    };
    for seqs in seqs.chunks(4) {
        sum += writer.evict(Evicted { seqs, horizons: Some(&row) })?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::testing::{author, trusted};
    use crate::pipeline::channel::channel;
    use crate::store::{Durability, Options, Store};

    /// Steps of a disk that takes `sync_us` for each and `each_us` for a row, until the stride stays.
    fn settled(start: usize, sync_us: u64, each_us: u64) -> usize {
        let mut stride = Stride(start);
        for _ in 0..64 {
            stride.learn(stride.0, Duration::from_micros(sync_us + each_us * stride.0 as u64));
        }
        stride.0
    }

    #[test]
    fn steps_shrink_when_they_are_slow_and_grow_when_they_are_fast() {
        for start in [16, 64, 256] {
            assert_eq!(settled(start, 0, 50), 60, "3 ms of 50 µs each");
            assert_eq!(settled(start, 1000, 50), 40, "the sync leaves 2 ms");
            assert_eq!(settled(start, 30_000, 50), 16, "a sync alone is longer: a handful");
            assert_eq!(settled(start, 100, 1), 256, "no more than the most");
        }
    }

    #[test]
    fn one_slow_step_halves_the_next_and_one_that_found_little_does_not_grow_it() {
        let learn = |rows, us| {
            let mut stride = Stride(64);
            stride.learn(rows, Duration::from_micros(us));
            stride.0
        };
        assert_eq!([learn(64, 1_000_000), learn(64, 10), learn(64, 4000)], [32, 128, 48]);
        assert_eq!([learn(3, 10), learn(0, 0), learn(0, 10_000), learn(3, 10_000)], [64, 64, 32, 32]);
    }

    #[test]
    fn what_rides_and_what_goes_in_steps_is_removed_once_and_told_when_it_is_gone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Options { map_bytes: 64 << 20, durability: Durability::None, ..Options::default() };
        let store = Store::open(dir.path(), options).expect("a new store");
        let mut writer = store.writer();
        let events: Vec<_> = (0..400).map(|n| trusted(author(n), 1, n, &[], &"x".repeat(500))).collect();
        writer.commit(&events, Timestamp(1000)).expect("a commit");
        let (horizons, metrics, (done, told)) = (Horizons::default(), Metrics::default(), channel(3));
        let mut chores = Chores::default();
        let seqs = |range: std::ops::Range<u64>| range.map(Seq).collect::<Vec<_>>();
        let run = store.read().expect("a snapshot").run_of_pages(Seq(1)).expect("a walk").expect("events");
        for chore in [Chore::Remove(seqs(1..41)), Chore::Pack(run), Chore::Remove(seqs(41..301))] {
            chores.evict(Eviction { chore, done: done.clone() });
        }
        assert_eq!(chores.riders(0, 50), seqs(1..51));
        let evicted = Evicted { seqs: &seqs(1..51), horizons: None };
        let (_, removed) = writer.commit_evicting(&[], Timestamp(1000), evicted).expect("a commit");
        chores.rode(50, removed.expect("there is room"));
        assert_eq!(told.try_recv().expect("the first is done").expect("no error").events, 50);
        assert_eq!(chores.riders(0, 1000), seqs(51..301));
        chores.make_room(&mut writer, &horizons, &metrics, 1);
        assert!(told.try_recv().is_none(), "the pages are packed in steps, and so is the rest removed");
        chores.make_room(&mut writer, &horizons, &metrics, usize::MAX);
        let rest: Vec<u64> =
            std::iter::from_fn(|| told.try_recv()).map(|done| done.expect("no error").events).collect();
        assert_eq!((rest, chores.is_empty()), (vec![0, 250], true));
        let report = store.check(|_, _| {}).expect("a check");
        assert_eq!((report.events, report.problems), (100, vec![]));
        let row = horizons.to_bytes();
        assert_eq!(store.read().expect("a snapshot").horizons().expect("a row"), Some(&row[..]));
    }
}
