//! Counts a relay's mistakes in three grades: something lost or false, a deviation from a NIP's "should", and a refusal
//! by a stated limit.
//!
//! It must never decide that a fault does not matter: every fault counted here makes the run fail.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Examples kept of each finding; equal ones are counted, not repeated.
const EXAMPLES_PER_FINDING: usize = 3;
/// Longest example in bytes.
const MAX_EXAMPLE_BYTES: usize = 300;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Something was lost, invented or false: the run fails.
    Fault,
    /// The relay deviates from a "should" of a NIP.
    Deviation,
    /// The relay refused something that its information document (NIP-11) says it refuses.
    Limit,
}

macro_rules! findings {
    ($($(#[$doc:meta])* $name:ident, $key:literal, $grade:ident;)*) => {
        /// One kind of finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Finding {
            $($(#[$doc])* $name,)*
        }

        impl Finding {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The key in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $key,)*
                }
            }

            /// How much it weighs.
            pub fn grade(self) -> Grade {
                match self {
                    $(Self::$name => Grade::$grade,)*
                }
            }
        }
    };
}

findings! {
    /// An EVENT without OK on a connection that stayed open (NIP-01: every EVENT gets one).
    MissingOk, "missing_ok", Fault;
    /// A second OK, or one for an id that was not sent on this connection.
    StrayOk, "stray_ok", Fault;
    /// OK false for a valid event.
    RefusedEvent, "refused_event", Fault;
    /// OK says duplicate for an event sent for the first time.
    UnexpectedDuplicate, "unexpected_duplicate", Fault;
    /// An event with OK true that the relay does not have when everything is read back.
    LostEvent, "lost_event", Fault;
    /// A REQ without EOSE or CLOSED on a connection that stayed open.
    MissingEose, "missing_eose", Fault;
    /// A second EOSE, or one for a subscription that is not open.
    StrayEose, "stray_eose", Fault;
    /// CLOSED in place of the answer to a valid REQ.
    RefusedRequest, "refused_request", Fault;
    /// A live event that a subscriber did not get.
    LostDelivery, "lost_delivery", Fault;
    /// A live event that came twice on one subscription.
    DuplicateDelivery, "duplicate_delivery", Fault;
    /// An event on a subscription whose filter does not match it, or that was never published.
    WrongDelivery, "wrong_delivery", Fault;
    /// An event that differs from the one published under the same id.
    CorruptEvent, "corrupt_event", Fault;
    /// An event whose id is not its hash, or whose signature does not hold.
    ForgedEvent, "forged_event", Fault;
    /// A valid event that this run did not publish, where `--exclusive` promises that there is none.
    ForeignEvent, "foreign_event", Fault;
    /// A stored event that matches and is not in the answer.
    MissingRow, "missing_row", Fault;
    /// A row that does not match the filter, or that the limit should have cut off.
    WrongRow, "wrong_row", Fault;
    /// A row twice in one answer.
    DuplicateRow, "duplicate_row", Fault;
    /// More rows than `limit`.
    OverLimit, "over_limit", Fault;
    /// A row after EOSE on a subscription that nothing was published for.
    LateRow, "late_row", Fault;
    /// Not a relay message, or not a frame that RFC 6455 allows.
    Malformed, "malformed", Fault;
    /// A connection that could not be opened.
    FailedConnection, "failed_connection", Fault;
    /// A connection that the relay closed. Its unanswered messages are part of this finding and counted nowhere else.
    LostConnection, "lost_connection", Fault;
    /// Memory grew beyond the bound that the scenario sets (`max_growth_mib`).
    MemoryOverBound, "memory_over_bound", Fault;
    /// With `limit`, rows are not newest first (NIP-01: "newer events should appear first").
    WrongOrder, "wrong_order", Deviation;
    /// With `limit`, events of one second are not ordered by id, or the limit kept another one of them.
    TieOrder, "tie_order", Deviation;
    /// A row that was replaced (NIP-01), deleted (NIP-09), has expired (NIP-40) or is ephemeral.
    SupersededRow, "superseded_row", Deviation;
    /// OK true without `duplicate:` for an event that the relay has.
    DuplicateAsNew, "duplicate_as_new", Deviation;
    /// OK false for a reason that the relay's document announces.
    EventLimit, "event_limit", Limit;
    /// CLOSED for a reason that the relay's document announces.
    RequestLimit, "request_limit", Limit;
}

