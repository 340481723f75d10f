//! Counts matching events: the size of the union of all filters (NIP-45), in slices like any scan.

use std::sync::Arc;

use crate::nostr::{EventView, Filter};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::read::snapshot::Snapshot;
use crate::store::read::walks::Flow;
use crate::store::scan::query::{Budget, Query, Scan, Step, Visitor};

/// A resumable count. Like a [`Scan`], it holds no transaction between slices.
pub struct Count {
    scan: Scan,
    total: u64,
}

impl Count {
    /// Counts the events up to `until_seq` that match at least one of the filters, whatever their limits.
    #[must_use]
    pub fn new(filters: Arc<[Filter]>, until_seq: Seq) -> Self {
        Self { scan: Scan::new(Query { filters, until_seq, limits: None }), total: 0 }
    }

    /// Continues the count and skips events that `admits` refuses. Returns the result when the count is complete.
    ///
    /// # Errors
    /// As [`Scan::run`].
    pub fn run(
        &mut self,
        snapshot: &Snapshot<'_>,
        budget: Budget,
        admits: impl FnMut(EventView<'_>) -> bool,
    ) -> Result<Option<u64>, StoreError> {
        let mut counter = Counter { admits, total: &mut self.total };
        let step = self.scan.run(snapshot, budget, &mut counter)?;
        Ok(matches!(step, Step::Done { .. }).then_some(self.total))
    }

    /// The number of events counted so far.
    #[must_use]
    pub fn so_far(&self) -> u64 {
        self.total
    }
}

struct Counter<'a, F> {
    admits: F,
    total: &'a mut u64,
}

impl<F: FnMut(EventView<'_>) -> bool> Visitor for Counter<'_, F> {
    fn admits(&mut self, event: EventView<'_>) -> bool {
        (self.admits)(event)
    }

    fn take(&mut self, _: Seq, _: EventView<'_>) -> Flow {
        *self.total += 1;
        Flow::Continue
    }
}
