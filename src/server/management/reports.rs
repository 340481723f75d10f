//! Which stored events clients have reported (NIP-56), for an admin to look at.
//!
//! Anybody may report anything, so nothing follows from a report but its place in the list.

use std::time::Duration;

use hashbrown::HashMap;
use serde_json::{Value, json};

use crate::management::{Journal, Subject};
use crate::nostr::{EventId, EventView, Filter, Kind, TagElement};
use crate::store::{Budget, Flow, Query, QueryLimits, Scan, Seq, Step, Store, StoreError};

/// Reports that are looked at, the newest first, and events that are listed.
const MAX_REPORTS: u32 = 5_000;
const MAX_LISTED: usize = 1_000;

const SLICE: Budget = Budget { rows: 1 << 13, time: Duration::from_millis(20) };

/// What was said of one event.
struct ReportedEvent {
    /// The type of the newest report, such as `spam`.
    kind: String,
    reports: u32,
    /// Its place among the others: that of its newest report.
    place: usize,
}

/// The stored events that were reported and about which no admin has decided, the latest report first.
///
/// # Errors
/// When the store cannot be read.
pub async fn list(store: &Store, journal: &std::cell::RefCell<Journal>) -> Result<Value, StoreError> {
    let filter = Filter { kinds: Some([Kind::REPORT].into()), limit: Some(MAX_REPORTS), ..Filter::default() };
    let limits = QueryLimits { default_limit: MAX_REPORTS, max_limit: MAX_REPORTS, hints: false, tie_extension: 0 };
    let mut scan = Scan::new(Query { filters: [filter].into(), until_seq: Seq::MAX, limits: Some(limits) });
    let mut found: HashMap<EventId, ReportedEvent> = HashMap::new();
    loop {
        let step = {
            let mut visitor = |_: Seq, report: EventView<'_>| {
                add(&mut found, report);
                Flow::Continue
            };
            scan.run(&store.read()?, SLICE, &mut visitor)?
        };
        if step != Step::Paused {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut found: Vec<(EventId, ReportedEvent)> = found.into_iter().collect();
    found.sort_unstable_by_key(|(_, reported)| reported.place);
    let (snapshot, journal) = (store.read()?, journal.borrow());
    let mut listed = Vec::new();
    for (id, ReportedEvent { kind, reports, .. }) in found {
        if listed.len() == MAX_LISTED {
            break;
        }
        if journal.state().get(&Subject::Event(id)).is_none() && snapshot.contains(&id)? {
            listed.push(json!({ "id": id.to_string(), "reason": format!("{kind} ({reports} reports)") }));
        }
    }
    Ok(listed.into())
}

/// Adds the events that a report names. A report has few of them; more count as none.
fn add(found: &mut HashMap<EventId, ReportedEvent>, report: EventView<'_>) {
    for tag in report.tags().take(16) {
        let Some(id) = tag.value().filter(|_| tag.name().is("e")).and_then(TagElement::as_hex) else { continue };
        let place = found.len();
        let reported = found.entry(EventId(*id)).or_insert_with(|| {
            let kind = tag.rest().nth(1).map(TagElement::to_text).unwrap_or_default();
            let is_word = kind.len() <= 32 && kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            ReportedEvent { kind: if is_word && !kind.is_empty() { kind } else { "other".into() }, reports: 0, place }
        });
        reported.reports += 1;
    }
}
