//! Slow queries: the log says by which plan each was answered and what it looked at, and the last ones are kept.
//!
//! A flood of slow queries is no flood of lines: at most [`LINES`] are logged in a minute, each of them bounded. What
//! clients wrote is shortened, and never an event.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::nostr::Filter;
use crate::store::Scan;

/// The most lines in a minute.
pub const LINES: u32 = 30;

const MINUTE_US: u64 = 60_000_000;

/// How many slow queries are kept.
const KEPT: usize = 32;

/// The most values of one list, filters of one query, and plans that are told.
const MAX_VALUES: usize = 4;

/// The most characters of one tag value that are told.
const MAX_CHARS: usize = 64;

/// What is told of one slow query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlowQuery {
    /// Who asked.
    pub address: IpAddr,
    /// `REQ` or `COUNT`.
    pub verb: &'static str,
    /// Its filters as JSON, shortened.
    pub filters: String,
    /// The plan of each filter.
    pub plan: String,
    /// Rows that were looked at and ranges that were opened.
    pub rows: u64,
    /// For how long threads worked on it.
    pub worked: Duration,
    /// How long its client waited.
    pub waited: Duration,
}

/// The slow queries of a process.
pub struct SlowQueries {
    /// `None` tells of none.
    least: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: VecDeque<SlowQuery>,
    minute_ends_us: u64,
    lines: u32,
    left_out: u64,
}

impl SlowQueries {
    /// Queries that take `least_ms` or more are slow; with 0, none is.
    #[must_use]
    pub fn new(least_ms: u64) -> Self {
        Self { least: (least_ms > 0).then(|| Duration::from_millis(least_ms)), state: Mutex::default() }
    }

    /// Whether a query that was worked on for this long is slow.
    #[must_use]
    pub fn is_slow(&self, worked: Duration) -> bool {
        self.least.is_some_and(|least| worked >= least)
    }

    /// Keeps a slow query that ended at `now_us`, and logs it if there is a line left.
    pub fn note(&self, query: SlowQuery, now_us: u64) {
        let admitted = self.state().admit(now_us);
        if let Some(left_out) = admitted {
            let SlowQuery { address, verb, filters, plan, rows, worked, waited } = &query;
            let (worked_ms, waited_ms) = (worked.as_millis() as u64, waited.as_millis() as u64);
            tracing::warn!(%address, verb, filters, plan, rows, worked_ms, waited_ms, left_out, "a slow query");
        }
        let mut state = self.state();
        if state.last.len() == KEPT {
            state.last.pop_front();
        }
        state.last.push_back(query);
    }

