//! What an operator wants to know, from two samples: rates, latencies, and what there is now.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sample::{Connection, Sample, SlowQuery};
use crate::metrics::Buckets;

/// The figures of one screen, or of `weir top --once --json`. Rates are per second.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figures {
    /// The relay's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds between the two samples.
    pub interval_s: f64,
    /// What comes and goes, per second, by name. `cpu` is in cores.
    pub rates: BTreeMap<&'static str, f64>,
    /// How long things took, by name.
    pub latencies: BTreeMap<&'static str, Latency>,
    /// The queues.
    pub queues: Vec<Queue>,
    /// Storage, memory and numbers now, by name. Sizes are in bytes.
    pub now: BTreeMap<&'static str, f64>,
    /// Refusals per second, by what refused: `events`, `answers`, `connections` and `closed`, and then by reason.
    pub refusals: BTreeMap<&'static str, BTreeMap<String, f64>>,
    /// The connections, the most expensive first.
    pub connections: Vec<Cost>,
    /// The last slow queries, the latest first.
    pub slow_queries: Vec<SlowQuery>,
}

/// How long something took, in milliseconds; `None` if nothing happened.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Latency {
    /// Half took at most this.
    pub p50_ms: Option<f64>,
    /// All but a hundredth took at most this.
    pub p99_ms: Option<f64>,
}

/// A queue.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Queue {
    /// Its name.
    pub queue: String,
    /// What waits in it.
    pub entries: f64,
    /// The most that may.
    pub bound: f64,
}

/// A connection and what it costs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Cost {
    /// The share of one core that it took between the two samples.
    pub cpu: f64,
    /// The connection.
    #[serde(flatten)]
    pub connection: Connection,
}

/// Counters, and the names of their rates.
const RATES: [(&str, &str); 9] = [
    ("events", "messages_total{verb=\"event\"}"),
    ("stored", "events_total{outcome=\"stored\"}"),
    ("duplicate", "events_total{outcome=\"duplicate\"}"),
    ("queries", "messages_total{verb=\"req\"}"),
    ("rows", "rows_sent_total"),
    ("deliveries", "deliveries_total"),
    ("received_bytes", "received_bytes_total"),
    ("sent_bytes", "sent_bytes_total"),
    ("cpu", "process_cpu_seconds_total"),
];

/// Histograms.
const LATENCIES: [(&str, &str); 5] = [
    ("event_to_ok", "event_ok_seconds"),
    ("req_to_eose", "req_eose_seconds"),
    ("log", "log_seconds"),
    ("commit", "commit_seconds"),
    ("fan_out", "fanout_seconds"),
];

/// Gauges.
const NOW: [(&str, &str); 10] = [
    ("connections", "connections"),
    ("held", "connections_held"),
    ("subscriptions", "subscriptions"),
    ("events", "store_entries{table=\"event\"}"),
    ("used_bytes", "store_used_bytes"),
    ("full_bytes", "store_full_bytes"),
    ("file_bytes", "store_file_bytes"),
    ("disk_free_bytes", "disk_free_bytes"),
    ("private_bytes", "process_private_bytes"),
    ("writable", "storage_writable"),
];

/// Counters of refusals by reason.
const REFUSALS: [(&str, &str); 4] = [
    ("answers", "refusals_total"),
    ("events", "refused_events_total"),
    ("connections", "connections_turned_away_total"),
    ("closed", "connections_closed_total"),
];

impl Figures {
    /// What happened between two samples. After a restart of the relay, everything of the later one counts.
    pub fn between(before: &Sample, after: &Sample) -> Self {
        let interval_s = after.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
        let before = (before.pid == after.pid).then_some(before);
        let passed = |name: &str| after.value(name) - before.map_or(0.0, |before| before.value(name));
        let per_second = |count: f64| count.max(0.0) / interval_s;
        let by_reason = |metric: &str| {
            let former: BTreeMap<&str, f64> =
                before.map(|before| before.by_label(metric).collect()).unwrap_or_default();
            let rates = after.by_label(metric).map(|(reason, count)| {
                (reason.to_owned(), per_second(count - former.get(reason).copied().unwrap_or_default()))
            });
            rates.filter(|(_, rate)| *rate > 0.0).collect()
        };
        let bounds: BTreeMap<&str, f64> = after.by_label("queue_bound").collect();
        Self {
            version: after.version.clone(),
            pid: after.pid,
            interval_s,
            rates: RATES.map(|(name, counter)| (name, per_second(passed(counter)))).into(),
            latencies: LATENCIES.map(|(name, histogram)| (name, latency(before, after, histogram))).into(),
            queues: (after.by_label("queue_entries"))
                .map(|(queue, entries)| Queue {
                    queue: queue.into(),
                    entries,
                    bound: bounds.get(queue).copied().unwrap_or_default(),
                })
                .collect(),
            now: NOW.map(|(name, gauge)| (name, after.value(gauge))).into(),
            refusals: REFUSALS.map(|(name, counter)| (name, by_reason(counter))).into(),
            connections: costs(before, after, interval_s),
            slow_queries: after.slow_queries.clone(),
        }
    }
}

/// The connections by what they took since `before`, and then by what they took in all.
fn costs(before: Option<&Sample>, after: &Sample, interval_s: f64) -> Vec<Cost> {
    let former = before.map(|before| &before.connections[..]).unwrap_or_default();
    let former: BTreeMap<u64, u64> = former.iter().map(|one| (one.id, one.cpu_us)).collect();
    let cost = |one: &Connection| Cost {
        cpu: one.cpu_us.saturating_sub(former.get(&one.id).copied().unwrap_or_default()) as f64 / 1e6 / interval_s,
        connection: one.clone(),
    };
    let mut costs: Vec<Cost> = after.connections.iter().map(cost).collect();
    costs.sort_by(|one, other| other.cpu.total_cmp(&one.cpu).then(other.connection.cpu_us.cmp(&one.connection.cpu_us)));
    costs
}

/// Quantiles of what was observed since `before`: the upper bounds of their buckets.
fn latency(before: Option<&Sample>, after: &Sample, histogram: &str) -> Latency {
    let metric = format!("{histogram}_bucket");
    let mut passed = Buckets::of(after.by_label(&metric));
    if let Some(before) = before {
        passed.subtract(&Buckets::of(before.by_label(&metric)));
    }
    let quantile = |share: f64| passed.quantile(share).map(|bound| bound * 1e3);
    Latency { p50_ms: quantile(0.5), p99_ms: quantile(0.99) }
}
