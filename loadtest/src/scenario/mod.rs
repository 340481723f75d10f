//! Scenarios: TOML files that name the phases of a run. The built-in ones are files of the same form.
//!
//! It must never fill in a key that the file misspells: an unknown key is an error that names it.

mod check;
pub mod overrides;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use check::check;
use serde::{Deserialize, Serialize};

use crate::query::shape::Shape;

/// A scenario file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name, used in reports.
    pub name: String,
    /// One or two sentences: what it models and what its figures mean.
    pub about: String,
    /// The events to generate when no `--corpus` is given.
    #[serde(default)]
    pub corpus: CorpusSpec,
    /// The phases, in order.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

/// What to generate when no corpus file is given.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusSpec {
    /// How many events.
    pub events: u64,
    /// Seed; the run's own seed if absent.
    pub seed: Option<u64>,
}

impl Default for CorpusSpec {
    fn default() -> Self {
        Self { events: 20_000, seed: None }
    }
}

/// One phase.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(tag = "work", rename_all = "kebab-case")]
pub enum Phase {
    /// Send events, wait for their OKs.
    Publish(Publish),
    /// Send REQs, read to EOSE, CLOSE.
    Query(Query),
    /// Publish to live subscribers.
    Fanout(Fanout),
    /// Open connections and hold them.
    Connect(Connect),
    /// Everything at once.
    Mixed(Mixed),
}

/// Which events a publish phase sends.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The corpus, in order; again from the start when it ends.
    Corpus,
    /// Events signed for this run.
    Fresh,
}

/// What the OKs have to say.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// True, and not a duplicate.
    Stored,
    /// True or false with `duplicate:`.
    Duplicate,
    /// True.
    Any,
}

/// Settings of a publish phase.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// Name in the report.
    pub name: String,
    /// Which events.
    pub events: Source,
    /// What the OKs have to say.
    pub expect: Expect,
    /// Connections that share the events.
    pub connections: usize,
    /// Closed loop: unanswered events per connection.
    pub in_flight: usize,
    /// Open loop: events per second over all connections; 0 for a closed loop.
    pub rate: f64,
    /// How many events; 0 for the whole corpus (fresh: 20,000).
    pub count: usize,
    /// Stop sending after this many seconds; 0 for no limit.
    pub duration_s: f64,
    /// False for a phase that only prepares the relay.
    pub report: bool,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            name: "publish".into(),
            events: Source::Corpus,
            expect: Expect::Stored,
            connections: 8,
            in_flight: 64,
            rate: 0.0,
            count: 0,
            duration_s: 0.0,
            report: true,
        }
    }
}

/// Settings of a query phase.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Name in the report.
    pub name: String,
    /// Shapes and their weights.
    pub shapes: BTreeMap<Shape, u32>,
    /// Connections.
    pub connections: usize,
    /// Closed loop: open REQs per connection.
    pub in_flight: usize,
    /// Open loop: queries per second over all connections; 0 for a closed loop.
    pub rate: f64,
    /// How many queries; 0 for no limit other than `duration_s`.
    pub count: usize,
    /// Stop asking after this many seconds; 0 for no limit other than `count`.
    pub duration_s: f64,
    /// Different queries to ask in turn.
    pub distinct: usize,
    /// Compare answers with the corpus row by row; false if the relay holds other events too.
    pub exact: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            name: "query".into(),
            shapes: BTreeMap::new(),
            connections: 8,
            in_flight: 1,
            rate: 0.0,
            count: 0,
            duration_s: 10.0,
            distinct: 400,
            exact: true,
        }
    }
}

/// Settings of a fan-out phase.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Fanout {
    /// Name in the report.
    pub name: String,
    /// Connections that subscribe.
    pub subscribers: usize,
    /// Subscriptions on each of them.
    pub subscriptions: usize,
    /// Authors per subscription; 0 for subscriptions that match every event of the phase.
    pub authors: usize,
    /// With `authors`: how many subscriptions an event matches on average.
    pub matches_per_event: f64,
    /// Connections that publish.
    pub publishers: usize,
    /// Open loop: events per second over all publishers; 0 to send everything at once.
    pub rate: f64,
    /// How many events; 0 for `rate * duration_s`.
    pub count: usize,
    /// Length of the phase in seconds, if `count` is 0.
    pub duration_s: f64,
    /// Of the subscribers, how many stop reading until everybody else is served.
    pub slow: usize,
    /// Least length of an event's content in bytes.
    pub content_bytes: usize,
}

impl Default for Fanout {
    fn default() -> Self {
        Self {
            name: "fan-out".into(),
            subscribers: 200,
            subscriptions: 1,
            authors: 0,
            matches_per_event: 2.5,
            publishers: 1,
            rate: 200.0,
            count: 0,
            duration_s: 10.0,
            slow: 0,
            content_bytes: 0,
        }
    }
}

/// Settings of a connect phase.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Connect {
    /// Name in the report.
    pub name: String,
    /// Connections to hold.
    pub connections: usize,
    /// Subscriptions on each.
    pub subscriptions: usize,
    /// Authors per subscription.
    pub authors: usize,
    /// Connections being opened at the same time.
    pub opening: usize,
    /// Seconds to hold them before memory is read.
    pub hold_s: f64,
}

impl Default for Connect {
    fn default() -> Self {
        Self { name: "connect".into(), connections: 1000, subscriptions: 1, authors: 1, opening: 64, hold_s: 3.0 }
    }
}