/// Everything needed to reproduce a finding by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The finding's name.
    pub finding: String,
    /// Number of the connection within its kind, from 0.
    pub connection: usize,
    /// The text messages to send, in order.
    pub frames: Vec<String>,
    /// The relay's answer where it is one message, or what was seen of it.
    pub answer: String,
    /// The narrowest filter that must return the first missing event; empty if none is missing.
    pub smallest_filter: String,
    /// Ids of the events that should have come.
    pub missing: Vec<String>,
    /// Ids of the events that should not have come.
    pub extra: Vec<String>,
}

/// The findings of one phase, with the first few of each in words.
#[derive(Default, Debug)]
pub struct Account {
    counts: RefCell<BTreeMap<Finding, u64>>,
    replays: RefCell<BTreeMap<Finding, Vec<Replay>>>,
    examples: RefCell<BTreeMap<Finding, Vec<String>>>,
    notices: RefCell<(u64, Vec<String>)>,
}

impl Account {
    /// Counts a finding; `example` is only called while examples are still wanted.
    pub fn note(&self, finding: Finding, example: impl FnOnce() -> String) {
        self.note_many(finding, 1, example);
    }

    /// Counts `count` findings of one kind with one example.
    pub fn note_many(&self, finding: Finding, count: u64, example: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        *self.counts.borrow_mut().entry(finding).or_default() += count;
        let mut examples = self.examples.borrow_mut();
        let examples = examples.entry(finding).or_default();
        if examples.len() < EXAMPLES_PER_FINDING {
            let mut text = example();
            if text.len() > MAX_EXAMPLE_BYTES {
                let end = (0..=MAX_EXAMPLE_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
                text.truncate(end);
                text.push('…');
            }
            examples.push(text);
        }
    }

    /// Takes back what was noted of one kind: it was looked into again.
    pub fn forget(&self, finding: Finding) {
        self.counts.borrow_mut().remove(&finding);
        self.replays.borrow_mut().remove(&finding);
        self.examples.borrow_mut().remove(&finding);
    }

    /// Records how to reproduce a fault; `replay` is only called while replays of this finding are still wanted.
    pub fn keep_replay(&self, finding: Finding, replay: impl FnOnce() -> Replay) {
        let mut replays = self.replays.borrow_mut();
        let replays = replays.entry(finding).or_default();
        if finding.grade() == Grade::Fault && replays.len() < EXAMPLES_PER_FINDING {
            replays.push(Replay { finding: finding.name().to_string(), ..replay() });
        }
    }

    /// How to reproduce the first faults of each kind. Where no message of ours led to a fault, it is what was seen.
    pub fn replays(&self) -> Vec<Replay> {
        let (replays, examples) = (self.replays.borrow(), self.examples.borrow());
        let faults = examples.iter().filter(|(finding, _)| finding.grade() == Grade::Fault);
        let seen = |finding: Finding, text: &String| Replay {
            finding: finding.name().to_string(),
            answer: text.clone(),
            ..Replay::default()
        };
        let of = |(&finding, texts): (&Finding, &Vec<String>)| match replays.get(&finding) {
            Some(kept) => kept.clone(),
            None => texts.iter().map(|text| seen(finding, text)).collect(),
        };
        faults.flat_map(of).collect()
    }

    /// Notes text that is not a relay message.
    pub fn malformed(&self, reason: &str, text: &[u8]) {
        self.note(Finding::Malformed, || format!("{reason}: {}", String::from_utf8_lossy(text)));
    }

    /// Findings of a grade by name.
    pub fn counts(&self, grade: Grade) -> BTreeMap<String, u64> {
        let counts = self.counts.borrow();
        let of_grade = counts.iter().filter(|(finding, _)| finding.grade() == grade);
        of_grade.map(|(finding, &count)| (finding.name().to_string(), count)).collect()
    }

    /// Keeps the text of a NOTICE: it is no finding, but it explains others.
    pub fn notice(&self, text: &str) {
        let mut notices = self.notices.borrow_mut();
        notices.0 += 1;
        if notices.1.len() < 5 {
            notices.1.push(text.chars().take(200).collect());
        }
    }

    /// How many NOTICEs came, and the first few.
    pub fn notices(&self) -> (u64, Vec<String>) {
        self.notices.borrow().clone()
    }

    /// The first findings in words, faults first.
    pub fn examples(&self) -> Vec<String> {
        let examples = self.examples.borrow();
        let named =
            examples.iter().flat_map(|(finding, texts)| texts.iter().map(|text| format!("{}: {text}", finding.name())));
        named.collect()
    }
}

/// The events of a phase that each subscription must receive, and those that it has received.
#[derive(Debug)]
pub struct Deliveries {
    events: usize,
    words: usize,
    expected: Vec<u64>,
    received: Vec<u64>,
}

/// The judgement of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Expected, and the first time.
    First,
    /// Already delivered on this subscription.
    Repeated,
    /// Not for this subscription.
    Wrong,
}

