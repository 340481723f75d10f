//! Every metric weir has, declared once: name, help and type. `docs/metrics.md` is the same table for readers.
//!
//! Labels are enums, so their number is bounded whatever clients send. Nothing here is global: the registry is
//! made in `cli` and handed down.

use std::fmt::Write as _;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

mod labels;
#[cfg(test)]
mod tests;

pub use labels::*;

/// The metrics, and the registry that renders them.
pub struct Metrics {
    registry: Registry,
    /// Messages received, by verb.
    pub messages: Family<VerbLabel, Counter>,
    /// Events received, by what became of them.
    pub events: Family<OutcomeLabel, Counter>,
    /// Events, queries and subscriptions refused on the spot, by the prefix of the answer.
    pub refusals: Family<RefusalLabel, Counter>,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Connections ended, by reason.
    pub connections_closed: Family<CloseLabel, Counter>,
    /// Connections turned away before the upgrade, by reason.
    pub connections_turned_away: Family<TurnedAwayLabel, Counter>,
    /// Connections open now.
    pub connections: Gauge,
    /// Sockets whose request is not answered yet.
    pub half_open: Gauge,
    /// Connections that are read no further until their debt is paid.
    pub connections_held: Gauge,
    /// Seconds for which connections were.
    pub held_seconds: Counter<f64, AtomicU64>,
    /// Subscriptions that receive live events now.
    pub subscriptions: Gauge,
    /// Values in the filters of those subscriptions.
    pub filter_items: Gauge,
    /// Bytes of messages of which only a part has come.
    pub partial_message_bytes: Gauge,
    /// Bytes of filters of subscriptions and of queries that wait.
    pub filter_bytes: Gauge,
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
    /// Lines of the log that could not be written.
    pub log_lines_lost: Counter,
    /// Fast-engine verdicts that libsecp256k1 contradicted. Above zero is an alarm.
    pub verify_mismatches: Gauge,
    /// Entries waiting in each queue.
    pub queue_len: Family<QueueLabel, Gauge>,
    /// The most entries that each queue takes.
    pub queue_bound: Family<QueueLabel, Gauge>,
    /// Bytes waiting in all outboxes.
    pub outbox_bytes: Gauge,
    /// Bytes of events between the socket and the disk.
    pub ingest_bytes: Gauge,
    /// From reading an EVENT to queueing its OK.
    pub event_ok_seconds: Histogram,
    /// From reading a REQ to queueing its EOSE.
    pub req_eose_seconds: Histogram,
    /// Making a batch durable in the write-ahead log.
    pub log_seconds: Histogram,
    /// Commit with its fsync.
    pub commit_seconds: Histogram,
    /// Events per commit.
    pub commit_events: Histogram,
    /// Signatures per verification batch.
    pub verify_batch: Histogram,
    /// From the moment events are durable to queueing them for their subscribers.
    pub fanout_seconds: Histogram,
    /// Whether writes are accepted (1) or the storage is full (0).
    pub storage_writable: Gauge,
    /// Failures of the store, by what it was to do.
    pub store_failures: Family<StoreLabel, Counter>,
    /// Whether the last commit succeeded (1) or failed for another reason than want of room (0).
    pub store_committing: Gauge,
    /// Bytes of the database by table.
    pub store_bytes: Family<TableLabel, Gauge>,
    /// Entries of the database by table.
    pub store_entries: Family<TableLabel, Gauge>,
    /// Bytes of the data file that are in use.
    pub store_used_bytes: Gauge,
    /// Bytes that the data file has.
    pub store_file_bytes: Gauge,
    /// Bytes of the data file that are free for reuse.
    pub store_free_bytes: Gauge,
    /// The most bytes the data file may take.
    pub store_map_bytes: Gauge,
    /// Once this many bytes are in use, only deletions and requests to vanish are stored.
    pub store_full_bytes: Gauge,
    /// Reader slots of the store that were taken at the same time at some point, by all processes.
    pub store_reader_slots: Gauge,
    /// Reader slots freed of processes that had died.
    pub stale_readers: Counter,
    /// Bytes free on the file system.
    pub disk_free_bytes: Gauge,
    /// Events that the retention rules removed, by rule and cause.
    pub evicted_events: Family<EvictionLabel, Counter>,
    /// Bytes of their records.
    pub evicted_bytes: Family<EvictionLabel, Counter>,
    /// Events that the rules would remove, and that wait for the operator.
    pub retention_waiting: Gauge,
    /// How long one step of making room holds the writer.
    pub eviction_seconds: Histogram,
    /// Memory of the process that is in RAM, the cached part of the data file included.
    pub resident_bytes: Gauge,
    /// Of that, what is not a file.
    pub private_bytes: Gauge,
    /// CPU time of the process, user and system.
    pub cpu_seconds: Counter<f64, AtomicU64>,
    /// Unix time at which the process began.
    pub start_time_seconds: Gauge,
}

