//! Compares the metrics with the documentation and the dashboard.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const TABLE: &str = include_str!("../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../config/grafana.json");

/// Every metric with at least one sample.
fn rendered() -> String {
    let metrics = Metrics::new();
    metrics.refusal("blocked");
    for &queue in Queue::ALL {
        metrics.queue_len.get_or_create(&QueueLabel { queue }).set(1);
        metrics.queue_bound.get_or_create(&QueueLabel { queue }).set(1);
    }
    metrics.store_bytes.get_or_create(&TableLabel { table: "event" }).set(1);
    metrics.store_entries.get_or_create(&TableLabel { table: "event" }).set(1);
    let link = LinkLabel { stream: "mirror".into(), url: "wss://relay.example.com".into() };
    metrics.replication_connected.get_or_create(&link).set(1);
    metrics.replication_behind_events.get_or_create(&link).set(0);
    metrics.replication_behind_seconds.get_or_create(&link).set(0);
    metrics.replication_received.get_or_create(&link.received("stored")).inc();
    for &result in NodeSent::ALL {
        metrics.cluster_sent.get_or_create(&NodeSentLabel { result }).inc();
    }
    for &outcome in NodeReceived::ALL {
        metrics.cluster_received.get_or_create(&NodeReceivedLabel { outcome }).inc();
    }
    for &result in Sent::ALL {
        metrics.replication_sent.get_or_create(&link.sent(result)).inc();
    }
    metrics.render()
}

/// A metric as exposed: its type, and its labels with their values.
#[derive(PartialEq, Eq, Debug)]
struct Exposed {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// The metrics of an exposition by the names that queries use: counters end in `_total`, `build` in `_info`.
fn exposed(text: &str) -> BTreeMap<String, Exposed> {
    let mut all = BTreeMap::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let end = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            all.insert(format!("{name}{end}"), Exposed { kind: kind.into(), labels: BTreeMap::new() });
        } else if let Some((name, rest)) = line.split_once('{')
            && let Some((labels, _)) = rest.split_once('}')
        {
            samples.push((name.to_owned(), labels.to_owned()));
        }
    }
    for (name, labels) in samples {
        let Some(metric) = all.get_mut(&name) else {
            assert!(name.ends_with("_bucket"), "{name} is a sample of no metric");
            continue;
        };
        for label in labels.split(',') {
            let (label, value) = label.split_once('=').expect("a label and its value");
            metric.labels.entry(label.into()).or_default().insert(value.trim_matches('"').into());
        }
    }
    all
}

/// The cells of the rows of the page's tables whose first cell is a name in backquotes.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| line.trim_end_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
}

#[test]
fn the_page_lists_every_metric_with_its_type_and_labels() {
    let exposed = exposed(&rendered());
    let have: BTreeSet<[String; 3]> = exposed
        .into_iter()
        .map(|(name, metric)| [name, metric.kind, metric.labels.into_keys().collect::<Vec<_>>().join(", ")])
        .collect();
    let documented: BTreeSet<[String; 3]> = rows(TABLE)
        .filter(|cells| cells[0].starts_with("weir_"))
        .map(|cells| {
            assert_eq!(cells.len(), 5, "name, type, labels, meaning, when to worry: {cells:?}");
            [cells[0].into(), cells[1].into(), cells[2].into()]
        })
        .collect();
    assert_eq!(documented, have);
}

#[test]
fn the_page_lists_every_value_of_every_closed_label() {
    let open = [
        "prefix",
        "table",
        "version",
        "evicted_events.rule",
        "evicted_bytes.rule",
        ".stream",
        ".url",
        "replication_received.outcome",
    ];
    let have: BTreeSet<(String, String)> = exposed(&rendered())
        .into_iter()
        .flat_map(|(name, metric)| {
            metric.labels.into_iter().flat_map(move |(label, values)| {
                let label = format!("{}.{label}", name.trim_start_matches("weir_").trim_end_matches("_total"));
                values.into_iter().map(move |value| (label.clone(), value))
            })
        })
        .filter(|(label, _)| !open.iter().any(|open| label.ends_with(open)) && !label.starts_with("queue_bound"))
        .collect();
    let documented: BTreeSet<(String, String)> = rows(TABLE)
        .filter(|cells| cells[0].contains('.'))
        .map(|cells| (cells[0].into(), cells[1].trim_matches('`').into()))
        .collect();
    assert_eq!(documented, have);
}

#[test]
fn the_dashboard_queries_only_metrics_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    assert_eq!(dashboard["uid"], "weir-relay");
    let known = exposed(&rendered());
    let mut panels = 0;
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            panels += 1;
            let query = target["expr"].as_str().expect("a query");
            let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let names: Vec<&str> = words.filter(|word| word.starts_with("weir_")).collect();
            assert!(!names.is_empty(), "{query} queries no metric of weir");
            for name in names {
                let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
                let is_histogram = |base: &str| known.get(base).is_some_and(|metric| metric.kind == "histogram");
                assert!(known.contains_key(name) || base.is_some_and(is_histogram), "{query}: there is no {name}");
            }
        }
    }
    assert!(panels >= 12, "the dashboard has only {panels} queries");
}

/// Metrics that the dashboard does not show, and why.
const NOT_SHOWN: [&str; 2] = [
    // The variable `instance` is made of it.
    "weir_build_info",
    // A constant of the configuration.
    "weir_store_map_bytes",
];

#[test]
fn the_dashboard_shows_every_metric_and_no_panel_covers_another() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let expressions = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: String = expressions.map(|target| format!("{} ", target["expr"].as_str().expect("a query"))).collect();
    let words: BTreeSet<&str> = queries.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let is_shown = |name: &str| ["", "_bucket", "_sum"].iter().any(|end| words.contains(&*format!("{name}{end}")));
    let hidden: Vec<String> = exposed(&rendered()).into_keys().filter(|name| !is_shown(name)).collect();
    assert_eq!(hidden, NOT_SHOWN);

    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
        assert!(x + w <= 24, "{} is too wide", panel["title"]);
        for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
            assert!(taken.insert(cell), "{} covers another panel at {cell:?}", panel["title"]);
        }
    }
}

#[test]
fn counted_events_are_rendered_with_their_outcome() {
    let metrics = Metrics::new();
    metrics.event(EventOutcome::Stored, 2);
    metrics.message(Verb::NegOpen);
    let text = metrics.render();
    assert!(text.contains("weir_events_total{outcome=\"stored\"} 2\n"), "{text}");
    assert!(text.contains("weir_messages_total{verb=\"neg-open\"} 1\n"), "{text}");
    assert!(text.contains("weir_events_total{outcome=\"refused\"} 0\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}
