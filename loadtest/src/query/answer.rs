//! Compares the rows of an answer with those that NIP-01 and the corpus demand.
//!
//! It must never be called for an answer that equals the expected one: that comparison is made in the hot path and is
//! enough.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::filter::{Check, Filter, order};
use crate::account::{Account, Finding};
use crate::corpus::event::{Event, Verifier};
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
pub struct Question<'a> {
    /// Its shape, for the message.
    pub shape: &'a str,
    /// The filter that was asked.
    pub filter: &'a Filter,
    /// The rows that must be in the answer, cut at the filter's limit; `None` to judge only the rows that are in it.
    pub expected: Option<&'a [u32]>,
    /// Whether the relay is known to hold an event. Others may come, and take a place within the limit.
    pub certain: &'a dyn Fn(u32) -> bool,
    /// Events are being published: rows that are not certain may be live ones, which have no place in the order.
    pub live: bool,
    /// The finding for a missing row.
    pub missing: Finding,
    /// The relay holds only events of this run.
    pub exclusive: bool,
}

/// The outcome for one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The findings, each once; empty if nothing was wrong.
    pub findings: Vec<Finding>,
    /// Events of the library that are missing.
    pub missing: Vec<u32>,
    /// Events of the library that should not have come.
    pub extra: Vec<u32>,
    /// It held events from outside the library.
    pub foreign: bool,
    /// The first of those, in NIP-01's order, that matches the filter.
    pub newest_foreign: Option<Key>,
}

/// The sort key of a row: NIP-01's order.
pub type Key = (Reverse<u64>, [u8; 32]);

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The relay is known to hold it.
    Certain(u32),
    /// It was replaced, deleted, has expired or is ephemeral.
    Superseded,
    /// The run cannot tell whether the relay holds it.
    Uncertain,
    /// A valid event that the run does not know.
    Foreign,
}

/// A row that is a valid event.
struct Judged {
    key: Key,
    class: Class,
    matches: bool,
}

/// Notes everything that is wrong with an answer.
pub fn judge(
    question: &Question<'_>,
    rows: &[Row],
    library: &Library,
    verifier: &Verifier,
    account: &Account,
) -> Verdict {
    let mut notes =
        Notes { shape: question.shape, account, findings: Vec::new(), missing: Vec::new(), extra: Vec::new() };
    let check = Check::new(question.filter, library);
    let mut judged = Vec::with_capacity(rows.len());
    for row in rows {
        match judge_row(question, row, &check, library, verifier) {
            Ok(row) => judged.push(row),
            Err(error) => notes.add(Finding::ForgedEvent, 1, &|| format!("{error:#}: {row:?}")),
        }
    }
    let of_class = |class: Class| judged.iter().filter(|row| row.class == class).count();
    let (foreign, superseded) = (of_class(Class::Foreign), of_class(Class::Superseded));
    notes.add(Finding::SupersededRow, superseded, &|| format!("{superseded} of {} rows", rows.len()));
    if question.exclusive {
        notes.add(Finding::ForeignEvent, foreign, &|| format!("{foreign} of {} rows", rows.len()));
    }
    let wrong: Vec<&Judged> = judged.iter().filter(|row| !row.matches).collect();
    notes.add(Finding::WrongRow, wrong.len(), &|| format!("does not match the filter: {}", hex(&wrong[0].key)));
    let may_be_live = |row: &Judged| question.live && !matches!(row.class, Class::Certain(_));
    let mut copies: HashMap<Key, usize> = HashMap::new();
    let is_repeated = |row: &&Judged| {
        let copy = copies.entry(row.key).or_default();
        *copy += 1;
        // An event that is published meanwhile may come as a stored row and as a live one: NIP-01 forbids neither.
        *copy > 1 + usize::from(may_be_live(row))
    };
    let repeated = judged.iter().filter(is_repeated).count();
    notes.add(Finding::DuplicateRow, repeated, &|| format!("{} rows, {} distinct", judged.len(), copies.len()));
    let mut settled: Vec<Key> = judged.iter().filter(|row| !may_be_live(row)).map(|row| row.key).collect();
    if let Some(limit) = question.filter.limit {
        judge_order(&settled, &mut notes);
        settled.sort_unstable();
        let over = over_limit(&settled, limit);
        notes.add(Finding::OverLimit, over, &|| format!("{} rows, limit {limit}", rows.len()));
    }
    if let Some(expected) = question.expected {
        compare(question, expected, &judged, library, &mut notes);
    }
    let is_foreign = |row: &&Judged| row.class == Class::Foreign && row.matches;
    let newest_foreign = judged.iter().filter(is_foreign).map(|row| row.key).min();
    let Notes { findings, missing, extra, .. } = notes;
    Verdict { findings, missing, extra, foreign: foreign > 0, newest_foreign }
}

