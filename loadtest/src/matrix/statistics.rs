//! Medians, spreads, and ratios with their confidence intervals.
//!
//! It must never make a figure look surer than it is: with one repeat there is no interval.

use std::collections::BTreeMap;

/// A figure over the repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value, or the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of these values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let (&low, &high) = (sorted.first()?, sorted.last()?);
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, low, high })
    }
}

/// A ratio of two relays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The geometric mean of the ratios of each repeat.
    pub mean: f64,
    /// Its confidence interval at 95 %; `None` with fewer than two repeats.
    pub interval: Option<(f64, f64)>,
}

/// The two-sided 95 % quantiles of Student's t for 1 to 10 degrees of freedom.
const STUDENT: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
/// For more degrees: that of 11, which errs to the wider side.
const STUDENT_BEYOND: f64 = 2.201;

impl Ratio {
    /// `above / below`, repeat by repeat: both did the same work one after the other, so what disturbed one repeat
    /// disturbed both. A repeat that one of them lacks does not count. The interval is that of a mean of logarithms
    /// whose errors are normal.
    pub fn of(above: &BTreeMap<usize, f64>, below: &BTreeMap<usize, f64>) -> Option<Self> {
        let pairs = above.iter().filter_map(|(repeat, a)| Some((a, below.get(repeat)?)));
        let pairs = pairs.filter(|(a, b)| **a > 0.0 && **b > 0.0);
        let logs: Vec<f64> = pairs.map(|(a, b)| (a / b).ln()).collect();
        let count = logs.len() as f64;
        let mean = (!logs.is_empty()).then(|| logs.iter().sum::<f64>() / count)?;
        let interval = (logs.len() > 1).then(|| {
            let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let half = STUDENT.get(logs.len() - 2).unwrap_or(&STUDENT_BEYOND) * (variance / count).sqrt();
            ((mean - half).exp(), (mean + half).exp())
        });
        Some(Self { mean: mean.exp(), interval })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between_the_lowest_and_the_highest() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_is_sure_if_each_repeat_says_the_same_and_unsure_otherwise() {
        let close = |ratio: f64, wanted: f64| assert!((ratio - wanted).abs() < 1e-3, "{ratio} for {wanted}");
        let of = |above: &[f64], below: &[f64]| {
            let by_repeat = |values: &[f64]| values.iter().copied().enumerate().collect();
            Ratio::of(&by_repeat(above), &by_repeat(below))
        };
        let same = of(&[2.0, 4.0, 6.0], &[1.0, 2.0, 3.0]).expect("pairs");
        close(same.mean, 2.0);
        let (low, high) = same.interval.expect("three repeats");
        close(low, 2.0);
        close(high, 2.0);
        // By hand: logs 0, ln 2 and ln 4 have the mean ln 2 and the deviation ln 2, so half is 4.303 ln 2 / sqrt 3.
        let apart = of(&[1.0, 2.0, 4.0], &[1.0, 1.0, 1.0]).expect("pairs");
        let (low, high) = apart.interval.expect("three repeats");
        close(apart.mean, 2.0);
        close(low, 2.0_f64.powf(1.0 - 4.303 / 3.0_f64.sqrt()));
        close(high, 2.0_f64.powf(1.0 + 4.303 / 3.0_f64.sqrt()));
        assert_eq!(of(&[1.0, 9.0], &[2.0]), Some(Ratio { mean: 0.5, interval: None }));
        assert_eq!(of(&[0.0], &[2.0]), None);
    }
}
