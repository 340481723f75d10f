//! Everything that a matrix has found.
//!
//! It must never lose a repeat: the page shows the spread of all.

use std::collections::BTreeMap;

use super::statistics::Spread;
use crate::report::{PhaseReport, Report};

/// The results of a matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Title of the page.
    pub title: String,
    /// What it was measured on, in the order of the page.
    pub conditions: Vec<(String, String)>,
    /// The relays; ratios are relative to the first.
    pub relays: Vec<Relay>,
    /// Every run of a scenario, in the order in which they were made.
    pub runs: Vec<Run>,
    /// Events that had an OK and were gone after a kill.
    pub lost_after_kill: u64,
    /// Throughput against latency.
    pub sweeps: Vec<Sweep>,
    /// What could not be measured, and why.
    pub troubles: Vec<String>,
    /// Whether the user ended it early.
    pub interrupted: bool,
}

/// What a relay is and says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relay {
    /// Its name.
    pub name: String,
    /// Software and version.
    pub version: String,
    /// What differs from its defaults.
    pub settings: String,
    /// What it promises before its OK.
    pub durability: String,
    /// Whether the kill test found it true; empty if there was none.
    pub kill: String,
}

/// One run of a scenario by a relay.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Number of the relay.
    pub relay: usize,
    /// Number of the repeat, from 0.
    pub repeat: usize,
    /// What was measured.
    pub report: Report,
}

/// A scenario at rising rates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sweep {
    /// The scenario.
    pub scenario: String,
    /// What is counted.
    pub unit: String,
    /// The steps of each relay.
    pub relays: Vec<Vec<Step>>,
}

/// One rate of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// What was asked for, per second.
    pub rate: f64,
    /// What was answered, per second.
    pub per_second: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// The relay answered at this rate, within the bound of the sweep.
    pub kept_up: bool,
    /// The generator was the limit, or may have been.
    pub generator_limited: bool,
}

impl Results {
    /// Names of the scenarios with what they model, in order.
    pub fn scenarios(&self) -> Vec<(&str, &str)> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for Run { report, .. } in &self.runs {
            if !found.iter().any(|(name, _)| *name == report.scenario) {
                found.push((&report.scenario, &report.about));
            }
        }
        found
    }

    /// Names of the phases of a scenario, with what they count.
    pub fn phases(&self, scenario: &str) -> Vec<(&str, &str)> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for run in self.runs.iter().filter(|run| run.report.scenario == scenario) {
            for phase in &run.report.phases {
                if !found.iter().any(|(name, _)| *name == phase.name) {
                    found.push((&phase.name, &phase.unit));
                }
            }
        }
        found
    }

    /// The reports of a phase by a relay, by repeat.
    pub fn reports(&self, relay: usize, scenario: &str, phase: &str) -> Vec<&PhaseReport> {
        let runs = self.runs.iter().filter(|run| run.relay == relay && run.report.scenario == scenario);
        runs.flat_map(|run| &run.report.phases).filter(|report| report.name == phase).collect()
    }

    /// The values of a figure, by repeat.
    pub fn values(&self, relay: usize, scenario: &str, phase: &str, pick: Pick) -> BTreeMap<usize, f64> {
        let runs = self.runs.iter().filter(|run| run.relay == relay && run.report.scenario == scenario);
        let value = |run: &Run| {
            let report = run.report.phases.iter().find(|report| report.name == phase)?;
            Some((run.repeat, pick(report)?))
        };
        runs.filter_map(value).collect()
    }

    /// Their spread.
    pub fn spread(&self, relay: usize, scenario: &str, phase: &str, pick: Pick) -> Option<Spread> {
        Spread::of(self.values(relay, scenario, phase, pick).into_values())
    }

    /// Faults over all runs.
    pub fn faults(&self) -> u64 {
        self.runs.iter().map(|run| run.report.violations()).sum::<u64>() + self.lost_after_kill
    }
}

/// Takes a figure out of a report; `None` where it is unknown.
pub type Pick = fn(&PhaseReport) -> Option<f64>;
