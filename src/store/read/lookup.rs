//! Look-ups that readers and the writer share: which events are held, and which must be refused.
//!
//! Changes nothing. A look-up sees what its transaction sees.

use heed::RoTxn;

use crate::nostr::{EventId, EventView, Kind, Pubkey, TagElement, Timestamp};
use crate::store::file::generation::{Generation, Inner};
use crate::store::file::schema::Tables;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, ID, Index, SEQ, SIX, Secret};
use crate::store::read::pages::Pages;

/// Gift wraps are backdated by up to two days, at random (NIP-59).
const WRAP_BACKDATING_SECONDS: u64 = 2 * 24 * 60 * 60;

/// The deleter in the operator's tombstones, which refuse events that no author deleted.
pub(in crate::store) const OPERATOR: Pubkey = Pubkey([0; 32]);

/// Why an event may not be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum KeptOut {
    /// Its author, or the recipient of a gift wrap, deleted it (NIP-09, NIP-59).
    Deleted,
    /// Its author asked to vanish (NIP-62).
    Vanished,
}

/// A vanish request (NIP-62): the time and the arrival number up to which it removes events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Vanish {
    /// `created_at` of the request: it covers the author's events up to that time.
    pub until: Timestamp,
    /// The request's arrival number: it covers gift wraps to the author up to that number.
    pub seq: Seq,
}

impl Vanish {
    pub const LEN: usize = 2 * SIX;

    pub fn read(value: &[u8]) -> Option<Self> {
        let (until, rest) = value.split_at_checked(SIX)?;
        let seq = rest.first_chunk::<SIX>()?;
        Some(Self { until: Timestamp(keys::read_six(until)?), seq: Seq(keys::read_six(seq)?) })
    }

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..SIX].copy_from_slice(&keys::six(self.until.0));
        bytes[SIX..].copy_from_slice(&keys::six(self.seq.0));
        bytes
    }
}

/// A transaction with the tables and keys that look-ups need.
#[derive(Clone, Copy)]
pub(in crate::store) struct Lookup<'t> {
    pub tables: &'t Tables,
    pub secret: &'t Secret,
    pub txn: &'t RoTxn<'t>,
    /// Where records are looked for first, in a read transaction.
    pub pages: Option<&'t Pages>,
}

