//! Compares the rows of an answer with what NIP-01 and the corpus ask for.
//!
//! It must never be called for an answer that equals the expected one: that comparison is made in the hot path and is
//! enough.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::filter::{Check, Filter, order};
use crate::account::{Account, Violation};
use crate::corpus::library::{Library, decode_id};

/// One row as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// An event of the library.
    Known(u32),
    /// An event that is in the relay but not in the library, with its JSON.
    Foreign(Vec<u8>),
}

/// The query an answer belongs to.
#[derive(Debug)]
pub struct Question<'a> {
    /// Its shape, for the message.
    pub shape: &'a str,
    /// What was asked.
    pub filter: &'a Filter,
    /// The rows that the corpus alone gives; `None` if events are being published at the same time.
    pub expected: Option<&'a [u32]>,
    /// Events from this number on were published by the run; an answer that holds one cannot be compared row by row.
    pub live_from: u32,
    /// Those events may come live while the query runs, so they have no place in the order.
    pub live: bool,
}

/// What an answer was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Faults were noted.
    pub faulty: bool,
    /// It held events from outside the corpus.
    pub inexact: bool,
}

/// The sort key of a row: NIP-01's order.
type Key = (Reverse<u64>, [u8; 32]);

/// Notes every fault of an answer.
pub fn judge(question: &Question<'_>, rows: &[Row], library: &Library, account: &Account) -> Verdict {
    let shape = question.shape;
    let check = Check::new(question.filter, library);
    let mut faults = 0;
    let mut fault = |violation, count: usize, text: &dyn Fn() -> String| {
        faults += count;
        account.note_many(violation, count as u64, || format!("{shape}: {}", text()));
    };
    let wrong: Vec<&Row> = rows.iter().filter(|row| !row_matches(question.filter, &check, row, library)).collect();
    fault(Violation::WrongRow, wrong.len(), &|| format!("does not match the filter: {:?}", wrong[0]));
    let keys: Vec<Option<Key>> = rows.iter().map(|row| row_key(row, library)).collect();
    let nameless = keys.iter().filter(|key| key.is_none()).count();
    fault(Violation::Malformed, nameless, &|| "a row without id or created_at".to_string());
    let distinct: HashSet<Key> = keys.iter().copied().flatten().collect();
    let repeated = keys.len() - nameless - distinct.len();
    fault(Violation::DuplicateRow, repeated, &|| format!("{} rows, {} distinct", keys.len(), distinct.len()));
    let is_live = |row: &Row| question.live && matches!(row, Row::Known(number) if *number >= question.live_from);
    let settled: Vec<Key> =
        rows.iter().zip(&keys).filter(|(row, _)| !is_live(row)).filter_map(|(_, key)| *key).collect();
    let disorder = settled.windows(2).filter(|pair| pair[0] > pair[1]).count();
    fault(Violation::WrongOrder, disorder, &|| format!("{disorder} rows out of order"));
    let over = over_limit(&settled, question.filter.limit);
    fault(Violation::OverLimit, over, &|| format!("{} rows, limit {:?}", rows.len(), question.filter.limit));
    let corpus: Option<HashSet<u32>> = rows
        .iter()
        .map(|row| match row {
            Row::Known(number) if *number < question.live_from => Some(*number),
            _ => None,
        })
        .collect();
    if let (Some(expected), Some(got)) = (question.expected, &corpus) {
        let (missing, extra) = difference(expected, got, question.filter.limit, library);
        let text = || format!("{} rows expected, {} came, {missing} missing, {extra} extra", expected.len(), got.len());
        fault(Violation::MissingRow, missing, &text);
        fault(Violation::WrongRow, extra, &text);
    }
    Verdict { faulty: faults > 0, inexact: corpus.is_none() }
}

/// Rows beyond the limit. NIP-67 lets a page end between seconds: rows of the same second as the last one within the
/// limit are no fault.
fn over_limit(keys: &[Key], limit: Option<usize>) -> usize {
    let limit = limit.unwrap_or(usize::MAX);
    let last = limit.checked_sub(1).and_then(|last| keys.get(last)).map(|key| key.0);
    keys.iter().skip(limit).filter(|key| Some(key.0) != last).count()
}

/// How many expected rows are missing, and how many came that are not expected and are no tie (NIP-67).
fn difference(expected: &[u32], got: &HashSet<u32>, limit: Option<usize>, library: &Library) -> (usize, usize) {
    let wanted: HashSet<u32> = expected.iter().copied().collect();
    let full = limit.is_some_and(|limit| expected.len() >= limit);
    let last = expected.last().filter(|_| full).map(|&number| library.meta(number).created_at);
    let is_tie = |number: u32| library.meta(number).stored && Some(library.meta(number).created_at) == last;
    let extra = got.difference(&wanted).filter(|&&number| !is_tie(number)).count();
    (wanted.difference(got).count(), extra)
}

fn row_matches(filter: &Filter, check: &Check, row: &Row, library: &Library) -> bool {
    match row {
        Row::Known(number) => check.matches(library, *number),
        Row::Foreign(json) => foreign_matches(filter, json),
    }
}