impl Metrics {
    /// Declares every metric.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: a line for each metric")]
    pub fn new() -> Self {
        let mut r = Registry::with_prefix("weir");
        r.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let metrics = Self {
            messages: add(&mut r, "messages", "Messages received"),
            events: add(&mut r, "events", "Events received, by what became of them"),
            refusals: add(&mut r, "refusals", "OK false and CLOSED answers on arrival, by their prefix"),
            connections_opened: add(&mut r, "connections_opened", "Connections opened"),
            connections_closed: add(&mut r, "connections_closed", "Connections ended, by reason"),
            connections_turned_away: add(
                &mut r,
                "connections_turned_away",
                "Connections refused before the upgrade, by reason",
            ),
            connections: add(&mut r, "connections", "Connections open now"),
            half_open: add(&mut r, "half_open", "Sockets whose HTTP request is not answered yet"),
            connections_held: add(&mut r, "connections_held", "Connections not read until they have paid their debt"),
            held_seconds: add(&mut r, "connections_held_seconds", "Time for which connections were held"),
            subscriptions: add(&mut r, "subscriptions", "Live subscriptions now"),
            filter_items: add(&mut r, "filter_items", "Values in the filters of live subscriptions"),
            partial_message_bytes: add(&mut r, "partial_message_bytes", "Bytes of messages that are not complete"),
            filter_bytes: add(&mut r, "filter_bytes", "Bytes of filters that subscriptions and queries hold"),
            negentropy_sessions: add(&mut r, "negentropy_sessions", "Negentropy sessions now"),
            negentropy_records: add(&mut r, "negentropy_records", "Events held by negentropy sessions"),
            rows_sent: add(&mut r, "rows_sent", "Stored events sent"),
            deliveries: add(&mut r, "deliveries", "Live events sent"),
            bytes_received: add(&mut r, "received_bytes", "Bytes read from WebSockets"),
            bytes_sent: add(&mut r, "sent_bytes", "Bytes written to WebSockets"),
            reloads: add(&mut r, "config_reloads", "Reloads of the configuration"),
            log_lines_lost: add(&mut r, "log_lines_lost", "Lines of the log that could not be written"),
            verify_mismatches: add(&mut r, "verify_mismatches", "Fast verdicts that libsecp256k1 contradicted"),
            queue_len: add(&mut r, "queue_entries", "Entries waiting in a queue"),
            queue_bound: add(&mut r, "queue_bound", "The most entries that a queue takes"),
            outbox_bytes: add(&mut r, "outbox_bytes", "Bytes waiting in all outboxes"),
            ingest_bytes: add(&mut r, "ingest_bytes", "Bytes of events between the socket and the disk"),
            event_ok_seconds: histogram(&mut r, "event_ok_seconds", "From reading an EVENT to its OK", 50e-6),
            req_eose_seconds: histogram(&mut r, "req_eose_seconds", "From reading a REQ to its EOSE", 20e-6),
            log_seconds: histogram(&mut r, "log_seconds", "Making a batch durable in the write-ahead log", 20e-6),
            commit_seconds: histogram(&mut r, "commit_seconds", "Commit with its fsync", 50e-6),
            commit_events: histogram(&mut r, "commit_events", "Events per commit", 1.0),
            verify_batch: histogram(&mut r, "verify_batch", "Signatures per verification batch", 1.0),
            fanout_seconds: histogram(&mut r, "fanout_seconds", "From durable to queued for every subscriber", 10e-6),
            storage_writable: add(&mut r, "storage_writable", "1 while writes are accepted, 0 when storage is full"),
            store_failures: add(&mut r, "store_failures", "Failures of the store, by what it was to do"),
            store_committing: add(&mut r, "store_committing", "1 while commits succeed, 0 from a failed one on"),
            store_bytes: add(&mut r, "store_bytes", "Bytes of the database by table"),
            store_entries: add(&mut r, "store_entries", "Entries of the database by table"),
            store_used_bytes: add(&mut r, "store_used_bytes", "Bytes of the data file in use"),
            store_file_bytes: add(&mut r, "store_file_bytes", "Bytes of the data file"),
            store_free_bytes: add(&mut r, "store_free_bytes", "Bytes of the data file free for reuse"),
            store_map_bytes: add(&mut r, "store_map_bytes", "The most bytes the data file may take"),
            store_full_bytes: add(&mut r, "store_full_bytes", "Bytes in use at which only deletions are still stored"),
            store_reader_slots: add(&mut r, "store_reader_slots", "Reader slots that were in use at the same time"),
            stale_readers: add(&mut r, "store_stale_readers", "Reader slots freed of processes that had died"),
            disk_free_bytes: add(&mut r, "disk_free_bytes", "Bytes free on the file system"),
            evicted_events: add(&mut r, "evicted_events", "Events that the retention rules removed"),
            retention_waiting: add(&mut r, "retention_waiting_events", "Events to remove once the operator accepts it"),
            eviction_seconds: histogram(
                &mut r,
                "eviction_seconds",
                "One step of removals while no events wait, without its commit",
                50e-6,
            ),
            evicted_bytes: add(&mut r, "evicted_bytes", "Bytes of the records that the retention rules removed"),
            resident_bytes: add(
                &mut r,
                "process_resident_bytes",
                "Memory in RAM, cached parts of the data file included",
            ),
            private_bytes: add(&mut r, "process_private_bytes", "Memory in RAM that is not a file"),
            cpu_seconds: add(&mut r, "process_cpu_seconds", "CPU time, user and system"),
            start_time_seconds: add(&mut r, "process_start_time_seconds", "Unix time at which the process began"),
            registry: r,
        };
        metrics.begin();
        metrics
    }

