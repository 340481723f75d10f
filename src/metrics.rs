//! Declares every metric once, with name, help and type. `docs/metrics.md` documents them for operators.
//!
//! Labels are enums, so their number is bounded whatever clients send. Nothing here is global: `cli` creates the
//! registry and passes it down.

use std::fmt::Write as _;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

mod exposition;
mod labels;
mod strfry;
#[cfg(test)]
mod tests;

pub use exposition::{Buckets, Exposition};
pub use labels::*;
pub use strfry::StoredKinds;

/// The metrics, and the registry that renders them.
pub struct Metrics {
    registry: Registry,
    /// Stored events by kind, only under strfry's names.
    pub stored_kinds: StoredKinds,
    /// Messages received, in the order of [`Verb::ALL`]: no hash and no lock for each message.
    messages: Vec<Counter>,
    /// Events received, by outcome.
    pub events: Family<OutcomeLabel, Counter>,
    /// Events, queries and subscriptions that were refused, by the prefix of the answer.
    pub refusals: Family<RefusalLabel, Counter>,
    /// Events that were refused, by the rule that they break.
    pub refused_events: Family<PolicyRuleLabel, Counter>,
    /// Keys in the web of trust.
    pub trusted_keys: Gauge,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Connections closed, by reason.
    pub connections_closed: Family<CloseLabel, Counter>,
    /// Connections refused before the upgrade, by reason.
    pub connections_turned_away: Family<TurnedAwayLabel, Counter>,
    /// Open connections.
    pub connections: Gauge,
    /// Sockets whose HTTP request has not been answered yet.
    pub half_open: Gauge,
    /// Connections that are not being read because of their debt.
    pub connections_held: Gauge,
    /// Seconds that connections spent in that state.
    pub held_seconds: Counter<f64, AtomicU64>,
    /// Open subscriptions that receive live events.
    pub subscriptions: Gauge,
    /// Values in the filters of those subscriptions.
    pub filter_items: Gauge,
    /// Bytes of partial messages.
    pub partial_message_bytes: Gauge,
    /// Bytes of the filters of subscriptions and waiting queries.
    pub filter_bytes: Gauge,
    /// Open negentropy sessions.
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
    /// Management requests over HTTP, by outcome.
    pub management_requests: Family<ManagementLabel, Counter>,
    /// Decisions of admins in force, by what they are about.
    pub decisions: Family<DecidedLabel, Gauge>,
    /// Changes that readers of the feed were told, by sort.
    pub changes_told: Family<ChangeLabel, Counter>,
    /// Log lines that could not be written.
    pub log_lines_lost: Counter,
    /// Verdicts of the fast engine that libsecp256k1 contradicted. A value above zero is an alarm.
    pub verify_mismatches: Gauge,
    /// Entries waiting in each queue.
    pub queue_len: Family<QueueLabel, Gauge>,
    /// The capacity of each queue in entries.
    pub queue_bound: Family<QueueLabel, Gauge>,
    /// Bytes waiting in all outboxes.
    pub outbox_bytes: Gauge,
    /// Bytes of events between the socket and the disk.
    pub ingest_bytes: Gauge,
    /// Verdicts of the plugin.
    pub plugin_verdicts: Family<PluginVerdictLabel, Counter>,
    /// From asking the plugin about an event to its verdict.
    pub plugin_seconds: Histogram,
    /// Failures of the plugin's processes, by cause.
    pub plugin_failures: Family<PluginFailureLabel, Counter>,
    /// Lines that the plugin printed and that were no answers.
    pub plugin_rubbish: Counter,
    /// Processes of the plugin that run.
    pub plugin_processes: Gauge,
    /// Time from reading an EVENT to queueing its OK.
    pub event_ok_seconds: Histogram,
    /// Time from reading a REQ to queueing its EOSE. Includes time spent waiting for slow clients.
    pub req_eose_seconds: Histogram,
    /// Time to make a batch durable in the write-ahead log.
    pub log_seconds: Histogram,
    /// Time of a commit, including its fsync.
    pub commit_seconds: Histogram,
    /// CPU time of a commit: its rows and pages, without waiting for the disk.
    pub commit_work_seconds: Histogram,
    /// Events per commit.
    pub commit_events: Histogram,
    /// Signatures per verification batch.
    pub verify_batch: Histogram,
    /// From the moment events are durable to queueing them for their subscribers.
    pub fanout_seconds: Histogram,
    /// Whether writes are accepted (1) or the storage is full (0).
    pub storage_writable: Gauge,
    /// Failures of the store, by operation.
    pub store_failures: Family<StoreLabel, Counter>,
    /// Whether the last commit succeeded (1) or failed for a reason other than lack of space (0).
    pub store_committing: Gauge,
    /// Bytes of the database by table.
    pub store_bytes: Family<TableLabel, Gauge>,
    /// Entries of the database by table.
    pub store_entries: Family<TableLabel, Gauge>,
    /// Bytes of the data file that are in use.
    pub store_used_bytes: Gauge,
    /// Size of the data file in bytes.
    pub store_file_bytes: Gauge,
    /// Bytes of the data file that are free for reuse.
    pub store_free_bytes: Gauge,
    /// Maximum size of the data file in bytes.
    pub store_map_bytes: Gauge,
    /// Once this many bytes are in use, only deletions and requests to vanish are stored.
    pub store_full_bytes: Gauge,
    /// The most reader slots of the store ever in use at the same time, by all processes.
    pub store_reader_slots: Gauge,
    /// Ranges of queries for which the time of the newest event was known, since the data file was opened.
    pub newest_hits: Gauge,
    /// Ranges for which it was looked up.
    pub newest_misses: Gauge,
    /// How often these times were forgotten because another process had committed.
    pub newest_resets: Gauge,
    /// Reader slots of dead processes that were freed.
    pub stale_readers: Counter,
    /// Free bytes on the file system.
    pub disk_free_bytes: Gauge,
    /// Events that the retention rules removed, by rule and cause.
    pub evicted_events: Family<EvictionLabel, Counter>,
    /// Bytes that they took, as `storage.max_bytes` counts them.
    pub evicted_bytes: Family<EvictionLabel, Counter>,
    /// Events that the rules would remove once the operator confirms it.
    pub retention_waiting: Gauge,
    /// How long one eviction step holds the writer.
    pub eviction_seconds: Histogram,
    /// Whether a link of a stream is connected (1) or not (0).
    pub replication_connected: Family<LinkLabel, Gauge>,
    /// Events that a link brought, by outcome.
    pub replication_received: Family<ReceivedLabel, Counter>,
    /// Events that a link was to send, by result.
    pub replication_sent: Family<SentLabel, Counter>,
    /// Stored events that a link has not dealt with yet.
    pub replication_behind_events: Family<LinkLabel, Gauge>,
    /// Seconds since a link had nothing left to do.
    pub replication_behind_seconds: Family<LinkLabel, Gauge>,
    /// Whether this node of a cluster is connected to NATS (1) or not (0).
    pub cluster_connected: Gauge,
    /// What became of what this node had for the others.
    pub cluster_sent: Family<NodeSentLabel, Counter>,
    /// What became of events and acts that came through NATS.
    pub cluster_received: Family<NodeReceivedLabel, Counter>,
    /// Arrival numbers that this node has not published yet.
    pub cluster_behind_events: Gauge,
    /// Messages of the cluster that this node has not acknowledged yet.
    pub cluster_waiting_messages: Gauge,
    /// Resident memory of the process, including cached pages of the data file.
    pub resident_bytes: Gauge,
    /// Resident memory that is not backed by a file.
    pub private_bytes: Gauge,
    /// CPU time of the process, user and system.
    pub cpu_seconds: Counter<f64, AtomicU64>,
    /// Unix time at which the process started.
    pub start_time_seconds: Gauge,
}

