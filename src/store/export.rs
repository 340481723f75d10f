//! The whole time index from its end: every event that matches, oldest first, in slices.
//!
//! The exact reverse of what a [`Scan`](super::Scan) without limits brings. It knows no other index, so a narrow
//! filter costs as much as its time window holds. Between slices it keeps a key, never a transaction (INV-9).

use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keys::Index;
use super::position::Position;
use super::scan::{Budget, Flow, Step, Visitor};
use super::{Snapshot, StoreError};
use crate::nostr::{Filter, Hint, Timestamp};

/// How many rows pass between looks at the clock.
const CLOCK_ROWS: u32 = 32;

/// A walk from the oldest event to the newest. It has no limits: each filter's `limit` plays no part.
pub struct OldestFirst {
    filters: Arc<[Filter]>,
    /// The last row that was looked at.
    last: Option<Position>,
    since: Timestamp,
    until: Timestamp,
}

impl OldestFirst {
    /// A walk over the events that match at least one of the filters.
    #[must_use]
    pub fn new(filters: Arc<[Filter]>) -> Self {
        let since = filters.iter().map(|filter| filter.since.unwrap_or_default()).min().unwrap_or(Timestamp::MAX);
        let until = filters.iter().map(|filter| filter.until.unwrap_or(Timestamp::MAX)).max().unwrap_or_default();
        Self { filters, last: None, since, until }
    }

    /// Goes on in this snapshot until everything was seen, the budget is spent or the visitor wants a pause.
    ///
    /// # Errors
    /// When LMDB or a damaged key says so.
    pub fn run<V: Visitor>(
        &mut self,
        snapshot: &Snapshot<'_>,
        budget: Budget,
        visitor: &mut V,
    ) -> Result<Step, StoreError> {
        const DONE: Step = Step::Done { hint: Some(Hint::Finish) };
        if self.since > self.until {
            return Ok(DONE);
        }
        let (first, last) = (Position::first_at(self.until).bytes(), self.last.map(Position::bytes));
        // Keys run from the newest to the oldest, so the oldest wanted row is the upper end.
        let oldest = match self.since.0.checked_sub(1) {
            Some(before) => Bound::Excluded(Position::first_at(Timestamp(before)).bytes()),
            None => Bound::Unbounded,
        };
        let upper = last.map_or(oldest, Bound::Excluded);
        let range = (Bound::Included(&first[..]), upper.as_ref().map(|key| &key[..]));
        let table = snapshot.store.inner.tables.index(Index::Time);
        let started = (budget.time != Duration::MAX).then(Instant::now);
        let mut rows = 0;
        for row in table.rev_range(&snapshot.txn, &range)? {
            let (key, _) = row?;
            let position = Position::of_key(key).ok_or(StoreError::Damaged("an index key is cut short"))?;
            self.last = Some(position);
            rows += 1;
            let is_spent = rows >= budget.rows
                || (rows % CLOCK_ROWS == 0 && started.is_some_and(|started| started.elapsed() >= budget.time));
            // `weir check` tells of rows without a record; what is there is exported all the same.
            let event = snapshot.get(position.seq())?;
            let event = event.filter(|event| self.filters.iter().any(|filter| filter.matches(*event)));
            let mut flow = if is_spent { Flow::Pause } else { Flow::Continue };
            if let Some(event) = event
                && !snapshot.is_hidden(position.seq(), event)?
                && visitor.admits(event)
                && visitor.take(position.seq(), event) == Flow::Pause
            {
                flow = Flow::Pause;
            }
            if flow == Flow::Pause {
                return Ok(Step::Paused);
            }
        }
        Ok(DONE)
    }
}
