//! Thresholds that make a run fail: `p99>5ms`, `queries: relay_us>12`.
//!
//! It must never pass a threshold over a figure that does not exist: a misspelt name is an error.

use anyhow::{Context, Result, bail, ensure};

use super::table::main_latency;
use super::{PhaseReport, Report};

/// A bound on one figure, of one phase or of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// The phase; every phase that has the figure if absent.
    phase: Option<String>,
    figure: String,
    above: bool,
    bound: f64,
    text: String,
}

impl std::str::FromStr for Threshold {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = "expected [PHASE:]FIGURE>NUMBER or [PHASE:]FIGURE<NUMBER";
        let at = text.rfind(['<', '>']).with_context(|| format!("{text}: {form}"))?;
        let (phase, figure) = match text[..at].rsplit_once(':') {
            Some((phase, figure)) => (Some(phase.trim().to_string()), figure),
            None => (None, &text[..at]),
        };
        let figure = figure.trim().to_string();
        ensure!(!figure.is_empty(), "{text}: {form}");
        let value = text[at + 1..].trim();
        let digits = value.trim_end_matches(char::is_alphabetic);
        let number: f64 = digits.trim().parse().with_context(|| format!("{text}: {value:?} is no number"))?;
        // Latencies are compared in microseconds.
        let scale = match &value[digits.len()..] {
            "" | "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            unit => bail!("{text}: the unit {unit} is none of us, ms, s"),
        };
        let above = text.as_bytes()[at] == b'>';
        Ok(Self { phase, figure, above, bound: number * scale, text: text.to_string() })
    }
}

impl Threshold {
    /// What exceeds the threshold, one text per phase.
    ///
    /// # Errors
    /// If no phase has the figure.
    pub fn check(&self, report: &Report) -> Result<Vec<String>> {
        let wanted = |phase: &&PhaseReport| self.phase.as_ref().is_none_or(|name| *name == phase.name);
        let phases = report.phases.iter().filter(wanted);
        let values: Vec<(&str, f64)> =
            phases.filter_map(|phase| Some((phase.name.as_str(), figure(phase, &self.figure)?))).collect();
        if values.is_empty() && report.incomplete.is_none() {
            bail!("--fail-if {}: no phase has the figure {}", self.text, self.figure);
        }
        let exceeds = |value: f64| if self.above { value > self.bound } else { value < self.bound };
        let exceeding = values.into_iter().filter(|(_, value)| exceeds(*value));
        Ok(exceeding.map(|(phase, value)| format!("{phase}: {} is {value:.2} ({})", self.figure, self.text)).collect())
    }
}

/// A figure of a phase by the name that `--fail-if` has for it.
fn figure(phase: &PhaseReport, name: &str) -> Option<f64> {
    let latency = main_latency(phase);
    match name {
        "p50" => latency.map(|summary| summary.p50_us),
        "p90" => latency.map(|summary| summary.p90_us),
        "p99" => latency.map(|summary| summary.p99_us),
        "p999" => latency.map(|summary| summary.p999_us),
        "max" => latency.map(|summary| summary.max_us),
        "mean" => latency.map(|summary| summary.mean_us),
        "per_second" => Some(phase.per_second),
        "relay_us" => phase.relay_cpu_us_per_unit,
        "relay_memory_kib" => phase.relay.as_ref().map(|cost| cost.anon_after_kib as f64),
        "stalled_s" => Some(phase.stalled_s),
        "deviations" => Some(phase.deviations.values().sum::<u64>() as f64),
        "refusals" => Some(phase.refusals.values().sum::<u64>() as f64),
        name => phase.figures.get(name).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;
    use std::time::Duration;

    fn report() -> Report {
        let phase = |name: &str, ms: u64, per_second: f64| {
            let mut latency = Latency::new();
            latency.record(Duration::from_millis(ms));
            let latency = [("REQ to EOSE".to_string(), latency.summary().expect("a value"))].into();
            PhaseReport { name: name.into(), latency, per_second, ..PhaseReport::default() }
        };
        Report { phases: vec![phase("fast", 2, 900.0), phase("slow: one", 20, 50.0)], ..Report::default() }
    }

    fn exceeding(text: &str) -> Result<usize> {
        Ok(text.parse::<Threshold>()?.check(&report())?.len())
    }

    #[test]
    fn a_threshold_holds_for_every_phase_or_for_the_one_it_names() {
        assert_eq!(exceeding("p99>5ms").expect("valid"), 1);
        assert_eq!(exceeding("p99 > 0.1ms").expect("valid"), 2);
        assert_eq!(exceeding("fast: p99>5ms").expect("valid"), 0);
        assert_eq!(exceeding("slow: one: max>19000us").expect("valid"), 1);
        assert_eq!(exceeding("per_second<100").expect("valid"), 1);
    }

    #[test]
    fn a_threshold_that_cannot_be_checked_is_an_error() {
        let error = |text: &str| exceeding(text).expect_err("must not be accepted").to_string();
        assert_eq!(error("p98>5ms"), "--fail-if p98>5ms: no phase has the figure p98");
        assert_eq!(error("fats: p99>5ms"), "--fail-if fats: p99>5ms: no phase has the figure p99");
        assert_eq!(error("p99"), "p99: expected [PHASE:]FIGURE>NUMBER or [PHASE:]FIGURE<NUMBER");
        assert_eq!(error("p99>five"), "p99>five: \"five\" is no number");
        assert_eq!(error("p99>5h"), "p99>5h: the unit h is none of us, ms, s");
    }
}
