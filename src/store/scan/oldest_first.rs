//! Scans the time index from its end: every event that matches, oldest first, in slices.
//!
//! The order is the exact reverse of a [`Scan`](crate::store::scan::query::Scan) without limits. No other index is
//! used, so even a narrow filter costs a read of every record in its time window. Between slices it keeps a key, never
//! a transaction (INV-9).

use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::nostr::{Filter, Hint, Timestamp};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Index;
use crate::store::read::snapshot::Snapshot;
use crate::store::read::walks::Flow;
use crate::store::scan::position::{MAX_TIED, Position};
use crate::store::scan::query::{Step, Visitor};
use crate::store::scan::slice::Budget;

/// Rows between looks at the clock.
const CLOCK_ROWS: u32 = 32;

/// A scan from the oldest event to the newest. It ignores each filter's `limit`.
pub struct OldestFirst {
    filters: Arc<[Filter]>,
    /// The last row that was read from the index.
    last: Option<Position>,
    /// Rows that tie, since keys do not tell their order; the next one last.
    tied: Vec<Position>,
    since: Timestamp,
    until: Timestamp,
}

impl OldestFirst {
    /// Scans the events that match at least one of the filters.
    #[must_use]
    pub fn new(filters: Arc<[Filter]>) -> Self {
        let since = filters.iter().map(|filter| filter.since.unwrap_or_default()).min().unwrap_or(Timestamp::MAX);
        let until = filters.iter().map(|filter| filter.until.unwrap_or(Timestamp::MAX)).max().unwrap_or_default();
        Self { filters, last: None, tied: Vec::new(), since, until }
    }

    /// Continues in this snapshot until every event was visited, the budget is spent or the visitor pauses.
    ///
    /// # Errors
    /// When LMDB fails or a key is damaged.
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
        // Keys run from the newest to the oldest, so the oldest row wanted is the upper end.
        let oldest = match self.since.0.checked_sub(1) {
            Some(before) => Bound::Excluded(Position::first_at(Timestamp(before)).bytes()),
            None => Bound::Unbounded,
        };
        let upper = last.map_or(oldest, Bound::Excluded);
        let range = (Bound::Included(&first[..]), upper.as_ref().map(|key| &key[..]));
        let table = snapshot.store.inner.tables.index(Index::Time);
        let started = (budget.time != Duration::MAX).then(Instant::now);
        let keys = table.rev_range(&snapshot.txn, &range)?;
        let read = |key| Position::of_key(key).ok_or(StoreError::Damaged("an index key is cut short"));
        let mut positions = keys.map(|row| row.map_err(StoreError::from).and_then(|(key, _)| read(key))).peekable();
        let mut rows = 0;
        while let Some(position) = self.next(snapshot, &mut positions)? {
            rows += 1;
            let is_spent = rows >= budget.rows
                || (rows % CLOCK_ROWS == 0 && started.is_some_and(|started| started.elapsed() >= budget.time));
            // `weir check` reports rows without a record; the export continues without them.
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

    /// The next row. Rows that tie are in the order of their ids.
    fn next(
        &mut self,
        snapshot: &Snapshot<'_>,
        positions: &mut Peekable<impl Iterator<Item = Result<Position, StoreError>>>,
    ) -> Result<Option<Position>, StoreError> {
        if let Some(position) = self.tied.pop() {
            return Ok(Some(position));
        }
        let Some(first) = positions.next().transpose()? else { return Ok(None) };
        self.last = Some(first);
        let mut by_id = Vec::new();
        while by_id.len() < MAX_TIED
            && let Some(next) = positions.next_if(|next| next.as_ref().is_ok_and(|next| next.ties(first)))
        {
            let next = next?;
            self.last = Some(next);
            by_id.push((id_of(snapshot, next)?, next));
        }
        if by_id.is_empty() {
            return Ok(Some(first));
        }
        by_id.push((id_of(snapshot, first)?, first));
        by_id.sort_unstable();
        self.tied = by_id.into_iter().map(|(_, position)| position).collect();
        Ok(self.tied.pop())
    }
}

fn id_of(snapshot: &Snapshot<'_>, position: Position) -> Result<Option<[u8; 32]>, StoreError> {
    Ok(snapshot.get(position.seq())?.map(|event| *event.id_bytes()))
}
