//! Look-ups of a scan that go side by side: ids of a list, and ranges of a feed.
//!
//! What is not found in LMDB's pages that way is looked up alone.

use smallvec::SmallVec;

use crate::nostr::EventId;
use crate::store::file::prefetch::prefetch;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::read::pages::BATCH;
use crate::store::read::snapshot::ById;
use crate::store::scan::plan::{Key, Prefix, Ranges};
use crate::store::scan::position::{Head, Position};
use crate::store::scan::rows::{EventBatch, MAX_CURSORS, OpenRange, PREFETCH_BYTES, PrefetchedRows, Rows, Window};

impl<'t> Rows<'t> {
    /// The position of the event with the id at a place in a filter's list, and the slot that keeps its record. Ids are
    /// asked for in their order, and looked up several at a time.
    pub fn find_id(&mut self, filter: u16, ids: &[EventId], item: u32) -> Result<Option<(Position, u32)>, StoreError> {
        let place = item as usize % BATCH;
        let first = item as usize - place;
        if ids.len() > 1 && self.together.as_ref().is_none_or(|together| together.of != (filter, first)) {
            self.together = Some(EventBatch { of: (filter, first), events: self.snapshot.by_ids(&ids[first..]) });
        }
        let found = match self.together.as_ref().filter(|_| ids.len() > 1).map(|together| together.events[place]) {
            Some(ById::Held(seq, event)) => Some((seq, event)),
            Some(ById::Nothing) => None,
            Some(ById::Unknown) | None => self.snapshot.by_id(&ids[item as usize])?,
        };
        let Some((seq, event)) = found else { return Ok(None) };
        self.records.push(event);
        Ok(Some((Position::of_event(event.created_at(), &ids[item as usize].0, seq), self.records.len() as u32 - 1)))
    }

    /// Opens ranges of authors that stayed closed, at most [`BATCH`], from their heads' positions on. What becomes of
    /// each head goes to `opened`.
    pub fn open_together(
        &mut self,
        heads: &[Head],
        ranges: Ranges<'_>,
        window: Window,
        opened: &mut [Option<Head>],
    ) -> Result<(), StoreError> {
        let from = |head: &Head| head.position.max(window.from);
        let mut prefixes = SmallVec::<[Prefix; BATCH]>::new();
        prefixes.extend(heads.iter().map(|head| ranges.prefix(head.item, head.kind, self.secret())));
        let keys: SmallVec<[Key; BATCH]> =
            heads.iter().zip(&prefixes).map(|(head, prefix)| prefix.key(from(head))).collect();
        let wanted: SmallVec<[&[u8]; BATCH]> = keys.iter().map(Key::as_bytes).collect();
        let mut found = [None; BATCH];
        if let Some(pages) = self.snapshot.index_pages(ranges.index()) {
            pages.seek_all(&wanted, &mut found[..wanted.len()]);
        }
        let mut firsts = [Seq(0); BATCH];
        for (at, (head, prefix)) in heads.iter().zip(&prefixes).enumerate() {
            self.stepped += 1;
            opened[at] = match found[at] {
                Some(found) => self.keep_found(*head, *prefix, found.keys(), window),
                None => None,
            };
            // The first row may be on the next page.
            let is_known = found[at].is_some_and(|found| found.keys().next().is_some());
            if !is_known || opened[at].is_some_and(|head| head.slot == Head::CLOSED) {
                opened[at] = self.open_at(*head, from(head), ranges, window)?;
            }
            firsts[at] = opened[at].map_or(Seq(0), |head| head.position.seq());
        }
        let mut records = [None; BATCH];
        if let Some(pages) = self.snapshot.pages() {
            pages.find_all(&firsts[..heads.len()], &mut records[..heads.len()]);
        }
        for (head, record) in opened.iter().zip(records) {
            let Some((head, record)) = head.zip(record) else { continue };
            prefetch(&record[..record.len().min(PREFETCH_BYTES)]);
            if let Some(kept) = self.cursors.get_mut(head.slot as usize)
                && kept.ahead.len > 0
            {
                kept.ahead.records[0] = Some(record);
            }
        }
        Ok(())
    }

    /// Keeps the rows of a range among keys of one page; `None` if the first key is beyond the range or the window.
    fn keep_found(
        &mut self,
        head: Head,
        prefix: Prefix,
        keys: impl Iterator<Item = &'t [u8]>,
        window: Window,
    ) -> Option<Head> {
        if self.cursors.len() == MAX_CURSORS {
            return Some(head);
        }
        let mut kept = OpenRange { cursor: None, ahead: PrefetchedRows::NONE, is_whole: false };
        for key in keys {
            let Some(position) = prefix.row(key).filter(|position| window.admits(*position)) else {
                kept.is_whole = true;
                break;
            };
            if kept.ahead.len == BATCH {
                break;
            }
            kept.ahead.rows[kept.ahead.len] = position;
            kept.ahead.len += 1;
        }
        let position = (kept.ahead.len > 0).then_some(kept.ahead.rows[0])?;
        self.cursors.push(kept);
        Some(Head { position, slot: self.cursors.len() as u32 - 1, ..head })
    }
}
