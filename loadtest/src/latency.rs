//! Latency as an HdrHistogram in nanoseconds, and its summary for reports.
//!
//! It must never be fed from the actual send time in an open-loop run: that hides the queue (coordinated omission).

use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One microsecond to two minutes at three significant digits; longer values count as two minutes.
const HIGHEST_NS: u64 = 120_000_000_000;

/// The quantiles of a curve.
const CURVE: [f64; 18] =
    [0.0, 0.1, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

/// What an answer takes that waits for an acknowledgement: 40 ms on Linux, and the time around it.
const DELAYED_ACK: Range<Duration> = Duration::from_millis(39)..Duration::from_millis(46);
/// Such values within this time are one occurrence.
const EPISODE: Duration = Duration::from_millis(10);
/// This many of them are no accident.
const MIN_EPISODES: u64 = 20;

/// A recorder.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
    /// How often values looked like delayed acknowledgements; those within [`EPISODE`] count once.
    late_episodes: u64,
    /// When that was last counted.
    late_since: Option<Instant>,
}

/// The summary of a recorder in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Largest.
    pub max_us: f64,
    /// `(quantile, microseconds)`, ascending.
    pub curve: Vec<(f64, f64)>,
}

impl Latency {
    /// An empty recorder.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1000, HIGHEST_NS, 3).expect("constant bounds are in range");
        Self { histogram, late_episodes: 0, late_since: None }
    }

    /// Records one value.
    pub fn record(&mut self, value: Duration) {
        self.histogram.saturating_record(value.as_nanos() as u64);
        if DELAYED_ACK.contains(&value) {
            self.note_late(Instant::now());
        }
    }

    fn note_late(&mut self, at: Instant) {
        if self.late_since.is_none_or(|since| at.saturating_duration_since(since) >= EPISODE) {
            self.late_since = Some(at);
            self.late_episodes += 1;
        }
    }

    /// Forgets everything, for the next sample of a long run.
    pub fn clear(&mut self) {
        self.histogram.reset();
        (self.late_episodes, self.late_since) = (0, None);
    }

    /// The share of the values that look like Linux's delayed acknowledgements (40 ms, TCP_DELACK_MIN): `None` unless
    /// they are a twentieth of all, far more frequent than the values on either side of them, and come again and again:
    /// one burst or one stall has many such values too, but only once.
    pub fn delayed_ack_share(&self) -> Option<f64> {
        let count = |from_ms: u64, to_ms: u64| self.histogram.count_between(from_ms * 1_000_000, to_ms * 1_000_000);
        // Seven milliseconds each.
        let (below, within, above) = (count(31, 37), count(39, 46), count(48, 54));
        let share = within as f64 / self.histogram.len().max(1) as f64;
        (self.late_episodes >= MIN_EPISODES && share >= 0.05 && within > 5 * below.max(above)).then_some(share)
    }

    /// The summary, or `None` if nothing was recorded.
    pub fn summary(&self) -> Option<Summary> {
        let histogram = &self.histogram;
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Some(Summary {
            count: histogram.len(),
            mean_us: histogram.mean() / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
            curve: CURVE.iter().map(|&quantile| (quantile, at(quantile))).collect(),
        })
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_percentiles_of_the_values() {
        let mut latency = Latency::new();
        for us in 1..=10_000 {
            latency.record(Duration::from_micros(us));
        }
        let summary = latency.summary().expect("values were recorded");
        assert_eq!(summary.count, 10_000);
        for (value, expected) in [
            (summary.p50_us, 5000.0),
            (summary.p90_us, 9000.0),
            (summary.p99_us, 9900.0),
            (summary.p999_us, 9990.0),
            (summary.max_us, 10_000.0),
            (summary.mean_us, 5000.5),
        ] {
            assert!((value - expected).abs() / expected < 0.002, "{value} for {expected}");
        }
    }

    #[test]
    fn answers_that_wait_for_a_delayed_acknowledgement_are_recognised() {
        let record = |values: &[(u64, usize)]| {
            let mut latency = Latency::new();
            for &(us, times) in values {
                (0..times).for_each(|_| latency.record(Duration::from_micros(us)));
            }
            let start = Instant::now();
            (1..=MIN_EPISODES as u32).for_each(|number| latency.note_late(start + EPISODE * number));
            latency
        };
        assert_eq!(record(&[(500, 300), (40_400, 50), (43_900, 50)]).delayed_ack_share(), Some(0.25));
        // A relay that is slow without a peak, too few values, and none.
        let slow: Vec<(u64, usize)> = (1..100).map(|ms| (ms * 1000, 10)).collect();
        assert_eq!(record(&slow).delayed_ack_share(), None);
        assert_eq!(record(&[(500, 300), (40_400, 10)]).delayed_ack_share(), None);
        assert_eq!(record(&[]).delayed_ack_share(), None);
        // A burst that ended after 45 ms, however many values it had.
        let mut burst = Latency::new();
        (0..10_000).for_each(|_| burst.histogram.saturating_record(45_000_000));
        let start = Instant::now();
        (0..7).for_each(|ms| burst.note_late(start + Duration::from_millis(ms)));
        assert_eq!((burst.late_episodes, burst.delayed_ack_share()), (1, None));
    }

    #[test]
    fn values_beyond_the_bounds_saturate_and_nothing_gives_no_summary() {
        let mut latency = Latency::new();
        assert_eq!(latency.summary(), None);
        latency.record(Duration::from_secs(1000));
        let max = latency.summary().expect("one value").max_us;
        assert!((max - 120e6).abs() / 120e6 < 0.002, "{max}");
    }
}
