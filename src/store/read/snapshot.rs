//! A read transaction: the store as it was at one commit.
//!
//! A snapshot belongs to its thread. It keeps LMDB from reusing pages of the file, so it must never outlive a slice of
//! work (INV-9).

use std::cell::OnceCell;
use std::marker::PhantomData;
use std::ops::Bound;
use std::sync::Arc;

use heed::RoTxn;

use crate::nostr::{EventId, EventView, Timestamp};
use crate::store::file::commit::{Commit, TableRow};
use crate::store::file::generation::Generation;
use crate::store::file::handle::Store;
use crate::store::file::prefetch::{CACHE_LINE, prefetch};
use crate::store::format::error::StoreError;
use crate::store::format::keys::{self, ID, Index, SEQ, Seq};
use crate::store::format::slots::Slots;
use crate::store::read::judge::{Known, StoredEvents, judge};
use crate::store::read::lookup::{self, Lookup};
use crate::store::read::pages::{BATCH, Pages};

/// What is found of an id.
#[derive(Clone, Copy)]
pub(in crate::store) enum ById<'t> {
    /// Its event.
    Held(Seq, EventView<'t>),
    /// No event has it.
    Nothing,
    /// LMDB has to be asked.
    Unknown,
}

/// The store as of one commit.
pub struct Snapshot<'s> {
    pub(in crate::store) txn: RoTxn<'static, Slots>,
    /// The data file that is read. It stays open as long as the snapshot, even when the store moves to another file.
    pub(in crate::store) store: Generation,
    commit: Arc<Commit>,
    pages: OnceCell<Option<Pages>>,
    id_pages: OnceCell<Option<Pages>>,
    author_pages: OnceCell<Option<Pages>>,
    of: PhantomData<&'s Store>,
}

impl<'s> Snapshot<'s> {
    pub(in crate::store) fn new(store: &'s Store) -> Result<Self, StoreError> {
        let store = Generation { inner: store.inner() };
        let txn = store.inner.env.clone().static_read_txn()?;
        let commit = store.inner.commit(&txn)?;
        Ok(Self {
            txn,
            store,
            commit,
            pages: OnceCell::new(),
            id_pages: OnceCell::new(),
            author_pages: OnceCell::new(),
            of: PhantomData,
        })
    }