/// Where findings go, with the shape in front of each.
struct Notes<'a> {
    shape: &'a str,
    account: &'a Account,
    findings: Vec<Finding>,
    missing: Vec<u32>,
    extra: Vec<u32>,
}

impl Notes<'_> {
    fn add(&mut self, finding: Finding, count: usize, text: &dyn Fn() -> String) {
        if count > 0 && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
        self.account.note_many(finding, count as u64, || format!("{}: {}", self.shape, text()));
    }
}

fn judge_row(
    question: &Question<'_>,
    row: &Row,
    check: &Check,
    library: &Library,
    verifier: &Verifier,
) -> anyhow::Result<Judged> {
    match row {
        Row::Known(number) => {
            let class = if !library.meta(*number).stored {
                Class::Superseded
            } else if (question.certain)(*number) {
                Class::Certain(*number)
            } else {
                Class::Uncertain
            };
            Ok(Judged { key: order(library, *number), class, matches: check.matches(library, *number) })
        }
        Row::Foreign(json) => {
            let event = verifier.check(json)?;
            let key = (Reverse(event.created_at), event.id_bytes().unwrap_or_default());
            Ok(Judged { key, class: Class::Foreign, matches: foreign_matches(question.filter, &event) })
        }
    }
}

/// NIP-01 orders an answer only where the filter has a limit: newest first, the lowest id first within a second.
fn judge_order(keys: &[Key], notes: &mut Notes<'_>) {
    let pairs = || keys.windows(2);
    let disorder = pairs().filter(|pair| pair[0].0 > pair[1].0).count();
    notes.add(Finding::WrongOrder, disorder, &|| format!("{disorder} of {} rows come before a newer one", keys.len()));
    let ties = pairs().filter(|pair| pair[0].0 == pair[1].0 && pair[0].1 > pair[1].1).count();
    notes.add(Finding::TieOrder, ties, &|| format!("{ties} of {} rows come before a lower id", keys.len()));
}

/// Rows beyond the limit. NIP-67 lets a page end between seconds: rows of the same second as the last one within the
/// limit are no fault.
fn over_limit(sorted: &[Key], limit: usize) -> usize {
    let last = limit.checked_sub(1).and_then(|last| sorted.get(last)).map(|key| key.0);
    sorted.iter().skip(limit).filter(|key| Some(key.0) != last).count()
}

/// Compares the certain rows with the expected ones. Rows that are not certain take their places within the limit.
fn compare(question: &Question<'_>, expected: &[u32], judged: &[Judged], library: &Library, notes: &mut Notes<'_>) {
    let others = judged.iter().filter(|row| !matches!(row.class, Class::Certain(_))).map(|row| (row.key, None));
    let mut all: Vec<(Key, Option<u32>)> =
        expected.iter().map(|&number| (order(library, number), Some(number))).collect();
    all.extend(others);
    all.sort_unstable();
    all.dedup();
    let limit = question.filter.limit.unwrap_or(usize::MAX);
    all.truncate(limit);
    // Events of the second at which the limit cuts may replace each other, and all of them may be sent (NIP-67).
    let cut = all.last().filter(|_| all.len() == limit).map(|(key, _)| key.0);
    let at_cut = |number: u32| Some(Reverse(library.meta(number).created_at)) == cut;
    let wanted: HashSet<u32> = all.iter().filter_map(|(_, number)| *number).collect();
    let certain = |row: &Judged| if let Class::Certain(number) = row.class { Some(number) } else { None };
    let got: HashSet<u32> = judged.iter().filter_map(certain).collect();
    let (missing_ties, missing): (Vec<u32>, Vec<u32>) = wanted.difference(&got).partition(|&&number| at_cut(number));
    let (extra_ties, extra): (Vec<u32>, Vec<u32>) = got.difference(&wanted).partition(|&&number| at_cut(number));
    let swapped = missing_ties.len().min(extra_ties.len());
    notes.add(Finding::TieOrder, swapped, &|| format!("the limit kept {swapped} events with higher ids of its second"));
    let lost = missing.len() + missing_ties.len() - swapped;
    let example = missing.iter().chain(&missing_ties).min().copied();
    let text = || {
        let id = example.map(|number| hex(&order(library, number))).unwrap_or_default();
        format!("{} rows expected, {} came, {lost} missing, {} extra {id}", wanted.len(), got.len(), extra.len())
    };
    notes.add(question.missing, lost, &text);
    if !question.live {
        notes.add(Finding::WrongRow, extra.len(), &text);
        notes.extra = extra;
    }
    if lost > 0 {
        notes.missing = missing.into_iter().chain(missing_ties).collect();
        notes.missing.sort_unstable();
    }
}

