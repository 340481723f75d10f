//! Throughput against latency: a scenario at rising rates, until the relay does not keep up.
//!
//! It must never take the generator's limit for the relay's.

use anyhow::{Result, bail};

use super::plan;
use super::results::{Step, Sweep};
use crate::report::table::main_latency;
use crate::report::{PhaseReport, Report};

/// A relay keeps up if it answers at least this share of what is asked.
const KEEPS_UP: f64 = 0.95;
/// Above this share of a core, the generator may be the limit.
const BUSY: f64 = 0.9;
/// Steps beyond the knee, which show how it breaks.
const BEYOND: usize = 1;

/// Lets each of the relays do the scenario at each rate up to its knee; `measure` runs it for a relay at a rate, and
/// returns nothing if that could not be done.
///
/// # Errors
/// If `measure` fails, or the scenario has not one reported phase.
pub fn run(
    sweep: &plan::Sweep,
    relays: usize,
    mut measure: impl FnMut(usize, f64) -> Result<Option<Report>>,
) -> Result<Sweep> {
    let mut swept = Sweep { scenario: sweep.scenario.clone(), ..Sweep::default() };
    for relay in 0..relays {
        let (mut steps, mut rate, mut beyond) = (Vec::new(), sweep.from, 0);
        while rate <= sweep.to && beyond < BEYOND {
            let Some(report) = measure(relay, rate)? else { break };
            let [phase] = &report.phases[..] else {
                bail!("sweep {}: it has {} reported phases, and not one", sweep.scenario, report.phases.len())
            };
            swept.unit.clone_from(&phase.unit);
            let step = step(phase, rate, sweep.p99_ms);
            beyond += usize::from(!step.kept_up);
            steps.push(step);
            rate *= sweep.factor;
        }
        swept.relays.push(steps);
    }
    Ok(swept)
}

fn step(phase: &PhaseReport, rate: f64, bound_ms: f64) -> Step {
    let ms = |pick: fn(&crate::latency::Summary) -> f64| main_latency(phase).map_or(f64::MAX, |l| pick(l) / 1000.0);
    let p99_ms = ms(|latency| latency.p99_us);
    let is_right = phase.violations.is_empty();
    Step {
        rate,
        per_second: phase.per_second,
        p50_ms: ms(|latency| latency.p50_us),
        p99_ms,
        kept_up: is_right && phase.per_second >= KEEPS_UP * rate && p99_ms <= bound_ms,
        generator_limited: phase.generator_core_share > BUSY,
    }
}

/// The last rate that a relay kept up with, before the first that it did not.
pub fn knee(steps: &[Step]) -> Option<&Step> {
    steps.iter().take_while(|step| step.kept_up).last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;

    #[test]
    fn a_step_is_kept_up_with_if_it_is_answered_in_time_and_rightly() {
        let mut latency = Latency::new();
        latency.record(std::time::Duration::from_millis(5));
        let latency = [("EVENT to OK".to_string(), latency.summary().expect("a value"))].into();
        let phase = PhaseReport { per_second: 96.0, latency, ..PhaseReport::default() };
        assert!(step(&phase, 100.0, 10.0).kept_up);
        assert!(!step(&phase, 102.0, 10.0).kept_up, "too few answers");
        assert!(!step(&phase, 100.0, 4.0).kept_up, "too late");
        let wrong = PhaseReport { violations: [("missing_ok".to_string(), 1)].into(), ..phase };
        assert!(!step(&wrong, 100.0, 10.0).kept_up, "wrong");
    }

    #[test]
    fn the_knee_is_the_last_rate_before_the_first_that_is_too_high() {
        let step = |rate: f64, kept_up: bool| Step { rate, kept_up, ..Step::default() };
        let steps = [step(1.0, true), step(2.0, true), step(3.0, false), step(4.0, true)];
        assert_eq!(knee(&steps).map(|step| step.rate), Some(2.0));
        assert_eq!(knee(&steps[2..]), None);
    }
}
