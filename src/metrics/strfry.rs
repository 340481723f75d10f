//! The three metrics of strfry's that sidecars scrape, under strfry's names (`metrics.strfry_names`).
//!
//! Two of them are read off weir's own page, so they never differ from it. Only stored events by kind are counted here,
//! by the writer and only while the names are wanted. Clients choose kinds, so a bound keeps the page small.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::labels::Verb;

/// Kinds that are counted by themselves. Events of any further kind count as `kind="other"`.
const KINDS: usize = 1000;

/// Stored events by kind, and whether they are counted.
#[derive(Debug)]
pub struct StoredKinds {
    counts: Option<Mutex<Counts>>,
}

#[derive(Default, Debug)]
struct Counts {
    by_kind: BTreeMap<u16, u64>,
    other: u64,
}

impl Counts {
    fn count(&mut self, kind: u16) {
        if self.by_kind.len() < KINDS || self.by_kind.contains_key(&kind) {
            *self.by_kind.entry(kind).or_default() += 1;
        } else {
            self.other += 1;
        }
    }
}

impl StoredKinds {
    /// Counts nothing unless strfry's names are wanted.
    #[must_use]
    pub fn new(is_wanted: bool) -> Self {
        Self { counts: is_wanted.then(Mutex::default) }
    }

    /// Counts stored events by their kinds: one lock for a batch.
    pub fn count(&self, kinds: impl Iterator<Item = u16>) {
        if let Some(counts) = &self.counts {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            kinds.for_each(|kind| counts.count(kind));
        }
    }

    /// Adds strfry's metrics to weir's page (OpenMetrics 1.0), if they are wanted.
    #[must_use]
    pub fn add_to(&self, mut page: String) -> String {
        let Some(counts) = &self.counts else { return page };
        let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let received: Vec<_> = received(&page).collect();
        let sent = [
            ("EVENT", sum(&page, "weir_rows_sent_total") + sum(&page, "weir_deliveries_total")),
            ("OK", sum(&page, "weir_events_total")),
            ("EOSE", sum(&page, "weir_req_eose_seconds_count")),
        ];
        let stored = counts.by_kind.iter().map(|(kind, count)| (kind.to_string(), *count));
        let other = (counts.other > 0).then(|| ("other".to_owned(), counts.other));
        page.truncate(page.rfind("# EOF").unwrap_or(page.len()));
        write(&mut page, "nostr_client_messages", "Messages of clients", "verb", received.into_iter());
        write(&mut page, "nostr_relay_messages", "Messages to clients", "verb", sent.into_iter());
        write(&mut page, "nostr_events", "Stored events", "kind", stored.chain(other));
        page.push_str("# EOF\n");
        page
    }
}

/// The messages of clients by their NIP-01 word. Malformed ones have none.
fn received(page: &str) -> impl Iterator<Item = (String, u64)> {
    let named = Verb::ALL.iter().map(|verb| verb.as_str()).filter(|verb| *verb != Verb::Malformed.as_str());
    named.map(|verb| (verb.to_uppercase(), sum(page, &format!("weir_messages_total{{verb=\"{verb}\"}}"))))
}

/// The sum over the labels of a metric.
fn sum(page: &str, name: &str) -> u64 {
    let samples = page.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    samples
        .filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'))
        .filter_map(|(_, n)| n.parse::<u64>().ok())
        .sum()
}

fn write(
    page: &mut String,
    name: &str,
    help: &str,
    label: &str,
    samples: impl Iterator<Item = (impl AsRef<str>, u64)>,
) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}.\n# TYPE {name} counter");
    for (value, count) in samples {
        let _ = writeln!(page, "{name}_total{{{label}=\"{}\"}} {count}", value.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{EventOutcome, Metrics};

    /// A page on which something happened, with strfry's names.
    fn page(stored: &StoredKinds) -> String {
        let metrics = Metrics::new();
        metrics.message(Verb::Req);
        metrics.message(Verb::NegOpen);
        metrics.message(Verb::Malformed);
        metrics.event(EventOutcome::Stored, 3);
        metrics.event(EventOutcome::Refused, 1);
        metrics.rows_sent.inc_by(5);
        metrics.deliveries.inc_by(2);
        metrics.req_eose_seconds.observe(0.1);
        stored.add_to(metrics.render())
    }

    #[test]
    fn the_three_names_end_the_page_with_the_counts_of_weir() {
        let stored = StoredKinds::new(true);
        stored.count([1, 7, 1].into_iter());
        let page = page(&stored);
        let begin = page.find("# HELP nostr_client").expect("strfry's names");
        assert_eq!(
            &page[begin..],
            "# HELP nostr_client_messages Messages of clients.\n# TYPE nostr_client_messages counter\n\
             nostr_client_messages_total{verb=\"EVENT\"} 0\nnostr_client_messages_total{verb=\"REQ\"} 1\n\
             nostr_client_messages_total{verb=\"CLOSE\"} 0\nnostr_client_messages_total{verb=\"COUNT\"} 0\n\
             nostr_client_messages_total{verb=\"AUTH\"} 0\nnostr_client_messages_total{verb=\"NEG-OPEN\"} 1\n\
             nostr_client_messages_total{verb=\"NEG-MSG\"} 0\nnostr_client_messages_total{verb=\"NEG-CLOSE\"} 0\n\
             # HELP nostr_relay_messages Messages to clients.\n# TYPE nostr_relay_messages counter\n\
             nostr_relay_messages_total{verb=\"EVENT\"} 7\nnostr_relay_messages_total{verb=\"OK\"} 4\n\
             nostr_relay_messages_total{verb=\"EOSE\"} 1\n\
             # HELP nostr_events Stored events.\n# TYPE nostr_events counter\n\
             nostr_events_total{kind=\"1\"} 2\nnostr_events_total{kind=\"7\"} 1\n# EOF\n"
        );
        assert_eq!(page.matches("# EOF").count(), 1);
    }

    #[test]
    fn nothing_is_counted_nor_added_unless_it_is_wanted() {
        let stored = StoredKinds::new(false);
        stored.count([1].into_iter());
        assert!(!page(&stored).contains("nostr_"));
    }

    #[test]
    fn clients_who_choose_their_kinds_do_not_grow_the_page() {
        let stored = StoredKinds::new(true);
        stored.count(0..=u16::MAX);
        stored.count([5, 60_000].into_iter());
        let page = page(&stored);
        assert_eq!(page.matches("nostr_events_total{").count(), KINDS + 1);
        assert!(page.contains("nostr_events_total{kind=\"5\"} 2\n"));
        assert!(page.ends_with("nostr_events_total{kind=\"other\"} 64537\n# EOF\n"));
    }
}
