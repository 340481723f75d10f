//! What the relay did lately, for the dashboard: one point every two seconds while somebody is logged in, and one every
//! minute for a day. Its size is fixed: about 200 KiB of points, and an hour of histograms.
//!
//! It reads the metrics as an operator's Prometheus would, and adds nothing to what they count.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::metrics::{Buckets, Exposition};

/// The time between two points of each series.
pub const STEP: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);

/// By how much a timer may be early.
const GRAIN: Duration = Duration::from_millis(100);

/// Points that are kept: ten minutes and a day.
const RECENT: usize = 300;
const DAY: usize = 1440;

/// Minutes whose histograms and refusals are kept, for the figures of the last hour.
const HOUR: usize = 60;

/// Refusals that are told apart in an hour: there are fewer reasons.
const MAX_REASONS: usize = 100;

/// Counters, whose rate per second is kept.
const RATES: [(&str, &str); 8] = [
    ("events_in", "messages_total{verb=\"event\"}"),
    ("stored", "events_total{outcome=\"stored\"}"),
    ("events_out", "deliveries_total"),
    ("rows_out", "rows_sent_total"),
    ("queries", "messages_total{verb=\"req\"}"),
    ("bytes_in", "received_bytes_total"),
    ("bytes_out", "sent_bytes_total"),
    ("cpu", "process_cpu_seconds_total"),
];

const GAUGES: [(&str, &str); 3] =
    [("connections", "connections"), ("subscriptions", "subscriptions"), ("used_bytes", "store_used_bytes")];

/// Histograms of seconds, of which the median and the 99th percentile are kept, in milliseconds.
const LATENCIES: [(&str, &str); 4] = [
    ("event_ok", "event_ok_seconds_bucket"),
    ("req_eose", "req_eose_seconds_bucket"),
    ("commit", "commit_seconds_bucket"),
    ("fan_out", "fanout_seconds_bucket"),
];

/// Counters of refusals by reason.
const REFUSALS: [(&str, &str); 4] = [
    ("answer", "refusals_total"),
    ("event", "refused_events_total"),
    ("connection", "connections_turned_away_total"),
    ("close", "connections_closed_total"),
];

/// Outcomes of events that are refusals, too.
const REFUSED: [&str; 6] = ["deleted", "vanished", "expired", "invalid", "full", "failed"];

/// Values of a point: [`RATES`], [`GAUGES`], the refusals per second, the fullest queue in per cent, the link of a
/// stream that is farthest behind in seconds, and two for each of [`LATENCIES`].
const WIDTH: usize = RATES.len() + GAUGES.len() + 3 + 2 * LATENCIES.len();

/// The values of a point as they are told, so that a whole day costs no more than its bytes: numbers with commas in
/// between. One that is not known is left out.
type Point = Box<str>;

/// The names of the values of a point.
fn names() -> Vec<String> {
    let plain = RATES.iter().chain(&GAUGES).map(|(name, _)| (*name).to_owned());
    let others = ["refusals", "fullest_queue", "behind"].map(str::to_owned);
    let latencies = LATENCIES.iter().flat_map(|(name, _)| [format!("{name}_p50"), format!("{name}_p99")]);
    plain.chain(others).chain(latencies).collect()
}

/// Points at equal distances, the newest last.
struct Series {
    step: Duration,
    most: usize,
    points: VecDeque<Point>,
    /// When the newest was taken, and what the metrics were then.
    last: Option<(Instant, Exposition)>,
    /// The same in Unix seconds.
    end: u64,
}

/// The metrics at the end of a minute, as far as an hour is told of them.
struct Minute {
    latencies: [Buckets; LATENCIES.len()],
    refusals: BTreeMap<(&'static str, String), f64>,
}

/// See the module.
pub struct History {
    recent: Series,
    day: Series,
    minutes: VecDeque<Minute>,
}

impl Series {
    fn new(step: Duration, most: usize) -> Self {
        Self { step, most, points: VecDeque::with_capacity(most), last: None, end: 0 }
    }

    /// Whether the next point is due.
    fn is_due(&self, now: Instant) -> bool {
        self.last.as_ref().is_none_or(|(last, _)| now.duration_since(*last) + GRAIN >= self.step)
    }

