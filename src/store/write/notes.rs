//! Changes to rows of tables without arrival numbers, and the notes of changes that a copy of the store needs (see
//! [`journal`](crate::store::file::journal)).

use crate::store::file::journal::{LOG, Noted, log_key};
use crate::store::format::error::StoreError;
use crate::store::format::keys::{self, Seq};
use crate::store::write::transaction::Transaction;

impl Transaction<'_> {
    /// Puts a row of a table without arrival numbers.
    pub fn put_row(&mut self, table: Noted, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.note(table, key);
        Ok(table.table(&self.store.inner.tables).put(&mut self.txn, key, value)?)
    }

    /// Deletes a row of a table without arrival numbers.
    pub fn delete_row(&mut self, table: Noted, key: &[u8]) -> Result<(), StoreError> {
        self.note(table, key);
        table.table(&self.store.inner.tables).delete(&mut self.txn, key)?;
        Ok(())
    }

    /// Notes a change while a copy is being made.
    pub fn note(&mut self, table: Noted, key: &[u8]) {
        if let Some(notes) = &mut self.notes {
            let mut note = Vec::with_capacity(1 + key.len());
            note.push(table as u8);
            note.extend_from_slice(key);
            notes.push(note);
        }
    }

    /// Writes the notes.
    pub fn put_notes(&mut self) -> Result<(), StoreError> {
        let meta = self.store.inner.tables.meta;
        let Some(notes) = self.notes.take().filter(|notes| !notes.is_empty()) else { return Ok(()) };
        let last = meta.get_lower_than_or_equal_to(&self.txn, &log_key(Seq::MAX.0))?;
        let last = last.filter(|(key, _)| key.starts_with(LOG)).and_then(|(key, _)| keys::read_six(key));
        for (number, note) in (last.unwrap_or(0) + 1..).zip(notes) {
            meta.put(&mut self.txn, &log_key(number), &note)?;
        }
        Ok(())
    }
}
