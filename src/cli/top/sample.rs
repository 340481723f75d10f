//! What the relay said of itself at one moment: its metrics, its connections and its slow queries.
//!
//! Everything comes over a socket, so nothing is taken for granted: what is missing is absent or zero.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metrics::Exposition;

/// A connection.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// Its number.
    pub id: u64,
    /// Its address.
    pub address: String,
    /// The first key that it proved, in hex; empty for none.
    pub key: String,
    /// Microseconds of CPU that it took since it opened.
    pub cpu_us: u64,
    /// EVENTs that have no OK yet.
    pub unanswered: u64,
    /// Queries that wait or run.
    pub queries: u64,
    /// Bytes that wait for it.
    pub unsent_bytes: u64,
    /// Bytes of its filters.
    pub filter_bytes: u64,
}

/// A slow query.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowQuery {
    /// Who asked.
    pub address: String,
    /// `REQ` or `COUNT`.
    pub verb: String,
    /// Its filters, shortened.
    pub filters: String,
    /// The plan of each filter.
    pub plan: String,
    /// Rows that were looked at and ranges that were opened.
    pub rows: u64,
    /// Milliseconds that threads worked on it.
    pub worked_ms: u64,
    /// Milliseconds that its client waited.
    pub waited_ms: u64,
}

/// What the method `view` returns.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    version: String,
    pid: u32,
    metrics: String,
    connections: Vec<Connection>,
    slow_queries: Vec<SlowQuery>,
}

/// One answer of the relay to `view`. Figures are made of two of them.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it arrived.
    pub at: Instant,
    /// The relay's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The connections that took the most CPU, and others.
    pub connections: Vec<Connection>,
    /// The last slow queries, the latest first.
    pub slow_queries: Vec<SlowQuery>,
    metrics: Exposition,
}

impl Sample {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is not what `view` returns.
    pub fn read(answer: Value, at: Instant) -> Result<Self, serde_json::Error> {
        let View { version, pid, metrics, connections, slow_queries } = serde_json::from_value(answer)?;
        Ok(Self { at, version, pid, connections, slow_queries, metrics: Exposition::read(&metrics) })
    }

    /// A sample of the metrics; 0 if there is none.
    pub fn value(&self, name: &str) -> f64 {
        self.metrics.value(name)
    }

    /// The samples of a metric with one label, by the label's value.
    pub fn by_label<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.metrics.by_label(metric)
    }
}
