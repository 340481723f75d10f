//! Commits batches within the limits of the store: `storage.max_bytes`, the map, and what must stay free on the disk.
//!
//! Never makes room and never waits for it: that is for the retention rules, in the relay or by `weir retention --run`.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::nostr::VerifiedEvent;
use crate::pipeline::now;
use crate::policy::Settings;
use crate::retention::marks::within_file;
use crate::retention::{Disk, Limit};
use crate::store::{Full, Outcome, Room, Store, StoreError, Writer, growth_of};

/// The growth of the data file, in bytes, that a commit may risk when no more of the disk or the map is left. Commits
/// need far less than the worst case for which [`growth_of`] allows, and near a limit they reuse free pages.
const LEAST_GROWTH: u64 = 8 << 20;

/// The writer of an import.
pub struct ImportWriter {
    store: Store,
    writer: Writer,
    settings: Arc<ArcSwap<Settings>>,
    disk: Disk,
    is_disk_low: bool,
}

/// What became of a batch.
pub struct BatchResult {
    /// The outcomes of the events, in order.
    pub outcomes: Vec<Outcome>,
    /// The limit for which an event is [`Outcome::Full`]. All that could be stored after it are deletions.
    pub reached: Option<Limit>,
}

impl ImportWriter {
    pub fn new(store: Store, settings: Arc<ArcSwap<Settings>>) -> Self {
        let writer = store.writer();
        Self { store, writer, settings, disk: Disk::default(), is_disk_low: false }
    }

    /// Commits the events; if there is no room for all of them, as many as fit, from the first on.
    ///
    /// # Errors
    /// When the store or the disk fails; commits made before stay.
    pub fn store(&mut self, events: &[VerifiedEvent]) -> Result<BatchResult, StoreError> {
        let mut outcomes = Vec::with_capacity(events.len());
        while let rest = &events[outcomes.len()..]
            && !rest.is_empty()
        {
            let look = self.look()?;
            let count = within(rest, look.headroom.max(LEAST_GROWTH));
            let (some, has_pages) = self.commit(&rest[..count], look.full)?;
            let is_refused = some.contains(&Outcome::Full);
            outcomes.extend(some);
            if is_refused {
                let reached = self.reached(look.is_paged_out || !has_pages)?;
                let only_deletions = Full { used_bytes: 0, page_bytes: 0 };
                outcomes.extend(self.commit(&rest[count..], only_deletions)?.0);
                return Ok(BatchResult { outcomes, reached: Some(reached) });
            }
        }
        Ok(BatchResult { outcomes, reached: None })
    }

    /// Commits events. False when the file found no room for them.
    fn commit(&mut self, events: &[VerifiedEvent], full: Full) -> Result<(Vec<Outcome>, bool), StoreError> {
        match self.writer.commit_what_fits(events, now(), full) {
            // None of them is stored.
            Err(StoreError::Full) => Ok((vec![Outcome::Full; events.len()], false)),
            result => result,
        }
    }

    fn min_free_disk_bytes(&self) -> u64 {
        self.settings.load().retention.limits().min_free_disk_bytes
    }

    /// Looks at the disk before a commit, as the relay does.
    fn look(&mut self) -> Result<Headroom, StoreError> {
        let (room, space, min_free) = (self.store.room()?, self.store.disk_space()?, self.min_free_disk_bytes());
        self.is_disk_low = self.disk.watch(&self.store, space, room, min_free);
        let page_bytes = if self.is_disk_low { within_file(room) } else { u64::MAX };
        let Room { map_bytes, file_bytes, .. } = room;
        let headroom = space.free_bytes.saturating_sub(min_free).min(map_bytes.saturating_sub(file_bytes));
        let is_paged_out = room.page_bytes >= page_bytes.min(room.full.page_bytes);
        Ok(Headroom { headroom, full: Full { page_bytes, ..Full::NEVER }, is_paged_out })
    }

    /// The limit for which an event was refused.
    fn reached(&self, lacks_pages: bool) -> Result<Limit, StoreError> {
        let free_bytes = self.store.disk_space()?.free_bytes;
        let is_disk_low = self.is_disk_low || free_bytes < self.min_free_disk_bytes().saturating_add(LEAST_GROWTH);
        Ok(match (lacks_pages, is_disk_low) {
            (false, _) => Limit::MaxBytes,
            (true, true) => Limit::Disk,
            (true, false) => Limit::MapBytes,
        })
    }
}

/// The room for the next commit.
struct Headroom {
    /// Bytes by which the file may grow.
    headroom: u64,
    /// The limit for the disk, beside those of the store.
    full: Full,
    /// Whether as many pages as may be are in use.
    is_paged_out: bool,
}

/// How many events, from the first on, one commit may take if the file may grow by `bytes`: at least one.
fn within(events: &[VerifiedEvent], bytes: u64) -> usize {
    let mut left = bytes;
    let fits = |event: &&VerifiedEvent| left.checked_sub(growth_of(event)).map(|rest| left = rest).is_some();
    events.iter().take_while(fits).count().max(1)
}
