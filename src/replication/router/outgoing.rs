//! The events on their way up: a window of unanswered ones over the local arrival numbers, and the cursor behind it.
//!
//! Pure. The cursor is durable elsewhere: every event up to it was answered by the relay or is none of its business, so
//! whoever goes on from there loses nothing. The window widens with each answer and halves when the relay asks for
//! time.
//!
//! An event that the relay does not take for now is put aside, and the others go on. One that stayed without an answer
//! although it was the only one is doubtful: it is sent by itself from then on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::nostr::EventId;
use crate::replication::pause::doubled;
use crate::store::Seq;

/// The most events that may be unanswered. A relay that commits in groups answers hundreds at a time.
const MAX_EVENTS: usize = 500;

/// The most events that are put aside. Nothing else is sent while there are as many.
const MAX_ASIDE: usize = 500;

/// How long an event is put aside at most.
const LONGEST_ASIDE: Duration = Duration::from_secs(30);

/// How often a doubtful event may stay without an answer from a relay that answers others, before it is passed over.
const MAX_STRIKES: u32 = 3;

/// Bytes of events that may be unanswered. The last event may exceed it.
const MAX_BYTES: usize = 4 << 20;

struct Unanswered {
    id: EventId,
    bytes: usize,
    /// When it was sent, if it was not put aside since.
    sent_at: Option<Instant>,
    /// How often the relay asked weir to wait or failed.
    tries: u32,
    /// How often it stayed without an answer as the only one.
    doubts: u32,
    /// How often that happened with a relay that answers others.
    strikes: u32,
    /// When to send it again.
    due: Option<Instant>,
}

impl Unanswered {
    const fn new(id: EventId, bytes: usize) -> Self {
        Self { id, bytes, sent_at: None, tries: 0, doubts: 0, strikes: 0, due: None }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }
}

/// How long an event is put aside the n-th time.
fn aside(times: u32) -> Duration {
    doubled(times.saturating_sub(1), LONGEST_ASIDE)
}

