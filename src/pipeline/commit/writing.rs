//! What the writer is given, and what follows from a commit that succeeded or failed.
//!
//! It writes nothing but a probe.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::metrics::{Metrics, StoreOperation};
use crate::pipeline::clock::Clock;
use crate::pipeline::commit::uncommitted::Uncommitted;
use crate::pipeline::health::Health;
use crate::pipeline::heartbeat::Heartbeat;
use crate::pipeline::ingest::gate::Gate;
use crate::pipeline::writable::Writable;
use crate::policy::Settings;
use crate::retention::Horizons;
use crate::store::{Store, StoreError, Writer};

/// What committing events takes. Queries `Q` wait for commits.
pub struct Writing<Q> {
    /// The store, for checks outside transactions.
    pub store: Store,
    /// How long batches share a commit; zero commits each before it is answered.
    pub commit_interval: Duration,
    /// From where on the retention rules keep events; stored with each eviction.
    pub horizons: Arc<Horizons>,
    /// What is acknowledged and not yet committed.
    pub uncommitted: Arc<Uncommitted<Q>>,
    /// Puts a query that waited for a commit back into Q4. Never blocks.
    pub resume: Box<dyn Fn(Q) + Send>,
    /// Whether nobody waits for the answer to such a query any more.
    pub is_over: fn(&Q) -> bool,
    /// The settings in force.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The gate, which events leave here.
    pub gate: Arc<Gate>,
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

impl<Q> Writing<Q> {
    /// Notes that a commit succeeded.
    pub fn committed(&self) {
        self.health.committed();
        self.writable.committed(true);
    }

    /// Notes that a commit failed. Want of room is told as such.
    pub fn commit_failed(&self, error: &StoreError) {
        if matches!(error, StoreError::Full) {
            self.writable.committed(false);
        }
        self.health.failed(StoreOperation::Commit, error);
    }

    /// Lets the queries go on that wait for a commit, if one has stored what was acknowledged: the last one of this
    /// process, or one of another, which also began with what the log held. Otherwise all of that stays listed, and
    /// they wait on.
    pub fn settle(&self) {
        if self.uncommitted.is_empty() {
            return;
        }
        let is_stored = match self.store.read().and_then(|snapshot| snapshot.last_seq()) {
            Ok(stored) => stored >= self.uncommitted.last(),
            Err(error) => {
                self.health.failed(StoreOperation::Read, &error);
                false
            }
        };
        let queries = if is_stored { self.uncommitted.clear() } else { self.uncommitted.keep(self.is_over) };
        queries.into_iter().for_each(&self.resume);
    }

    /// Checks whether commits are possible even when no event arrives: after one that failed, and when files of the
    /// store were removed.
    pub fn look_after(&self, writer: &mut Writer) {
        // What is still listed between two groups was left by a commit that failed.
        let is_failing = self.health.is_failing() || !self.writable.fits() || !self.uncommitted.is_empty();
        let found = if is_failing { writer.probe() } else { self.store.check_files() };
        match found {
            Ok(()) => self.committed(),
            Err(error) => self.commit_failed(&error),
        }
        if let Err(error) = self.store.forget_dead_copy() {
            tracing::error!(%error, "what a killed compaction left could not be removed");
        }
    }
}
