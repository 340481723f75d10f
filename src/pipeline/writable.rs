//! Whether the store has room for events, as the writer and the `retention` thread last found it.
//!
//! It refuses nothing: the store decides that for each event. This is what `/readyz`, the metrics and the log show.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::metrics::gauge::Gauge;

use super::clock::Clock;
use crate::metrics::Metrics;

/// The least time between two lines of the log about a full store, in microseconds.
const LOG_INTERVAL_US: u64 = 1_000_000;

/// See the module.
pub struct Writable {
    clock: Clock,
    gauge: Gauge,
    is_writable: AtomicBool,
    is_made: AtomicBool,
    /// What the log said last.
    logged: AtomicBool,
    /// When it did; 0 for never.
    logged_us: AtomicU64,
}

impl Writable {
    /// There is room.
    #[must_use]
    pub fn new(metrics: &Metrics, clock: Clock) -> Self {
        metrics.storage_writable.set(1);
        let [is_writable, is_made, logged] = [true, false, true].map(AtomicBool::new);
        let gauge = metrics.storage_writable.clone();
        Self { clock, gauge, is_writable, is_made, logged, logged_us: AtomicU64::new(0) }
    }

    /// Whether there was room for events.
    #[must_use]
    pub fn get(&self) -> bool {
        self.is_writable.load(Ordering::Relaxed)
    }

    /// Whether rules are in force that can make room, as far as is known.
    #[must_use]
    pub fn is_room_made(&self) -> bool {
        self.is_made.load(Ordering::Relaxed)
    }

    /// Notes whether they can.
    pub fn set_room_made(&self, is_made: bool) {
        self.is_made.store(is_made, Ordering::Relaxed);
    }

    /// Notes whether there is room, and logs when that changes.
    pub fn set(&self, writable: bool) {
        if self.is_writable.swap(writable, Ordering::Relaxed) != writable {
            self.gauge.set(writable.into());
        }
        // At a limit under a storm it may change many times a second; the retention thread sets it again and again, so
        // a change that is not logged now is logged later.
        let (now, logged_us) = (self.clock.now_us(), self.logged_us.load(Ordering::Relaxed));
        let is_logged = self.logged.load(Ordering::Relaxed) == writable;
        if is_logged
            || (logged_us > 0 && now < logged_us + LOG_INTERVAL_US)
            || self.logged.swap(writable, Ordering::Relaxed) == writable
        {
            return;
        }
        self.logged_us.store(now, Ordering::Relaxed);
        if writable {
            tracing::info!("storage has room again; events are accepted");
        } else {
            tracing::error!("storage is full; events are refused until there is room");
        }
    }
}
