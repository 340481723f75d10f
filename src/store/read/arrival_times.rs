//! When events arrived: now and then a row says that all numbers below one had arrived by a time.
//!
//! A row is a key of the `weir` table: `arrived` and the time in 6 bytes; its value is the number, in 6 bytes. Both only
//! ever rise. There is at most one a minute, and rows are merged as they age: between two neighbours there is no more than
//! a 64th of their age, so about 1,600 rows hold ten years. Merging, a lost row or a clock that stood still make an event
//! count as younger than it is, never as older. So do the events from before the first row: they count as arrived with it.

use heed::RoTxn;

use crate::nostr::Timestamp;
use crate::store::file::schema::Table;
use crate::store::format::error::StoreError;
use crate::store::format::keys::{self, SIX, Seq};
use crate::store::read::snapshot::Snapshot;

const PREFIX: &[u8] = b"arrived";

/// Seconds from one row to the next, at least.
pub(in crate::store) const APART_S: u64 = 60;

/// Rows this part of their age apart are as good as one.
const PRECISION: u64 = 64;

/// What is known of arrivals: every event with a number below `below` had arrived by `by`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArrivalTime {
    /// The time.
    pub by: Timestamp,
    /// The number that came next.
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

/// The last row before a time.
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

/// The rows that nobody needs at `now`, of all rows, the oldest first: those that lie close beside others, and those
/// below which there is no event. `first_held` is the lowest number that is held.
pub(in crate::store) fn needless(rows: &[ArrivalTime], first_held: Seq, now: Timestamp) -> Vec<Timestamp> {
    let mut needless = Vec::new();
    // The last row always stays: it tells when the next is due.
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
    /// All events with lower numbers are known to have arrived before `time`; the lowest number if that is known of none.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn arrived_before(&self, time: Timestamp) -> Result<Seq, StoreError> {
        let row = before(self.store.inner.tables.meta, &self.txn, time)?;
        Ok(row.map_or(Seq(0), |row| row.below))
    }

    /// All that is known of when events arrived, the oldest first.
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

    /// Rows for each minute up to `minutes`, of which what is needless was dropped each time.
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
    fn rows_thin_out_with_their_age_and_stay_as_close_as_a_64th_of_it() {
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
