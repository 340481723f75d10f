//! Which messages are owed an acknowledgement: each gets one once all of its events are dealt with.
//!
//! Pure. It holds what was delivered and not acknowledged, which NATS bounds.

use std::collections::HashMap;

use crate::nostr::EventId;

/// What becomes of an event; the later one is worse. A message has the worst of its events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    /// It is none of ours.
    Poison,
    /// It is on disk, or refused for good.
    Done,
    /// It could not be stored: the message is to come again.
    Again,
}

/// The number of a message, for as long as it is owed something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Number(u64);

/// Messages that came by an `M`, by which they are acknowledged.
#[derive(Debug)]
pub struct Owed<M> {
    messages: HashMap<Number, Message<M>>,
    /// The messages whose events are on their way to the disk. Some events come in more than one.
    waiting: HashMap<EventId, Vec<Number>>,
    next: u64,
}

#[derive(Debug)]
struct Message<M> {
    by: M,
    /// Events that are not dealt with, and one more while the message is being read.
    left: usize,
    end: End,
}

impl<M> Default for Owed<M> {
    fn default() -> Self {
        Self { messages: HashMap::new(), waiting: HashMap::new(), next: 0 }
    }
}

impl<M> Owed<M> {
    /// Begins to read a message. [`Owed::end`] with [`End::Poison`] says that it is read.
    pub fn begin(&mut self, by: M) -> Number {
        let number = Number(self.next);
        self.next += 1;
        self.messages.insert(number, Message { by, left: 1, end: End::Poison });
        number
    }

    /// By what a message came, if it is owed anything.
    #[must_use]
    pub fn by(&self, number: Number) -> Option<&M> {
        self.messages.get(&number).map(|message| &message.by)
    }

    /// The message holds one more event.
    pub fn add(&mut self, number: Number) {
        if let Some(message) = self.messages.get_mut(&number) {
            message.left += 1;
        }
    }

    /// An event of a message is dealt with. Returns what the message is owed, if that was the last.
    pub fn end(&mut self, number: Number, end: End) -> Option<(M, End)> {
        let message = self.messages.get_mut(&number)?;
        message.left -= 1;
        message.end = message.end.max(end);
        if message.left > 0 {
            return None;
        }
        self.messages.remove(&number).map(|message| (message.by, message.end))
    }

    /// An event of a message is on its way to the disk.
    pub fn wait(&mut self, number: Number, id: EventId) {
        self.waiting.entry(id).or_default().push(number);
    }

    /// It is known what became of an event that was on its way. Returns what messages are owed for it.
    pub fn settle(&mut self, id: &EventId, end: End) -> Vec<(M, End)> {
        let numbers = self.waiting.remove(id).unwrap_or_default();
        numbers.into_iter().filter_map(|number| self.end(number, end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EventId {
        EventId([n; 32])
    }

    /// Reads a message with these events, all of which wait.
    fn read(owed: &mut Owed<char>, by: char, ids: &[u8]) -> Option<(char, End)> {
        let number = owed.begin(by);
        for n in ids {
            owed.add(number);
            owed.wait(number, id(*n));
        }
        owed.end(number, End::Poison)
    }

    #[test]
    fn a_message_is_acknowledged_once_all_of_its_events_are_dealt_with() {
        let mut owed = Owed::default();
        assert_eq!(read(&mut owed, 'a', &[1, 2]), None);
        assert_eq!(owed.settle(&id(1), End::Done), []);
        assert_eq!(owed.settle(&id(1), End::Done), [], "it is told once");
        assert_eq!(owed.settle(&id(2), End::Done), [('a', End::Done)]);
        assert_eq!((owed.messages.len(), owed.waiting.len()), (0, 0));
    }

    #[test]
    fn a_message_comes_again_if_one_of_its_events_must_and_is_poison_only_if_all_are() {
        let mut owed = Owed::default();
        assert_eq!(read(&mut owed, 'a', &[1, 2]), None);
        assert_eq!(owed.settle(&id(1), End::Again), []);
        assert_eq!(owed.settle(&id(2), End::Done), [('a', End::Again)]);
        for (others, end) in [(vec![End::Poison], End::Poison), (vec![End::Done, End::Poison], End::Done)] {
            let number = owed.begin('b');
            for other in others {
                owed.add(number);
                assert_eq!(owed.end(number, other), None, "it is not read yet");
            }
            assert_eq!(owed.by(number), Some(&'b'));
            assert_eq!(owed.end(number, End::Poison), Some(('b', end)));
            assert_eq!(owed.end(number, End::Done), None, "it is owed nothing");
            assert_eq!(owed.by(number), None);
        }
    }

    #[test]
    fn an_event_that_comes_twice_settles_both() {
        let mut owed = Owed::default();
        assert_eq!([read(&mut owed, 'a', &[1, 1]), read(&mut owed, 'b', &[1])], [None, None]);
        assert_eq!(owed.settle(&id(1), End::Done), [('a', End::Done), ('b', End::Done)]);
    }
}
