//! The removals that a store remembers, so that whoever copied an event can be told that it is gone.
//!
//! Each removal of an event that readers may have seen has a row in the table `removed`, which the commit of the
//! removal writes. The rows are numbered from 1 without gaps, and the first ones are forgotten: see
//! [`crate::store::write::remember_removals`]. The last row always stays, so no number is given twice.
//!
//! A row with an empty value is no removal. It takes the place of all before it when a repair has dropped something
//! whose id nobody knows.

use std::ops::Bound;

use crate::nostr::EventId;
use crate::store::file::schema::{Table, Tables};
use crate::store::format::error::StoreError;
use crate::store::format::keys::{self, SIX, Seq};
use crate::store::read::snapshot::Snapshot;

/// A removal of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removal {
    /// The number of the removal: from 1, ascending with each.
    pub number: u64,
    /// The arrival number of the event.
    pub seq: Seq,
    /// The id of the event.
    pub id: EventId,
}

const WRONG: StoreError = StoreError::Damaged("a row of the removals");

/// Bytes of a row's value.
const LEN: usize = SIX + 32;

/// The value of the row of a removal.
pub(in crate::store) fn value(seq: Seq, id: &EventId) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..SIX].copy_from_slice(&keys::six(seq.0));
    bytes[SIX..].copy_from_slice(&id.0);
    bytes
}

fn read(number: u64, value: &[u8]) -> Option<Removal> {
    let (seq, id) = value.split_at_checked(SIX)?;
    Some(Removal { number, seq: Seq(keys::read_six(seq)?), id: EventId(id.try_into().ok()?) })
}

/// The numbers of the first and the last row; `None` before the first removal.
pub(in crate::store) fn ends(table: Table, txn: &heed::RoTxn<'_>) -> Result<Option<(u64, u64)>, StoreError> {
    let number = |row: Option<(&[u8], &[u8])>| row.map(|(key, _)| keys::read_six(key).ok_or(WRONG)).transpose();
    Ok(number(table.first(txn)?)?.zip(number(table.last(txn)?)?))
}

/// The rows after `number`, with their numbers; `None` for a row that is no removal.
pub(in crate::store) fn rows<'t>(
    table: Table,
    txn: &'t heed::RoTxn<'_>,
    number: u64,
) -> Result<impl Iterator<Item = Result<(u64, Option<Removal>), StoreError>> + 't, StoreError> {
    let start = keys::six(number);
    let rows = table.range(txn, &(Bound::Excluded(&start[..]), Bound::Unbounded))?;
    Ok(rows.map(|row| {
        let (key, value) = row?;
        let number = keys::read_six(key).ok_or(WRONG)?;
        let removal = if value.is_empty() { None } else { Some(read(number, value).ok_or(WRONG)?) };
        Ok((number, removal))
    }))
}

/// What is wrong with the rows, if anything is, and the arrival number of the event concerned: they must be numbered
/// without gaps, and no event may be held that is said to be gone.
pub(in crate::store) fn fault(
    tables: &Tables,
    txn: &heed::RoTxn<'_>,
) -> Result<Option<(Seq, &'static str)>, StoreError> {
    let mut last = None;
    for row in rows(tables.removed, txn, 0)? {
        let Ok((number, removal)) = row else { return Ok(Some((Seq(0), "a row of the removals is damaged"))) };
        if last.is_some_and(|last| number != last + 1) {
            return Ok(Some((Seq(0), "a removal is missing between two others")));
        }
        if let Some(removal) = removal
            && tables.event.get(txn, &keys::six(removal.seq.0))?.is_some()
        {
            return Ok(Some((removal.seq, "it is held although its removal is recorded")));
        }
        last = Some(number);
    }
    Ok(None)
}

impl Snapshot<'_> {
    /// The number of the last removal; zero before the first.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn last_removal(&self) -> Result<u64, StoreError> {
        Ok(ends(self.store.inner.tables.removed, &self.txn)?.map_or(0, |(_, last)| last))
    }

    /// The removals after the one with this number; `None` when not all of them are remembered, or the number is not
    /// one of this store's.
    ///
    /// # Errors
    /// When the store is damaged; so does the iterator yield one.
    pub fn removals_after(
        &self,
        number: u64,
    ) -> Result<Option<impl Iterator<Item = Result<Removal, StoreError>>>, StoreError> {
        let table = self.store.inner.tables.removed;
        let (first, last) = ends(table, &self.txn)?.unwrap_or((1, 0));
        if number + 1 < first || number > last {
            return Ok(None);
        }
        let rows = rows(table, &self.txn, number)?;
        Ok(Some(rows.filter_map(|row| row.map(|(_, removal)| removal).transpose())))
    }
}
