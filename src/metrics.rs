//! Every metric weir has, declared once: name, help and type. `docs/metrics.md` is the same table for readers.
//!
//! Labels are enums, so their number is bounded whatever clients send. Nothing here is global: the registry is
//! made in `cli` and handed down.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What a client said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
#[expect(missing_docs, reason = "the variants are the messages of NIP-01, 42, 45 and 77")]
pub enum Verb {
    Event,
    Req,
    Close,
    Count,
    Auth,
    NegOpen,
    NegMsg,
    NegClose,
    Malformed,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub enum EventOutcome {
    /// Committed.
    Stored,
    /// Already held.
    Duplicate,
    /// A newer version is held.
    Replaced,
    /// Its author deleted it before.
    Deleted,
    /// Its author vanished.
    Vanished,
    /// Past its expiration.
    Expired,
    /// Delivered, not stored.
    Ephemeral,
    /// Ephemeral, and nobody listened.
    Muted,
    /// The id, signature or form is wrong.
    Invalid,
    /// Policy said no.
    Refused,
    /// The store could not take it.
    Failed,
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub enum CloseReason {
    /// The client closed it.
    Client,
    /// The socket failed or ended.
    Lost,
    /// The client broke RFC 6455.
    Protocol,
    /// Live events piled up.
    SlowConsumer,
    /// No answer to pings.
    Idle,
    /// The relay is stopping.
    Shutdown,
    /// A defect of ours ended it.
    Panic,
}

/// Why a connection was turned away before the upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub enum TurnedAway {
    /// The relay is full (503).
    Full,
    /// The address has too many (429).
    Address,
    /// The address is denied (403).
    Denied,
}

/// How a reload ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub enum Reload {
    /// New settings are in force.
    Applied,
    /// The file was bad; the old settings stay.
    Failed,
}

macro_rules! label {
    ($($name:ident { $field:ident: $value:ty }),* $(,)?) => {$(
        /// A label set of one label.
        #[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
        pub struct $name {
            /// The label.
            pub $field: $value,
        }
    )*};
}

