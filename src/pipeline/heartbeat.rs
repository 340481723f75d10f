//! Signs of life, by which the watchdog and tests tell that threads make progress.
//!
//! Counts only; it decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Default)]
pub struct Heartbeat {
    writer_rounds: AtomicU64,
    plans: AtomicU64,
}

impl Heartbeat {
    /// The writer went round its loop.
    pub fn writer(&self) {
        self.writer_rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it did.
    pub fn writer_rounds(&self) -> u64 {
        self.writer_rounds.load(Ordering::Relaxed)
    }

    /// The retention rules were executed from end to end.
    pub fn plan(&self) {
        self.plans.fetch_add(1, Ordering::Relaxed);
    }

    /// How often they were.
    pub fn plans(&self) -> u64 {
        self.plans.load(Ordering::Relaxed)
    }
}
