//! Records arrival times: see [`arrival_times`]. The caller passes the time, as everywhere in the store.

use crate::nostr::Timestamp;
use crate::store::format::error::StoreError;
use crate::store::format::keys::{self, Seq};
use crate::store::read::arrival_times::{self, APART_S, ArrivalTime};
use crate::store::write::transaction::{Transaction, Writer};

impl Writer {
    /// Replaces all arrival times with those of another store, which refer to this store's arrival numbers.
    ///
    /// # Errors
    /// When the commit fails.
    pub fn put_arrival_times(&mut self, rows: &[ArrivalTime]) -> Result<(), StoreError> {
        self.update(|txn| {
            let meta = txn.store.inner.tables.meta;
            for row in arrival_times::all(meta, &txn.txn)? {
                meta.delete(&mut txn.txn, &arrival_times::key(row.by))?;
            }
            rows.iter().try_for_each(|row| txn.put_arrival_time(*row))
        })
    }
}

impl Transaction<'_> {
    /// Records that all events so far had arrived by `now`, if new events have arrived and the last row is at least a
    /// minute old.
    pub fn note_arrivals(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let (meta, below) = (self.store.inner.tables.meta, self.next_seq());
        let last = arrival_times::before(meta, &self.txn, Timestamp::MAX)?;
        let is_noted = |last: ArrivalTime| {
            // A row in the future was written while the clock was ahead.
            last.by <= now && (last.below >= below || now.0 - last.by.0 < APART_S)
        };
        if below == Seq(1) || last.is_some_and(is_noted) {
            return Ok(());
        }
        let mut rows = arrival_times::all(meta, &self.txn)?;
        let later = rows.partition_point(|row| row.by <= now);
        for row in rows.drain(later..) {
            meta.delete(&mut self.txn, &arrival_times::key(row.by))?;
        }
        let row = ArrivalTime { by: now, below };
        self.put_arrival_time(row)?;
        rows.retain(|row| row.by < now);
        rows.push(row);
        let first = self.store.inner.tables.event.first(&self.txn)?.and_then(|(key, _)| keys::read_six(key));
        for by in arrival_times::needless(&rows, first.map_or(below, Seq), now) {
            meta.delete(&mut self.txn, &arrival_times::key(by))?;
        }
        Ok(())
    }

    fn put_arrival_time(&mut self, ArrivalTime { by, below }: ArrivalTime) -> Result<(), StoreError> {
        let meta = self.store.inner.tables.meta;
        Ok(meta.put(&mut self.txn, &arrival_times::key(by), &keys::six(below.0))?)
    }
}