/// The window of unanswered events: at most 500 and 4 MiB in flight. No new event is sent while 500 wait to be sent
/// again.
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
    /// Begins after `cursor`.
    #[must_use]
    pub fn after(cursor: Seq) -> Self {
        let (unanswered, by_id, again) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
        Self { read: cursor, unanswered, by_id, again, bytes: 0, width: MAX_EVENTS }
    }

    /// The event up to which the store was read.
    #[must_use]
    pub const fn read(&self) -> Seq {
        self.read
    }

    /// How many more events may be sent: events that are sent again, and others if not too many are put aside.
    #[must_use]
    pub fn room(&self) -> usize {
        // A doubtful event is sent by itself.
        let is_alone = self.lone().is_some_and(|unanswered| unanswered.doubts > 0);
        if is_alone || (self.bytes >= MAX_BYTES && self.is_waiting()) {
            return 0;
        }
        self.width.saturating_sub(self.in_flight())
    }

    /// How many more events may be sent that were not sent before.
    #[must_use]
    pub fn room_for_new(&self) -> usize {
        self.room().min(MAX_ASIDE.saturating_sub(self.again.len()))
    }

    fn in_flight(&self) -> usize {
        self.unanswered.len() - self.again.len()
    }

    /// The only event that waits for an answer, if it is one.
    fn lone(&self) -> Option<&Unanswered> {
        if self.in_flight() != 1 {
            return None;
        }
        self.unanswered.iter().find(|(seq, _)| !self.again.contains(seq)).map(|(_, unanswered)| unanswered)
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

    /// An event of this many bytes is sent, perhaps again.
    pub fn sent(&mut self, seq: Seq, id: EventId, bytes: usize, now: Instant) {
        self.read_up_to(seq);
        if self.by_id.insert(id, seq).is_none() {
            self.bytes += bytes;
            self.unanswered.insert(seq, Unanswered::new(id, bytes));
        }
        let unanswered = self.unanswered.get_mut(&seq).expect("both know the same events");
        // What was put aside counts for nothing until it is sent again.
        if unanswered.sent_at.is_none() && unanswered.bytes == 0 {
            unanswered.bytes = bytes;
            self.bytes += bytes;
        }
        unanswered.sent_at = Some(now);
    }

    /// The relay has dealt with an event, or it need not be sent after all. Returns how often it was put
    /// aside; `None` if no answer was owed.
    pub fn answered(&mut self, id: &EventId) -> Option<u32> {
        let seq = self.by_id.remove(id)?;
        self.again.remove(&seq);
        let unanswered = self.unanswered.remove(&seq).expect("both know the same events");
        self.bytes -= unanswered.bytes;
        self.width = (self.width + 1).min(MAX_EVENTS);
        Some(unanswered.tries)
    }

    /// The relay did not take an event, and may do so later: it is put aside. Returns how often that happened; `None`
    /// if no answer was owed.
    pub fn refused_for_now(&mut self, id: &EventId, now: Instant) -> Option<u32> {
        let seq = *self.by_id.get(id)?;
        let unanswered = self.unanswered.get_mut(&seq).expect("both know the same events");
        unanswered.tries += 1;
        unanswered.due = Some(now + aside(unanswered.tries));
        let tries = unanswered.tries;
        self.put_aside(seq);
        Some(tries)
    }

    fn put_aside(&mut self, seq: Seq) {
        let unanswered = self.unanswered.get_mut(&seq).expect("both know the same events");
        self.bytes -= std::mem::take(&mut unanswered.bytes);
        unanswered.sent_at = None;
        self.again.insert(seq);
    }

    /// How many events are put aside.
    #[must_use]
    pub fn aside(&self) -> usize {
        self.again.len()
    }

    /// The relay answers none of what was sent, or the connection ended: all of it is sent again, carefully. Returns
    /// the event that was sent by itself.
    pub fn unanswered(&mut self, now: Instant) -> Option<EventId> {
        let lone = self.lone().filter(|lone| lone.sent_at.is_some()).map(|lone| (lone.id, lone.doubts > 0));
        if let Some((id, _)) = lone {
            self.doubt(self.by_id[&id], now);
        }
        let seqs: Vec<Seq> = self.unanswered.keys().filter(|seq| !self.again.contains(seq)).copied().collect();
        if !seqs.is_empty() {
            // The one that it does not like is found alone.
            self.width = 1;
        }
        seqs.into_iter().for_each(|seq| self.put_aside(seq));
        lone.filter(|(_, was_by_itself)| *was_by_itself).map(|(id, _)| id)
    }

    fn doubt(&mut self, seq: Seq, now: Instant) {
        let unanswered = self.unanswered.get_mut(&seq).expect("both know the same events");
        unanswered.doubts += 1;
        unanswered.due = Some(now + aside(unanswered.doubts));
    }

    /// The relay answers other events, but not these, which were sent before `time`: each is sent by itself.
    pub fn left_out(&mut self, time: Instant, now: Instant) {
        let is_old = |unanswered: &Unanswered| unanswered.sent_at.is_some_and(|sent_at| sent_at < time);
        let seqs: Vec<Seq> = self.unanswered.iter().filter(|(_, event)| is_old(event)).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            self.doubt(seq, now);
            self.put_aside(seq);
        }
    }

    /// A doubtful event had no answer from a relay that answers others. Returns whether it is one time too many.
    pub fn strike(&mut self, id: &EventId) -> bool {
        let unanswered = self.by_id.get(id).and_then(|seq| self.unanswered.get_mut(seq));
        unanswered.is_some_and(|unanswered| {
            unanswered.strikes += 1;
            unanswered.strikes >= MAX_STRIKES
        })
    }

    /// What the relay may take now, which it did not before.
    pub fn hurry(&mut self) {
        self.unanswered.values_mut().filter(|unanswered| unanswered.doubts == 0).for_each(|event| event.due = None);
    }

    /// The relay asks weir to wait: fewer events are unanswered at a time from now on.
    pub const fn narrow(&mut self) {
        self.width = if self.width > 1 { self.width / 2 } else { 1 };
    }

    /// The events to send again for which there is room and whose time has come, the oldest first; they stay
    /// unanswered.
    pub fn take_again(&mut self, now: Instant) -> Vec<(Seq, EventId)> {
        let is_full = self.again.len() >= MAX_ASIDE;
        let may_go = |seq: &&Seq| {
            let unanswered = &self.unanswered[*seq];
            unanswered.doubts == 0 && (is_full || unanswered.is_due(now))
        };
        let seqs: Vec<Seq> = self.again.iter().filter(may_go).copied().take(self.room()).collect();
        self.again.retain(|seq| seqs.binary_search(seq).is_err());
        seqs.into_iter().map(|seq| (seq, self.unanswered[&seq].id)).collect()
    }

    /// Whether a doubtful event is to be sent. Nothing else should be sent then, until it was.
    #[must_use]
    pub fn has_doubtful(&self, now: Instant) -> bool {
        self.next_doubtful(now).is_some()
    }

    fn next_doubtful(&self, now: Instant) -> Option<Seq> {
        let doubtful = self.again.iter().map(|seq| (seq, &self.unanswered[seq]));
        let due = doubtful.filter(|(_, unanswered)| unanswered.doubts > 0 && unanswered.is_due(now));
        due.min_by_key(|(seq, unanswered)| (unanswered.doubts, **seq)).map(|(seq, _)| *seq)
    }

    /// The doubtful event to send by itself, if nothing else is unanswered. It stays unanswered.
    pub fn take_doubtful(&mut self, now: Instant) -> Option<(Seq, EventId)> {
        let seq = self.next_doubtful(now).filter(|_| !self.is_waiting())?;
        self.again.remove(&seq);
        Some((seq, self.unanswered[&seq].id))
    }

    /// Whether the relay owes answers.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.in_flight() > 0
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
    use crate::replication::pause::FIRST;

    fn id(n: u64) -> EventId {
        EventId(std::array::from_fn(|at| n.to_le_bytes()[at % 8]))
    }

    fn sent(outgoing: &mut Outgoing, seqs: impl Iterator<Item = u64>) {
        let now = Instant::now();
        seqs.for_each(|n| outgoing.sent(Seq(n), id(n), 100, now));
    }

    #[test]
    fn the_cursor_moves_only_past_what_was_answered_whatever_the_order() {
        let mut outgoing = Outgoing::after(Seq(10));
        sent(&mut outgoing, [12, 15, 16].into_iter());
        outgoing.read_up_to(Seq(20));
        assert_eq!((outgoing.cursor(), outgoing.read()), (Seq(11), Seq(20)));
        assert_eq!([15, 15].map(|n| outgoing.answered(&id(n))), [Some(0), None]);
        assert_eq!(outgoing.cursor(), Seq(11));
        assert!(outgoing.answered(&id(12)).is_some());
        assert_eq!(outgoing.cursor(), Seq(15));
        assert!(outgoing.answered(&id(16)).is_some());
        assert_eq!((outgoing.cursor(), outgoing.is_waiting()), (Seq(20), false));
    }

    #[test]
    fn the_window_is_bounded_by_number_and_bytes_widens_with_answers_and_halves_when_asked() {
        let mut outgoing = Outgoing::after(Seq(0));
        assert_eq!(outgoing.room(), MAX_EVENTS);
        sent(&mut outgoing, 1..=1);
        (0..20).for_each(|_| outgoing.narrow());
        assert_eq!(outgoing.room(), 0);
        assert!(outgoing.answered(&id(1)).is_some());
        assert_eq!(outgoing.room(), 2);
        for n in 3..2_000 {
            sent(&mut outgoing, n..=n);
            assert!(outgoing.answered(&id(n)).is_some());
        }
        assert_eq!(outgoing.room(), MAX_EVENTS);
        outgoing.sent(Seq(3_000), id(3_000), MAX_BYTES, Instant::now());
        assert_eq!(outgoing.room(), 0);
        assert_eq!(outgoing.refused_for_now(&id(3_000), Instant::now()), Some(1));
        assert_eq!(outgoing.room(), MAX_EVENTS, "what is put aside is not in memory");
    }

    #[test]
    fn what_is_refused_for_now_waits_longer_each_time_and_keeps_nothing_else_waiting() {
        let (mut outgoing, now) = (Outgoing::after(Seq(0)), Instant::now());
        sent(&mut outgoing, 1..=3);
        assert_eq!([3, 1, 9].map(|n| outgoing.refused_for_now(&id(n), now)), [Some(1), Some(1), None]);
        assert!(outgoing.is_waiting() && outgoing.room_for_new() > 0);
        assert_eq!(outgoing.take_again(now), []);
        let later = now + FIRST;
        assert_eq!(outgoing.take_again(later), [(Seq(1), id(1)), (Seq(3), id(3))]);
        assert_eq!(outgoing.refused_for_now(&id(1), later), Some(2));
        assert_eq!(outgoing.take_again(later + FIRST), []);
        assert_eq!([2, 3].map(|n| outgoing.answered(&id(n))), [Some(0), Some(1)]);
        assert_eq!(outgoing.cursor(), Seq(0));
        assert_eq!(outgoing.take_again(later + FIRST * 2), [(Seq(1), id(1))]);
        assert!(outgoing.answered(&id(1)).is_some());
        assert_eq!(outgoing.cursor(), Seq(3));
    }

    #[test]
    fn a_bounded_number_is_put_aside() {
        let (mut outgoing, now) = (Outgoing::after(Seq(0)), Instant::now());
        for n in 1..=MAX_ASIDE as u64 {
            assert!(outgoing.room_for_new() > 0);
            sent(&mut outgoing, n..=n);
            assert_eq!(outgoing.refused_for_now(&id(n), now), Some(1));
        }
        assert_eq!((outgoing.room_for_new(), outgoing.aside()), (0, MAX_ASIDE));
        // Then nothing keeps them waiting.
        assert_eq!(outgoing.take_again(now).len(), MAX_ASIDE);
    }

    #[test]
    fn what_stays_unanswered_alone_is_sent_by_itself_after_the_others() {
        let (mut outgoing, now) = (Outgoing::after(Seq(0)), Instant::now());
        sent(&mut outgoing, 1..=3);
        assert_eq!(outgoing.unanswered(now), None, "it may be any of them");
        assert_eq!(outgoing.take_again(now), [(Seq(1), id(1))], "one at a time");
        sent(&mut outgoing, 1..=1);
        assert_eq!(outgoing.unanswered(now), None, "it was not sent by itself yet");
        let later = now + FIRST;
        assert_eq!(outgoing.take_again(later), [(Seq(2), id(2))]);
        assert!(outgoing.has_doubtful(later) && outgoing.take_doubtful(later).is_none());
        sent(&mut outgoing, 2..=2);
        assert!(outgoing.answered(&id(2)).is_some());
        assert_eq!((outgoing.has_doubtful(now), outgoing.take_doubtful(later)), (false, Some((Seq(1), id(1)))));
        assert_eq!((outgoing.room(), outgoing.take_again(later)), (0, vec![]));
        sent(&mut outgoing, 1..=1);
        assert_eq!(outgoing.unanswered(now), Some(id(1)));
        assert_eq!([(); 3].map(|()| outgoing.strike(&id(1))), [false, false, true]);
        assert!(outgoing.answered(&id(1)).is_some());
        assert_eq!(outgoing.take_again(later), [(Seq(3), id(3))]);
        assert_eq!(outgoing.cursor(), Seq(2));
    }
}
