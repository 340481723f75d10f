//! How many events of each kind the store holds, and how many bytes their records have.
//!
//! Every commit updates the tally, so nobody has to count: it writes one row in the `weir` table for each kind of a
//! batch, which costs a few microseconds per batch. The key is `kind` and the kind, the value events 6, bytes 6 and
//! footprint 6.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use heed::RwTxn;

use crate::nostr::{EventView, Kind};
use crate::store::file::schema::Table;
use crate::store::format::error::StoreError;
use crate::store::format::keys::{self, SIX};

const PREFIX: &[u8] = b"kind";

/// The events of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KindUsage {
    /// Number of events held.
    pub events: u64,
    /// Bytes of their records, without index entries.
    pub bytes: u64,
    /// Bytes that they take in the data file: see [`keys::footprint`].
    pub footprint: u64,
}

/// Bytes per event besides its record, assumed for a store that was written before footprints were counted: about the
/// mean.
const UNCOUNTED: u64 = 300;

impl KindUsage {
    pub(in crate::store) fn read(value: &[u8]) -> Option<Self> {
        let mut numbers = value.chunks(SIX).map(keys::read_six);
        let (events, bytes) = (numbers.next()??, numbers.next()??);
        let footprint = numbers.next().flatten().unwrap_or(bytes + UNCOUNTED * events);
        Some(Self { events, bytes, footprint })
    }

    fn to_bytes(self) -> [u8; 3 * SIX] {
        let mut bytes = [0; 3 * SIX];
        for (place, number) in bytes.chunks_mut(SIX).zip([self.events, self.bytes, self.footprint]) {
            place.copy_from_slice(&keys::six(number));
        }
        bytes
    }

    /// Adds one event.
    pub(in crate::store) fn add(&mut self, event: EventView<'_>) {
        self.events += 1;
        self.bytes += event.record().len() as u64;
        self.footprint += keys::footprint(event);
    }
}

fn key(kind: Kind) -> [u8; PREFIX.len() + 2] {
    let mut key = [0; PREFIX.len() + 2];
    key[..PREFIX.len()].copy_from_slice(PREFIX);
    key[PREFIX.len()..].copy_from_slice(&kind.0.to_be_bytes());
    key
}

/// The changes of one transaction, by kind: events, bytes and footprint.
#[derive(Default)]
pub(in crate::store) struct Tally(HashMap<Kind, [i64; 3]>);

impl Tally {
    /// Adds an event that is stored.
    pub fn add(&mut self, event: EventView<'_>) {
        self.count(event, 1);
    }

    /// Subtracts an event that is removed.
    pub fn remove(&mut self, event: EventView<'_>) {
        self.count(event, -1);
    }

    fn count(&mut self, event: EventView<'_>, sign: i64) {
        let [events, bytes, footprint] = self.0.entry(event.kind()).or_default();
        *events += sign;
        *bytes += sign * event.record().len() as i64;
        *footprint += sign * keys::footprint(event) as i64;
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The change of the footprint over all kinds.
    pub fn footprint(&self) -> i64 {
        self.0.values().map(|[_, _, footprint]| footprint).sum()
    }

    /// Writes the changes.
    pub fn put(&self, meta: Table, txn: &mut RwTxn<'_>) -> Result<(), StoreError> {
        for (kind, [events, bytes, footprint]) in &self.0 {
            let key = key(*kind);
            let before = meta.get(txn, &key)?.and_then(KindUsage::read).unwrap_or_default();
            let now = KindUsage {
                events: before.events.saturating_add_signed(*events),
                bytes: before.bytes.saturating_add_signed(*bytes),
                footprint: before.footprint.saturating_add_signed(*footprint),
            };
            if now.events == 0 {
                meta.delete(txn, &key)?;
            } else {
                meta.put(txn, &key, &now.to_bytes())?;
            }
        }
        Ok(())
    }
}

/// Replaces the tally of every kind.
pub(in crate::store) fn replace(
    meta: Table,
    txn: &mut RwTxn<'_>,
    all: &BTreeMap<Kind, KindUsage>,
) -> Result<(), StoreError> {
    let rows = meta.prefix_iter(txn, PREFIX)?;
    let old = rows.map(|row| Ok(row?.0.to_vec())).collect::<Result<Vec<_>, StoreError>>()?;
    for key in old {
        meta.delete(txn, &key)?;
    }
    for (kind, usage) in all {
        meta.put(txn, &key(*kind), &usage.to_bytes())?;
    }
    Ok(())
}

/// The tally of every kind, in the order of kinds.
pub(in crate::store) fn read(meta: Table, txn: &heed::RoTxn<'_>) -> Result<Vec<(Kind, KindUsage)>, StoreError> {
    let rows = meta.prefix_iter(txn, PREFIX)?;
    rows.map(|row| {
        let (key, value) = row?;
        let kind = key[PREFIX.len()..].try_into().ok().map(|kind| Kind(u16::from_be_bytes(kind)));
        kind.zip(KindUsage::read(value)).ok_or(StoreError::Damaged("the tally of a kind"))
    })
    .collect()
}