impl Deliveries {
    /// Nothing expected yet; takes `subscriptions * events / 4` bytes.
    pub fn new(subscriptions: usize, events: usize) -> Self {
        let words = events.div_ceil(64);
        Self { events, words, expected: vec![0; subscriptions * words], received: vec![0; subscriptions * words] }
    }

    /// Subscription `sub` must receive `event`.
    pub fn expect(&mut self, sub: usize, event: usize) {
        self.expected[sub * self.words + event / 64] |= 1 << (event % 64);
    }

    /// Records that `event` came on `sub`.
    pub fn receive(&mut self, sub: usize, event: usize) -> Delivery {
        let at = sub * self.words + event / 64;
        let bit = 1 << (event % 64);
        if event >= self.events || self.expected.get(at).is_none_or(|word| word & bit == 0) {
            return Delivery::Wrong;
        }
        if self.received[at] & bit != 0 {
            return Delivery::Repeated;
        }
        self.received[at] |= bit;
        Delivery::First
    }

    /// The number of the first `events` events that `sub` must receive.
    pub fn expected(&self, sub: usize, events: usize) -> u64 {
        self.picked(sub, events, |expected, _| expected).count() as u64
    }

    /// Those that are missing and for which `counts` returns true.
    pub fn missing(&self, sub: usize, events: usize, counts: impl Fn(usize) -> bool) -> Vec<usize> {
        self.picked(sub, events, |expected, received| expected & !received).filter(|&event| counts(event)).collect()
    }

    fn picked(&self, sub: usize, events: usize, pick: fn(u64, u64) -> u64) -> impl Iterator<Item = usize> {
        let range = sub * self.words..(sub + 1) * self.words;
        let words = self.expected[range.clone()].iter().zip(&self.received[range]);
        let picked = words.enumerate().flat_map(move |(word, (&expected, &received))| {
            let bits = pick(expected, received);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        });
        picked.filter(move |&event| event < events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delivery_is_first_repeated_or_wrong() {
        let mut deliveries = Deliveries::new(2, 70);
        deliveries.expect(1, 65);
        deliveries.expect(1, 3);
        assert_eq!(deliveries.receive(1, 65), Delivery::First);
        assert_eq!(deliveries.receive(1, 65), Delivery::Repeated);
        assert_eq!(deliveries.receive(0, 65), Delivery::Wrong);
        assert_eq!(deliveries.receive(1, 4), Delivery::Wrong);
        assert_eq!(deliveries.receive(1, 70), Delivery::Wrong);
        assert_eq!((deliveries.expected(1, 70), deliveries.missing(1, 70, |_| true)), (2, vec![3]));
        assert_eq!((deliveries.expected(1, 3), deliveries.missing(1, 64, |_| true)), (0, vec![3]));
        assert_eq!(deliveries.missing(1, 70, |event| event != 3), [0usize; 0]);
    }

    #[test]
    fn equal_findings_are_counted_and_not_repeated() {
        let account = Account::default();
        for number in 0..50 {
            account.note(Finding::LateRow, || format!("row {number}"));
        }
        account.note_many(Finding::MissingOk, 0, || "never".into());
        account.note(Finding::TieOrder, || "two of one second".into());
        assert_eq!(account.counts(Grade::Fault), BTreeMap::from([("late_row".to_string(), 50)]));
        assert_eq!(account.counts(Grade::Deviation), BTreeMap::from([("tie_order".to_string(), 1)]));
        assert_eq!(account.counts(Grade::Limit), BTreeMap::new());
        let seen: Vec<String> = account.replays().into_iter().map(|replay| replay.answer).collect();
        assert_eq!(seen, ["row 0", "row 1", "row 2"], "a deviation needs no replay");
        let expected = ["late_row: row 0", "late_row: row 1", "late_row: row 2", "tie_order: two of one second"];
        assert_eq!(account.examples(), expected);
    }

    #[test]
    fn findings_are_declared_by_falling_weight_so_that_faults_are_reported_first() {
        assert!(Finding::ALL.is_sorted_by_key(|finding| finding.grade()));
    }
}
