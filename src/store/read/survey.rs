//! Visits every event, or a sample spread evenly over the order of arrival.
//!
//! Reads in slices (INV-9), so it may run while a relay serves the store. It leaves counting to the caller.

use crate::nostr::EventView;
use crate::nostr::Kind;
use crate::store::file::handle::Store;
use crate::store::file::tally::{self, KindUsage};
use crate::store::format::error::StoreError;
use crate::store::format::keys;
use crate::store::format::keys::Seq;
use crate::store::read::snapshot::Snapshot;

/// Events visited in one read transaction: about a millisecond when they are in memory.
const SLICE: u64 = 2048;

/// A number of events and the bytes that they take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// Number of events.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Bytes that they take in the data file: see [`keys::footprint`].
    pub footprint: u64,
}

impl Amount {
    /// Adds one event.
    pub fn add(&mut self, event: EventView<'_>) {
        self.events += 1;
        self.bytes += event.record().len() as u64;
        self.footprint += keys::footprint(event);
    }
}

impl Store {
    /// Calls `visit` with every event, or with about `sample` of them, spread evenly over the order of arrival; `None`
    /// visits all. Leaves out events that arrive meanwhile. Calls `progress` with the arrival number that it has
    /// reached. Returns true when it visited all events.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn survey(
        &self,
        sample: Option<u64>,
        mut visit: impl FnMut(Seq, EventView<'_>),
        mut progress: impl FnMut(Seq),
    ) -> Result<bool, StoreError> {
        let last = self.read()?.last_seq()?.0;
        let step = sample.map_or(1, |sample| (last / sample.max(1)).max(1));
        let mut next = 1;
        while next <= last {
            self.follow()?;
            let snapshot = self.read()?;
            if step == 1 {
                let from = next;
                next = last + 1;
                for (count, row) in (0..).zip(snapshot.after(Seq(from - 1))?) {
                    let (seq, event) = row?;
                    if count == SLICE || seq.0 > last {
                        next = seq.0;
                        break;
                    }
                    visit(seq, event);
                }
            } else {
                for _ in 0..SLICE.min((last - next) / step + 1) {
                    snapshot.get(Seq(next))?.into_iter().for_each(|event| visit(Seq(next), event));
                    next += step;
                }
            }
            drop(snapshot);
            progress(Seq(next - 1));
        }
        Ok(step == 1)
    }
}

impl Snapshot<'_> {
    /// The tally of each kind, in the order of kinds. Kinds without events are left out.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn kinds(&self) -> Result<Vec<(Kind, KindUsage)>, StoreError> {
        tally::read(self.store.inner.tables.meta, &self.txn)
    }
}
