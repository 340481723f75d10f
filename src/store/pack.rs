//! Fills thin pages of the event table, so that what was removed between events that stay gives room back.
//!
//! Records lie in the order of arrival, and new ones never go between old ones: where a rule removed every other event,
//! pages would stay half empty for good, since LMDB joins neighbours only when they are nearly empty. Rows that are
//! taken out and put back in order fill one page after another. Nothing but the place of a record changes.

use std::ops::Bound;

use super::generation::Inner;
use super::keys;
use super::{Seq, Snapshot, StoreError, Writer};

/// Pages that are looked at, and packed, at a time: with two thirds of them full, about 200 records.
const PAGES: usize = 48;

/// Rows that are looked at, at the most.
const ROWS: usize = 1024;

/// What a row takes besides its record: LMDB's node header 8, its place in the page 2, and the key.
const ROW_OVERHEAD: usize = 8 + 2 + keys::SIX;

/// LMDB's header of a page.
const HEADER: usize = 16;

/// Some neighbouring events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first of them.
    pub first: Seq,
    /// The last of them.
    pub last: Seq,
    /// Whether packing gives back an eighth of their pages or more: small events leave small holes.
    pub is_thin: bool,
}

/// Whether LMDB keeps a record in a page of the tree, not in pages of its own: two must fit into one.
const fn is_inline(record: &[u8], page: usize) -> bool {
    record.len() + ROW_OVERHEAD < page / 2 - 8
}

impl Inner {
    pub fn page_bytes(&self) -> usize {
        self.env.unnamed_database_stat().page_size as usize
    }
}

impl Snapshot<'_> {
    /// Looks at the events from `first` on, as far as some dozen pages go; `None` when there are none.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn run_of_pages(&self, first: Seq) -> Result<Option<Run>, StoreError> {
        let page = self.store.inner.page_bytes();
        let (mut run, mut pages, mut needed, mut left, mut current) = (None, 0, 0, 0, 0);
        for row in self.after(Seq(first.0.saturating_sub(1)))?.take(ROWS) {
            let (seq, event) = row?;
            let record = event.record();
            let (first, _) = run.unwrap_or((seq, seq));
            run = Some((first, seq));
            if !is_inline(record, page) {
                continue;
            }
            let bytes = record.len() + ROW_OVERHEAD;
            if bytes > left {
                (left, needed) = (page - HEADER, needed + 1);
            }
            left -= bytes;
            // The record lies in the map where its page does.
            let of = record.as_ptr() as usize / page;
            if of != current {
                (current, pages) = (of, pages + 1);
                if pages == PAGES {
                    break;
                }
            }
        }
        Ok(run.map(|(first, last)| Run { first, last, is_thin: pages >= 4 && needed * 8 <= pages * 7 }))
    }
}

impl Writer {
    /// Packs up to `max_rows` records of a run into as few pages as they need, in one commit. Tells how many rows it
    /// looked at, and what is left of the run: packed later, it goes on in the page where this ended.
    ///
    /// # Errors
    /// When the commit fails; then nothing was changed.
    pub fn pack(&mut self, run: Run, max_rows: usize) -> Result<(usize, Option<Run>), StoreError> {
        self.update(|txn| {
            let page = txn.store.inner.page_bytes();
            let table = txn.store.inner.tables.event;
            let (first, last) = (keys::six(run.first.0), keys::six(run.last.0));
            let range = (Bound::Included(&first[..]), Bound::Included(&last[..]));
            let (mut rows, mut seen, mut rest) = (Vec::new(), 0, None);
            for row in table.range(&txn.txn, &range)? {
                let (key, record) = row?;
                if seen == max_rows.min(ROWS) {
                    let first =
                        keys::read_six(key).ok_or(StoreError::Damaged("a key of the event table is too short"))?;
                    rest = Some(Run { first: Seq(first), ..run });
                    break;
                }
                seen += 1;
                if is_inline(record, page) {
                    rows.push((key.to_vec(), record.to_vec()));
                }
            }
            for (key, _) in &rows {
                table.delete(&mut txn.txn, key)?;
            }
            for (key, record) in &rows {
                table.put(&mut txn.txn, key, record)?;
            }
            Ok((seen, rest))
        })
    }
}
