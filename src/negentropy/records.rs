//! The sorted records of one side, with running totals that make the fingerprint of any range cheap.
//!
//! A fingerprint covers the sum of the ids modulo 2^256, so the sum over a range is the difference of two running
//! totals. With one total for every 32 records, a fingerprint takes about 30 additions. Without totals, a message of 20
//! bytes could cost a walk over all records.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::wire::{self, Bound, FINGERPRINT_BYTES};
use crate::nostr::{EventId, Timestamp};

/// Records per running total: a record takes 40 bytes, and its share of a total 1 byte.
const RECORDS_PER_TOTAL: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Record {
    timestamp: u64,
    id: [u8; 32],
}

const _: () = assert!(size_of::<Record>() == 40);

/// A sum of ids modulo 2^256, least significant word first. Ids count as little-endian numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum([u64; 4]);

impl Sum {
    fn of(id: &[u8; 32]) -> Self {
        let (words, _) = id.as_chunks::<8>();
        Self(std::array::from_fn(|at| u64::from_le_bytes(words[at])))
    }

    fn plus(self, other: Self) -> Self {
        let mut carry = false;
        Self(std::array::from_fn(|at| {
            let sum;
            (sum, carry) = self.0[at].carrying_add(other.0[at], carry);
            sum
        }))
    }

    fn minus(self, other: Self) -> Self {
        let mut borrow = false;
        Self(std::array::from_fn(|at| {
            let rest;
            (rest, borrow) = self.0[at].borrowing_sub(other.0[at], borrow);
            rest
        }))
    }
}

/// There would be more records than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this query is too big: more than {max_records} records")]
pub struct TooMany {
    /// The most allowed, the fourth element of NEG-ERR (NIP-77).
    pub max_records: usize,
}

/// Collects records in any order, up to a limit.
#[derive(Debug)]
pub struct RecordsBuilder {
    records: Vec<Record>,
    max_records: usize,
}

impl RecordsBuilder {
    /// An empty builder for at most `max_records`.
    #[must_use]
    pub const fn new(max_records: usize) -> Self {
        Self { records: Vec::new(), max_records }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When there are `max_records` already.
    pub fn push(&mut self, created_at: Timestamp, id: EventId) -> Result<(), TooMany> {
        if self.records.len() == self.max_records {
            return Err(TooMany { max_records: self.max_records });
        }
        self.records.push(Record { timestamp: created_at.0, id: id.0 });
        Ok(())
    }

    /// How many records were added.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of heap held so far.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
    }

    /// Sorts the records, drops duplicates and computes the totals.
    ///
    /// Records that were added newest first, as a scan finds them, need no full sort.
    #[must_use]
    pub fn finish(self) -> Records {
        let mut records = self.records;
        if records.first() > records.last() {
            records.reverse();
        }
        records.chunk_by_mut(|a, b| a.timestamp == b.timestamp).for_each(<[Record]>::sort_unstable);
        if !records.is_sorted() {
            records.sort_unstable();
        }
        records.dedup();
        let records = records.into_boxed_slice();
        let mut total = Sum::default();
        let totals = records.chunks(RECORDS_PER_TOTAL).map(|chunk| {
            let before = total;
            total = chunk.iter().fold(total, |sum, record| sum.plus(Sum::of(&record.id)));
            before
        });
        Records { totals: totals.collect(), records }
    }
}

/// Sorted records without duplicates.
#[derive(Debug)]
pub struct Records {
    records: Box<[Record]>,
    /// `totals[n]` is the sum of the ids of the first `n * RECORDS_PER_TOTAL` records.
    totals: Box<[Sum]>,
}

impl Records {
    /// The ids of all records, by time.
    pub fn ids_of_all(&self) -> impl Iterator<Item = EventId> {
        self.ids(0..self.len())
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of heap held: 41 for each record.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        size_of_val(&*self.records) + size_of_val(&*self.totals)
    }

    /// The ids of a range, in order.
    pub(super) fn ids(&self, range: Range<usize>) -> impl Iterator<Item = EventId> {
        self.records[range].iter().map(|record| EventId(record.id))
    }

    /// The first record at or after `from` that is not below `bound`.
    pub(super) fn lower_bound(&self, from: usize, bound: &Bound) -> usize {
        from + self.records[from..]
            .partition_point(|record| (record.timestamp, record.id) < (bound.timestamp, bound.id))
    }

