//! How much work one slice of a scan may do. The clock is read now and then.

use std::time::{Duration, Instant};

/// The work that one call of [`Scan::run`](crate::store::Scan::run) may do. A slice always takes at least one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Rows read and ranges opened, each 0.1 to 1 µs of work.
    pub rows: u32,
    /// Time. The clock is read every 32 rows, and after the first 4, 8 and 16.
    pub time: Duration,
}

impl Budget {
    /// Runs to the end.
    pub const UNLIMITED: Self = Self { rows: u32::MAX, time: Duration::MAX };
}

/// How much of a budget is spent.
pub(in crate::store) struct Slice {
    budget: Budget,
    started: Option<Instant>,
    /// Rows read and ranges opened.
    pub spent: u32,
    look_at: u32,
}

/// Rows between reads of the clock: about 10 µs.
const CLOCK_ROWS: u32 = 32;

/// Rows before the first read of the clock. The number doubles for each next read, up to [`CLOCK_ROWS`], so that rows
/// from disk, which take up to 10 ms each, are noticed.
const FIRST_CLOCK_ROWS: u32 = 4;

impl Slice {
    /// A slice that began at `began`, or begins now.
    pub fn new(budget: Budget, began: Option<Instant>) -> Self {
        let started = (budget.time != Duration::MAX).then(|| began.unwrap_or_else(Instant::now));
        Self { budget, started, spent: 0, look_at: FIRST_CLOCK_ROWS }
    }

    /// Counts so many rows.
    pub fn spend(&mut self, rows: u32) {
        self.spent = self.spent.saturating_add(rows);
    }

    /// Whether the slice is over.
    pub fn is_spent(&mut self) -> bool {
        if self.spent >= self.budget.rows && self.budget.rows != u32::MAX {
            return true;
        }
        if self.spent < self.look_at {
            return false;
        }
        self.look_at = self.spent.saturating_add(self.spent.min(CLOCK_ROWS));
        self.started.is_some_and(|started| started.elapsed() >= self.budget.time)
    }
}