    /// Adds a point. After a pause the series begins again: its points would have no time.
    fn add(&mut self, metrics: &Exposition, now: Instant, unix: u64) {
        if let Some((last, before)) = &self.last {
            let passed = now.duration_since(*last);
            if passed > 3 * self.step {
                self.points.clear();
            }
            if self.points.len() == self.most {
                self.points.pop_front();
            }
            self.points.push_back(point(before, metrics, passed));
        }
        (self.last, self.end) = (Some((now, metrics.clone())), unix);
    }

    /// The points that were taken later than `since`, in Unix seconds.
    fn told(&self, since: u64) -> Value {
        let step = self.step.as_secs();
        let count = (self.end.saturating_sub(since) / step.max(1)).min(self.points.len() as u64) as usize;
        let points: Vec<&str> = self.points.iter().skip(self.points.len() - count).map(|point| &**point).collect();
        json!({ "step_s": step, "end": self.end, "names": names(), "points": points.join(";"), "most": self.most })
    }
}

fn buckets(metrics: &Exposition) -> [Buckets; LATENCIES.len()] {
    LATENCIES.map(|(_, histogram)| Buckets::of(metrics.by_label(histogram)))
}

fn refusals(metrics: &Exposition) -> BTreeMap<(&'static str, String), f64> {
    let of = |(what, counter): (&'static str, &'static str)| {
        metrics.by_label(counter).map(move |(reason, count)| ((what, reason.to_owned()), count)).collect::<Vec<_>>()
    };
    let outcomes = of(("event", "events_total")).into_iter().filter(|((_, why), _)| REFUSED.contains(&&**why));
    REFUSALS.into_iter().flat_map(of).chain(outcomes).take(MAX_REASONS).collect()
}

/// What happened between two readings of the metrics.
fn point(before: &Exposition, after: &Exposition, passed: Duration) -> Point {
    let seconds = passed.as_secs_f64().max(1e-3);
    let rate = |counter: &str| ((after.value(counter) - before.value(counter)) / seconds).max(0.0);
    let sum = |metrics: &Exposition| metrics.by_label("refusals_total").map(|(_, count)| count).sum::<f64>();
    let fullest = queues(after).into_iter().map(|(_, entries, bound)| 100.0 * entries / bound.max(1.0));
    let behind = after.labelled("replication_behind_seconds").map(|(_, seconds)| seconds);
    let mut values = RATES.map(|(_, counter)| rate(counter)).to_vec();
    values.extend(GAUGES.map(|(_, gauge)| after.value(gauge)));
    values.push(((sum(after) - sum(before)) / seconds).max(0.0));
    values.extend([fullest.fold(0.0, f64::max), behind.fold(0.0, f64::max)]);
    for (mut after, before) in buckets(after).into_iter().zip(buckets(before)) {
        after.subtract(&before);
        values.extend([0.5, 0.99].map(|share| after.quantile(share).map_or(f64::NAN, |bound| bound * 1e3)));
    }
    debug_assert_eq!(values.len(), WIDTH, "each name has a value");
    let written = |value: f64| {
        // Seven digits do for a plot.
        let rounded = (f64::from(value as f32) * 1e3).round() / 1e3;
        if rounded.is_finite() { rounded.to_string() } else { String::new() }
    };
    values.into_iter().map(written).collect::<Vec<_>>().join(",").into()
}

/// The queues with what waits in them, and their bounds.
fn queues(metrics: &Exposition) -> Vec<(String, f64, f64)> {
    let bounds: BTreeMap<&str, f64> = metrics.by_label("queue_bound").collect();
    let entries = metrics.by_label("queue_entries");
    entries.map(|(name, entries)| (name.to_owned(), entries, bounds.get(name).copied().unwrap_or_default())).collect()
}

impl Default for History {
    fn default() -> Self {
        Self {
            recent: Series::new(STEP, RECENT),
            day: Series::new(MINUTE, DAY),
            minutes: VecDeque::with_capacity(HOUR),
        }
    }
}

impl History {
    /// Whether a point is to be taken now: of each minute, and every two seconds while somebody `looks`.
    #[must_use]
    pub fn is_due(&self, looks: bool, now: Instant) -> bool {
        self.day.is_due(now) || (looks && self.recent.is_due(now))
    }

