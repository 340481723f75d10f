//! What the writer does between batches of events, a little at a time: evictions, expired events, vanished authors.
//!
//! Removals piggyback on commits of events, or share commits of their own: the more of them share one, the fewer pages
//! each changes. Each kind of work has its own step size, so a slow disk or large events lead to smaller steps, not to
//! longer waits. Work that a crash interrupts is lost; whoever requested it finds it again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::nostr::Timestamp;
use crate::pipeline::queues::Eviction;
use crate::retention::Horizons;
use crate::store::{Evicted, Note, Removed, Seq, StoreError, Writer};

/// How long a step should take the writer, including the sync.
const AIM: Duration = Duration::from_millis(3);

/// Rows of a step. With fewer, nearly all its time would go to the sync; more are never found at a time.
const ROWS: std::ops::RangeInclusive<usize> = 16..=256;

/// Events that one commit removes. With more, the write-ahead log cannot be used in the same group.
const COMMIT_ROWS: std::ops::RangeInclusive<usize> = 64..=1024;

/// Commits become larger while each event that they remove takes longer than this: on a slow disk, or with many free
/// pages to write down. At this price a relay removes 5,700 a second in the two fifths of its time that commits take.
const DEAR: Duration = Duration::from_micros(70);

/// Commits become smaller while each event takes less than this, so that they hold the writer for less. Half of `DEAR`:
/// in half as large a commit, an event takes at most twice as long.
const CHEAP: Duration = Duration::from_micros(35);

/// A commit that takes longer is made smaller, down to [`LEAST_IF_LONG`]. With fewer events, the syncs would take most
/// of its time.
const LONG: Duration = Duration::from_millis(100);

/// See [`LONG`].
const LEAST_IF_LONG: usize = 512;

/// How many rows the next step of one kind of work takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stride {
    rows: usize,
    aim: Duration,
    least: usize,
    most: usize,
}

impl Stride {
    const fn new(rows: usize, aim: Duration, bounds: &std::ops::RangeInclusive<usize>) -> Self {
        Self { rows, aim, least: *bounds.start(), most: *bounds.end() }
    }

    /// Learns from a step: it took so long for this many rows. A step that found fewer rows than it could take says
    /// little.
    fn learn(&mut self, rows: usize, took: Duration) {
        if rows < self.rows && took <= self.aim {
            return;
        }
        let fit = (rows as f64 * self.aim.as_secs_f64() / took.as_secs_f64().max(1e-6)).round() as usize;
        self.rows = fit.clamp(self.rows / 2, 2 * self.rows).clamp(self.least, self.most);
    }
}

/// The evictions, rows and upkeep that the writer has been asked for and has not finished, and the sizes of its steps.
pub struct BackgroundWork {
    evictions: VecDeque<Eviction>,
    /// How many of them the commit under way includes: it stores the horizons, which cover these.
    known: usize,
    /// Events of the first eviction that are already removed.
    removed: u64,
    /// Rows to save, at most one of each kind.
    notes: Vec<(Note, Vec<u8>)>,
    /// Requested, and not finished.
    upkeep: bool,
    /// Events that the next commit removes.
    stride: usize,
    /// How long the last commit with removals took.
    took: Duration,
    reap: Stride,
    purge: Stride,
}

impl Default for BackgroundWork {
    fn default() -> Self {
        let [reap, purge] = [Stride::new(64, AIM, &ROWS); 2];
        let (evictions, stride, took) = (VecDeque::new(), 256, Duration::ZERO);
        Self { evictions, known: 0, removed: 0, notes: Vec::new(), upkeep: false, stride, took, reap, purge }
    }
}

