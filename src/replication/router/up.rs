//! The way up: which events the relay owes answers for, and when the next may be sent.

use std::time::Instant;

use super::backoff::Pause;
use super::link::Link;
use super::outgoing::Outgoing;
use super::progress::Progress;
use crate::nostr::EventId;
use crate::store::Seq;

/// See the module.
pub struct Up {
    /// The window.
    pub outgoing: Outgoing,
    /// An event that is passed over.
    pub poison: Option<EventId>,
    /// Until when nothing is sent.
    pub pause: Pause,
    /// When the relay last answered, or events were sent after a silence.
    pub moved_at: Instant,
}

impl Up {
    /// Goes on after the cursor. A new link begins with what arrives from now on.
    pub fn begin(link: &Link, progress: &mut Progress) -> Self {
        let last = *link.shared.arrivals.borrow();
        let cursor = progress.state.cursor.filter(|cursor| *cursor <= last).unwrap_or_else(|| {
            // Either it is new, or this is another store.
            progress.state.has_compared = false;
            last
        });
        // The relay may have ended the connection because of one event: then it is found alone.
        let width = if progress.is_cautious { 1 } else { usize::MAX };
        Self {
            outgoing: Outgoing::after(cursor, width),
            poison: progress.poison(),
            pause: Pause::default(),
            moved_at: Instant::now(),
        }
    }

    /// Every event up to here was dealt with.
    pub fn cursor(&self) -> Seq {
        self.outgoing.cursor()
    }

    /// Whether answers are owed.
    pub fn is_waiting(&self) -> bool {
        self.outgoing.is_waiting()
    }

    /// The only event that is unanswered, if it is one.
    pub fn only(&self) -> Option<EventId> {
        self.outgoing.only()
    }

    /// Since when the relay has answered nothing, although it owes an answer.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.is_waiting().then_some(self.moved_at)
    }

    /// The relay asks for patience: waits, and has fewer unanswered afterwards.
    pub fn wait(&mut self) {
        if self.pause.begin(Instant::now()) {
            self.outgoing.narrow();
        }
    }
}
