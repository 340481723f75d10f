//! The settings of each kind of phase, with their defaults.
//!
//! It must never hold results: these values come from the file and the command line alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::query::shape::Shape;

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

/// What every OK must say.
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
    /// What every OK must say.
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
    /// Kill the relay when half of the events have their OK, and start it again; needs `--kill` and `--restart`.
    pub kill: bool,
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
            kill: false,
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
    /// How many of the subscribers stop reading until all others are served.
    pub slow: usize,
    /// Least length of an event's content in bytes.
    pub content_bytes: usize,
    /// How much the relay's anonymous memory may grow, in MiB; 0 for no bound. Needs `--pid`.
    pub max_growth_mib: f64,
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
            max_growth_mib: 0.0,
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

    /// Whether it kills the relay.
    pub fn kills(&self) -> bool {
        matches!(self, Self::Publish(Publish { kill: true, .. }))
    }

    /// How many seconds it takes if the relay keeps up; `None` if only the relay decides.
    pub fn seconds(&self) -> Option<f64> {
        let paced = |rate: f64, count: usize, duration_s: f64| {
            let counted = (rate > 0.0 && count > 0).then(|| count as f64 / rate);
            let timed = (duration_s > 0.0).then_some(duration_s);
            counted.into_iter().chain(timed).reduce(f64::min)
        };
        match self {
            Self::Publish(phase) => paced(phase.rate, phase.count, phase.duration_s),
            Self::Query(phase) => paced(phase.rate, phase.count, phase.duration_s),
            Self::Fanout(phase) if phase.rate == 0.0 => None,
            Self::Fanout(phase) if phase.count > 0 => Some(phase.count as f64 / phase.rate),
            Self::Fanout(phase) => Some(phase.duration_s),
            Self::Connect(_) => None,
            Self::Mixed(phase) => Some(phase.duration_s),
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