    /// The bound just below a record: it is the first record that is not below.
    pub(super) fn bound_at(&self, index: usize) -> Bound {
        let record = &self.records[index];
        Bound::with_id(record.timestamp, &record.id)
    }

    /// The shortest bound between a record and its predecessor, which must exist.
    pub(super) fn bound_before(&self, index: usize) -> Bound {
        let [before, record] = &self.records[index - 1..=index] else { unreachable!("a slice of two") };
        if before.timestamp != record.timestamp {
            return Bound::at(record.timestamp);
        }
        let shared = before.id.iter().zip(&record.id).take_while(|(a, b)| a == b).count();
        Bound::with_id(record.timestamp, &record.id[..=shared])
    }

    /// The sum of the first `count` ids.
    fn total(&self, count: usize) -> Sum {
        let chunk = count / RECORDS_PER_TOTAL;
        // There is no total after the last chunk if that is full: add up the chunk instead.
        let chunk = chunk.min(self.totals.len().saturating_sub(1));
        let known = self.totals.get(chunk).copied().unwrap_or_default();
        let rest = &self.records[chunk * RECORDS_PER_TOTAL..count];
        rest.iter().fold(known, |sum, record| sum.plus(Sum::of(&record.id)))
    }

    /// The first 16 bytes of the SHA-256 of the sum of the ids and their number.
    pub(super) fn fingerprint(&self, range: Range<usize>) -> [u8; FINGERPRINT_BYTES] {
        let sum = self.total(range.end).minus(self.total(range.start));
        let mut input = Vec::with_capacity(32 + wire::MAX_NUMBER_BYTES);
        sum.0.iter().for_each(|word| input.extend_from_slice(&word.to_le_bytes()));
        wire::number(range.len() as u64, &mut input);
        let digest: [u8; 32] = Sha256::digest(&input).into();
        *digest.first_chunk().expect("16 of 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(keys: &[(u64, u8)]) -> Records {
        let mut builder = RecordsBuilder::new(keys.len());
        for (created_at, id) in keys {
            builder.push(Timestamp(*created_at), EventId([*id; 32])).expect("within the limit");
        }
        builder.finish()
    }

    #[test]
    fn records_in_any_order_are_sorted_and_duplicates_dropped() {
        let sorted = [(1, 3), (2, 1), (2, 2), (2, 9), (5, 0)];
        let keys = |records: &Records| records.records.iter().map(|r| (r.timestamp, r.id[0])).collect::<Vec<_>>();
        let newest_first = [(5, 0), (2, 1), (2, 2), (2, 9), (1, 3)];
        let shuffled = [(2, 9), (5, 0), (1, 3), (2, 1), (2, 9), (2, 2), (1, 3)];
        for given in [&sorted[..], &newest_first, &shuffled] {
            assert_eq!(keys(&records(given)), sorted, "{given:?}");
        }
        assert_eq!(keys(&records(&[])), []);
    }

    #[test]
    fn one_record_more_than_the_limit_is_refused() {
        let mut builder = RecordsBuilder::new(1);
        assert_eq!(builder.push(Timestamp(1), EventId([1; 32])), Ok(()));
        assert_eq!(builder.push(Timestamp(1), EventId([1; 32])), Err(TooMany { max_records: 1 }));
    }

    #[test]
    fn totals_give_the_same_fingerprint_as_adding_up_the_range() {
        for count in [0, 1, 31, 32, 33, 64, 100] {
            let mut builder = RecordsBuilder::new(count);
            for number in 0..count as u64 {
                // High bytes everywhere, so that sums carry from word to word and over the top.
                let id = Sha256::digest(number.to_le_bytes()).map(|byte| byte | 0xf0);
                builder.push(Timestamp(number), EventId(id.into())).expect("within the limit");
            }
            let records = builder.finish();
            for start in 0..=count {
                for end in start..=count {
                    let sum = records.ids(start..end).fold(Sum::default(), |sum, id| sum.plus(Sum::of(&id.0)));
                    assert_eq!(records.total(end).minus(records.total(start)), sum, "{start}..{end} of {count}");
                }
            }
        }
    }
}
