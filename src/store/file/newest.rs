//! Upper bounds: no event of an author and a kind is newer than the time that this table has for the two.
//!
//! A scan of hundreds of authors asks here which ranges it can leave closed until its answer has come down to them. The
//! table lies in memory and has a fixed size. What it does not know, a scan looks up and enters; a full bucket forgets
//! one entry for each new one. It never reads the store, and no thread waits for another.
//!
//! A bound that is too high costs a look-up, and removals leave such bounds behind. One that is too low would lose
//! events. Three rules keep bounds from being too low. LMDB numbers commits without gaps, and gives the number of one
//! that failed to the next.
//!
//! 1. A bound is used only by readers of a commit up to [`covered`](Newest::covers). The commits up to that one that
//!    came after the table was last emptied were all made by writers of this process, which raised the bounds of the
//!    rows that they added.
//! 2. A writer that makes commit `n` holds LMDB's write lock, so `n - 1` is the last commit. If that one is not
//!    covered, another process made it, and the table is emptied. Then the writer sets `raising` to `n`, raises bounds
//!    and commits. Only after the commit succeeded does it set `covered` from `n - 1` to `n`. So a commit of this
//!    number by another process is never covered.
//! 3. A reader enters the newest row that it saw in commit `t` only while it holds the bucket's lock, and only if
//!    `covered` is `t` and `raising` is not later. A writer that adds rows to `t` takes the same lock after it has set
//!    `raising`. So it either finds the entry and raises it, or the reader has found `raising` and entered nothing. A
//!    writer that finds the bucket locked has the reader empty it.
//!
//! A reader of an earlier commit than the one in which a bound was seen may miss rows that were removed between the
//! two, and no others. All accesses are sequentially consistent, so the rules can be checked as one order of steps, as
//! `store/file/interleavings/newest.rs` does.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64 as Counter, Ordering::Relaxed};

use hashbrown::DefaultHashBuilder;

use crate::nostr::Timestamp;
use crate::store::file::prefetch::prefetch_line;
use crate::store::format::keys::PREFIX;
use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The first bytes of a key of the author index: those of an author and a kind.
pub(in crate::store) type RangeKey = [u8; PREFIX + 2];

const _: () = assert!(size_of::<RangeKey>() == size_of::<u64>(), "an entry holds the whole key");

/// What is known of an author and a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Bound {
    /// There is no event.
    Nothing,
    /// No event is newer.
    At(Timestamp),
}

impl Bound {
    /// The number in an entry that has no bound.
    const VACANT: u64 = 0;

    /// A later bound is a larger number.
    const fn to_number(self) -> u64 {
        match self {
            Self::Nothing => 1,
            Self::At(time) => time.0.saturating_add(2),
        }
    }

    const fn of_number(number: u64) -> Option<Self> {
        match number {
            Self::VACANT => None,
            1 => Some(Self::Nothing),
            time => Some(Self::At(Timestamp(time - 2))),
        }
    }
}

/// Entries of a bucket.
const WAYS: usize = 3;

/// Entries that share a lock, and a cache line.
#[derive(Default)]
#[repr(align(64))]
struct Bucket {
    /// [`LOCKED`] and [`MARKED`]; the rest is another number after each change, so that a reader who takes no lock
    /// knows whether what it has read belongs together.
    version: AtomicU64,
    /// The table's era when an entry was made. Entries of earlier eras are forgotten.
    era: AtomicU64,
    ranges: [AtomicU64; WAYS],
    bounds: [AtomicU64; WAYS],
}

#[cfg(not(all(test, feature = "interleavings")))]
const _: () = assert!(size_of::<Bucket>() == BUCKET_BYTES);

/// Bytes of a bucket.
const BUCKET_BYTES: usize = 64;

/// Buckets side by side that the kinds of an author share. CPUs fetch two lines together.
const NEIGHBOURS: usize = 2;

/// A thread is changing the bucket.
const LOCKED: u64 = 1;

/// A writer came while the bucket was locked. It does not wait: whoever holds the lock empties the bucket.
const MARKED: u64 = 2;

/// What each change adds to the version.
const CHANGE: u64 = 4;