/// Settings of a mixed phase; every rate is open loop.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Mixed {
    /// Name in the report.
    pub name: String,
    /// Length in seconds.
    pub duration_s: f64,
    /// Events per second over all publishers.
    pub events_per_s: f64,
    /// How many of a thousand events the relay has already.
    pub duplicate_permille: usize,
    /// Connections that publish.
    pub publishers: usize,
    /// Queries per second over all queriers.
    pub queries_per_s: f64,
    /// Connections that query.
    pub queriers: usize,
    /// Shapes and their weights.
    pub shapes: BTreeMap<Shape, u32>,
    /// Different queries to ask in turn.
    pub distinct: usize,
    /// Connections with a live follow feed.
    pub followers: usize,
    /// Authors per feed.
    pub authors: usize,
    /// How many feeds a new event matches on average.
    pub matches_per_event: f64,
    /// Seconds between samples of memory, disk and latency.
    pub sample_s: f64,
}

impl Default for Mixed {
    fn default() -> Self {
        Self {
            name: "mixed".into(),
            duration_s: 30.0,
            events_per_s: 400.0,
            duplicate_permille: 800,
            publishers: 8,
            queries_per_s: 600.0,
            queriers: 16,
            shapes: BTreeMap::new(),
            distinct: 200,
            followers: 200,
            authors: 300,
            matches_per_event: 5.0,
            sample_s: 5.0,
        }
    }
}

impl Publish {
    /// Whether the corpus is in the relay afterwards.
    pub fn sends_whole_corpus(&self) -> bool {
        self.events == Source::Corpus && self.count == 0 && self.duration_s == 0.0
    }
}

impl Phase {
    /// Its name in the report.
    pub fn name(&self) -> &str {
        match self {
            Self::Publish(phase) => &phase.name,
            Self::Query(phase) => &phase.name,
            Self::Fanout(phase) => &phase.name,
            Self::Connect(phase) => &phase.name,
            Self::Mixed(phase) => &phase.name,
        }
    }

    /// Whether it needs a corpus, and whether the corpus has to be in the relay before.
    pub fn needs_corpus(&self) -> (bool, bool) {
        match self {
            Self::Publish(phase) => (phase.events == Source::Corpus, phase.expect == Expect::Duplicate),
            Self::Query(_) | Self::Mixed(_) => (true, true),
            Self::Fanout(_) | Self::Connect(_) => (false, false),
        }
    }
}

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        /// The built-in scenarios: name and file.
        pub const BUILTIN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

builtin!(
    "publish-new",
    "publish-duplicate",
    "publish-one",
    "queries",
    "query-mix",
    "fanout-few-to-many",
    "fanout-burst",
    "follow-feeds",
    "connect-idle",
    "slow-readers",
    "mixed",
    "soak",
    "smoke",
);

impl Scenario {
    /// A built-in name, a query shape, or a path.
    ///
    /// # Errors
    /// If there is no such scenario or the file is not valid.
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = BUILTIN.iter().find(|(builtin, _)| *builtin == name) {
            return Self::parse(text).with_context(|| format!("built-in scenario {name}"));
        }
        if let Some(&shape) = crate::query::shape::ALL.iter().find(|shape| shape.name() == name) {
            return Ok(Self::of_shape(shape));
        }
        if !Path::new(name).exists() {
            let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
            bail!("no scenario named {name}, and no such file; built in: {}, or a query shape", names.join(", "));
        }
        let text = std::fs::read_to_string(name).with_context(|| format!("read {name}"))?;
        Self::parse(&text).with_context(|| format!("scenario {name}"))
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// With line and column for a syntax error, an unknown key or a value out of range.
    pub fn parse(text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        ensure!(!scenario.phases.is_empty(), "a scenario needs at least one [[phase]]");
        for phase in &scenario.phases {
            check(phase).with_context(|| format!("phase {}", phase.name()))?;
        }
        Ok(scenario)
    }

    fn of_shape(shape: Shape) -> Self {
        let query = Query { name: shape.name().into(), shapes: BTreeMap::from([(shape, 1)]), ..Query::default() };
        Self {
            name: shape.name().into(),
            about: "One query shape, one REQ at a time on each of eight connections.".into(),
            corpus: CorpusSpec::default(),
            phases: vec![Phase::Query(query)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "name = \"x\"\nabout = \"y\"\n[[phase]]\nwork = \"publish\"\n";

    #[test]
    fn every_built_in_scenario_is_valid_and_named_as_its_file() {
        for (name, text) in BUILTIN {
            let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(scenario.name, *name);
        }
    }

    #[test]
    fn keys_that_are_left_out_take_their_defaults() {
        let scenario = Scenario::parse(MINIMAL).expect("valid");
        assert_eq!(scenario.phases, [Phase::Publish(Publish::default())]);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for text in [
            format!("{MINIMAL}inflight = 3\n"),
            format!("colour = 1\n{MINIMAL}"),
            MINIMAL.replace("publish", "publisch"),
        ] {
            let error = Scenario::parse(&text).expect_err("must not be accepted").to_string();
            let named = ["inflight", "colour", "publisch"].iter().any(|key| error.contains(key));
            assert!(named, "{error}");
        }
    }

    #[test]
    fn a_value_out_of_range_names_its_key() {
        let error = Scenario::parse(&format!("{MINIMAL}connections = 0\n")).expect_err("must not be accepted");
        assert_eq!(format!("{error:#}"), "phase publish: `connections` must be at least 1");
    }
}