fn row_key(row: &Row, library: &Library) -> Option<Key> {
    match row {
        Row::Known(number) => Some(order(library, *number)),
        Row::Foreign(json) => {
            let event: serde_json::Value = serde_json::from_slice(json).ok()?;
            let id = decode_id(event["id"].as_str()?.as_bytes())?;
            Some((Reverse(event["created_at"].as_u64()?), id))
        }
    }
}

fn foreign_matches(filter: &Filter, json: &[u8]) -> bool {
    let Ok(event) = serde_json::from_slice::<serde_json::Value>(json) else {
        return false;
    };
    let has = |list: &[String], key: &str| {
        list.is_empty() || event[key].as_str().is_some_and(|value| list.iter().any(|entry| entry == value))
    };
    let kind = event["kind"].as_u64().unwrap_or(u64::MAX);
    let created_at = event["created_at"].as_u64().unwrap_or(0);
    let tagged = filter.tag.as_ref().is_none_or(|(name, values)| {
        event["tags"].as_array().into_iter().flatten().any(|tag| {
            tag[0].as_str() == Some(name.to_string().as_str())
                && tag[1].as_str().is_some_and(|value| values.iter().any(|entry| entry == value))
        })
    });
    has(&filter.ids, "id")
        && has(&filter.authors, "pubkey")
        && (filter.kinds.is_empty() || filter.kinds.iter().any(|&entry| u64::from(entry) == kind))
        && tagged
        && filter.since.is_none_or(|since| created_at >= since)
        && filter.until.is_none_or(|until| created_at <= until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn library() -> Library {
        let mut library = Library::default();
        for (id, created_at, kind) in
            [(1u8, 10, 1), (2, 11, 1), (3, 12, 1), (4, 13, 7), (5, 50, 9), (6, 50, 9), (7, 40, 9)]
        {
            let id = faster_hex::hex_string(&[id; 32]);
            let json = format!(
                r#"{{"id":"{id}","pubkey":"aa","created_at":{created_at},"kind":{kind},"tags":[],"content":"","sig":""}}"#
            );
            library.add(json.as_bytes()).expect("an event");
        }
        library
    }

    fn faults_of(filter: &Filter, expected: &[u32], rows: &[Row]) -> BTreeMap<String, u64> {
        let question = Question { shape: "test", filter, expected: Some(expected), live_from: u32::MAX, live: false };
        let account = Account::default();
        judge(&question, rows, &library(), &account);
        account.counts()
    }

    fn faults(rows: &[Row]) -> BTreeMap<String, u64> {
        let filter = Filter { kinds: vec![1], limit: Some(2), ..Filter::default() };
        faults_of(&filter, &[2, 1], rows)
    }

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|&(name, count)| (name.to_string(), count)).collect()
    }

    #[test]
    fn each_fault_of_an_answer_is_named() {
        use Row::Known;
        assert_eq!(faults(&[Known(2), Known(1)]), counts(&[]));
        assert_eq!(faults(&[Known(2)]), counts(&[("missing_row", 1)]));
        assert_eq!(faults(&[Known(1), Known(2)]), counts(&[("wrong_order", 1)]));
        assert_eq!(faults(&[Known(2), Known(1), Known(0)]), counts(&[("over_limit", 1), ("wrong_row", 1)]));
        assert_eq!(faults(&[Known(2), Known(2)]), counts(&[("duplicate_row", 1), ("missing_row", 1)]));
        // Of another kind: it does not match, and it is not expected.
        assert_eq!(faults(&[Known(3), Known(2)]), counts(&[("missing_row", 1), ("wrong_row", 2)]));
    }

    #[test]
    fn foreign_events_are_checked_against_the_filter_and_end_the_exact_comparison() {
        let foreign = |id: &str, kind: u16, created_at: u64| {
            let id = id.repeat(32);
            Row::Foreign(format!(r#"{{"id":"{id}","kind":{kind},"created_at":{created_at},"tags":[]}}"#).into_bytes())
        };
        assert_eq!(faults(&[foreign("aa", 1, 99), Row::Known(2)]), counts(&[]));
        assert_eq!(faults(&[foreign("aa", 2, 99), Row::Known(2)]), counts(&[("wrong_row", 1)]));
        assert_eq!(faults(&[foreign("bb", 1, 99), foreign("aa", 1, 99)]), counts(&[("wrong_order", 1)]));
        assert_eq!(faults(&[foreign("aa", 1, 99), foreign("aa", 1, 99)]), counts(&[("duplicate_row", 1)]));
    }

    #[test]
    fn a_page_may_grow_by_the_events_of_its_last_second() {
        use Row::Known;
        // Numbers 4 and 5 share a second (NIP-67).
        let filter = Filter { kinds: vec![9], limit: Some(1), ..Filter::default() };
        assert_eq!(faults_of(&filter, &[4], &[Known(4), Known(5)]), counts(&[]));
        assert_eq!(
            faults_of(&filter, &[4], &[Known(4), Known(5), Known(6)]),
            counts(&[("over_limit", 1), ("wrong_row", 1)])
        );
    }
}
