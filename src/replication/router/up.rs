//! The way up: which events the relay owes answers for, and what may be sent next.
//!
//! An event that gets no answer is passed over only if it was sent by itself several times, each time to a relay that
//! answers others on the same connection. If there are no others, one that it has answered before is sent once more, to
//! see that it does.

use std::time::{Duration, Instant};

use super::link::Link;
use super::outgoing::Outgoing;
use super::progress::Progress;
use crate::nostr::EventId;
use crate::replication::backoff::Pause;
use crate::store::Seq;

/// What one connection knows of the way up: the window of unanswered events, and the tests of events that stay
/// unanswered.
pub struct UpState {
    /// The window.
    pub outgoing: Outgoing,
    /// Until when nothing is sent.
    pub pause: Pause,
    /// When the relay last answered, or events were sent after a silence.
    moved_at: Instant,
    /// Whether the relay has answered an event on this connection, since one stayed unanswered.
    is_proven: bool,
    /// The last event that it has answered.
    proof: Option<EventId>,
    /// Whether that is sent once more.
    is_proving: bool,
    /// An event that was sent by itself and stayed unanswered. It is its fault if the relay answers another.
    silent: Option<EventId>,
}

/// What to read from the store and to send.
pub enum NextSend {
    /// These events, once more.
    Again(Vec<(Seq, EventId)>),
    /// So many events after that one.
    After(Seq, usize),
}

impl UpState {
    /// Goes on where the last connection ended, or after the cursor. A new link begins with what arrives from now on.
    pub fn begin(link: &Link, progress: &mut Progress) -> Self {
        let outgoing = progress.outgoing.take().unwrap_or_else(|| {
            let last = *link.shared.arrivals.borrow();
            let cursor = progress.state.cursor.filter(|cursor| *cursor <= last);
            Outgoing::after(cursor.unwrap_or_else(|| {
                // Either it is new, or this is another store.
                progress.state.has_compared = false;
                last
            }))
        });
        Self {
            outgoing,
            pause: Pause::default(),
            moved_at: Instant::now(),
            is_proven: false,
            proof: progress.proof,
            is_proving: false,
            silent: None,
        }
    }

    /// The connection has ended. Returns the event that is to be passed over, if `is_cut`: the relay ended it.
    pub fn end(mut self, is_cut: bool, progress: &mut Progress) -> Option<EventId> {
        let alone = self.outgoing.unanswered(Instant::now());
        let poison = alone.filter(|id| is_cut && self.is_proven && self.outgoing.strike(id));
        if let Some(id) = &poison {
            self.outgoing.answered(id);
        }
        progress.answered_until(self.outgoing.cursor());
        (progress.outgoing, progress.proof) = (Some(self.outgoing), self.proof);
        poison
    }

    /// Every event up to here was dealt with.
    pub fn cursor(&self) -> Seq {
        self.outgoing.cursor()
    }

    /// What may be sent now, if the store has events up to `last`.
    pub fn next(&mut self, now: Instant, last: Seq) -> Option<NextSend> {
        let is_waiting = self.waiting_since().is_some();
        let next = self.choose(is_waiting, now, last)?;
        if !is_waiting {
            self.moved_at = now;
        }
        Some(next)
    }

    fn choose(&mut self, is_waiting: bool, now: Instant, last: Seq) -> Option<NextSend> {
        if self.outgoing.has_doubtful(now) {
            if is_waiting {
                return None;
            }
            if let Some(proof) = self.proof.filter(|_| !self.is_proven) {
                self.is_proving = true;
                return Some(NextSend::Again(vec![(Seq(0), proof)]));
            }
            return self.outgoing.take_doubtful(now).map(|event| NextSend::Again(vec![event]));
        }
        let again = self.outgoing.take_again(now);
        if !again.is_empty() {
            return Some(NextSend::Again(again));
        }
        let (after, room) = (self.outgoing.read(), self.outgoing.room_for_new());
        (room > 0 && after < last).then_some(NextSend::After(after, room))
    }

    /// Whether this is the event that is sent only to see that the relay answers.
    pub fn is_proof(&self, id: &EventId) -> bool {
        self.is_proving && self.proof == Some(*id)
    }

    /// An event is gone, or need not be sent any more.
    pub fn gone(&mut self, id: &EventId) {
        if self.is_proof(id) {
            (self.proof, self.is_proving) = (None, false);
        }
        self.outgoing.answered(id);
    }

    /// The relay has answered an event. Returns another one that is to be passed over: it has never answered that.
    pub fn heard(&mut self, id: &EventId) -> Option<EventId> {
        (self.moved_at, self.is_proven) = (Instant::now(), true);
        if self.is_proof(id) {
            self.is_proving = false;
        }
        let silent = self.silent.take().filter(|silent| silent != id && self.outgoing.strike(silent))?;
        self.outgoing.answered(&silent);
        Some(silent)
    }

    /// The relay has taken an event, or had it.
    pub fn taken(&mut self, id: EventId) {
        self.proof = Some(id);
        if self.outgoing.answered(&id).is_some_and(|tries| tries > 0) {
            // It may take others now, too.
            self.outgoing.hurry();
        }
    }

    /// The relay has answered nothing for too long. Returns whether to go on, because it has answered others before:
    /// then what is unanswered is sent again, more carefully.
    pub fn may_go_on(&mut self, now: Instant) -> bool {
        if self.is_proving || !std::mem::take(&mut self.is_proven) {
            return false;
        }
        self.silent = self.outgoing.unanswered(now);
        self.moved_at = now;
        true
    }

    /// Looks for events that the relay leaves out for so long while it answers others.
    pub fn look_for_left_out(&mut self, now: Instant, timeout: Duration) {
        if let Some(time) = now.checked_sub(timeout).filter(|_| self.is_proven) {
            self.outgoing.left_out(time, now);
        }
    }

    /// Since when the relay has answered nothing, although it owes an answer.
    pub fn waiting_since(&self) -> Option<Instant> {
        (self.is_proving || self.outgoing.is_waiting()).then_some(self.moved_at)
    }

    /// The relay asks weir to wait: waits, and has fewer unanswered afterwards.
    pub fn wait(&mut self) {
        if self.pause.begin(Instant::now()) {
            self.outgoing.narrow();
        }
    }
}
