//! What a run found out: the value that is printed, written as JSON and HTML, and compared.
//!
//! It must never drop a fault: whoever reads a report sees whether the relay was right before how fast it was.

pub mod compare;
pub mod html;
pub mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latency::Summary;
use crate::process::Cost;

/// The report of a run; the JSON form is stable within a major version of the tool.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Report {
    /// Version of the tool.
    pub version: String,
    /// Name of the scenario.
    pub scenario: String,
    /// What it models.
    pub about: String,
    /// The relay's URL.
    pub url: String,
    /// What the user calls the relay (`--label`), or the URL.
    pub label: String,
    /// When the run began, unix seconds.
    pub started: u64,
    /// Seed of everything random in the run.
    pub seed: u64,
    /// Processor and cores.
    pub machine: String,
    /// Events in the corpus.
    pub corpus_events: u64,
    /// Their mean length in bytes.
    pub corpus_mean_bytes: f64,
    /// One entry per reported phase.
    pub phases: Vec<PhaseReport>,
}

/// The result of a phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// What is counted: "event", "query", "delivery", "connection".
    pub unit: String,
    /// How many were done.
    pub units: u64,
    /// From the first send to the last answer.
    pub seconds: f64,
    /// Units per second.
    pub per_second: f64,
    /// Latencies by what they measure.
    pub latency: BTreeMap<String, Summary>,
    /// What the relay spent, with `--pid`.
    pub relay: Option<Cost>,
    /// Relay CPU per unit in microseconds, with `--pid`.
    pub relay_cpu_us_per_unit: Option<f64>,
    /// CPU of this tool per unit in microseconds.
    pub generator_cpu_us_per_unit: f64,
    /// CPU of this tool as a share of one core; near 1 means that the tool was the limit.
    pub generator_core_share: f64,
    /// Bytes received from the relay.
    pub received_bytes: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Further figures by name, the unit last in the name.
    pub figures: BTreeMap<String, f64>,
    /// Faults by name; empty if there were none.
    pub violations: BTreeMap<String, u64>,
    /// The first faults in words.
    pub examples: Vec<String>,
    /// The first NOTICEs of the relay.
    pub notices: Vec<String>,
    /// Samples over time, for long phases.
    pub samples: Vec<Sample>,
}

/// One sample of a long phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Sample {
    /// Seconds since the phase began.
    pub at_s: f64,
    /// Anonymous memory of the relay in KiB, with `--pid`.
    pub anon_kib: Option<u64>,
    /// Bytes of its data directory, with `--data`.
    pub disk_bytes: Option<u64>,
    /// CPU of the relay since the last sample in cores, with `--pid`.
    pub relay_cores: Option<f64>,
    /// Events answered since the phase began.
    pub events: u64,
    /// Queries answered since the phase began.
    pub queries: u64,
    /// Live deliveries since the phase began.
    pub deliveries: u64,
    /// 99th percentile of EVENT to OK since the last sample.
    pub ok_p99_us: Option<f64>,
    /// 99th percentile of REQ to EOSE since the last sample.
    pub eose_p99_us: Option<f64>,
    /// 99th percentile of live delivery since the last sample.
    pub delivery_p99_us: Option<f64>,
}

impl Report {
    /// Faults over all phases.
    pub fn violations(&self) -> u64 {
        self.phases.iter().flat_map(|phase| phase.violations.values()).sum()
    }
}
