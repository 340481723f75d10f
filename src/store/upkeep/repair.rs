//! Repairs the indexes from the records, in steps, while others read and write.
//!
//! The records are authoritative. A record that is not whole (INV-6) cannot be repaired and is dropped, as are events
//! that must not be held (INV-10, INV-11). Every other problem that [`crate::store::upkeep::check`] finds is repaired
//! without loss.

use std::ops::Bound;

use crate::store::file::schema::{Table, Tables};
use crate::store::file::tally;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index};
use crate::store::read::lookup;
use crate::store::read::remembered_removals;
use crate::store::upkeep::compact;
use crate::store::write::transaction::Transaction;
use crate::store::write::transaction::Writer;

/// The result of a repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// Records read.
    pub events: u64,
    /// Index entries and holders that were missing or wrong.
    pub added: u64,
    /// Index entries and holders that no record accounts for, and one for damaged removals.
    pub removed: u64,
    /// Events dropped: damaged, superseded, deleted or vanished.
    pub dropped: u64,
}

/// The tables that are scanned, in this order.
#[derive(Clone, Copy)]
enum Part {
    Records,
    Entries(Index),
    Holders,
}

impl Part {
    fn table(self, tables: &Tables) -> Table {
        match self {
            Self::Records => tables.event,
            Self::Entries(index) => tables.index(index),
            Self::Holders => tables.holder,
        }
    }
}

impl Writer {
    /// Repairs the whole store, `max_rows` rows in each commit, and calls `progress` after each commit.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while the store is being compacted. When a commit fails: earlier repairs stay, and a new
    /// repair may begin.
    pub fn repair(&mut self, max_rows: usize, mut progress: impl FnMut(Repaired)) -> Result<Repaired, StoreError> {
        // A copy of the store would not learn of the repairs.
        let _lock = compact::lock(self.store.path())?.ok_or(StoreError::Busy)?;
        let mut done = Repaired::default();
        for part in [Part::Records].into_iter().chain(Index::ALL.map(Part::Entries)).chain([Part::Holders]) {
            let mut cursor = Vec::new();
            while self.update(|txn| txn.mend(part, &mut cursor, max_rows.max(1), &mut done))? {
                progress(done);
            }
        }
        self.update(|txn| txn.repair_tally(&mut done))?;
        self.update(|txn| txn.repair_removals(&mut done))?;
        Ok(done)
    }
}

