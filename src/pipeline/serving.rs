//! What serves clients has of a running pipeline: the settings, the ways in, and what is looked at on an io thread.
//!
//! No thread of the pipeline uses this.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::client::ClientRegistry;
use super::clock::Clock;
use super::deliver::outward::Outward;
use super::evict::removals::Removals;
use super::health::Health;
use super::heartbeat::Heartbeat;
use super::ingest::gate::Gate;
use super::ingest::nodes::NodeEvents;
use super::ingest::own_events::OwnEvents;
use super::ingest::plugin::sender;
use super::query::job::Reading;
use super::queues::{Bounds, Depths};
use super::writable::Writable;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, Queue};
use crate::policy::{Access, Moderation, Newcomers, Offenders, Settings};
use crate::retention::Horizons;
use crate::schnorr::Verifier;
use crate::store::Store;

/// What the server may use of the running pipeline. Clones share everything.
#[derive(Clone)]
pub struct Serving {
    /// The reloadable settings; a message is handled under one load of them (INV-13).
    pub settings: Arc<ArcSwap<Settings>>,
    /// Keys that are new here.
    pub newcomers: Arc<Newcomers>,
    /// Who is refused over and over.
    pub offenders: Arc<Offenders>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The clocks.
    pub clock: Clock,
    /// Who is connected.
    pub registry: Arc<ClientRegistry>,
    /// What clients make the relay hold.
    pub memory: Arc<Ledger>,
    /// The store, where published events are looked up.
    pub store: Store,
    /// From where on the retention rules keep events.
    pub horizons: Arc<Horizons>,
    /// Whether the store works.
    pub health: Arc<Health>,
    /// Signs of life of the threads.
    pub heartbeat: Arc<Heartbeat>,
    /// Whether the store has room for events.
    pub writable: Arc<Writable>,
    /// The gate that every event passes before [`Intake`](super::Intake).
    pub gate: Arc<Gate>,
    /// What the plugin has not judged yet.
    pub plugin: Arc<sender::Shared>,
    /// The way to have events removed.
    pub removals: Removals,
    /// The way of the relay's own events.
    pub own_events: OwnEvents,
    /// The way of events from other nodes of the cluster.
    pub node_events: NodeEvents,
    /// What other nodes of the cluster are to get.
    pub outward: Arc<Outward>,
    /// Changes with the settings that say who is welcome.
    pub welcome: Arc<watch::Sender<()>>,
    /// The signature engines, for AUTH and for management.
    pub verifier: Arc<Verifier>,
    /// What reads stored events for clients, and the live index.
    pub reading: Arc<Reading>,
    /// Bounds of the queues.
    pub bounds: Bounds,
    pub(super) depths: Depths,
}

impl Serving {
    /// Entries that wait in each queue, and the most that it takes.
    #[must_use]
    pub fn queues(&self) -> [(Queue, usize, usize); 6] {
        let (depths, bounds) = (&self.depths, &self.bounds);
        [
            (Queue::Ingest, self.gate.events(), bounds.ingest_events),
            (Queue::Verify, depths.verify.len(), bounds.ingest_events),
            (Queue::Write, depths.write.len(), bounds.write_batches),
            (Queue::Live, depths.live.len(), bounds.live_batches),
            (Queue::Scans, self.reading.scans.len(), bounds.scans),
            (Queue::Plugin, self.plugin.events(), bounds.ingest_events),
        ]
    }

    /// Puts other settings in force, after a reload. The decisions of admins stay as they are.
    pub fn apply(&self, settings: &Settings) {
        self.settings.rcu(|former| {
            // The web stays until there is another one; where there is to be none, nobody is held to it.
            let has_web = !settings.policy.trust.roots.is_empty();
            let trusted = former.trusted.clone().filter(|_| has_web);
            let moderation = Arc::clone(&former.moderation);
            Settings { reload: former.reload + 1, moderation, trusted, ..settings.clone() }
        });
        // Its processes are started again, even if no event comes.
        self.plugin.wake();
        self.welcome.send_replace(());
    }

    /// Puts other decisions of admins in force and leaves all else as it is.
    pub fn apply_moderation(&self, moderation: &Arc<Moderation>) {
        self.settings.rcu(|settings| Settings { moderation: Arc::clone(moderation), ..Settings::clone(settings) });
        self.welcome.send_replace(());
    }

    /// Puts other lists in force and leaves all else as it is.
    pub fn apply_access(&self, access: &Access) {
        self.settings.rcu(|settings| Settings { access: access.clone(), ..Settings::clone(settings) });
        self.welcome.send_replace(());
    }
}