fn hex(key: &Key) -> String {
    faster_hex::hex_string(&key.1)
}

fn foreign_matches(filter: &Filter, event: &Event<'_>) -> bool {
    let has = |list: &[String], value: &str| list.is_empty() || list.iter().any(|entry| entry == value);
    let tagged = filter.tag.as_ref().is_none_or(|(name, values)| {
        let name = name.to_string();
        event
            .tags
            .iter()
            .any(|tag| tag.first() == Some(&name) && tag.get(1).is_some_and(|value| values.contains(value)))
    });
    has(&filter.ids, &event.id)
        && has(&filter.authors, &event.pubkey)
        && (filter.kinds.is_empty() || filter.kinds.contains(&event.kind))
        && tagged
        && filter.since.is_none_or(|since| event.created_at >= since)
        && filter.until.is_none_or(|until| event.created_at <= until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Grade;
    use crate::corpus::{Options, plan::Mix};
    use std::collections::BTreeMap;

    fn library() -> Library {
        let mut library = Library::default();
        let rows = [(1u8, 10, 1), (2, 11, 1), (3, 12, 1), (4, 13, 7), (5, 50, 9), (6, 50, 9), (7, 40, 9)];
        let profiles = [(8, 20, 0), (9, 30, 0)];
        for (id, created_at, kind) in rows.into_iter().chain(profiles) {
            let id = faster_hex::hex_string(&[id; 32]);
            let json = format!(
                r#"{{"id":"{id}","pubkey":"aa","created_at":{created_at},"kind":{kind},"tags":[],"content":"","sig":""}}"#
            );
            library.add(json.as_bytes()).expect("an event");
        }
        library
    }

    /// The findings in an answer, by name.
    fn findings_of(
        filter: &Filter,
        expected: &[u32],
        rows: &[Row],
        certain: &dyn Fn(u32) -> bool,
    ) -> Vec<(String, u64)> {
        counts_of(&question(filter, expected, certain), rows)
    }

    fn question<'a>(filter: &'a Filter, expected: &'a [u32], certain: &'a dyn Fn(u32) -> bool) -> Question<'a> {
        Question {
            shape: "test",
            filter,
            expected: Some(expected),
            certain,
            live: false,
            missing: Finding::MissingRow,
            exclusive: false,
        }
    }

    fn counts_of(question: &Question<'_>, rows: &[Row]) -> Vec<(String, u64)> {
        let account = Account::default();
        judge(question, rows, &library(), &Verifier::default(), &account);
        let mut all = BTreeMap::new();
        for grade in [Grade::Fault, Grade::Deviation] {
            all.extend(account.counts(grade));
        }
        all.into_iter().collect()
    }

    fn findings(rows: &[Row]) -> Vec<(String, u64)> {
        let filter = Filter { kinds: vec![1], limit: Some(2), ..Filter::default() };
        findings_of(&filter, &[2, 1], rows, &|_| true)
    }

    fn counts(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|&(name, count)| (name.to_string(), count)).collect()
    }

    /// Notes that nobody in the library wrote, the newest last.
    fn foreign(count: u64) -> Vec<Row> {
        let options = Options { mix: Mix::Notes, ..Options::social(3, count) };
        let mut rows = Vec::new();
        crate::corpus::generate(&options, |line| {
            rows.push(Row::Foreign(line.to_vec()));
            Ok(())
        })
        .expect("events");
        rows
    }

    #[test]
    fn each_fault_of_an_answer_is_named() {
        use Row::Known;
        assert_eq!(findings(&[Known(2), Known(1)]), counts(&[]));
        assert_eq!(findings(&[Known(2)]), counts(&[("missing_row", 1)]));
        assert_eq!(findings(&[Known(2), Known(1), Known(0)]), counts(&[("over_limit", 1), ("wrong_row", 1)]));
        assert_eq!(findings(&[Known(2), Known(2)]), counts(&[("duplicate_row", 1), ("missing_row", 1)]));
        // Of another kind: it does not match, and it is not expected.
        assert_eq!(findings(&[Known(3), Known(2)]), counts(&[("missing_row", 1), ("wrong_row", 2)]),);
    }

    #[test]
    fn order_is_judged_only_where_the_filter_has_a_limit() {
        use Row::Known;
        assert_eq!(findings(&[Known(1), Known(2)]), counts(&[("wrong_order", 1)]));
        let filter = Filter { kinds: vec![1], ..Filter::default() };
        assert_eq!(findings_of(&filter, &[2, 1, 0], &[Known(0), Known(2), Known(1)], &|_| true), counts(&[]));
    }

    #[test]
    fn a_valid_foreign_row_takes_a_place_and_excuses_nothing_else() {
        use Row::Known;
        let foreign = foreign(30);
        let (oldest, newest) = (foreign[0].clone(), foreign[29].clone());
        assert_eq!(findings(&[newest.clone(), Known(2)]), counts(&[]));
        assert_eq!(findings(std::slice::from_ref(&newest)), counts(&[("missing_row", 1)]));
        assert_eq!(findings(&[oldest.clone(), newest.clone()]), counts(&[("wrong_order", 1)]));
        // A copy takes no place.
        assert_eq!(findings(&[newest.clone(), newest.clone()]), counts(&[("duplicate_row", 1), ("missing_row", 1)]));
        let other = Filter { kinds: vec![7], limit: Some(2), ..Filter::default() };
        let found = findings_of(&other, &[3], &[newest, Known(3)], &|_| true);
        assert_eq!(found, counts(&[("wrong_row", 1)]));
    }

    #[test]
    fn a_forged_row_takes_no_place_and_is_named() {
        let Row::Foreign(json) = foreign(1).remove(0) else { panic!("a foreign row") };
        let text = String::from_utf8(json).expect("text");
        let at = text.find("\"sig\":\"").expect("a signature") + 7;
        let forged = Row::Foreign(format!("{}{}\"}}", &text[..at], "0".repeat(128)).into_bytes());
        assert_eq!(findings(&[forged]), counts(&[("forged_event", 1), ("missing_row", 2)]));
        assert_eq!(
            findings(&[Row::Foreign(b"{}".to_vec()), Row::Known(2), Row::Known(1)]),
            counts(&[("forged_event", 1)])
        );
    }

    #[test]
    fn an_event_that_the_relay_never_confirmed_may_come_and_need_not() {
        use Row::Known;
        let filter = Filter { kinds: vec![1], limit: Some(2), ..Filter::default() };
        let certain = |number: u32| number != 2;
        // Event 2 has no OK: without it the newest two are 1 and 0.
        assert_eq!(findings_of(&filter, &[1, 0], &[Known(2), Known(1)], &certain), counts(&[]));
        assert_eq!(findings_of(&filter, &[1, 0], &[Known(1), Known(0)], &certain), counts(&[]));
        assert_eq!(
            findings_of(&filter, &[1, 0], &[Known(2), Known(0)], &certain),
            counts(&[("missing_row", 1), ("wrong_row", 1)])
        );
    }

    #[test]
    fn an_event_that_is_published_meanwhile_may_come_as_stored_and_as_live_and_no_more() {
        use Row::Known;
        let filter = Filter { kinds: vec![1], limit: Some(2), ..Filter::default() };
        let certain = |number: u32| number != 2;
        let question = Question { live: true, ..question(&filter, &[1, 0], &certain) };
        assert_eq!(counts_of(&question, &[Known(2), Known(2), Known(1)]), counts(&[]));
        assert_eq!(counts_of(&question, &[Known(2), Known(2), Known(2), Known(1)]), counts(&[("duplicate_row", 1)]));
        // What was there before is no live event, and the copy takes no second place within the limit.
        assert_eq!(counts_of(&question, &[Known(1), Known(1), Known(2)]), counts(&[("duplicate_row", 1)]));
        assert_eq!(counts_of(&question, &[Known(2), Known(2)]), counts(&[("missing_row", 1)]));
    }

    #[test]
    fn an_older_version_of_a_replaceable_event_is_a_deviation() {
        use Row::Known;
        let filter = Filter { kinds: vec![0], ..Filter::default() };
        assert_eq!(findings_of(&filter, &[8], &[Known(8), Known(7)], &|_| true), counts(&[("superseded_row", 1)]));
    }

    #[test]
    fn a_page_may_grow_by_the_events_of_its_last_second_or_choose_among_them() {
        use Row::Known;
        // Numbers 4 and 5 share a second (NIP-67).
        let filter = Filter { kinds: vec![9], limit: Some(1), ..Filter::default() };
        let findings = |rows: &[Row]| findings_of(&filter, &[4], rows, &|_| true);
        assert_eq!(findings(&[Known(4), Known(5)]), counts(&[]));
        assert_eq!(findings(&[Known(4), Known(5), Known(6)]), counts(&[("over_limit", 1), ("wrong_row", 1)]));
        assert_eq!(findings(&[Known(5)]), counts(&[("tie_order", 1)]));
        assert_eq!(findings(&[Known(6)]), counts(&[("missing_row", 1), ("wrong_row", 1)]));
    }
}