    /// Takes the points that are due.
    pub fn take(&mut self, metrics: &Exposition, now: Instant, unix: u64) {
        if self.recent.is_due(now) {
            self.recent.add(metrics, now, unix);
        }
        if self.day.is_due(now) {
            self.day.add(metrics, now, unix);
            if self.minutes.len() == HOUR {
                self.minutes.pop_front();
            }
            self.minutes.push_back(Minute { latencies: buckets(metrics), refusals: refusals(metrics) });
        }
    }

    /// The points of the last minutes, or of the last day, that are later than `since`.
    #[must_use]
    pub fn series(&self, of_day: bool, since: u64) -> Value {
        if of_day { self.day.told(since) } else { self.recent.told(since) }
    }

    /// Percentiles of the last hour, or of the time since the first minute, in milliseconds.
    #[must_use]
    pub fn latencies(&self, metrics: &Exposition) -> Value {
        let first = self.minutes.front();
        let told = buckets(metrics).into_iter().enumerate().map(|(place, mut passed)| {
            if let Some(first) = first {
                passed.subtract(&first.latencies[place]);
            }
            let of = |share| passed.quantile(share).map(|bound| bound * 1e3);
            let figures = json!({ "p50": of(0.5), "p90": of(0.9), "p99": of(0.99), "count": passed.count() });
            (LATENCIES[place].0.to_owned(), figures)
        });
        Value::Object(told.collect())
    }

    /// Refusals of the last hour, the most frequent first: what refused, why, and how often.
    #[must_use]
    pub fn refusals(&self, metrics: &Exposition) -> Value {
        let former = self.minutes.front().map(|minute| &minute.refusals);
        let mut counts: Vec<_> = refusals(metrics)
            .into_iter()
            .map(|(reason, count)| {
                let before = former.and_then(|former| former.get(&reason)).copied().unwrap_or_default();
                (reason, count - before)
            })
            .filter(|(_, count)| *count > 0.0)
            .collect();
        counts.sort_by(|one, other| other.1.total_cmp(&one.1));
        counts.into_iter().map(|((what, reason), count)| json!([what, reason, count])).collect()
    }