/// The lock of a bucket.
struct Locked<'b> {
    bucket: &'b Bucket,
    /// The version before.
    version: u64,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Self { bucket, version } = *self;
        if bucket.version.compare_exchange(version | LOCKED, version + CHANGE, SeqCst, SeqCst).is_err() {
            bucket.empty();
            bucket.version.store(version + CHANGE, SeqCst);
        }
    }
}

impl Bucket {
    /// The place of an entry with a bound.
    fn place(&self, range: u64) -> Option<usize> {
        (0..WAYS).find(|&way| self.ranges[way].load(SeqCst) == range && self.bounds[way].load(SeqCst) != Bound::VACANT)
    }

    fn empty(&self) {
        self.bounds.iter().for_each(|bound| bound.store(Bound::VACANT, SeqCst));
    }

    /// Takes the lock unless another thread has it.
    fn try_lock(&self) -> Option<Locked<'_>> {
        let version = self.version.load(SeqCst);
        let is_free = version & LOCKED == 0;
        let locked = is_free && self.version.compare_exchange(version, version | LOCKED, SeqCst, SeqCst).is_ok();
        // Only a thread that has the lock may make its guard: dropping one frees the bucket.
        locked.then(|| Locked { bucket: self, version })
    }

    /// Takes the lock, or has whoever holds it empty the bucket.
    fn lock_or_mark(&self) -> Option<Locked<'_>> {
        loop {
            if let Some(locked) = self.try_lock() {
                return Some(locked);
            }
            let version = self.version.load(SeqCst);
            let is_locked = version & LOCKED != 0;
            if is_locked && self.version.compare_exchange(version, version | MARKED, SeqCst, SeqCst).is_ok() {
                return None;
            }
        }
    }
}

/// The table of one data file.
pub(in crate::store) struct Newest {
    buckets: Box<[Bucket]>,
    hasher: DefaultHashBuilder,
    /// The last commit that every bound accounts for; zero while the table is emptied. No store is that young.
    covered: AtomicU64,
    /// The last commit for which a writer of this process has begun to raise bounds.
    raising: AtomicU64,
    /// How often the table was emptied.
    era: AtomicU64,
    hits: Counter,
    misses: Counter,
}

/// What a table did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NewestCounts {
    /// Ranges whose bound was known.
    pub hits: u64,
    /// Ranges that were looked up.
    pub misses: u64,
    /// How often the table was emptied, because another process had committed.
    pub resets: u64,
}