    fn lookup(&self) -> Lookup<'_> {
        self.store.lookup(&self.txn)
    }

    /// The same generation, for look-ups.
    fn records(&self) -> Lookup<'_> {
        Lookup { pages: self.pages(), ..self.lookup() }
    }

    /// The pages of the event table; `None` when only LMDB understands them.
    pub(in crate::store) fn pages(&self) -> Option<&Pages> {
        self.pages.get_or_init(|| self.pages_of(self.commit.events.as_ref())).as_ref()
    }

    /// The pages of the index of ids or of authors; `None` for others and when only LMDB understands them.
    pub(in crate::store) fn index_pages(&self, index: Index) -> Option<&Pages> {
        let (pages, row) = match index {
            Index::Id => (&self.id_pages, &self.commit.ids),
            Index::Author => (&self.author_pages, &self.commit.authors),
            _ => return None,
        };
        pages.get_or_init(|| self.pages_of(row.as_ref())).as_ref()
    }

    /// The pages of the table with this row, which is our commit's.
    fn pages_of(&self, row: Option<&TableRow>) -> Option<Pages> {
        let map = self.store.inner.map?;
        // SAFETY: the generation keeps its environment open, and with it the map, and our transaction sees the row's
        // commit; both live as long as we do. LMDB never shortens the file. The last page is that of our commit or of a
        // later one, so all pages of ours are among those that may be touched.
        unsafe { Pages::of_table(map, row?, self.commit.last_page) }
    }

    /// The events with these ids, at most [`BATCH`], as far as they are found side by side.
    pub(in crate::store) fn by_ids(&self, ids: &[EventId]) -> [ById<'_>; BATCH] {
        let mut found = [ById::Unknown; BATCH];
        let (Some(index), Some(records)) = (self.index_pages(Index::Id), self.pages()) else { return found };
        let ids = &ids[..ids.len().min(BATCH)];
        let mut starts = [[0; ID + SEQ]; BATCH];
        starts.iter_mut().zip(ids).for_each(|(key, id)| key[..ID].copy_from_slice(&keys::id_prefix(&id.0)));
        let wanted = starts.each_ref().map(|key| &key[..]);
        let mut entries = [None; BATCH];
        index.seek_all(&wanted[..ids.len()], &mut entries[..ids.len()]);
        // No event has the number zero.
        let seqs = std::array::from_fn::<_, BATCH, _>(|at| match entries[at].and_then(|entry| entry.keys().next()) {
            Some(key) if key.starts_with(&starts[at][..ID]) => keys::seq_of(key).unwrap_or(Seq(0)),
            Some(_) => {
                // The next id is another one. Where that would be on the next page, nothing is known.
                found[at] = ById::Nothing;
                Seq(0)
            }
            None => Seq(0),
        });
        let mut held = [None; BATCH];
        records.find_all(&seqs[..ids.len()], &mut held[..ids.len()]);
        held.iter().flatten().for_each(|record| prefetch(&record[..record.len().min(CACHE_LINE)]));
        for (at, id) in ids.iter().enumerate() {
            // Two ids may begin with the same bytes; LMDB finds the other one.
            if let Some(event) = held[at].and_then(EventView::from_record).filter(|event| event.id_bytes() == &id.0) {
                found[at] = ById::Held(seqs[at], event);
            }
        }
        found
    }

    /// The number of the commit that the snapshot sees, comparable with [`Store::txn_id`].
    #[must_use]
    pub fn txn_id(&self) -> u64 {
        self.store.inner.txn_id(self.txn.id())
    }

    /// A random id that distinguishes this store from all others, in which the same arrival number may be another
    /// event's. A restore does not copy it.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn store_id(&self) -> Result<[u8; 16], StoreError> {
        self.store.inner.tables.store_id(&self.txn)
    }

    /// The number of the latest event, even if that event has been removed; zero before the first.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn last_seq(&self) -> Result<Seq, StoreError> {
        self.commit.last_seq.ok_or(StoreError::Damaged("the next arrival number is missing"))
    }

    /// Whether the store holds an event with this id, visible or not.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn contains(&self, id: &EventId) -> Result<bool, StoreError> {
        Ok(self.lookup().by_id(id)?.is_some())
    }

    /// Judges `event` as if it were committed now: the cheap check before signature work. It is sound without the
    /// signature, since the caller knows that `id` is the hash of the content.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn status(&self, event: EventView<'_>, now: Timestamp) -> Result<Known, StoreError> {
        if event.kind().is_ephemeral() {
            return Ok(Known::New);
        }
        Ok(judge(self, event, now)?.known)
    }

    /// The event with this number.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn get(&self, seq: Seq) -> Result<Option<EventView<'_>>, StoreError> {
        self.records().get(seq)
    }

    /// The record of the event with this number, not parsed.
    pub(in crate::store) fn record(&self, seq: Seq) -> Result<Option<&[u8]>, StoreError> {
        self.records().record(seq)
    }

    /// The event with this id, visible or not.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn by_id(&self, id: &EventId) -> Result<Option<(Seq, EventView<'_>)>, StoreError> {
        match self.by_ids(std::slice::from_ref(id))[0] {
            ById::Held(seq, event) => Ok(Some((seq, event))),
            ById::Nothing => Ok(None),
            ById::Unknown => self.records().by_id(id),
        }
    }

    /// The version that the store holds of a replaceable or addressable event, visible or not; `None` also for other
    /// kinds.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn version_of(&self, event: EventView<'_>) -> Result<Option<(Seq, EventView<'_>)>, StoreError> {
        let Some(address) = self.store.secret().address_of(event) else { return Ok(None) };
        let Some(seq) = self.lookup().holder(&address)? else { return Ok(None) };
        Ok(self.get(seq)?.map(|held| (seq, held)))
    }

    /// Whether a vanish request covers the event (NIP-62), so that it must not be served although its record is still
    /// there. The reader checks expiration, see [`EventView::is_expired`].
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn is_hidden(&self, seq: Seq, event: EventView<'_>) -> Result<bool, StoreError> {
        // A purge is rarely under way. Otherwise a row costs no more than this check.
        if !self.commit.is_purging {
            return Ok(false);
        }
        self.lookup().is_vanished(seq, event)
    }

    /// The events that arrived after `seq`, in the order of arrival, including hidden ones.
    ///
    /// # Errors
    /// When LMDB cannot open a cursor; the iterator yields an error at a damaged row.
    pub fn after(
        &self,
        seq: Seq,
    ) -> Result<impl Iterator<Item = Result<(Seq, EventView<'_>), StoreError>>, StoreError> {
        let start = keys::six(seq.0);
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let rows = self.store.inner.tables.event.range(&self.txn, &range)?;
        Ok(rows.map(|row| {
            let (key, record) = row?;
            let seq = keys::read_six(key).ok_or(StoreError::Damaged("a key of the event table is too short"))?;
            Ok((Seq(seq), lookup::view(record)?))
        }))
    }
}

impl StoredEvents for Snapshot<'_> {
    fn lookup(&self) -> Lookup<'_> {
        self.lookup()
    }

    fn is_hidden(&self, event: EventView<'_>) -> Result<Option<bool>, StoreError> {
        let found = self.lookup().by_id(&event.id())?;
        found.map(|(seq, held)| self.is_hidden(seq, held)).transpose()
    }

    fn version(&self, seq: Seq) -> Result<EventView<'_>, StoreError> {
        self.lookup().get(seq)?.ok_or(StoreError::Damaged("a holder has no record"))
    }
}