label!(
    VerbLabel { verb: Verb },
    OutcomeLabel { outcome: EventOutcome },
    CloseLabel { reason: CloseReason },
    TurnedAwayLabel { reason: TurnedAway },
    ReloadLabel { result: Reload },
    QueueLabel { queue: &'static str },
    TableLabel { table: String },
);

/// The metrics, and the registry that renders them.
pub struct Metrics {
    registry: Registry,
    /// Messages received, by verb.
    pub messages: Family<VerbLabel, Counter>,
    /// Events received, by what became of them.
    pub events: Family<OutcomeLabel, Counter>,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Connections ended, by reason.
    pub connections_closed: Family<CloseLabel, Counter>,
    /// Connections turned away before the upgrade, by reason.
    pub connections_turned_away: Family<TurnedAwayLabel, Counter>,
    /// Connections open now.
    pub connections: Gauge,
    /// Subscriptions that receive live events now.
    pub subscriptions: Gauge,
    /// Values in the filters of those subscriptions.
    pub filter_items: Gauge,
    /// Negentropy sessions now.
    pub negentropy_sessions: Gauge,
    /// Events held by those sessions.
    pub negentropy_records: Gauge,
    /// Stored events sent.
    pub rows_sent: Counter,
    /// Live events sent.
    pub deliveries: Counter,
    /// Bytes read from WebSockets.
    pub bytes_received: Counter,
    /// Bytes written to WebSockets.
    pub bytes_sent: Counter,
    /// Reloads of the configuration.
    pub reloads: Family<ReloadLabel, Counter>,
    /// Fast-engine verdicts that libsecp256k1 contradicted. Above zero is an alarm.
    pub verify_mismatches: Gauge,
    /// Entries waiting in each queue.
    pub queue_len: Family<QueueLabel, Gauge>,
    /// Bytes waiting in all outboxes.
    pub outbox_bytes: Gauge,
    /// Bytes of events between the socket and the disk.
    pub ingest_bytes: Gauge,
    /// From reading an EVENT to queueing its OK.
    pub event_ok_seconds: Histogram,
    /// From reading a REQ to queueing its EOSE.
    pub req_eose_seconds: Histogram,
    /// Write transaction with its fsync.
    pub commit_seconds: Histogram,
    /// Events per commit.
    pub commit_events: Histogram,
    /// Signatures per verification batch.
    pub verify_batch: Histogram,
    /// From commit to queueing the live events.
    pub fanout_seconds: Histogram,
    /// Whether writes are accepted (1) or the storage is full (0).
    pub storage_writable: Gauge,
    /// Bytes of the database by table.
    pub store_bytes: Family<TableLabel, Gauge>,
    /// Entries of the database by table.
    pub store_entries: Family<TableLabel, Gauge>,
    /// Bytes of the data file that are in use.
    pub store_used_bytes: Gauge,
    /// Bytes of the data file that are free for reuse.
    pub store_free_bytes: Gauge,
    /// The most bytes the data file may take.
    pub store_map_bytes: Gauge,
    /// Bytes free on the file system.
    pub disk_free_bytes: Gauge,
    /// Events that the retention rules removed.
    pub evicted_events: Counter,
    /// Bytes of their records.
    pub evicted_bytes: Counter,
}

impl Metrics {
    /// Declares every metric.
    #[must_use]
    pub fn new() -> Self {
        let mut r = Registry::with_prefix("weir");
        Self {
            messages: add(&mut r, "messages", "Messages received"),
            events: add(&mut r, "events", "Events received, by what became of them"),
            connections_opened: add(&mut r, "connections_opened", "Connections opened"),
            connections_closed: add(&mut r, "connections_closed", "Connections ended, by reason"),
            connections_turned_away: add(&mut r, "connections_turned_away", "Connections refused before the upgrade"),
            connections: add(&mut r, "connections", "Connections open now"),
            subscriptions: add(&mut r, "subscriptions", "Live subscriptions now"),
            filter_items: add(&mut r, "filter_items", "Values in the filters of live subscriptions"),
            negentropy_sessions: add(&mut r, "negentropy_sessions", "Negentropy sessions now"),
            negentropy_records: add(&mut r, "negentropy_records", "Events held by negentropy sessions"),
            rows_sent: add(&mut r, "rows_sent", "Stored events sent"),
            deliveries: add(&mut r, "deliveries", "Live events sent"),
            bytes_received: add(&mut r, "received_bytes", "Bytes read from WebSockets"),
            bytes_sent: add(&mut r, "sent_bytes", "Bytes written to WebSockets"),
            reloads: add(&mut r, "config_reloads", "Reloads of the configuration"),
            verify_mismatches: add(&mut r, "verify_mismatches", "Fast verdicts that libsecp256k1 contradicted"),
            queue_len: add(&mut r, "queue_entries", "Entries waiting in a queue"),
            outbox_bytes: add(&mut r, "outbox_bytes", "Bytes waiting in all outboxes"),
            ingest_bytes: add(&mut r, "ingest_bytes", "Bytes of events between the socket and the disk"),
            event_ok_seconds: histogram(&mut r, "event_ok_seconds", "From reading an EVENT to its OK", 50e-6),
            req_eose_seconds: histogram(&mut r, "req_eose_seconds", "From reading a REQ to its EOSE", 20e-6),
            commit_seconds: histogram(&mut r, "commit_seconds", "Write transaction with its fsync", 50e-6),
            commit_events: histogram(&mut r, "commit_events", "Events per commit", 1.0),
            verify_batch: histogram(&mut r, "verify_batch", "Signatures per verification batch", 1.0),
            fanout_seconds: histogram(&mut r, "fanout_seconds", "From commit to queueing the live events", 10e-6),
            storage_writable: add(&mut r, "storage_writable", "1 while writes are accepted, 0 when storage is full"),
            store_bytes: add(&mut r, "store_bytes", "Bytes of the database by table"),
            store_entries: add(&mut r, "store_entries", "Entries of the database by table"),
            store_used_bytes: add(&mut r, "store_used_bytes", "Bytes of the data file in use"),
            store_free_bytes: add(&mut r, "store_free_bytes", "Bytes of the data file free for reuse"),
            store_map_bytes: add(&mut r, "store_map_bytes", "The most bytes the data file may take"),
            disk_free_bytes: add(&mut r, "disk_free_bytes", "Bytes free on the file system"),
            evicted_events: add(&mut r, "evicted_events", "Events that the retention rules removed"),
            evicted_bytes: add(&mut r, "evicted_bytes", "Bytes of the records that the retention rules removed"),
            registry: r,
        }
    }

    /// Counts one event by what became of it.
    pub fn event(&self, outcome: EventOutcome, count: u64) {
        self.events.get_or_create(&OutcomeLabel { outcome }).inc_by(count);
    }

    /// Counts one message.
    pub fn message(&self, verb: Verb) {
        self.messages.get_or_create(&VerbLabel { verb }).inc();
    }

    /// The text exposition (OpenMetrics 1.0).
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &self.registry) {
            // Writing to a String cannot fail; if an encoder does, say so where the operator looks.
            let _ = write!(out, "# encoding failed: {error}");
        }
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn add<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Default + Clone,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Eighteen buckets from `first`, each twice as large: 50 µs to 6.5 s, 1 to 131,072.
fn histogram(registry: &mut Registry, name: &str, help: &str, first: f64) -> Histogram {
    let metric = Histogram::new(exponential_buckets(first, 2.0, 18));
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_events_are_rendered_with_their_outcome() {
        let metrics = Metrics::new();
        metrics.event(EventOutcome::Stored, 2);
        metrics.message(Verb::NegOpen);
        let text = metrics.render();
        assert!(text.contains("weir_events_total{outcome=\"Stored\"} 2\n"), "{text}");
        assert!(text.contains("weir_messages_total{verb=\"NegOpen\"} 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