impl<'t> Lookup<'t> {
    /// The event with this number.
    pub fn get(&self, seq: Seq) -> Result<Option<EventView<'t>>, StoreError> {
        self.record(seq)?.map(view).transpose()
    }

    /// The record of the event with this number, not parsed.
    pub fn record(&self, seq: Seq) -> Result<Option<&'t [u8]>, StoreError> {
        match self.pages.and_then(|pages| pages.find(seq)) {
            Some(record) => Ok(Some(record)),
            None => Ok(self.tables.event.get(self.txn, &keys::six(seq.0))?),
        }
    }

    /// The event with this id.
    pub fn by_id(&self, id: &EventId) -> Result<Option<(Seq, EventView<'t>)>, StoreError> {
        let table = self.tables.index(Index::Id);
        let mut key = [0; ID + SEQ];
        key[..ID].copy_from_slice(&keys::id_prefix(&id.0));
        while let Some((found, _)) = table.get_greater_than_or_equal_to(self.txn, &key)? {
            if !found.starts_with(&key[..ID]) {
                break;
            }
            let seq = keys::seq_of(found).ok_or(StoreError::Damaged("a key of the id index is too short"))?;
            let event = self.get(seq)?.ok_or(StoreError::Damaged("an id has no record"))?;
            if event.id_bytes() == &id.0 {
                return Ok(Some((seq, event)));
            }
            key[ID..].copy_from_slice(&keys::seq_bytes(Seq(seq.0 + 1)));
        }
        Ok(None)
    }

    /// The number of the version that the store holds for a coordinate.
    pub fn holder(&self, address: &[u8; 16]) -> Result<Option<Seq>, StoreError> {
        Ok(self.tables.holder.get(self.txn, address)?.and_then(keys::read_six).map(Seq))
    }

    /// The reason to refuse an event, if there is one. Only this rule keeps out events that their author deleted and
    /// events that a vanish request covers (INV-11).
    pub fn kept_out(&self, event: EventView<'_>) -> Result<Option<KeptOut>, StoreError> {
        let author = event.pubkey();
        if self.is_deleted(event, &author)? {
            return Ok(Some(KeptOut::Deleted));
        }
        let covers = |vanish: Vanish, backdated| event.created_at().0 + backdated <= vanish.until.0;
        if event.kind() != Kind::VANISH && self.vanish(&author)?.is_some_and(|vanish| covers(vanish, 0)) {
            return Ok(Some(KeptOut::Vanished));
        }
        for recipient in recipients(event) {
            // A wrap may be younger than its date. If the store held it, its tombstone keeps it out, see `vanish`.
            if self.vanish(&recipient)?.is_some_and(|vanish| covers(vanish, WRAP_BACKDATING_SECONDS)) {
                return Ok(Some(KeptOut::Vanished));
            }
        }
        Ok(None)
    }

    fn is_deleted(&self, event: EventView<'_>, author: &Pubkey) -> Result<bool, StoreError> {
        let id = event.id();
        if is_immune(event.kind()) {
            return self.is_deleted_by(&id, &OPERATOR);
        }
        if self.is_deleted_by(&id, author)? {
            return Ok(true);
        }
        for recipient in recipients(event) {
            if self.is_deleted_by(&id, &recipient)? {
                return Ok(true);
            }
        }
        let Some(address) = self.secret.address_of(event) else { return Ok(false) };
        Ok(self.deleted_until(&address)?.is_some_and(|until| event.created_at() <= until))
    }

    fn is_deleted_by(&self, id: &EventId, by: &Pubkey) -> Result<bool, StoreError> {
        Ok(self.tables.deleted.get(self.txn, &self.secret.deletion(id, by))?.is_some())
    }

    /// The time up to which the versions of a coordinate are deleted.
    pub fn deleted_until(&self, address: &[u8; 16]) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.tables.deleted_address.get(self.txn, address)?.and_then(keys::read_six).map(Timestamp))
    }

    /// The latest vanish request of an author.
    pub fn vanish(&self, author: &Pubkey) -> Result<Option<Vanish>, StoreError> {
        Ok(self.tables.vanished.get(self.txn, &author.0)?.and_then(Vanish::read))
    }

    /// Whether a vanish request covers a stored event, which is then waiting for its removal.
    pub fn is_vanished(&self, seq: Seq, event: EventView<'_>) -> Result<bool, StoreError> {
        let pending = |author: &Pubkey| -> Result<Option<Vanish>, StoreError> {
            Ok(self.tables.purge.get(self.txn, &author.0)?.and_then(Vanish::read))
        };
        if event.kind() == Kind::VANISH {
            return Ok(false);
        }
        if pending(&event.pubkey())?.is_some_and(|vanish| event.created_at() <= vanish.until) {
            return Ok(true);
        }
        for recipient in recipients(event) {
            if pending(&recipient)?.is_some_and(|vanish| seq <= vanish.seq) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Parses a record of the event table.
pub(in crate::store) fn view(record: &[u8]) -> Result<EventView<'_>, StoreError> {
    EventView::from_record(record).ok_or(StoreError::Damaged("a record is too short"))
}

/// Whether deletion requests have no effect on events of this kind (NIP-09 for kind 5, NIP-62 for kind 62).
pub(in crate::store) fn is_immune(kind: Kind) -> bool {
    matches!(kind, Kind::DELETION | Kind::VANISH)
}

/// The recipients of a gift wrap, who may have it removed (NIP-59). Events of other kinds have none.
pub(in crate::store) fn recipients(event: EventView<'_>) -> impl Iterator<Item = Pubkey> {
    let is_wrap = matches!(event.kind(), Kind::GIFT_WRAP | Kind::EPHEMERAL_GIFT_WRAP);
    let tagged = is_wrap.then(|| event.tags().values("p")).into_iter().flatten();
    tagged.filter_map(TagElement::as_hex).map(|key| Pubkey(*key))
}

impl Inner {
    pub fn lookup<'t>(&'t self, txn: &'t heed::RoTxn<'_>) -> Lookup<'t> {
        Lookup { tables: &self.tables, secret: &self.secret, txn, pages: None }
    }
}

impl Generation {
    pub fn lookup<'t>(&'t self, txn: &'t heed::RoTxn<'_>) -> Lookup<'t> {
        self.inner.lookup(txn)
    }
}