    /// Shows every counter of a closed set at zero: a rate over the first event that it counts is then not lost.
    fn begin(&self) {
        for &verb in Verb::ALL {
            self.messages.get_or_create(&VerbLabel { verb }).inc_by(0);
        }
        for &outcome in EventOutcome::ALL {
            self.events.get_or_create(&OutcomeLabel { outcome }).inc_by(0);
        }
        for &cause in EvictionCause::ALL {
            let label = EvictionLabel { rule: 1, cause };
            self.evicted_events.get_or_create(&label).inc_by(0);
            self.evicted_bytes.get_or_create(&label).inc_by(0);
        }
        for &reason in CloseReason::ALL {
            self.connections_closed.get_or_create(&CloseLabel { reason }).inc_by(0);
        }
        for &reason in TurnedAway::ALL {
            self.connections_turned_away.get_or_create(&TurnedAwayLabel { reason }).inc_by(0);
        }
        for &operation in StoreOperation::ALL {
            self.store_failures.get_or_create(&StoreLabel { operation }).inc_by(0);
        }
        for &result in Reload::ALL {
            self.reloads.get_or_create(&ReloadLabel { result }).inc_by(0);
        }
    }

    /// Counts one event by what became of it.
    pub fn event(&self, outcome: EventOutcome, count: u64) {
        self.events.get_or_create(&OutcomeLabel { outcome }).inc_by(count);
    }

    /// Counts one refusal by the word that the client got.
    pub fn refusal(&self, prefix: &'static str) {
        self.refusals.get_or_create(&RefusalLabel { prefix }).inc();
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