impl Newest {
    /// An empty table of at most so many bytes, for a file whose last commit is `commit`. Without room for two buckets
    /// it knows nothing and costs nothing.
    pub fn new(bytes: usize, commit: u64) -> Self {
        Self {
            buckets: (0..bytes / (NEIGHBOURS * BUCKET_BYTES) * NEIGHBOURS).map(|_| Bucket::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            covered: AtomicU64::new(commit),
            raising: AtomicU64::new(commit),
            era: AtomicU64::new(0),
            hits: Counter::new(0),
            misses: Counter::new(0),
        }
    }

    /// Whether readers of this commit may use the bounds.
    pub fn covers(&self, commit: u64) -> bool {
        !self.buckets.is_empty() && commit <= self.covered.load(SeqCst)
    }

    /// The bound of a range, if it is known. To be asked by readers of a commit that was found to be covered.
    pub fn get(&self, range: RangeKey) -> Option<Bound> {
        let (range, bucket) = self.bucket(range)?;
        let version = bucket.version.load(SeqCst);
        if version & LOCKED != 0 || bucket.era.load(SeqCst) != self.era.load(SeqCst) {
            return None;
        }
        let number = bucket.bounds[bucket.place(range)?].load(SeqCst);
        let is_whole = bucket.version.load(SeqCst) == version;
        if is_whole { Bound::of_number(number) } else { None }
    }

    /// Enters the bound of a range that a reader saw in `commit`, unless a later commit may have raised it.
    pub fn enter(&self, range: RangeKey, bound: Bound, commit: u64) {
        let Some((range, bucket)) = self.bucket(range) else { return };
        let Some(locked) = bucket.try_lock() else { return };
        // The era is read first: if `commit` is covered after that, the table was not emptied since.
        let era = self.era.load(SeqCst);
        if self.covered.load(SeqCst) != commit || self.raising.load(SeqCst) > commit {
            return;
        }
        if bucket.era.load(SeqCst) != era {
            bucket.empty();
            bucket.era.store(era, SeqCst);
        }
        let vacant = || (0..WAYS).find(|&way| bucket.bounds[way].load(SeqCst) == Bound::VACANT);
        let way = bucket.place(range).or_else(vacant).unwrap_or((locked.version / CHANGE) as usize % WAYS);
        bucket.ranges[way].store(range, SeqCst);
        bucket.bounds[way].store(bound.to_number(), SeqCst);
    }

    /// Before a writer raises the first bound for `commit`. It holds LMDB's write lock.
    pub fn begin(&self, commit: u64) {
        if self.covered.load(SeqCst) != commit - 1 {
            self.covered.store(0, SeqCst);
            self.era.fetch_add(1, SeqCst);
            self.covered.store(commit - 1, SeqCst);
        }
        self.raising.store(commit, SeqCst);
    }

    /// Raises the bound of a range, to which a writer is about to add a row of this time.
    pub fn raise(&self, range: RangeKey, time: Timestamp) {
        let Some((range, bucket)) = self.bucket(range) else { return };
        // A bucket that another thread empties has no bound that is too low.
        let Some(_locked) = bucket.lock_or_mark() else { return };
        if bucket.era.load(SeqCst) == self.era.load(SeqCst)
            && let Some(way) = bucket.place(range)
        {
            bucket.bounds[way].fetch_max(Bound::At(time).to_number(), SeqCst);
        }
    }

    /// After a writer has made `commit`, and with it a change, without which LMDB would not have used the number.
    pub fn committed(&self, commit: u64) {
        // It fails if the commit before was another process's. Then the next writer empties the table.
        let _ = self.covered.compare_exchange(commit - 1, commit, SeqCst, SeqCst);
    }

    /// Counts how many bounds were known to a scan, and how many were not.
    pub fn count(&self, hits: u64, misses: u64) {
        self.hits.fetch_add(hits, Relaxed);
        self.misses.fetch_add(misses, Relaxed);
    }

    /// What the table did so far.
    pub fn counts(&self) -> NewestCounts {
        let [hits, misses] = [&self.hits, &self.misses].map(|counter| counter.load(Relaxed));
        NewestCounts { hits, misses, resets: self.era.load(SeqCst) }
    }

    /// The bounds of an author will be asked for soon.
    pub fn fetch(&self, author: [u8; PREFIX]) {
        let first = self.first_bucket(author);
        self.buckets.iter().skip(first).take(NEIGHBOURS).for_each(prefetch_line);
    }

    /// The range as a number, and its bucket: all kinds of an author are in buckets side by side.
    fn bucket(&self, range: RangeKey) -> Option<(u64, &Bucket)> {
        let [author @ .., high, low] = range;
        let kind = usize::from(u16::from_be_bytes([high, low]));
        let bucket = self.buckets.get(self.first_bucket(author) + kind % NEIGHBOURS)?;
        Some((u64::from_be_bytes(range), bucket))
    }

    /// The place of the first bucket of an author.
    fn first_bucket(&self, author: [u8; PREFIX]) -> usize {
        let groups = (self.buckets.len() / NEIGHBOURS) as u128;
        let group = (u128::from(self.hasher.hash_one(author)) * groups) >> 64;
        group as usize * NEIGHBOURS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: RangeKey = [1; 8];

    fn at(time: u64) -> Bound {
        Bound::At(Timestamp(time))
    }

    #[test]
    fn a_bound_is_what_was_seen_until_a_writer_raises_it() {
        let newest = Newest::new(1 << 10, 5);
        assert_eq!((newest.covers(5), newest.covers(6), newest.get(RANGE)), (true, false, None));
        newest.enter(RANGE, Bound::Nothing, 5);
        assert_eq!(newest.get(RANGE), Some(Bound::Nothing));
        newest.begin(6);
        newest.raise(RANGE, Timestamp(0));
        newest.raise(RANGE, Timestamp(70));
        newest.raise(RANGE, Timestamp(60));
        newest.raise([2; 8], Timestamp(60));
        assert_eq!((newest.get(RANGE), newest.get([2; 8]), newest.covers(6)), (Some(at(70)), None, false));
        newest.committed(6);
        assert_eq!((newest.get(RANGE), newest.covers(6)), (Some(at(70)), true));
        // A removal made it too high.
        newest.enter(RANGE, at(50), 6);
        assert_eq!(newest.get(RANGE), Some(at(50)));
    }

    #[test]
    fn what_was_seen_before_a_commit_that_may_have_added_to_it_is_not_entered() {
        let newest = Newest::new(1 << 10, 5);
        newest.begin(6);
        newest.enter(RANGE, at(50), 5);
        assert_eq!(newest.get(RANGE), None, "the writer may have raised it already");
        newest.committed(6);
        newest.enter(RANGE, at(50), 5);
        newest.enter(RANGE, at(50), 7);
        assert_eq!(newest.get(RANGE), None);
        newest.enter(RANGE, at(50), 6);
        assert_eq!(newest.get(RANGE), Some(at(50)));
    }

    #[test]
    fn a_commit_of_another_process_ends_all_bounds() {
        let newest = Newest::new(1 << 10, 5);
        newest.enter(RANGE, at(50), 5);
        // Commit 6 is another process's.
        assert!(!newest.covers(6));
        newest.begin(7);
        assert_eq!((newest.get(RANGE), newest.covers(6), newest.counts().resets), (None, true, 1));
        newest.committed(7);
        newest.enter(RANGE, at(60), 7);
        assert_eq!((newest.get(RANGE), newest.covers(7)), (Some(at(60)), true));
    }

    #[test]
    fn the_number_of_a_failed_commit_may_be_used_by_another_process() {
        let newest = Newest::new(1 << 10, 5);
        newest.enter(RANGE, at(50), 5);
        newest.begin(6);
        // It fails, and another process makes commit 6. A writer that notices too late changes nothing.
        assert!(!newest.covers(6));
        newest.begin(7);
        newest.committed(6);
        assert_eq!((newest.get(RANGE), newest.covers(6), newest.covers(7)), (None, true, false));
    }

    #[test]
    fn who_does_not_get_the_lock_of_a_bucket_leaves_it_with_whoever_has_it() {
        let bucket = Bucket::default();
        let locked = bucket.try_lock().expect("nobody has it");
        assert!(bucket.try_lock().is_none());
        assert_eq!(bucket.version.load(SeqCst), LOCKED);
        assert!(bucket.lock_or_mark().is_none());
        assert_eq!(bucket.version.load(SeqCst), LOCKED | MARKED);
        drop(locked);
        assert_eq!(bucket.version.load(SeqCst), CHANGE);
    }

    #[test]
    fn a_full_bucket_forgets_an_entry_for_each_new_one() {
        let newest = Newest::new(NEIGHBOURS * BUCKET_BYTES, 5);
        let ranges: Vec<RangeKey> = (0..100_u64).map(u64::to_be_bytes).collect();
        for (number, range) in ranges.iter().enumerate() {
            newest.enter(*range, at(number as u64), 5);
            assert_eq!(newest.get(*range), Some(at(number as u64)));
        }
        let known = ranges.iter().filter_map(|range| newest.get(*range)).count();
        assert_eq!(known, NEIGHBOURS * WAYS);
    }

    #[test]
    fn a_table_without_room_knows_nothing() {
        let newest = Newest::new(NEIGHBOURS * BUCKET_BYTES - 1, 5);
        newest.enter(RANGE, at(50), 5);
        newest.begin(6);
        newest.raise(RANGE, Timestamp(60));
        newest.committed(6);
        assert_eq!((newest.get(RANGE), newest.covers(5), newest.covers(6)), (None, false, false));
    }

    #[test]
    fn every_time_has_its_bound_and_later_ones_have_larger_numbers() {
        let bounds = [Bound::Nothing, at(0), at(1), at(Timestamp::MAX.0)];
        assert!(bounds.map(Bound::to_number).is_sorted_by(|a, b| a < b));
        assert_eq!(bounds.map(|bound| Bound::of_number(bound.to_number())), bounds.map(Some));
        assert_eq!(Bound::of_number(Bound::VACANT), None);
    }
}
