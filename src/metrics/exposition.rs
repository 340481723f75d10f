//! Reads the text that [`Metrics::render`](super::Metrics::render) writes, for those who show figures: histograms are
//! told there alone.
//!
//! The text may come over a socket: what is missing is absent or zero.

use std::collections::BTreeMap;

/// Every sample of the metrics by its name and labels, without the prefix `weir_`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Exposition(BTreeMap<String, f64>);

impl Exposition {
    /// Reads the text.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (name, value) = line.strip_prefix("weir_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(values.collect())
    }

    /// A sample; 0 if there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The samples of a metric with their labels as they are written, `{a="1",b="2"}`.
    pub fn labelled<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let range = self.0.range(format!("{metric}{{")..).take_while(move |(name, _)| name.starts_with(metric));
        range.filter_map(move |(name, value)| Some((name.strip_prefix(metric)?, *value)))
    }

    /// The samples of a metric with one label, by the label's value.
    pub fn by_label<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.labelled(metric).filter_map(|(labels, value)| {
            let label = labels.strip_prefix('{')?.strip_suffix("\"}")?;
            Some((label.split_once("=\"")?.1, value))
        })
    }
}

/// The buckets of a histogram: how many observations were at most each bound, the last of which is infinite.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Buckets by their bounds as they are written.
    pub fn of<'a>(labelled: impl Iterator<Item = (&'a str, f64)>) -> Self {
        let mut buckets: Vec<(f64, f64)> = labelled
            .filter_map(|(label, count)| {
                let bound = if label == "+Inf" { f64::INFINITY } else { label.parse().ok()? };
                Some((bound, count))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self(buckets)
    }

    /// Leaves what was observed since `before`.
    pub fn subtract(&mut self, before: &Self) {
        for (bound, count) in &mut self.0 {
            let former = before.0.iter().find(|(former, _)| *former == *bound);
            *count -= former.map_or(0.0, |(_, count)| *count);
        }
    }

    /// How many observations there are.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// The upper bound of the bucket in which this share of the observations ends; `None` if there are none, or it has
    /// no bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.count();
        let found = self.0.iter().find(|(_, count)| all > 0.0 && *count >= share * all);
        found.map(|(bound, _)| *bound).filter(|bound| bound.is_finite())
    }
}
