//! The clocks: the time of day, which events are compared with, and one that never goes back, which rates and fair
//! queues go by.
//!
//! Code below the pipeline is told the time; it never asks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::nostr::Timestamp;

/// Tells the time of day in seconds, and microseconds since the start of the pipeline. Copies agree with each other.
#[derive(Clone, Copy)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock whose microseconds count from now.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        now()
    }

    /// Microseconds since the clock was started; they never go back.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.us_at(Instant::now())
    }

    /// Microseconds from the clock's start to `at`; 0 if that was before.
    #[must_use]
    pub fn us_at(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_micros() as u64
    }
}

/// The time of day, from the system's clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is broken; nothing is expired then.
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

/// CPU time that this thread has taken so far.
#[must_use]
pub fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
