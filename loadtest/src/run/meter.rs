//! The cost of a measured phase: wall clock, the relay's CPU and memory, this tool's CPU, bytes.
//!
//! It must never be running while a phase is prepared, and never count the wait for an answer that did not come.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::progress::Progress;
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
#[derive(Clone, Debug, Default)]
pub struct Metered {
    /// From the start to the last answer.
    pub elapsed: Duration,
    /// Time after the last answer during which another was awaited in vain.
    pub stalled: Duration,
    /// CPU of this tool.
    pub own: Duration,
    /// The relay; `None` if it is not watched or its process is gone.
    pub relay: Option<Cost>,
    /// Bytes from the relay.
    pub received: u64,
    /// Bytes to the relay.
    pub sent: u64,
}

impl Meter {
    /// Begins to measure.
    pub fn start(watched: &Watched, traffic: &Traffic) -> Self {
        let relay = watched.snapshot().ok().flatten();
        let (received, sent) = (traffic.received.get(), traffic.sent.get());
        Self { relay, received, sent, own: own_cpu(), started: Instant::now() }
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends the measurement. Its time ends with the last answer; a stall after it is reported apart.
    pub fn stop(&self, progress: &Progress, watched: &Watched, traffic: &Traffic) -> Metered {
        let elapsed = progress.last().saturating_duration_since(self.started);
        let stalled = if progress.is_done() { Duration::ZERO } else { progress.last().elapsed() };
        Metered { elapsed, stalled, ..self.stop_now(watched, traffic) }
    }

    /// Ends the measurement now.
    pub fn stop_now(&self, watched: &Watched, traffic: &Traffic) -> Metered {
        let elapsed = self.started.elapsed();
        let own = own_cpu().saturating_sub(self.own);
        let after = watched.snapshot().ok().flatten();
        let relay = after.zip(self.relay.as_ref()).map(|(after, before)| after.since(before));
        let (received, sent) = (traffic.received.get() - self.received, traffic.sent.get() - self.sent);
        Metered { elapsed, stalled: Duration::ZERO, own, relay, received, sent }
    }
}

/// Puts the report of a phase together.
pub fn phase_report(name: &str, unit: &str, units: u64, metered: Metered, account: &Rc<Account>) -> PhaseReport {
    let seconds = metered.elapsed.as_secs_f64();
    let per_unit = |seconds: f64| {
        if units == 0 { 0.0 } else { seconds * 1e6 / units as f64 }
    };
    let mut report = PhaseReport {
        name: name.to_string(),
        unit: unit.to_string(),
        units,
        seconds,
        stalled_s: metered.stalled.as_secs_f64(),
        per_second: if seconds > 0.0 { units as f64 / seconds } else { 0.0 },
        relay_cpu_us_per_unit: metered.relay.as_ref().filter(|_| units > 0).map(|cost| per_unit(cost.cpu_s)),
        relay: metered.relay,
        generator_cpu_us_per_unit: per_unit(metered.own.as_secs_f64()),
        generator_core_share: if seconds > 0.0 { metered.own.as_secs_f64() / seconds } else { 0.0 },
        received_bytes: metered.received,
        sent_bytes: metered.sent,
        ..PhaseReport::default()
    };
    report.add_findings(account);
    report
}

/// Adds a latency to a report, if anything was recorded, and says so if its values look like delayed acknowledgements.
pub fn add_latency(report: &mut PhaseReport, name: &str, latency: &Latency) {
    if let Some(summary) = latency.summary() {
        report.latency.insert(name.to_string(), summary);
    }
    if let Some(share) = latency.delayed_ack_share() {
        report.notes.push(format!(
            "{name}: {:.0} % of the values are between 39 and 46 ms, as of a relay that writes in pieces without \
             TCP_NODELAY and waits for the client's delayed acknowledgement",
            share * 100.0
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_wait_for_an_answer_that_never_comes_is_told_apart_from_the_work() {
        let traffic = Traffic { received: Cell::new(5), ..Traffic::default() };
        let meter = Meter::start(&Watched::default(), &traffic);
        let progress = Progress::new(1);
        progress.begin(meter.started());
        let answered = meter.started() + Duration::from_nanos(7);
        progress.touch(answered);
        while answered.elapsed() < Duration::from_millis(1) {}
        traffic.received.set(12);
        let metered = meter.stop(&progress, &Watched::default(), &traffic);
        assert_eq!((metered.elapsed, metered.received), (Duration::from_nanos(7), 7));
        assert!(metered.stalled >= Duration::from_millis(1));
        progress.finish();
        assert_eq!(meter.stop(&progress, &Watched::default(), &traffic).stalled, Duration::ZERO);
    }
}