    /// How much of the last hour these figures cover, in minutes.
    #[must_use]
    pub fn minutes(&self) -> usize {
        self.minutes.len()
    }
}

/// What waits in the queues, and how far streams and a cluster are, as the metrics tell.
#[must_use]
pub fn now(metrics: &Exposition, is_node: bool) -> (Value, Value) {
    let queues = queues(metrics).into_iter().map(|(name, entries, bound)| json!([name, entries, bound])).collect();
    let behind: BTreeMap<&str, f64> = metrics.labelled("replication_behind_events").collect();
    let seconds: BTreeMap<&str, f64> = metrics.labelled("replication_behind_seconds").collect();
    let of = |all: &BTreeMap<&str, f64>, link: &str| all.get(link).copied();
    let links = metrics.labelled("replication_connected").map(|(link, connected)| {
        json!({ "link": link, "connected": connected > 0.0, "behind_events": of(&behind, link),
            "behind_seconds": of(&seconds, link) })
    });
    // The metrics of the cluster are there without one, too.
    let cluster = is_node.then(|| {
        json!({ "link": "cluster", "connected": metrics.value("cluster_connected") > 0.0,
            "behind_events": metrics.value("cluster_behind_events"), "behind_seconds": null })
    });
    (queues, links.chain(cluster).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(events: u64) -> Exposition {
        Exposition::read(&format!(
            "weir_messages_total{{verb=\"event\"}} {events}\n\
             weir_connections 3\n\
             weir_refusals_total{{prefix=\"blocked\"}} {}\n\
             weir_queue_entries{{queue=\"ingest\"}} 40\nweir_queue_bound{{queue=\"ingest\"}} 400\n\
             weir_event_ok_seconds_bucket{{le=\"0.001\"}} {events}\n\
             weir_event_ok_seconds_bucket{{le=\"+Inf\"}} {events}\n",
            2 * events
        ))
    }

    fn value(series: &Value, name: &str) -> Vec<Option<f64>> {
        let place = names().iter().position(|known| known == name).expect("a name");
        let points = series["points"].as_str().expect("a text").split(';').filter(|point| !point.is_empty());
        points.map(|point| point.split(',').nth(place).expect("a value").parse().ok()).collect()
    }

    #[test]
    fn a_day_of_points_takes_no_more_room_than_its_bound() {
        let (mut history, start) = (History::default(), Instant::now());
        for second in (0..2 * 86_400).step_by(2) {
            let now = start + Duration::from_secs(second);
            if history.is_due(true, now) {
                history.take(&metrics(second), now, 1_000_000 + second);
            }
        }
        let held = [history.recent.points.len(), history.day.points.len(), history.minutes.len()];
        assert_eq!(held, [RECENT, DAY, HOUR]);
        assert_eq!([history.recent.points.capacity(), history.day.points.capacity()], [RECENT, DAY]);
        assert_eq!(names().len(), WIDTH);
        let day = history.series(true, 0);
        assert_eq!((day["step_s"].as_u64(), value(&day, "events_in")), (Some(60), vec![Some(1.0); DAY]));
        let points = day["points"].as_str().expect("a text");
        assert!(points.split(';').all(|point| point.split(',').count() == WIDTH), "{points}");
        assert!(points.len() < 200 << 10, "{} bytes", points.len());
        let minute = metrics(2 * 86_400 + 60);
        assert_eq!(history.latencies(&minute)["event_ok"]["p99"], json!(1.0));
        assert!(history.latencies(&minute)["event_ok"]["count"].as_f64() < Some(3_700.0), "of an hour alone");
        assert_eq!(history.refusals(&minute)[0][1], json!("blocked"));
    }

    #[test]
    fn nobody_looks_and_a_point_is_taken_each_minute_alone() {
        let (mut history, start) = (History::default(), Instant::now());
        let mut taken = 0;
        for second in (0..=600).step_by(2) {
            let now = start + Duration::from_secs(second);
            if history.is_due(false, now) {
                history.take(&metrics(second), now, second);
                taken += 1;
            }
        }
        assert_eq!(taken, 11);
        assert!(history.recent.points.len() <= 1, "points of minutes are none of seconds");
    }

    #[test]
    fn an_event_that_finds_no_room_is_among_the_refusals() {
        let text = "weir_events_total{outcome=\"stored\"} 9\nweir_events_total{outcome=\"full\"} 3\n\
            weir_events_total{outcome=\"refused\"} 7\nweir_refused_events_total{rule=\"kind\"} 7\n";
        let told = History::default().refusals(&Exposition::read(text));
        assert_eq!(told, json!([["event", "kind", 7.0], ["event", "full", 3.0]]));
    }

    #[test]
    fn how_far_streams_and_the_cluster_are_is_told_where_there_are_some() {
        let text = "weir_cluster_connected 1\nweir_cluster_behind_events 7\n\
            weir_replication_connected{stream=\"a\"} 0\nweir_replication_behind_events{stream=\"a\"} 9\n\
            weir_replication_behind_seconds{stream=\"a\"} 3\n";
        let link = |link, connected, events: f64, seconds: Option<f64>| json!({ "link": link, "connected": connected, "behind_events": events, "behind_seconds": seconds });
        let (stream, node) = (link("{stream=\"a\"}", false, 9.0, Some(3.0)), link("cluster", true, 7.0, None));
        assert_eq!(now(&Exposition::read(text), true).1, json!([stream, node]));
        assert_eq!(now(&Exposition::read(text), false).1, json!([stream]));
        assert_eq!(now(&Exposition::read(""), false).1, json!([]));
    }

    #[test]
    fn only_points_that_are_later_are_told_and_what_is_not_known_is_null() {
        let (mut history, start) = (History::default(), Instant::now());
        for second in [0, 2, 4, 6] {
            history.take(&metrics(100), start + Duration::from_secs(second), 100 + second);
        }
        let told = |since| value(&history.series(false, since), "connections").len();
        assert_eq!([0, 100, 102, 104, 106, 999].map(told), [3, 3, 2, 1, 0, 0]);
        let series = history.series(false, 0);
        assert_eq!(value(&series, "event_ok_p50"), [None; 3]);
        assert_eq!(value(&series, "fullest_queue")[0], Some(10.0));
        assert_eq!(value(&series, "connections")[0], Some(3.0));
    }
}
