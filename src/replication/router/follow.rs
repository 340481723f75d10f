//! What has arrived in our store and is to be sent up: read by arrival number, a slice at a time.
//!
//! It only reads, for milliseconds, on a thread that may wait for the disk.

use std::time::{Duration, Instant};

use crate::metrics::Sent;
use crate::nostr::{EventId, Filter, Timestamp};
use crate::replication::local::{self, Sending};
use crate::replication::recent::Recent;
use crate::store::{Seq, Store, StoreError};

/// The limits of one read transaction.
const ROWS: usize = 4096;
const TIME: Duration = Duration::from_millis(20);

/// Bytes of messages read at a time. The last one may exceed it.
const BYTES: usize = 1 << 20;

/// What was found.
#[derive(Debug, Default)]
pub struct ArrivedEvents {
    /// Everything up to here was looked at.
    pub read: Seq,
    /// EVENT messages, in the order of arrival.
    pub messages: Vec<(Seq, EventId, String)>,
    /// What is not to be sent although it matches, and why.
    pub passed: Vec<Sent>,
    /// Events asked for by id that are not to be sent any more.
    pub gone: Vec<EventId>,
}

/// Which events to look for.
pub struct Follow<'a> {
    /// The store.
    pub store: &'a Store,
    /// The conditions and the range.
    pub filter: &'a Filter,
    /// What the other relay has shown.
    pub recent: &'a Recent,
    /// The time.
    pub now: Timestamp,
}

impl Follow<'_> {
    /// Reads on after `seq`, until there are `most` messages or the slice is over.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn after(&self, seq: Seq, most: usize) -> Result<ArrivedEvents, StoreError> {
        let mut found = ArrivedEvents { read: seq, ..ArrivedEvents::default() };
        let (began, mut bytes) = (Instant::now(), 0);
        let snapshot = self.store.read()?;
        for (row, event) in snapshot.after(seq)?.enumerate() {
            let is_over = bytes >= BYTES || row >= ROWS || began.elapsed() >= TIME;
            if found.messages.len() >= most || (is_over && row > 0) {
                return Ok(found);
            }
            let (seq, event) = event?;
            found.read = seq;
            if !self.filter.matches(event) || event.is_expired(self.now) || snapshot.is_hidden(seq, event)? {
                continue;
            }
            if event.is_protected() {
                found.passed.push(Sent::Protected);
            } else if self.recent.has(&event.id()) {
                found.passed.push(Sent::Echo);
            } else {
                let text = local::message(event);
                bytes += text.len();
                found.messages.push((seq, event.id(), text));
            }
        }
        // Numbers of events that are gone are passed over too.
        found.read = found.read.max(snapshot.last_seq()?);
        Ok(found)
    }

    /// Reads events again that were sent before.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn again(&self, ids: &[(Seq, EventId)]) -> Result<ArrivedEvents, StoreError> {
        let mut found = ArrivedEvents::default();
        let snapshot = self.store.read()?;
        for (seq, id) in ids {
            match local::sending(&snapshot, id, self.now)? {
                Sending::Message(text, _) => found.messages.push((*seq, *id, text)),
                Sending::Protected | Sending::Gone => found.gone.push(*id),
            }
        }
        Ok(found)
    }
}
