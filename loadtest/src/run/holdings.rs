//! The relay's answers about each event of the run.
//!
//! It must never take a sent event for a stored one: only an OK says so.

use std::cell::RefCell;

/// The state of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// Not sent, or sent and not answered.
    Unknown,
    /// OK false.
    Refused,
    /// OK true (or a duplicate), not read back yet.
    Stored,
    /// Stored, and read back.
    ReadBack,
}

/// One state per event of the library.
#[derive(Debug)]
pub struct Holdings(RefCell<Vec<EventState>>);

impl Holdings {
    /// `events` events, of which the relay holds the first `held` by the user's word (`--no-load`).
    pub fn new(events: usize, held: usize) -> Self {
        let mut states = vec![EventState::Unknown; events];
        states[..held.min(events)].fill(EventState::ReadBack);
        Self(RefCell::new(states))
    }

    /// The state of an event.
    pub fn get(&self, number: u32) -> EventState {
        self.0.borrow().get(number as usize).copied().unwrap_or(EventState::Unknown)
    }

    /// Notes the relay's answer about an event.
    pub fn set(&self, number: u32, state: EventState) {
        if let Some(place) = self.0.borrow_mut().get_mut(number as usize) {
            *place = state;
        }
    }

    /// Whether the relay has said that it holds an event.
    pub fn holds(&self, number: u32) -> bool {
        matches!(self.get(number), EventState::Stored | EventState::ReadBack)
    }

    /// Whether the relay has not answered for an event.
    pub fn is_unknown(&self, number: u32) -> bool {
        self.get(number) == EventState::Unknown
    }

    /// Whether it holds every event below `end`.
    pub fn holds_all(&self, end: u32) -> bool {
        (0..end).all(|number| self.holds(number))
    }

    /// Everything that the relay holds is to be read back, once more if it was already.
    pub fn forget_reading(&self) {
        let mut states = self.0.borrow_mut();
        states.iter_mut().filter(|s| **s == EventState::ReadBack).for_each(|s| *s = EventState::Stored);
    }

    /// The events that are to be read back; they count as read back from now on.
    pub fn take_unread(&self) -> Vec<u32> {
        let mut states = self.0.borrow_mut();
        let unread: Vec<u32> =
            (0u32..).zip(states.iter()).filter(|(_, s)| **s == EventState::Stored).map(|(number, _)| number).collect();
        unread.iter().for_each(|&number| states[number as usize] = EventState::ReadBack);
        unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_back_once_and_only_after_its_ok() {
        let holdings = Holdings::new(5, 1);
        holdings.set(1, EventState::Stored);
        holdings.set(2, EventState::Refused);
        holdings.set(9, EventState::Stored);
        assert_eq!((0..4).map(|number| holdings.holds(number)).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!(holdings.take_unread(), [1]);
        assert_eq!(holdings.take_unread(), [0u32; 0]);
        assert!(holdings.holds_all(2) && !holdings.holds_all(3));
        holdings.forget_reading();
        assert_eq!(holdings.take_unread(), [0, 1]);
    }
}
