//! What executing the retention rules takes.
//!
//! It removes nothing: that is asked of the writer.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::metrics::Metrics;
use crate::pipeline::clock::Clock;
use crate::pipeline::health::Health;
use crate::pipeline::heartbeat::Heartbeat;
use crate::pipeline::writable::Writable;
use crate::policy::{Retention, Settings};
use crate::retention::Horizons;
use crate::store::Store;

/// What the `retention` thread may use of the pipeline; it gets it by value.
pub struct Evicting {
    /// The store, which is only read here.
    pub store: Store,
    /// The settings in force, among them the rules.
    pub settings: Arc<ArcSwap<Settings>>,
    /// From where on the rules keep events.
    pub horizons: Arc<Horizons>,
    /// Whether the store has room.
    pub writable: Arc<Writable>,
    /// Signs of life.
    pub heartbeat: Arc<Heartbeat>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where failures are noted.
    pub health: Arc<Health>,
    /// The clocks.
    pub clock: Clock,
}

impl Evicting {
    /// Puts these rules into the settings of this reload. Returns false after another one.
    pub fn put_rules(&self, reload: u64, rules: &Retention) -> bool {
        let mut current = self.settings.load_full();
        while current.reload == reload && current.retention != *rules {
            let new = Arc::new(Settings { retention: rules.clone(), ..Settings::clone(&current) });
            let before = self.settings.compare_and_swap(&current, new);
            if Arc::ptr_eq(&before, &current) {
                return true;
            }
            current = Guard::into_inner(before);
        }
        current.reload == reload
    }
}
