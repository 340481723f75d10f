//! What the tasks of a session share.
//!
//! It does nothing by itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::Context;
use async_nats::{HeaderMap, HeaderName};

use tokio::sync::Notify;

use super::known_acts::Acts;
use super::message::Poison;
use super::names::{NODE, Names};
use super::options::Options;
use super::state::State;
use super::watermark::Watermark;
use crate::metrics::{NodeReceived, NodeReceivedLabel, NodeSent, NodeSentLabel};
use crate::nostr::Pubkey;
use crate::pipeline::Serving;
use crate::replication::recent::Recent;
use crate::schnorr::Verifier;
use crate::server::LogLimit;

/// What lives as long as the relay.
pub struct Node {
    /// What the operator chose.
    pub options: Options,
    /// The names of the cluster.
    pub names: Names,
    /// The running relay.
    pub serving: Serving,
    /// The signature engines.
    pub verifier: Verifier,
    /// The authors that are taken; none means all.
    pub authors: Vec<Pubkey>,
    /// The decisions of admins.
    pub acts: Mutex<Acts>,
    /// The file of the state.
    pub file: PathBuf,
    /// How far this node has come.
    pub state: Mutex<State>,
    /// What has come from other nodes and is not to be published again.
    pub recent: Recent,
    /// What was fetched from other nodes and is not to be fetched again.
    pub refused: Recent,
    /// Whether a comparison with another node is due.
    pub is_to_compare: AtomicBool,
    /// Tells that it is due now.
    pub compare_now: Notify,
    /// When it last compared, in Unix seconds.
    pub compared_at: AtomicU64,
    /// Other nodes that were seen since this one started.
    pub others: Mutex<BTreeSet<String>>,
    /// Limits the lines about messages that are passed over.
    pub poison: LogLimit,
    /// Held while the state is written to disk.
    pub saving: Mutex<()>,
}

/// What lives as long as a connection.
pub struct Shared {
    /// The node.
    pub node: Arc<Node>,
    /// The client of NATS.
    pub client: async_nats::Client,
    /// The same, for JetStream.
    pub context: Context,
    /// What the other nodes have taken.
    pub settled: Mutex<Watermark>,
}

impl Shared {
    /// Bytes of the longest message that NATS takes.
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }
}

impl Node {
    /// How far this node has come.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decisions of admins. For threads that may wait for the disk.
    pub fn acts(&self) -> MutexGuard<'_, Acts> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was to be sent.
    pub fn sent(&self, result: NodeSent, count: u64) {
        self.serving.metrics.cluster_sent.get_or_create(&NodeSentLabel { result }).inc_by(count);
    }

    /// Counts what came.
    pub fn received(&self, outcome: NodeReceived, count: u64) {
        self.serving.metrics.cluster_received.get_or_create(&NodeReceivedLabel { outcome }).inc_by(count);
    }

    /// Counts a message that is none of ours, and tells of one a minute, with how many there were.
    pub fn poisoned(&self, subject: &str, from: &str, poison: &Poison) {
        self.received(NodeReceived::Poison, 1);
        if let Some(count) = self.poison.admit(self.serving.clock.now_us()) {
            let [subject, from]: [String; 2] = [subject, from].map(|text| text.chars().take(128).collect());
            tracing::warn!(subject, from, count, "a message of the cluster is passed over: {poison}");
        }
    }

    /// The headers of a message of this node.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(NODE), self.options.node.as_str());
        headers
    }

    /// The longest message with an event that this relay takes: a record is twice as long in JSON, unless most of it
    /// needs escapes.
    pub fn max_event_bytes(&self) -> usize {
        2 * self.serving.settings.load().tiers.largest_event_bytes() + 4096
    }

    /// Whether this node takes events of this kind and author.
    pub fn wants(&self, event: crate::nostr::EventView<'_>) -> bool {
        let kinds = &self.options.kinds;
        (kinds.is_empty() || kinds.contains(&event.kind().0))
            && (self.authors.is_empty() || self.authors.contains(&event.pubkey()))
    }
}

/// Which node published a message, as it says itself.
pub fn publisher(headers: Option<&HeaderMap>) -> &str {
    headers.and_then(|headers| headers.get(NODE)).map_or("", |value| value.as_str())
}