    /// The last slow queries, the latest first.
    #[must_use]
    pub fn last(&self) -> Vec<SlowQuery> {
        self.state().last.iter().rev().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes one of the minute's lines; returns how many were left out since the last one.
    fn admit(&mut self, now_us: u64) -> Option<u64> {
        if now_us >= self.minute_ends_us {
            (self.minute_ends_us, self.lines) = (now_us.saturating_add(MINUTE_US), 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The plans of a scan, shortened.
#[must_use]
pub fn plan_of(scan: &Scan) -> String {
    let plans = scan.plans();
    let told: Vec<String> = plans.iter().take(MAX_VALUES).map(ToString::to_string).collect();
    told.join("; ") + &more("; ", plans.len(), "filters")
}

/// Filters as JSON, each list and text shortened.
#[must_use]
pub fn shortened(filters: &[Filter]) -> String {
    let told: Vec<String> = filters.iter().take(MAX_VALUES).map(|filter| filter_json(filter).to_string()).collect();
    format!("[{}{}]", told.join(","), more(",", filters.len(), "filters"))
}

fn filter_json(filter: &Filter) -> Value {
    let mut object = Map::new();
    let mut list = |name: String, all: usize, values: Vec<Value>| {
        let rest = (all > MAX_VALUES).then(|| Value::from(more("", all, "values").trim().to_owned()));
        object.insert(name, values.into_iter().take(MAX_VALUES).chain(rest).collect());
    };
    if let Some(ids) = &filter.ids {
        list("ids".into(), ids.len(), ids.iter().take(MAX_VALUES).map(|id| json!(id.to_string())).collect());
    }
    if let Some(authors) = &filter.authors {
        list(
            "authors".into(),
            authors.len(),
            authors.iter().take(MAX_VALUES).map(|key| json!(key.to_string())).collect(),
        );
    }
    if let Some(kinds) = &filter.kinds {
        list("kinds".into(), kinds.len(), kinds.iter().take(MAX_VALUES).map(|kind| json!(kind.0)).collect());
    }
    for tag in &filter.tags {
        let sign = if tag.all { '&' } else { '#' };
        let values = tag
            .values
            .iter()
            .take(MAX_VALUES)
            .map(|value| json!(value.view().to_text().chars().take(MAX_CHARS).collect::<String>()));
        list(format!("{sign}{}", char::from(tag.letter)), tag.values.len(), values.collect());
    }
    let numbers = [("since", filter.since.map(|at| at.0)), ("until", filter.until.map(|at| at.0))];
    let numbers = numbers.into_iter().chain([("limit", filter.limit.map(u64::from))]);
    numbers.filter_map(|(name, number)| Some((name, number?))).for_each(|(name, number)| {
        object.insert(name.into(), number.into());
    });
    object.into()
}

/// How many of `all` are not told, if any.
fn more(before: &str, all: usize, what: &str) -> String {
    match all.saturating_sub(MAX_VALUES) {
        0 => String::new(),
        rest => format!("{before}… {rest} more {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::{ParseOptions, json::Parser};

    fn query(number: u64) -> SlowQuery {
        SlowQuery {
            address: [192, 0, 2, 1].into(),
            verb: "REQ",
            filters: "[{}]".into(),
            plan: "time index, 1 range".into(),
            rows: number,
            worked: Duration::from_millis(700),
            waited: Duration::from_millis(900),
        }
    }

    #[test]
    fn a_query_is_slow_from_the_bound_on_and_none_is_without_one() {
        let slow = SlowQueries::new(500);
        assert_eq!([499, 500, 501].map(|ms| slow.is_slow(Duration::from_millis(ms))), [false, true, true]);
        assert!(!SlowQueries::new(0).is_slow(Duration::MAX));
    }

    #[test]
    fn a_flood_of_slow_queries_is_some_lines_a_minute_and_the_last_are_kept() {
        let mut state = State::default();
        let lines = (0..100_u64).filter_map(|second| state.admit(second * 1_000_000)).collect::<Vec<_>>();
        assert_eq!(lines.len(), 2 * LINES as usize);
        assert_eq!(lines.iter().copied().filter(|left_out| *left_out > 0).collect::<Vec<_>>(), [30], "told once");
        let slow = SlowQueries::new(1);
        (0..100).for_each(|number| slow.note(query(number), number));
        assert_eq!(slow.last().iter().map(|kept| kept.rows).collect::<Vec<_>>(), (68..100).rev().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_told_of_a_query_is_bounded_whatever_was_asked() {
        let keys: Vec<String> = (0..300_u64).map(|number| format!("{number:064x}")).collect();
        let asked = json!({"authors": keys, "kinds": [1, 7], "#t": ["x".repeat(5000), "\n\u{1b}[2J"], "limit": 5});
        let parse = |text: &str| Filter::parse(&mut Parser::default(), text.as_bytes(), ParseOptions::default());
        let filter = parse(&asked.to_string()).expect("a filter");
        let told: Value = serde_json::from_str(&shortened(std::slice::from_ref(&filter))).expect("JSON");
        let mut values: Vec<&str> = keys[..4].iter().map(String::as_str).collect();
        values.push("… 296 more values");
        let tags = ["\n\u{1b}[2J".to_owned(), "x".repeat(64)];
        assert_eq!(told, json!([{"authors": values, "kinds": [1, 7], "#t": tags, "limit": 5}]));
        let many = vec![filter; 200];
        assert!(shortened(&many).len() < 4000);
        assert!(shortened(&many).ends_with(",… 196 more filters]"));
        assert_eq!(shortened(&[parse("{}").expect("a filter")]), "[{}]");
    }
}
