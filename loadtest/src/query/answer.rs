//! Compares the rows of an answer with what NIP-01 and the corpus ask for.
//!
//! It must never be called for an answer that equals the expected one: that comparison is made in the hot path and is
//! enough.

use std::collections::HashSet;

use super::filter::{Check, Filter, order};
use crate::account::{Account, Violation};
use crate::corpus::library::Library;

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
    /// Events from this number on were published by the run: they may come live while the query runs, so they have no
    /// place in the order, and an answer that holds one cannot be compared row by row.
    pub live_from: u32,
}

/// Notes every fault of an answer; returns true if it held events from outside the corpus, which makes an exact
/// comparison impossible.
pub fn judge(question: &Question<'_>, rows: &[Row], library: &Library, account: &Account) -> bool {
    let shape = question.shape;
    let check = Check::new(question.filter, library);
    let (mut known, mut foreign) = (Vec::with_capacity(rows.len()), 0usize);
    for row in rows {
        match row {
            Row::Known(number) => {
                known.push(*number);
                if !check.matches(library, *number) {
                    let id = faster_hex::hex_string(library.id(*number));
                    account.note(Violation::WrongRow, || format!("{shape}: {id} does not match the filter"));
                }
            }
            Row::Foreign(json) => {
                foreign += 1;
                if !foreign_matches(question.filter, json) {
                    let text = String::from_utf8_lossy(json).into_owned();
                    account.note(Violation::WrongRow, || format!("{shape}: does not match the filter: {text}"));
                }
            }
        }
    }
    let distinct: HashSet<u32> = known.iter().copied().collect();
    account.note_many(Violation::DuplicateRow, (known.len() - distinct.len()) as u64, || {
        format!("{shape}: {} rows, {} distinct", known.len(), distinct.len())
    });
    let settled: Vec<u32> = known.iter().copied().filter(|&number| number < question.live_from).collect();
    let disorder = settled.windows(2).filter(|pair| order(library, pair[0]) > order(library, pair[1])).count();
    account.note_many(Violation::WrongOrder, disorder as u64, || format!("{shape}: {disorder} rows out of order"));
    let limit = question.filter.limit.unwrap_or(usize::MAX);
    let over = (settled.len() + foreign).saturating_sub(limit);
    account.note_many(Violation::OverLimit, over as u64, || format!("{shape}: {} rows, limit {limit}", rows.len()));
    let foreign = foreign + known.len() - settled.len();
    if foreign == 0
        && let Some(expected) = question.expected
    {
        compare(shape, expected, &distinct, account);
    }
    foreign > 0
}

fn compare(shape: &str, expected: &[u32], got: &HashSet<u32>, account: &Account) {
    let wanted: HashSet<u32> = expected.iter().copied().collect();
    let missing = wanted.difference(got).count();
    let extra = got.difference(&wanted).count();
    let text =
        || format!("{shape}: {} rows expected, {} came, {missing} missing, {extra} extra", wanted.len(), got.len());
    account.note_many(Violation::MissingRow, missing as u64, text);
    account.note_many(Violation::WrongRow, extra as u64, text);
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
        for (id, created_at, kind) in [(1u8, 10, 1), (2, 11, 1), (3, 12, 1), (4, 13, 7)] {
            let id = faster_hex::hex_string(&[id; 32]);
            let json = format!(
                r#"{{"id":"{id}","pubkey":"aa","created_at":{created_at},"kind":{kind},"tags":[],"content":"","sig":""}}"#
            );
            library.add(json.as_bytes()).expect("an event");
        }
        library
    }

    fn faults(rows: &[Row]) -> BTreeMap<String, u64> {
        let library = library();
        let filter = Filter { kinds: vec![1], limit: Some(2), ..Filter::default() };
        let question = Question { shape: "test", filter: &filter, expected: Some(&[2, 1]), live_from: u32::MAX };
        let account = Account::default();
        judge(&question, rows, &library, &account);
        account.counts()
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
        let good = Row::Foreign(br#"{"id":"x","kind":1,"created_at":99,"tags":[]}"#.to_vec());
        let bad = Row::Foreign(br#"{"id":"x","kind":2,"created_at":99,"tags":[]}"#.to_vec());
        assert_eq!(faults(&[good, Row::Known(2)]), counts(&[]));
        assert_eq!(faults(&[bad, Row::Known(2)]), counts(&[("wrong_row", 1)]));
    }
}
