//! Counts what a relay must not do: lose, repeat, invent or disorder answers.
//!
//! It must never decide that a fault does not matter: everything counted here makes the run fail.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Examples kept per run.
const MAX_EXAMPLES: usize = 20;

/// One kind of fault. The names are the keys of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// An EVENT without OK (NIP-01: every EVENT gets one).
    MissingOk,
    /// A second OK, or one for an id that was not sent on this connection.
    StrayOk,
    /// OK false for a valid event.
    RefusedEvent,
    /// OK says duplicate for an event sent for the first time.
    UnexpectedDuplicate,
    /// A REQ without EOSE or CLOSED.
    MissingEose,
    /// A second EOSE, or one for a subscription that is not open.
    StrayEose,
    /// CLOSED for a valid REQ.
    RefusedRequest,
    /// A live event that a subscriber did not get.
    LostDelivery,
    /// A live event that came twice on one subscription.
    DuplicateDelivery,
    /// An event on a subscription whose filter does not match it, or that was never published.
    WrongDelivery,
    /// An event whose JSON differs from what was published.
    CorruptEvent,
    /// A stored event that matches and is not in the answer.
    MissingRow,
    /// A row that does not match the filter, or should have been cut off or replaced.
    WrongRow,
    /// A row twice in one answer.
    DuplicateRow,
    /// Rows not ordered by `created_at` descending, then id ascending.
    WrongOrder,
    /// More rows than `limit`.
    OverLimit,
    /// A row after EOSE on a subscription that nothing was published for.
    LateRow,
    /// Not a relay message, or not a frame that RFC 6455 allows.
    Malformed,
    /// A connection that could not be opened.
    FailedConnection,
    /// A connection that the relay closed.
    LostConnection,
}

impl Violation {
    /// The key in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::MissingOk => "missing_ok",
            Self::StrayOk => "stray_ok",
            Self::RefusedEvent => "refused_event",
            Self::UnexpectedDuplicate => "unexpected_duplicate",
            Self::MissingEose => "missing_eose",
            Self::StrayEose => "stray_eose",
            Self::RefusedRequest => "refused_request",
            Self::LostDelivery => "lost_delivery",
            Self::DuplicateDelivery => "duplicate_delivery",
            Self::WrongDelivery => "wrong_delivery",
            Self::CorruptEvent => "corrupt_event",
            Self::MissingRow => "missing_row",
            Self::WrongRow => "wrong_row",
            Self::DuplicateRow => "duplicate_row",
            Self::WrongOrder => "wrong_order",
            Self::OverLimit => "over_limit",
            Self::LateRow => "late_row",
            Self::Malformed => "malformed",
            Self::FailedConnection => "failed_connection",
            Self::LostConnection => "lost_connection",
        }
    }
}

/// The faults of one phase, with the first few in words.
#[derive(Default, Debug)]
pub struct Account {
    counts: RefCell<BTreeMap<Violation, u64>>,
    examples: RefCell<Vec<String>>,
    notices: RefCell<(u64, Vec<String>)>,
}

impl Account {
    /// Counts a fault; `example` is only called while examples are still wanted.
    pub fn note(&self, violation: Violation, example: impl FnOnce() -> String) {
        self.note_many(violation, 1, example);
    }

    /// Counts `count` faults of one kind with one example.
    pub fn note_many(&self, violation: Violation, count: u64, example: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        *self.counts.borrow_mut().entry(violation).or_default() += count;
        let mut examples = self.examples.borrow_mut();
        if examples.len() < MAX_EXAMPLES {
            let mut text = example();
            if text.len() > 300 {
                let end = (0..=300).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
                text.truncate(end);
                text.push('…');
            }
            examples.push(format!("{}: {text}", violation.name()));
        }
    }

    /// Faults by name; empty if the relay did everything right.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.borrow().iter().map(|(violation, &count)| (violation.name().to_string(), count)).collect()
    }

    /// Keeps what a relay says in a NOTICE: no fault, but it explains others.
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

    /// The first faults in words.
    pub fn examples(&self) -> Vec<String> {
        self.examples.borrow().clone()
    }
}

/// Which of a phase's events each subscription has to get, and has got.
#[derive(Debug)]
pub struct Deliveries {
    events: usize,
    words: usize,
    expected: Vec<u64>,
    received: Vec<u64>,
}

/// What a delivery turned out to be.
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

    /// Subscription `sub` has to get `event`.
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

    /// How many deliveries `sub` has to get of the first `events` events.
    pub fn expected(&self, sub: usize, events: usize) -> u64 {
        self.count(sub, events, |expected, _| expected)
    }

    /// How many of them are missing.
    pub fn missing(&self, sub: usize, events: usize) -> u64 {
        self.count(sub, events, |expected, received| expected & !received)
    }

    fn count(&self, sub: usize, events: usize, pick: impl Fn(u64, u64) -> u64) -> u64 {
        let range = sub * self.words..(sub + 1) * self.words;
        let words = self.expected[range.clone()].iter().zip(&self.received[range]);
        let counts = words.enumerate().map(|(position, (&expected, &received))| {
            let first = position * 64;
            let kept = events.saturating_sub(first).min(64);
            let mask = if kept == 64 { u64::MAX } else { (1u64 << kept) - 1 };
            u64::from((pick(expected, received) & mask).count_ones())
        });
        counts.sum()
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
        assert_eq!((deliveries.expected(1, 70), deliveries.missing(1, 70)), (2, 1));
        assert_eq!((deliveries.expected(1, 3), deliveries.missing(1, 64)), (0, 1));
    }

    #[test]
    fn counts_are_kept_by_name_and_examples_are_bounded() {
        let account = Account::default();
        for number in 0..50 {
            account.note(Violation::LateRow, || format!("row {number}"));
        }
        account.note_many(Violation::MissingOk, 0, || "never".into());
        assert_eq!(account.counts(), BTreeMap::from([("late_row".to_string(), 50)]));
        assert_eq!(account.examples().len(), MAX_EXAMPLES);
    }
}
