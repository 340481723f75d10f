//! The cost of a measured phase: wall clock, the relay's CPU and memory, this tool's CPU, bytes.
//!
//! It must never be running while a phase is prepared.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::account::Account;
use crate::latency::Latency;
use crate::process::{Cost, Snapshot, Watched, own_cpu};
use crate::report::PhaseReport;
use crate::wire::link::Traffic;

/// Counters at the beginning of a phase.
pub struct Meter {
    started: Instant,
    own: Duration,
    relay: Option<Snapshot>,
    received: u64,
    sent: u64,
}

/// The differences at its end.
pub struct Metered {
    /// Wall clock.
    pub elapsed: Duration,
    /// CPU of this tool.
    pub own: Duration,
    /// The relay.
    pub relay: Option<Cost>,
    /// Bytes from the relay.
    pub received: u64,
    /// Bytes to the relay.
    pub sent: u64,
}

impl Meter {
    /// Begins to measure.
    ///
    /// # Errors
    /// If the watched process cannot be read.
    pub fn start(watched: &Watched, traffic: &Traffic) -> Result<Self> {
        let relay = watched.snapshot()?;
        let (received, sent) = (traffic.received.get(), traffic.sent.get());
        Ok(Self { relay, received, sent, own: own_cpu(), started: Instant::now() })
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends the measurement at `ended`, the moment of the last answer.
    ///
    /// # Errors
    /// If the watched process cannot be read.
    pub fn stop(&self, watched: &Watched, traffic: &Traffic) -> Result<Metered> {
        let elapsed = self.started.elapsed();
        let own = own_cpu().saturating_sub(self.own);
        let relay = match (watched.snapshot()?, &self.relay) {
            (Some(after), Some(before)) => Some(after.since(before)),
            _ => None,
        };
        Ok(Metered {
            elapsed,
            own,
            relay,
            received: traffic.received.get() - self.received,
            sent: traffic.sent.get() - self.sent,
        })
    }
}

/// Puts the report of a phase together.
pub fn phase_report(name: &str, unit: &str, units: u64, metered: Metered, account: &Rc<Account>) -> PhaseReport {
    let seconds = metered.elapsed.as_secs_f64();
    let per_unit = |seconds: f64| {
        if units == 0 { 0.0 } else { seconds * 1e6 / units as f64 }
    };
    PhaseReport {
        name: name.to_string(),
        unit: unit.to_string(),
        units,
        seconds,
        per_second: if seconds > 0.0 { units as f64 / seconds } else { 0.0 },
        relay_cpu_us_per_unit: metered.relay.as_ref().filter(|_| units > 0).map(|cost| per_unit(cost.cpu_s)),
        relay: metered.relay,
        generator_cpu_us_per_unit: per_unit(metered.own.as_secs_f64()),
        generator_core_share: if seconds > 0.0 { metered.own.as_secs_f64() / seconds } else { 0.0 },
        received_bytes: metered.received,
        sent_bytes: metered.sent,
        violations: account.counts(),
        examples: account.examples(),
        notices: account.notices().1,
        ..PhaseReport::default()
    }
}

/// Adds a latency to a report, if anything was recorded.
pub fn add_latency(report: &mut PhaseReport, name: &str, latency: &Latency) {
    if let Some(summary) = latency.summary() {
        report.latency.insert(name.to_string(), summary);
    }
}
