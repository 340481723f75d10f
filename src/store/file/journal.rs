//! The journal for a copy of the store: whether a copy is being made, and which rows changed since it began.
//!
//! While the `weir` table holds [`State::Copying`], every writer of every process notes, in the same commit, each
//! record that it removes and each row that it touches in tables without arrival numbers. New events need no note:
//! their arrival numbers identify them. At other times writers note nothing.

use heed::{RoTxn, RwTxn};

use crate::store::file::schema::{Table, Tables};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, SIX};

const STATE: &[u8] = b"state";
pub(in crate::store) const LOG: &[u8] = b"log";

/// Whether this generation is the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum State {
    /// It is the store, and no copy is being made.
    Here,
    /// It is the store, and it is being copied to the generation with this number.
    Copying(u64),
    /// The store has moved to the generation with this number.
    Moved(u64),
}

/// The state of a generation.
pub(in crate::store) fn state(tables: &Tables, txn: &RoTxn<'_>) -> Result<State, StoreError> {
    const WRONG: StoreError = StoreError::Damaged("the state row");
    let Some(row) = tables.meta.get(txn, STATE)? else { return Ok(State::Here) };
    let (&tag, number) = row.split_first().ok_or(WRONG)?;
    let number = u64::from_be_bytes(number.try_into().map_err(|_| WRONG)?);
    match tag {
        1 => Ok(State::Copying(number)),
        2 => Ok(State::Moved(number)),
        _ => Err(WRONG),
    }
}

/// Writes the state of a generation.
pub(in crate::store) fn set_state(tables: &Tables, txn: &mut RwTxn<'_>, state: State) -> Result<(), StoreError> {
    let (tag, number) = match state {
        State::Here => {
            tables.meta.delete(txn, STATE)?;
            return Ok(());
        }
        State::Copying(number) => (1, number),
        State::Moved(number) => (2, number),
    };
    let mut row = [tag; 9];
    row[1..].copy_from_slice(&number.to_be_bytes());
    Ok(tables.meta.put(txn, STATE, &row)?)
}

/// A table whose changes are noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::store) enum Noted {
    /// A record that was removed.
    Event,
    Deleted,
    DeletedAddress,
    Vanished,
    Purge,
    Removed,
}

impl Noted {
    /// Every table whose rows are copied when a note names them.
    pub const SIDE: [Self; 5] = [Self::Deleted, Self::DeletedAddress, Self::Vanished, Self::Purge, Self::Removed];

    pub fn table(self, tables: &Tables) -> Table {
        match self {
            Self::Event => tables.event,
            Self::Deleted => tables.deleted,
            Self::DeletedAddress => tables.deleted_address,
            Self::Vanished => tables.vanished,
            Self::Purge => tables.purge,
            Self::Removed => tables.removed,
        }
    }
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::store) enum Note {
    Removed(Seq),
    Touched(Noted, Vec<u8>),
}

impl Note {
    fn read(value: &[u8]) -> Option<Self> {
        let (&table, key) = value.split_first()?;
        if table == Noted::Event as u8 {
            return keys::read_six(key).map(|seq| Self::Removed(Seq(seq)));
        }
        let table = Noted::SIDE.into_iter().find(|side| *side as u8 == table)?;
        Some(Self::Touched(table, key.to_vec()))
    }
}

pub(in crate::store) fn log_key(number: u64) -> [u8; LOG.len() + SIX] {
    let mut key = [0; LOG.len() + SIX];
    key[..LOG.len()].copy_from_slice(LOG);
    key[LOG.len()..].copy_from_slice(&keys::six(number));
    key
}

/// A key and its value.
pub(in crate::store) type Row<'t> = (&'t [u8], &'t [u8]);

/// The rows of the `weir` table that belong to the store, not to this file alone.
pub(in crate::store) fn shared_rows<'t>(tables: &Tables, txn: &'t RoTxn<'_>) -> Result<Vec<Row<'t>>, StoreError> {
    use std::ops::Bound::{Excluded, Unbounded};
    // The journal may be long, so the iterator skips it.
    let (log, behind) = (log_key(0), log_key(Seq::MAX.0));
    let before = tables.meta.range(txn, &(Unbounded, Excluded(&log[..])))?;
    let after = tables.meta.range(txn, &(Excluded(&behind[..]), Unbounded))?;
    let rows = before.chain(after).map(|row| Ok(row?)).collect::<Result<Vec<_>, StoreError>>()?;
    Ok(rows.into_iter().filter(|(key, _)| *key != STATE).collect())
}

/// Up to `max_rows` notes after the number `after`, and the number of the last of these notes.
pub(in crate::store) fn notes(
    tables: &Tables,
    txn: &RoTxn<'_>,
    after: u64,
    max_rows: usize,
) -> Result<(Vec<Note>, u64), StoreError> {
    use std::ops::Bound::{Excluded, Included};
    let (from, to) = (log_key(after), log_key(Seq::MAX.0));
    let (mut notes, mut last) = (Vec::new(), after);
    for row in tables.meta.range(txn, &(Excluded(&from[..]), Included(&to[..])))?.take(max_rows) {
        let (key, value) = row?;
        last = keys::read_six(key).ok_or(StoreError::Damaged("the key of a note"))?;
        notes.push(Note::read(value).ok_or(StoreError::Damaged("a note"))?);
    }
    Ok((notes, last))
}

/// Removes up to `max_rows` notes; true when there may be more.
pub(in crate::store) fn forget(tables: &Tables, txn: &mut RwTxn<'_>, max_rows: usize) -> Result<bool, StoreError> {
    let rows = tables.meta.prefix_iter(txn, LOG)?.take(max_rows);
    let rows = rows.map(|row| Ok(row?.0.to_vec())).collect::<Result<Vec<_>, StoreError>>()?;
    for key in &rows {
        tables.meta.delete(txn, key)?;
    }
    Ok(rows.len() == max_rows)
}
