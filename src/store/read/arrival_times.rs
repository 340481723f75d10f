//! Arrival times: rows that say that all events with numbers below a given one had arrived by a given time.
//!
//! The key of a row in the `weir` table is `arrived` and the time in 6 bytes; its value is the number in 6 bytes. Both
//! only increase from row to row. There is at most one row per minute, and older rows are merged: the gap between two
//! neighbours is at most 1/64 of their age, so about 1,600 rows cover ten years. Merging, a lost row and a clock that
//! stands still make events count as younger than they are, never as older. Events from before the first row count as
//! arrived by the time of that row.

use heed::RoTxn;

use crate::nostr::Timestamp;
use crate::store::file::schema::Table;
use crate::store::format::error::StoreError;
use crate::store::format::keys::{self, SIX, Seq};
use crate::store::read::snapshot::Snapshot;

const PREFIX: &[u8] = b"arrived";

/// The shortest time between two rows, in seconds.
pub(in crate::store) const APART_S: u64 = 60;

/// Rows are merged when the gap between them is at most 1/64 of their age.
const PRECISION: u64 = 64;

/// A row: every event with a number below `below` had arrived by `by`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArrivalTime {
    /// The time.
    pub by: Timestamp,
    /// The next number at that time.
    pub below: Seq,
}

/// The key of a row.
pub(in crate::store) fn key(by: Timestamp) -> [u8; PREFIX.len() + SIX] {
    let mut key = [0; PREFIX.len() + SIX];
    key[..PREFIX.len()].copy_from_slice(PREFIX);
    key[PREFIX.len()..].copy_from_slice(&keys::six(by.0));
    key
}

fn read((key, value): (&[u8], &[u8])) -> Result<ArrivalTime, StoreError> {
    let row = keys::read_six(&key[PREFIX.len()..]).zip(keys::read_six(value));
    let (by, below) = row.ok_or(StoreError::Damaged("a row of arrival times"))?;
    Ok(ArrivalTime { by: Timestamp(by), below: Seq(below) })
}

/// The last row before `time`.
pub(in crate::store) fn before(
    meta: Table,
    txn: &RoTxn<'_>,
    time: Timestamp,
) -> Result<Option<ArrivalTime>, StoreError> {
    let row = meta.get_lower_than(txn, &key(time))?;
    row.filter(|(key, _)| key.starts_with(PREFIX)).map(read).transpose()
}

/// All rows, the oldest first.
pub(in crate::store) fn all(meta: Table, txn: &RoTxn<'_>) -> Result<Vec<ArrivalTime>, StoreError> {
    meta.prefix_iter(txn, PREFIX)?.map(|row| read(row?)).collect()
}

/// Tells which of `rows`, oldest first, can be dropped at `now`: rows close to their neighbours, and rows that no event
/// in the store needs. `first_held` is the lowest arrival number in the store.
pub(in crate::store) fn needless(rows: &[ArrivalTime], first_held: Seq, now: Timestamp) -> Vec<Timestamp> {
    let mut needless = Vec::new();
    // The last row stays, since it determines when the next one is due.
    let mut later: Option<Timestamp> = None;
    for (at, row) in rows.iter().enumerate().rev() {
        let is_close = |later: Timestamp| {
            let earlier = at.checked_sub(1).map(|before| rows[before].by);
            earlier.is_some_and(|earlier| later.0 - earlier.0 <= now.0.saturating_sub(later.0) / PRECISION)
        };
        match later {
            Some(next) if row.below <= first_held || is_close(next) => needless.push(row.by),
            _ => later = Some(row.by),
        }
    }
    needless
}

impl Snapshot<'_> {
    /// The number below which all events had arrived before `time`; 0 if no row says so of any event.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn arrived_before(&self, time: Timestamp) -> Result<Seq, StoreError> {
        let row = before(self.store.inner.tables.meta, &self.txn, time)?;
        Ok(row.map_or(Seq(0), |row| row.below))
    }

    /// All rows, oldest first.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn arrival_times(&self) -> Result<Vec<ArrivalTime>, StoreError> {
        all(self.store.inner.tables.meta, &self.txn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows that are left after one row was added in each of `minutes` minutes.
    fn kept(minutes: u64, first_held: Seq) -> Vec<ArrivalTime> {
        let mut rows = Vec::new();
        for minute in 1..=minutes {
            let now = Timestamp(60 * minute);
            rows.push(ArrivalTime { by: now, below: Seq(10 * minute) });
            let gone = needless(&rows, first_held, now);
            rows.retain(|row| !gone.contains(&row.by));
        }
        rows
    }

    #[test]
    fn rows_are_merged_with_age_and_gaps_stay_within_a_64th_of_it() {
        for minutes in [1, 100, 5000, 40_000] {
            let (rows, now) = (kept(minutes, Seq(0)), 60 * minutes);
            assert_eq!((rows[0].by, rows[rows.len() - 1].by), (Timestamp(60), Timestamp(now)));
            for pair in rows.windows(2) {
                let (gap, age) = (pair[1].by.0 - pair[0].by.0, now - pair[1].by.0);
                assert!(gap <= 60.max(age / PRECISION), "{gap} s at {age} s");
                assert!(pair[0].below < pair[1].below);
            }
            let bound = 130 + 2 * 64 * (1 + minutes / 64).ilog2() as usize;
            assert!(rows.len() <= bound, "{} rows of {bound}", rows.len());
        }
    }

    #[test]
    fn rows_below_which_there_is_no_event_are_dropped() {
        let rows = kept(60, Seq(401));
        assert_eq!(rows[0], ArrivalTime { by: Timestamp(60 * 41), below: Seq(410) });
        assert_eq!(kept(60, Seq::MAX), [ArrivalTime { by: Timestamp(3600), below: Seq(600) }]);
    }
}