impl Metrics {
    /// Declares every metric.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table with one line per metric")]
    pub fn new() -> Self {
        let mut r = Registry::with_prefix("weir");
        r.register("build", "Version of the relay", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let metrics = Self {
            messages: {
                let by_verb: Family<VerbLabel, Counter> = add(&mut r, "messages", "Messages received");
                Verb::ALL.iter().map(|&verb| by_verb.get_or_create(&VerbLabel { verb }).clone()).collect()
            },
            events: add(&mut r, "events", "Events received, by outcome"),
            refusals: add(&mut r, "refusals", "OK false and CLOSED answers on arrival, by their prefix"),
            refused_events: add(&mut r, "refused_events", "Events refused, by the rule that they break"),
            trusted_keys: add(&mut r, "trusted_keys", "Keys in the web of trust"),
            connections_opened: add(&mut r, "connections_opened", "Connections opened"),
            connections_closed: add(&mut r, "connections_closed", "Connections closed, by reason"),
            connections_turned_away: add(
                &mut r,
                "connections_turned_away",
                "Connections refused before the upgrade, by reason",
            ),
            connections: add(&mut r, "connections", "Open connections"),
            half_open: add(&mut r, "half_open", "Sockets whose HTTP request has not been answered yet"),
            connections_held: add(&mut r, "connections_held", "Connections not read until they have paid their debt"),
            held_seconds: add(
                &mut r,
                "connections_held_seconds",
                "Time that connections were held because of their debt",
            ),
            subscriptions: add(&mut r, "subscriptions", "Open subscriptions that receive live events"),
            filter_items: add(&mut r, "filter_items", "Values in the filters of live subscriptions"),
            partial_message_bytes: add(&mut r, "partial_message_bytes", "Bytes of partial messages"),
            filter_bytes: add(&mut r, "filter_bytes", "Bytes of the filters of subscriptions and waiting queries"),
            negentropy_sessions: add(&mut r, "negentropy_sessions", "Open negentropy sessions"),
            negentropy_records: add(&mut r, "negentropy_records", "Events held by negentropy sessions"),
            rows_sent: add(&mut r, "rows_sent", "Stored events sent"),
            deliveries: add(&mut r, "deliveries", "Live events sent"),
            bytes_received: add(&mut r, "received_bytes", "Bytes read from WebSockets"),
            bytes_sent: add(&mut r, "sent_bytes", "Bytes written to WebSockets"),
            reloads: add(&mut r, "config_reloads", "Reloads of the configuration"),
            management_requests: add(&mut r, "management_requests", "Management requests over HTTP, by outcome"),
            decisions: add(&mut r, "decisions", "Decisions of admins in force, by what they are about"),
            changes_told: add(&mut r, "changes_told", "Changes told to readers of the feed"),
            log_lines_lost: add(&mut r, "log_lines_lost", "Log lines that could not be written"),
            verify_mismatches: add(
                &mut r,
                "verify_mismatches",
                "Verdicts of the fast engine that libsecp256k1 contradicted",
            ),
            queue_len: add(&mut r, "queue_entries", "Entries waiting in a queue"),
            queue_bound: add(&mut r, "queue_bound", "Capacity of a queue in entries"),
            outbox_bytes: add(&mut r, "outbox_bytes", "Bytes waiting in all outboxes"),
            ingest_bytes: add(&mut r, "ingest_bytes", "Bytes of events between the socket and the disk"),
            plugin_verdicts: add(&mut r, "plugin_verdicts", "Verdicts of the plugin"),
            plugin_seconds: histogram(
                &mut r,
                "plugin_seconds",
                "From asking the plugin about an event to its verdict",
                50e-6,
            ),
            plugin_failures: add(&mut r, "plugin_failures", "Failures of the plugin's processes"),
            plugin_rubbish: add(&mut r, "plugin_rubbish", "Lines that the plugin printed and that were no answers"),
            plugin_processes: add(&mut r, "plugin_processes", "Processes of the plugin that run"),
            event_ok_seconds: histogram(
                &mut r,
                "event_ok_seconds",
                "Time from reading an EVENT to queueing its OK",
                50e-6,
            ),
            req_eose_seconds: histogram(
                &mut r,
                "req_eose_seconds",
                "Time from reading a REQ to queueing its EOSE",
                20e-6,
            ),
            log_seconds: histogram(&mut r, "log_seconds", "Time to make a batch durable in the write-ahead log", 20e-6),
            commit_seconds: histogram(&mut r, "commit_seconds", "Time of a commit, including its fsync", 50e-6),
            commit_work_seconds: histogram(
                &mut r,
                "commit_work_seconds",
                "CPU time of a commit, without its waiting for the disk",
                50e-6,
            ),
            commit_events: histogram(&mut r, "commit_events", "Events per commit", 1.0),
            verify_batch: histogram(&mut r, "verify_batch", "Signatures per verification batch", 1.0),
            fanout_seconds: histogram(&mut r, "fanout_seconds", "From durable to queued for every subscriber", 10e-6),
            storage_writable: add(&mut r, "storage_writable", "1 while writes are accepted, 0 while storage is full"),
            store_failures: add(&mut r, "store_failures", "Failures of the store, by operation"),
            store_committing: add(&mut r, "store_committing", "1 if the last commit succeeded, 0 if it failed"),
            store_bytes: add(&mut r, "store_bytes", "Bytes of the database by table"),
            store_entries: add(&mut r, "store_entries", "Entries of the database by table"),
            store_used_bytes: add(&mut r, "store_used_bytes", "Bytes of the data file in use"),
            store_file_bytes: add(&mut r, "store_file_bytes", "Size of the data file"),
            store_free_bytes: add(&mut r, "store_free_bytes", "Bytes of the data file free for reuse"),
            store_map_bytes: add(&mut r, "store_map_bytes", "Maximum size of the data file"),
            store_full_bytes: add(&mut r, "store_full_bytes", "Bytes in use at which only deletions are still stored"),
            store_reader_slots: add(&mut r, "store_reader_slots", "Most reader slots ever in use at the same time"),
            newest_hits: add(&mut r, "store_newest_hits", "Times of newest events that queries found in memory"),
            newest_misses: add(&mut r, "store_newest_misses", "Times of newest events that queries looked up"),
            newest_resets: add(&mut r, "store_newest_resets", "Commits of other processes that emptied that memory"),
            stale_readers: add(&mut r, "store_stale_readers", "Reader slots of dead processes that were freed"),
            disk_free_bytes: add(&mut r, "disk_free_bytes", "Free bytes on the file system"),
            evicted_events: add(&mut r, "evicted_events", "Events that the retention rules removed"),
            retention_waiting: add(
                &mut r,
                "retention_waiting_events",
                "Events to be removed once the operator confirms it",
            ),
            eviction_seconds: histogram(&mut r, "eviction_seconds", "One step of removals, without its commit", 50e-6),
            evicted_bytes: add(&mut r, "evicted_bytes", "Bytes that evicted events took, as storage.max_bytes counts"),
            replication_connected: add(&mut r, "replication_connected", "1 while a link of a stream is connected"),
            replication_received: add(&mut r, "replication_received", "Events that a link brought, by outcome"),
            replication_sent: add(&mut r, "replication_sent", "Events that a link was to send, by result"),
            replication_behind_events: add(
                &mut r,
                "replication_behind_events",
                "Stored events that a link has not dealt with yet",
            ),
            replication_behind_seconds: add(
                &mut r,
                "replication_behind_seconds",
                "Seconds since a link had nothing left to do",
            ),
            cluster_connected: add(&mut r, "cluster_connected", "1 while this node is connected to NATS"),
            cluster_sent: add(&mut r, "cluster_sent", "What this node had for the other nodes, by result"),
            cluster_received: add(&mut r, "cluster_received", "Events and acts that came through NATS, by outcome"),
            cluster_behind_events: add(&mut r, "cluster_behind_events", "Arrivals that are not published yet"),
            cluster_waiting_messages: add(
                &mut r,
                "cluster_waiting_messages",
                "Messages of the cluster that are not acknowledged yet",
            ),
            resident_bytes: add(
                &mut r,
                "process_resident_bytes",
                "Resident memory, including cached pages of the data file",
            ),
            private_bytes: add(&mut r, "process_private_bytes", "Resident memory that is not backed by a file"),
            cpu_seconds: add(&mut r, "process_cpu_seconds", "CPU time, user and system"),
            start_time_seconds: add(&mut r, "process_start_time_seconds", "Unix time at which the process started"),
            registry: r,
            stored_kinds: StoredKinds::new(false),
        };
        metrics.expose_zeros();
        metrics
    }

    /// Exposes every counter with a closed set of labels at zero, so that rates include the first event that it counts.
    fn expose_zeros(&self) {
        for &outcome in EventOutcome::ALL {
            self.events.get_or_create(&OutcomeLabel { outcome }).inc_by(0);
        }
        for &rule in PolicyRule::ALL {
            self.refused_events.get_or_create(&PolicyRuleLabel { rule }).inc_by(0);
        }
        for &cause in EvictionCause::ALL {
            let label = EvictionLabel { rule: 1, cause };
            self.evicted_events.get_or_create(&label).inc_by(0);
            self.evicted_bytes.get_or_create(&label).inc_by(0);
        }
        for &change in Change::ALL {
            self.changes_told.get_or_create(&ChangeLabel { change }).inc_by(0);
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
        for &verdict in PluginVerdict::ALL {
            self.plugin_verdicts.get_or_create(&PluginVerdictLabel { verdict }).inc_by(0);
        }
        for &cause in PluginFailure::ALL {
            self.plugin_failures.get_or_create(&PluginFailureLabel { cause }).inc_by(0);
        }
        for &outcome in ManagementOutcome::ALL {
            self.management_requests.get_or_create(&ManagementLabel { outcome }).inc_by(0);
        }
        for &about in Decided::ALL {
            self.decisions.get_or_create(&DecidedLabel { about }).inc_by(0);
        }
        for &result in Reload::ALL {
            self.reloads.get_or_create(&ReloadLabel { result }).inc_by(0);
        }
    }

    /// Counts events by outcome.
    pub fn event(&self, outcome: EventOutcome, count: u64) {
        self.events.get_or_create(&OutcomeLabel { outcome }).inc_by(count);
    }

    /// Counts one refusal by its prefix.
    pub fn refusal(&self, prefix: &'static str) {
        self.refusals.get_or_create(&RefusalLabel { prefix }).inc();
    }

    /// Counts a change that a reader of the feed is told.
    pub fn change(&self, change: Change) {
        self.changes_told.get_or_create(&ChangeLabel { change }).inc();
    }

    /// Counts one event that was refused by `rule`.
    pub fn refused(&self, rule: PolicyRule) {
        self.event(EventOutcome::Refused, 1);
        self.refused_events.get_or_create(&PolicyRuleLabel { rule }).inc();
    }

    /// Counts one management request.
    pub fn management(&self, outcome: ManagementOutcome) {
        self.management_requests.get_or_create(&ManagementLabel { outcome }).inc();
    }

    /// Shows how many decisions of admins are in force.
    pub fn show_decisions(&self, counts: impl IntoIterator<Item = (Decided, usize)>) {
        for (about, count) in counts {
            self.decisions.get_or_create(&DecidedLabel { about }).set(count as i64);
        }
    }

    /// Counts one message.
    pub fn message(&self, verb: Verb) {
        self.messages[verb as usize].inc();
    }

    /// The text exposition (OpenMetrics 1.0).
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &self.registry) {
            // Writing to a String cannot fail; if an encoder does, report it where the operator looks.
            let _ = write!(out, "# encoding failed: {error}");
        }
        self.stored_kinds.add_to(out)
    }

    /// With strfry's names for three of them, if they are wanted.
    #[must_use]
    pub fn with_strfry_names(mut self, are_wanted: bool) -> Self {
        self.stored_kinds = StoredKinds::new(are_wanted);
        self
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

/// Eighteen buckets from `first`, each twice the one before: 50 µs to 6.5 s, 1 to 131,072.
fn histogram(registry: &mut Registry, name: &str, help: &str, first: f64) -> Histogram {
    let metric = Histogram::new(exponential_buckets(first, 2.0, 18));
    registry.register(name, help, metric.clone());
    metric
}