impl Transaction<'_> {
    /// Repairs the next rows after `cursor`. True when there may be more.
    fn mend(
        &mut self,
        part: Part,
        cursor: &mut Vec<u8>,
        max_rows: usize,
        done: &mut Repaired,
    ) -> Result<bool, StoreError> {
        // LMDB rejects empty keys.
        let start = if cursor.is_empty() { Bound::Unbounded } else { Bound::Excluded(&cursor[..]) };
        let range = (start, Bound::Unbounded);
        let rows = part.table(&self.store.inner.tables).range(&self.txn, &range)?.take(max_rows);
        let keys = rows.map(|row| Ok(row?.0.to_vec())).collect::<Result<Vec<_>, StoreError>>()?;
        for key in &keys {
            match part {
                Part::Records => self.repair_record(key, done)?,
                Part::Entries(index) => self.repair_entry(index, key, done)?,
                Part::Holders => self.repair_holder(key, done)?,
            }
        }
        let Some(last) = keys.last() else { return Ok(false) };
        cursor.clone_from(last);
        Ok(true)
    }

    /// Puts the index entries and the holder that a record should have, or drops the record.
    fn repair_record(&mut self, key: &[u8], done: &mut Repaired) -> Result<(), StoreError> {
        let inner = &self.store.inner;
        // It is gone if an event of this step replaced it.
        let Some(record) = inner.tables.event.get(&self.txn, key)?.map(<[u8]>::to_vec) else { return Ok(()) };
        done.events += 1;
        let whole = lookup::view(&record).ok().filter(|event| event.hash() == event.id());
        let (Some(event), true) = (whole, key.len() == keys::SIX) else {
            // Its index entries are removed when the scan reaches them, since they have no record.
            done.dropped += 1;
            inner.tables.event.delete(&mut self.txn, key)?;
            // Its id is not known for certain, so its removal cannot be recorded.
            return self.forget_removals();
        };
        let seq = Seq(keys::read_six(key).expect("six bytes make a number"));
        self.repair_next(seq)?;
        let mut missing = Vec::new();
        let mut result = Ok(());
        keys::index_entries(event, seq, &inner.secret, |index, key| {
            match inner.tables.index(index).get(&self.txn, key) {
                Ok(Some(_)) => {}
                Ok(None) => missing.push((index, key.to_vec())),
                Err(error) => result = Err(error),
            }
        });
        result?;
        for (index, key) in missing {
            done.added += 1;
            self.put_entry(index, &key)?;
        }
        if !self.lookup().is_vanished(seq, event)? && self.lookup().kept_out(event)?.is_some() {
            done.dropped += 1;
            return self.remove(seq);
        }
        let Some(address) = inner.secret.address_of(event) else { return Ok(()) };
        let holder = self.lookup().holder(&address)?.filter(|&holder| holder != seq);
        if let Some(other) = holder
            && let Ok(rival) = self.held(other)
            && inner.secret.address_of(rival) == Some(address)
        {
            done.dropped += 1;
            if !event.replaces(rival) {
                return self.remove(seq);
            }
            self.remove(other)?;
        }
        if self.lookup().holder(&address)? != Some(seq) {
            done.added += 1;
            inner.tables.holder.put(&mut self.txn, &address, &keys::six(seq.0))?;
        }
        Ok(())
    }

    /// Removes an index entry that no record accounts for.
    fn repair_entry(&mut self, index: Index, key: &[u8], done: &mut Repaired) -> Result<(), StoreError> {
        let inner = &self.store.inner;
        let mut is_own = false;
        if let Some(seq) = keys::seq_of(key)
            && let Ok(event) = self.held(seq)
        {
            keys::index_entries(event, seq, &inner.secret, |own, expected| {
                is_own |= own == index && expected == key;
            });
        }
        if !is_own {
            done.removed += 1;
            inner.tables.index(index).delete(&mut self.txn, key)?;
        }
        Ok(())
    }

    /// Removes a holder whose event has another coordinate.
    fn repair_holder(&mut self, key: &[u8], done: &mut Repaired) -> Result<(), StoreError> {
        let inner = &self.store.inner;
        let seq = inner.tables.holder.get(&self.txn, key)?.and_then(keys::read_six).map(Seq);
        let event = seq.and_then(|seq| self.held(seq).ok());
        let address = event.and_then(|event| inner.secret.address_of(event));
        if address.is_none_or(|address| address != key) {
            done.removed += 1;
            inner.tables.holder.delete(&mut self.txn, key)?;
        }
        Ok(())
    }

    /// Corrects the tallies if need be, in one commit: it reads only headers.
    fn repair_tally(&mut self, done: &mut Repaired) -> Result<(), StoreError> {
        let tables = &self.store.inner.tables;
        let mut kinds = std::collections::BTreeMap::<_, tally::KindUsage>::new();
        for row in tables.event.iter(&self.txn)? {
            let event = lookup::view(row?.1)?;
            kinds.entry(event.kind()).or_default().add(event);
        }
        let is_right = tally::read(tables.meta, &self.txn).is_ok_and(|tally| tally.into_iter().eq(kinds.clone()));
        if is_right {
            return Ok(());
        }
        done.added += 1;
        tally::replace(tables.meta, &mut self.txn, &kinds)
    }

    /// Forgets the removals if they are damaged: their readers then start over. It reads them in one commit.
    fn repair_removals(&mut self, done: &mut Repaired) -> Result<(), StoreError> {
        if remembered_removals::fault(&self.store.inner.tables, &self.txn)?.is_some() {
            done.removed += 1;
            self.forget_removals()?;
        }
        Ok(())
    }

    /// Moves the next arrival number past `seq` if need be (INV-4).
    fn repair_next(&mut self, seq: Seq) -> Result<(), StoreError> {
        let tables = &self.store.inner.tables;
        match tables.next_seq(&self.txn) {
            Ok(next) if next > seq.0 => Ok(()),
            _ => tables.put_next_seq(&mut self.txn, seq.0 + 1),
        }
    }
}
