//! The results of a run: printed, written as JSON and HTML, and compared.
//!
//! It must never drop a fault: a reader sees whether the relay was right before how fast it was.

pub mod compare;
pub mod html;
#[cfg(test)]
mod schema;
pub mod table;
pub mod threshold;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{Account, Grade, Replay};
use crate::latency::Summary;
use crate::limits::Limits;
use crate::process::Cost;

/// The report of a run; the JSON form is stable within a major version of the tool.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Report {
    /// Version of the tool.
    pub version: String,
    /// Name of the scenario.
    pub scenario: String,
    /// What it models.
    pub about: String,
    /// The relay's URL.
    pub url: String,
    /// The relay's name (`--label`), or the URL.
    pub label: String,
    /// When the run began, unix seconds.
    pub started: u64,
    /// Seed of everything random in the run.
    pub seed: u64,
    /// Processor and cores.
    pub machine: String,
    /// How connections were made: "plain", or what of TLS, permessage-deflate and authentication was in force.
    #[serde(default)]
    pub connection: String,
    /// SHA-256 of the corpus, in hex: the ids of its events in order. Equal ones are the same events.
    #[serde(default)]
    pub corpus_fingerprint: String,
    /// What the relay says of itself (NIP-11); everything absent if it has no document.
    #[serde(default)]
    pub limits: Limits,
    /// Events in the corpus.
    pub corpus_events: u64,
    /// Their mean length in bytes.
    pub corpus_mean_bytes: f64,
    /// Lines of the corpus that were skipped, by reason.
    #[serde(default)]
    pub corpus_skipped: BTreeMap<String, u64>,
    /// Why the run ended before its last phase; `None` if it did not.
    #[serde(default)]
    pub incomplete: Option<String>,
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
    /// From before the first send to the last answer.
    pub seconds: f64,
    /// Seconds after the last answer in which the run waited in vain for another.
    #[serde(default)]
    pub stalled_s: f64,
    /// Units per second.
    pub per_second: f64,
    /// Latencies by name, such as "EVENT to OK".
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
    /// Faults by name: lost, invented or false answers. Empty if there were none.
    pub violations: BTreeMap<String, u64>,
    /// Deviations by name: where a NIP says "should" and the relay does otherwise.
    #[serde(default)]
    pub deviations: BTreeMap<String, u64>,
    /// Refusals by name that the relay's document (NIP-11) announces.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
    /// How the phase was changed to stay within the relay's stated limits. If it was, its figures do not compare with
    /// those of a relay without these limits.
    #[serde(default)]
    pub fitted: Vec<String>,
    /// The first findings of each kind in words.
    pub examples: Vec<String>,
    /// How to see the first faults of each kind again by hand.
    #[serde(default)]
    pub replays: Vec<Replay>,
    /// Warnings about the figures.
    #[serde(default)]
    pub notes: Vec<String>,
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

    /// Deviations over all phases.
    pub fn deviations(&self) -> u64 {
        self.phases.iter().flat_map(|phase| phase.deviations.values()).sum()
    }
}

impl PhaseReport {
    /// Whether there are any findings.
    pub fn has_findings(&self) -> bool {
        !(self.violations.is_empty() && self.deviations.is_empty() && self.refusals.is_empty())
    }

    /// Whether the phase did the work that its scenario describes.
    pub fn is_comparable(&self) -> bool {
        self.fitted.is_empty() && self.refusals.is_empty()
    }

    /// Drops the findings, so that a longer account can replace them.
    pub fn forget_findings(&mut self) {
        for counts in [&mut self.violations, &mut self.deviations, &mut self.refusals] {
            counts.clear();
        }
        self.examples.clear();
        self.replays.clear();
        self.notices.clear();
    }

    /// Adds the findings of an account.
    pub fn add_findings(&mut self, account: &Account) {
        add_counts(&mut self.violations, account.counts(Grade::Fault));
        add_counts(&mut self.deviations, account.counts(Grade::Deviation));
        add_counts(&mut self.refusals, account.counts(Grade::Limit));
        self.examples.extend(account.examples());
        self.replays.extend(account.replays());
        self.notices.extend(account.notices().1);
    }

    /// This report with the findings of an earlier attempt as well.
    #[must_use]
    pub fn with_findings_of(mut self, earlier: Self) -> Self {
        add_counts(&mut self.violations, earlier.violations);
        add_counts(&mut self.deviations, earlier.deviations);
        add_counts(&mut self.refusals, earlier.refusals);
        self.examples.splice(0..0, earlier.examples);
        self.replays.splice(0..0, earlier.replays);
        self.notices.splice(0..0, earlier.notices);
        self
    }
}

fn add_counts(counts: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, count) in more {
        *counts.entry(name).or_default() += count;
    }
}
