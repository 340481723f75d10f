//! The events on their way up: a window of unanswered ones over the local arrival numbers, and the cursor behind it.
//!
//! Pure. The cursor is durable elsewhere: every event up to it was answered by the relay or is none of its business, so
//! whoever goes on from there loses nothing. The window widens with each answer and halves when the relay asks for
//! patience.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::nostr::EventId;
use crate::store::Seq;

/// The most events that may be unanswered. A relay that commits in groups answers hundreds at a time.
const MAX_EVENTS: usize = 500;

/// Bytes of events that may be unanswered. The last event may exceed it.
const MAX_BYTES: usize = 4 << 20;

struct Unanswered {
    id: EventId,
    bytes: usize,
    /// How often the relay asked for patience or failed.
    tries: u32,
}

/// See the module.
pub struct Outgoing {
    /// Everything up to here was read from the store.
    read: Seq,
    unanswered: BTreeMap<Seq, Unanswered>,
    by_id: HashMap<EventId, Seq>,
    /// Unanswered events that are to be sent again.
    again: BTreeSet<Seq>,
    bytes: usize,
    /// How many events may be unanswered now.
    width: usize,
}

impl Outgoing {
    /// Begins after `cursor`, with `width` events at first.
    #[must_use]
    pub fn after(cursor: Seq, width: usize) -> Self {
        let (unanswered, by_id, again) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
        Self { read: cursor, unanswered, by_id, again, bytes: 0, width: width.clamp(1, MAX_EVENTS) }
    }

    /// The event up to which the store was read.
    #[must_use]
    pub const fn read(&self) -> Seq {
        self.read
    }

    /// How many more events may be sent, those that are sent again included.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.bytes >= MAX_BYTES && self.is_waiting() { 0 } else { self.width.saturating_sub(self.in_flight()) }
    }

    fn in_flight(&self) -> usize {
        self.unanswered.len() - self.again.len()
    }

    /// The store was read up to here.
    pub fn read_up_to(&mut self, seq: Seq) {
        self.read = self.read.max(seq);
    }

    /// Whether an answer is owed for this event, or it waits to be sent again.
    #[must_use]
    pub fn is_unanswered(&self, id: &EventId) -> bool {
        self.by_id.contains_key(id)
    }

    /// An event of so many bytes was sent, perhaps again.
    pub fn sent(&mut self, seq: Seq, id: EventId, bytes: usize) {
        self.read_up_to(seq);
        if self.by_id.insert(id, seq).is_none() {
            self.bytes += bytes;
            self.unanswered.insert(seq, Unanswered { id, bytes, tries: 0 });
        }
    }

    /// The relay has dealt with an event, or it need not be sent after all. Returns whether an answer was owed.
    pub fn answered(&mut self, id: &EventId) -> bool {
        let Some(seq) = self.by_id.remove(id) else { return false };
        self.again.remove(&seq);
        let unanswered = self.unanswered.remove(&seq).expect("both know the same events");
        self.bytes -= unanswered.bytes;
        self.width = (self.width + 1).min(MAX_EVENTS);
        true
    }

    /// The relay did not take an event, and may do so later: it is to be sent again. Returns how often that happened;
    /// `None` if no answer was owed.
    pub fn refused_for_now(&mut self, id: &EventId) -> Option<u32> {
        let seq = self.by_id.get(id)?;
        let unanswered = self.unanswered.get_mut(seq).expect("both know the same events");
        unanswered.tries += 1;
        self.again.insert(*seq);
        Some(unanswered.tries)
    }

    /// The relay asks for patience: fewer events are unanswered at a time from now on.
    pub const fn narrow(&mut self) {
        self.width = if self.width > 1 { self.width / 2 } else { 1 };
    }

    /// The events to send again for which there is room, the oldest first; they stay unanswered.
    pub fn take_again(&mut self) -> Vec<(Seq, EventId)> {
        let seqs: Vec<Seq> = self.again.iter().copied().take(self.room()).collect();
        self.again.retain(|seq| !seqs.contains(seq));
        seqs.into_iter().map(|seq| (seq, self.unanswered[&seq].id)).collect()
    }

    /// Whether the relay owes answers.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.in_flight() > 0
    }

    /// The only event that is unanswered, if it is one.
    #[must_use]
    pub fn only(&self) -> Option<EventId> {
        let mut unanswered = self.unanswered.values();
        let first = unanswered.next()?.id;
        unanswered.next().is_none().then_some(first)
    }

    /// Every event up to here was dealt with.
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.unanswered.first_key_value().map_or(self.read, |(seq, _)| Seq(seq.0 - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EventId {
        EventId(std::array::from_fn(|at| n.to_le_bytes()[at % 8]))
    }

    fn sent(outgoing: &mut Outgoing, seqs: impl Iterator<Item = u64>) {
        seqs.for_each(|n| outgoing.sent(Seq(n), id(n), 100));
    }

    #[test]
    fn the_cursor_moves_only_past_what_was_answered_whatever_the_order() {
        let mut outgoing = Outgoing::after(Seq(10), 100);
        sent(&mut outgoing, [12, 15, 16].into_iter());
        outgoing.read_up_to(Seq(20));
        assert_eq!((outgoing.cursor(), outgoing.read()), (Seq(11), Seq(20)));
        assert!(outgoing.answered(&id(15)) && !outgoing.answered(&id(15)));
        assert_eq!(outgoing.cursor(), Seq(11));
        assert!(outgoing.answered(&id(12)));
        assert_eq!((outgoing.cursor(), outgoing.only()), (Seq(15), Some(id(16))));
        assert!(outgoing.answered(&id(16)));
        assert_eq!((outgoing.cursor(), outgoing.only(), outgoing.is_waiting()), (Seq(20), None, false));
    }

    #[test]
    fn the_window_is_bounded_by_number_and_bytes_widens_with_answers_and_halves_when_asked() {
        let mut outgoing = Outgoing::after(Seq(0), 2);
        sent(&mut outgoing, 1..=2);
        assert_eq!(outgoing.room(), 0);
        assert!(outgoing.answered(&id(1)));
        assert_eq!(outgoing.room(), 2);
        for n in 3..2_000 {
            sent(&mut outgoing, n..=n);
            assert!(outgoing.answered(&id(n)));
        }
        assert_eq!(outgoing.room(), MAX_EVENTS - 1, "one is unanswered");
        (0..20).for_each(|_| outgoing.narrow());
        assert_eq!(outgoing.room(), 0);
        assert!(outgoing.answered(&id(2)));
        assert_eq!(outgoing.room(), 2);
        outgoing.sent(Seq(3_000), id(3_000), MAX_BYTES);
        assert_eq!(outgoing.room(), 0);
    }

    #[test]
    fn what_is_to_be_sent_again_is_named_oldest_first_and_stays_unanswered() {
        let mut outgoing = Outgoing::after(Seq(0), 10);
        sent(&mut outgoing, 1..=3);
        assert_eq!([3, 1, 9].map(|n| outgoing.refused_for_now(&id(n))), [Some(1), Some(1), None]);
        assert!(outgoing.is_waiting());
        assert_eq!(outgoing.take_again(), [(Seq(1), id(1)), (Seq(3), id(3))]);
        assert_eq!(outgoing.take_again(), []);
        assert_eq!(outgoing.refused_for_now(&id(1)), Some(2));
        assert!(outgoing.answered(&id(1)));
        assert_eq!(outgoing.take_again(), []);
        assert_eq!(outgoing.cursor(), Seq(1));
        assert!(outgoing.answered(&id(2)) && outgoing.answered(&id(3)));
        assert_eq!(outgoing.cursor(), Seq(3));
    }
}
