//! Which events share a message: those of one kind that are there at the same time, up to a bound. None waits for
//! others.
//!
//! Pure. What NATS and its client do for a message costs as much as storing an event, so a storm is carried in few of
//! them. A message has the subject of its kind, by which NATS filters, so other kinds need others.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::message::{MAX_BYTES, MAX_EVENTS};
use super::reading::Outgoing;
use crate::nostr::{Kind, hex};
use crate::store::Seq;

/// A message.
#[derive(PartialEq, Eq, Debug)]
pub struct Batch {
    /// The arrival number of its first event.
    first: Seq,
    /// Everything up to this arrival number is in this message or in those before it.
    pub until: Seq,
    /// The kind of its events.
    pub kind: Kind,
    /// How many there are.
    pub events: usize,
    /// Their JSON, one on each line.
    pub lines: Vec<u8>,
    /// Their ids, one after the other.
    ids: Vec<u8>,
}

impl Batch {
    fn new(Outgoing { seq, id, kind, json }: Outgoing) -> Self {
        Self { first: seq, until: seq, kind, events: 1, lines: json, ids: id.0.to_vec() }
    }

    fn has_room_for(&self, event: &Outgoing, max_bytes: usize) -> bool {
        self.events < MAX_EVENTS && self.lines.len() + 1 + event.json.len() <= max_bytes
    }

    fn push(&mut self, event: &Outgoing) {
        self.lines.push(b'\n');
        self.lines.extend_from_slice(&event.json);
        self.ids.extend_from_slice(&event.id.0);
        self.events += 1;
    }

    /// Its id for NATS, which is that of another message only if that holds the same events.
    #[must_use]
    pub fn id(&self) -> String {
        if self.events == 1 { hex::encode(&self.ids) } else { hex::encode(&Sha256::digest(&self.ids)) }
    }
}

/// The messages for `events`, which come in the order of arrival, are all up to number `read`, and fit into a message
/// each. Those that begin earlier come first. A message with more than one event has at most `max_bytes`.
#[must_use]
pub fn of(events: Vec<Outgoing>, read: Seq, max_bytes: usize) -> Vec<Batch> {
    let max_bytes = max_bytes.min(MAX_BYTES);
    let mut batches: Vec<Batch> = Vec::new();
    let mut open: HashMap<Kind, usize> = HashMap::new();
    for event in events {
        match open.get(&event.kind).map(|at| &mut batches[*at]).filter(|batch| batch.has_room_for(&event, max_bytes)) {
            Some(batch) => batch.push(&event),
            None => {
                open.insert(event.kind, batches.len());
                batches.push(Batch::new(event));
            }
        }
    }
    let mut until = read;
    for batch in batches.iter_mut().rev() {
        batch.until = until;
        until = Seq(batch.first.0 - 1);
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nostr::EventId;

    fn outgoing(seq: u64, kind: u16, length: usize) -> Outgoing {
        let id = EventId(std::array::from_fn(|at| seq.to_le_bytes()[at % 8]));
        Outgoing { seq: Seq(seq), id, kind: Kind(kind), json: vec![b'0' + (seq % 10) as u8; length] }
    }

    #[test]
    fn events_of_a_kind_share_a_message_and_what_comes_first_goes_first() {
        let events = [(3, 1), (4, 7), (6, 1), (7, 7), (8, 0)].map(|(seq, kind)| outgoing(seq, kind, 2));
        let batches = of(events.into(), Seq(9), 1 << 20);
        let shown = |batch: &Batch| (batch.kind.0, String::from_utf8_lossy(&batch.lines).into_owned(), batch.until.0);
        assert_eq!(
            batches.iter().map(shown).collect::<Vec<_>>(),
            [(1, "33\n66".into(), 3), (7, "44\n77".into(), 7), (0, "88".into(), 9)]
        );
    }

    #[test]
    fn a_message_is_called_like_its_only_event_or_by_all_of_them() {
        let id = |seqs: &[u64]| {
            let events = seqs.iter().map(|seq| outgoing(*seq, 1, 5)).collect();
            of(events, Seq(9), 1 << 20).into_iter().next().expect("a message").id()
        };
        assert_eq!(id(&[5]), outgoing(5, 1, 5).id.to_string());
        assert_eq!(id(&[5, 6, 7]), id(&[5, 6, 7]));
        assert_eq!([id(&[5, 6]), id(&[5, 6, 7]), id(&[6, 5])].iter().filter(|other| **other == id(&[5, 6])).count(), 1);
    }

    proptest! {
        #[test]
        fn messages_keep_to_their_bounds_and_say_truly_up_to_where_everything_is_in_them(
            kinds in prop::collection::vec((0_u16..4, 1_usize..9_000, 1_u64..4), 0..200),
            max_bytes in 9_000_usize..100_000,
        ) {
            let mut seq = 0;
            let numbered = |(kind, length, gap): &(u16, usize, u64)| {
                seq += gap;
                (seq, *kind, *length)
            };
            let numbered: Vec<(u64, u16, usize)> = kinds.iter().map(numbered).collect();
            let events = numbered.iter().map(|(seq, kind, length)| outgoing(*seq, *kind, *length)).collect();
            let read = Seq(seq + 1);
            let batches = of(events, read, max_bytes);
            let mut left: Vec<(u64, u16, usize)> = numbered;
            for (at, batch) in batches.iter().enumerate() {
                prop_assert!(batch.events <= MAX_EVENTS && batch.lines.len() <= max_bytes.min(MAX_BYTES));
                let lines: Vec<&[u8]> = batch.lines.split(|byte| *byte == b'\n').collect();
                prop_assert_eq!((lines.len(), batch.ids.len()), (batch.events, 32 * batch.events));
                for (line, id) in lines.iter().zip(batch.ids.chunks(32)) {
                    let seq = u64::from_le_bytes(id[..8].try_into().expect("8 bytes"));
                    let found = left.iter().position(|one| *one == (seq, batch.kind.0, line.len()));
                    left.remove(found.expect("each event is in one message"));
                }
                prop_assert!(left.iter().all(|(seq, ..)| Seq(*seq) > batch.until));
                prop_assert!(at == 0 || batches[at - 1].until <= batch.until);
            }
            prop_assert!(left.is_empty());
            prop_assert!(batches.last().is_none_or(|last| last.until == read));
        }
    }
}