impl BackgroundWork {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.upkeep && self.evictions.is_empty() && self.notes.is_empty()
    }

    /// Whether there are evictions.
    #[must_use]
    pub fn has_evictions(&self) -> bool {
        !self.evictions.is_empty()
    }

    /// Whether there are events to remove beyond the first `taken`, or horizons to save.
    #[must_use]
    pub fn has_more(&self, taken: usize) -> bool {
        self.evictions.len() > self.known
            || self.evictions.iter().map(|eviction| eviction.seqs.len()).sum::<usize>() > taken
    }

    /// Requests an eviction.
    pub fn evict(&mut self, eviction: Eviction) {
        self.evictions.push_back(eviction);
    }

    /// Requests upkeep.
    pub const fn upkeep(&mut self) {
        self.upkeep = true;
    }

    /// Requests that a row be saved, in place of an earlier one of its kind; an empty row deletes it.
    pub fn note(&mut self, note: Note, row: Vec<u8>) {
        self.notes.retain(|(of, _)| *of != note);
        self.notes.push((note, row));
    }

    /// How many events a commit should remove.
    #[must_use]
    pub const fn stride(&self) -> usize {
        self.stride
    }

    /// Learns how long a commit took that removed this many events.
    pub fn learn(&mut self, rows: usize, took: Duration) {
        if rows == 0 {
            return;
        }
        self.took = took;
        let (least, most) = (*COMMIT_ROWS.start(), *COMMIT_ROWS.end());
        let each = took / u32::try_from(rows).unwrap_or(u32::MAX);
        self.stride = if took > LONG && self.stride > LEAST_IF_LONG {
            (self.stride / 2).max(LEAST_IF_LONG)
        } else if each > DEAR && took <= LONG && rows >= self.stride {
            (self.stride * 2).min(most)
        } else if each < CHEAP {
            (self.stride / 2).max(least)
        } else {
            self.stride
        };
    }

    /// How long events are answered from the log before the next commit: half as long again as the last one took, so
    /// that commits take at most two fifths of the writer's time.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.took * 3 / 2
    }

    /// A commit begins.
    pub const fn begin(&mut self) {
        self.known = 0;
    }

    /// The next events to remove, up to `most`, beyond the first `taken`.
    #[must_use]
    pub fn next_removals(&mut self, taken: usize, most: usize) -> Vec<Seq> {
        self.known = self.evictions.len();
        self.evictions.iter().flat_map(|eviction| &eviction.seqs).skip(taken).take(most).copied().collect()
    }

    /// The first `taken` events are gone, `removed` of them by this commit and the others before. Each eviction is told
    /// how many of its own were removed: a commit may remove events of several.
    pub fn removed(&mut self, mut taken: usize, removed: Removed) {
        let mut untold = removed.events;
        while self.known > 0
            && let Some(Eviction { seqs, done }) = self.evictions.front_mut()
        {
            let gone = taken.min(seqs.len());
            taken -= gone;
            seqs.drain(..gone);
            let of_it = untold.min(gone as u64);
            untold -= of_it;
            self.removed += of_it;
            if !seqs.is_empty() {
                return;
            }
            // The retention thread is gone only when the process ends.
            let _ = done.send(Ok(std::mem::take(&mut self.removed)));
            self.evictions.pop_front();
            self.known -= 1;
        }
    }

    /// Removes a few events when a commit ran out of space: LMDB writes new pages before it frees old ones.
    pub fn make_room(&mut self, writer: &mut Writer, horizons: &Horizons) {
        for _ in 0..*ROWS.start() {
            let few = self.next_removals(0, 4);
            if !self.has_evictions() {
                return;
            }
            match writer.evict(Evicted { seqs: &few, horizons: Some(&horizons.to_bytes()) }) {
                Ok(removed) => self.removed(few.len(), removed),
                Err(error) => {
                    self.fail(error);
                    return;
                }
            }
        }
    }

    /// Reports that the first eviction failed; the retention thread tries again later.
    pub fn fail(&mut self, error: StoreError) {
        self.removed = 0;
        if let Some(Eviction { done, .. }) = self.evictions.pop_front() {
            // The retention thread is gone only when the process ends.
            let _ = done.send(Err(error));
        }
    }

    /// Saves the rows and runs a step of upkeep, if that was requested.
    ///
    /// # Errors
    /// When a commit fails; the work is left until it is requested again.
    pub fn keep_up(&mut self, writer: &mut Writer, now: Timestamp) -> Result<(), StoreError> {
        for (note, row) in std::mem::take(&mut self.notes) {
            writer.put_note(note, &row)?;
        }
        if !std::mem::take(&mut self.upkeep) {
            return Ok(());
        }
        let began = Instant::now();
        let reaped = writer.reap_expired(now, self.reap.rows)?.events as usize;
        let has_more = reaped == self.reap.rows;
        self.reap.learn(reaped, began.elapsed());
        let began = Instant::now();
        let purged = writer.purge_vanished(self.purge.rows)?;
        self.purge.learn(self.purge.rows, began.elapsed());
        self.upkeep = has_more || purged;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::testing::{author, trusted};
    use crate::pipeline::channel::channel;
    use crate::store::{Durability, Options, Store};

    /// Steps of a disk that takes `sync_us` for each and `each_us` for a row, until the stride stays.
    fn steady(start: usize, sync_us: u64, each_us: u64) -> usize {
        let mut stride = Stride::new(start, AIM, &ROWS);
        for _ in 0..64 {
            stride.learn(stride.rows, Duration::from_micros(sync_us + each_us * stride.rows as u64));
        }
        stride.rows
    }

    #[test]
    fn steps_shrink_when_they_are_slow_and_grow_when_they_are_fast() {
        for start in [16, 64, 256] {
            assert_eq!(steady(start, 0, 50), 60, "3 ms of 50 µs each");
            assert_eq!(steady(start, 1000, 50), 40, "the sync leaves 2 ms");
            assert_eq!(steady(start, 30_000, 50), 16, "a sync alone is longer: a handful");
            assert_eq!(steady(start, 100, 1), 256, "no more than the most");
        }
    }

    #[test]
    fn commits_are_as_small_as_the_disk_allows_without_becoming_dear() {
        // A disk that takes so long for each commit and for each removal.
        let steady = |commit_us: u64, each_us: u64| {
            let mut background = BackgroundWork::default();
            for _ in 0..16 {
                let rows = background.stride();
                background.learn(rows, Duration::from_micros(commit_us + each_us * rows as u64));
            }
            background.stride()
        };
        assert_eq!(steady(500, 10), 64, "1 ms each: as small as they become");
        assert_eq!(steady(5_000, 20), 256, "10 ms each, 40 us for each removal: neither dear nor cheap");
        assert_eq!(steady(25_000, 40), 1024, "66 ms each: the sync is shared by as many as may be");
        assert_eq!(steady(80_000, 70), 512, "more than 100 ms each: no larger than it must be");
    }

    #[test]
    fn events_are_answered_for_longer_after_a_commit_that_took_long() {
        let mut background = BackgroundWork::default();
        background.learn(600, Duration::from_millis(40));
        background.learn(0, Duration::from_millis(900));
        assert_eq!(background.pause(), Duration::from_millis(60), "a commit that removed nothing does not count");
    }

    #[test]
    fn one_slow_step_halves_the_next_and_one_that_found_little_does_not_grow_it() {
        let learn = |rows, us| {
            let mut stride = Stride::new(64, AIM, &ROWS);
            stride.learn(rows, Duration::from_micros(us));
            stride.rows
        };
        assert_eq!([learn(64, 1_000_000), learn(64, 10), learn(64, 4000)], [32, 128, 48]);
        assert_eq!([learn(3, 10), learn(0, 0), learn(0, 10_000), learn(3, 10_000)], [64, 64, 32, 32]);
    }

    #[test]
    fn removals_with_commits_and_bit_by_bit_are_made_once_and_told_when_done() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Options { map_bytes: 64 << 20, durability: Durability::None, ..Options::default() };
        let store = Store::open(dir.path(), options).expect("a new store");
        let mut writer = store.writer();
        let events: Vec<_> = (0..400).map(|n| trusted(author(n), 1, n, &[], &"x".repeat(500))).collect();
        writer.commit(&events, Timestamp(1000)).expect("a commit");
        let (horizons, (done, told)) = (Horizons::default(), channel(4));
        let mut background = BackgroundWork::default();
        let seqs = |range: std::ops::Range<u64>| range.map(Seq).collect::<Vec<_>>();
        for some in [seqs(1..41), seqs(1..1), seqs(41..101), seqs(101..301)] {
            background.evict(Eviction { seqs: some, done: done.clone() });
        }
        assert_eq!(background.next_removals(0, 50), seqs(1..51));
        let evicted = Evicted { seqs: &seqs(1..51), horizons: None };
        let (_, removed) = writer.commit_evicting(&[], Timestamp(1000), evicted).expect("a commit");
        background.removed(50, removed.expect("there is room"));
        let told_of = |count: usize| {
            (0..count).map(|_| told.try_recv().expect("it is done").expect("no error")).collect::<Vec<_>>()
        };
        assert_eq!(told_of(2), [40, 0], "one that removes nothing is done with the one before");
        assert_eq!(background.next_removals(0, 1000), seqs(51..301));
        background.make_room(&mut writer, &horizons);
        assert_eq!(told_of(1), [60], "16 times 4, of which 14 are of the next");
        while background.has_evictions() {
            background.make_room(&mut writer, &horizons);
        }
        assert_eq!((told_of(1), background.is_empty()), (vec![200], true));
        let report = store.check(|_, _| {}).expect("a check");
        assert_eq!((report.events, report.problems), (100, vec![]));
        let row = horizons.to_bytes();
        assert_eq!(store.read().expect("a snapshot").note(Note::Horizons).expect("a row"), Some(&row[..]));
    }
}
