//! How a link is doing: counters and gauges, which are metrics of the relay.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::stream::LinkOptions;
use crate::import::LineOutcome;
use crate::metrics::{LinkLabel, Metrics, Sent};

/// The figures of one link. Dropping it takes them out of the metrics.
pub struct Status {
    metrics: Arc<Metrics>,
    label: LinkLabel,
    received: [Counter; LineOutcome::ALL.len()],
    sent: [Counter; Sent::ALL.len()],
    /// Whether the live connection stands.
    pub connected: Gauge,
    /// Events that are not yet offered to the other relay.
    pub behind_events: Gauge,
    /// Seconds since the link was last level.
    pub behind_seconds: Gauge,
}

impl Status {
    /// The figures of a link, from zero.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, options: &LinkOptions) -> Self {
        let label = LinkLabel { stream: options.stream.name.clone(), url: options.url.to_string() };
        let received = LineOutcome::ALL
            .map(|outcome| metrics.replication_received.get_or_create_owned(&label.received(outcome.as_str())));
        let sent =
            std::array::from_fn(|number| metrics.replication_sent.get_or_create_owned(&label.sent(Sent::ALL[number])));
        Self {
            connected: metrics.replication_connected.get_or_create_owned(&label),
            behind_events: metrics.replication_behind_events.get_or_create_owned(&label),
            behind_seconds: metrics.replication_behind_seconds.get_or_create_owned(&label),
            metrics: Arc::clone(metrics),
            label,
            received,
            sent,
        }
    }

    /// Events arrived, with this outcome.
    pub fn arrived(&self, outcome: LineOutcome, count: u64) {
        self.received[outcome as usize].inc_by(count);
    }

    /// An event was to be sent, with this result.
    pub fn sent(&self, result: Sent) {
        self.sent[result as usize].inc();
    }

    /// What happened so far: events stored, refused here, taken there and refused there.
    #[must_use]
    pub fn totals(&self) -> [u64; 4] {
        let known = [LineOutcome::Stored as usize, LineOutcome::Duplicate as usize];
        let refused = self.received.iter().enumerate().filter(|(number, _)| !known.contains(number));
        let refusals =
            [Sent::Blocked, Sent::Invalid, Sent::Pow, Sent::Error, Sent::Refused, Sent::Unanswered].into_iter();
        [
            self.received[LineOutcome::Stored as usize].get(),
            refused.map(|(_, counter)| counter.get()).sum(),
            self.sent[Sent::Accepted as usize].get(),
            refusals.map(|result| self.sent[result as usize].get()).sum(),
        ]
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        let Self { metrics, label, .. } = self;
        for outcome in LineOutcome::ALL {
            metrics.replication_received.remove(&label.received(outcome.as_str()));
        }
        for result in Sent::ALL {
            metrics.replication_sent.remove(&label.sent(*result));
        }
        metrics.replication_connected.remove(label);
        metrics.replication_behind_events.remove(label);
        metrics.replication_behind_seconds.remove(label);
    }
}
