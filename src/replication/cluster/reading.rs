//! What has arrived in our store and is to be published: read by arrival number.
//!
//! What is fresh is still in memory, and is taken from there; what is older is read from the store, a slice at a time,
//! on a thread that may wait for the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::on_disk;
use super::message;
use super::shared::Node;
use crate::nostr::{EventId, EventView, Kind};
use crate::pipeline::now;
use crate::store::{Seq, StoreError};

/// The limits of one read transaction.
const ROWS: usize = 4096;
const TIME: Duration = Duration::from_millis(20);
const BYTES: usize = 1 << 20;

/// An event to publish.
#[derive(Debug)]
pub struct Outgoing {
    /// Its arrival number.
    pub seq: Seq,
    /// Its id.
    pub id: EventId,
    /// Its kind.
    pub kind: Kind,
    /// Its JSON.
    pub json: Vec<u8>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct ReadEvents {
    /// Everything up to here was looked at.
    pub read: Seq,
    /// What is to be published, in the order of arrival.
    pub events: Vec<Outgoing>,
}

impl ReadEvents {
    fn take(&mut self, node: &Node, seq: Seq, event: EventView<'_>) -> usize {
        self.read = seq;
        if node.recent.has(&event.id()) {
            return 0;
        }
        let json = message::write(event);
        let bytes = json.len();
        self.events.push(Outgoing { seq, id: event.id(), kind: event.kind(), json });
        bytes
    }
}

/// Reads on after `seq`, until there are `most` events or there is nothing more for now.
///
/// # Errors
/// When the store cannot be read.
pub async fn after(node: &Arc<Node>, seq: Seq, most: usize) -> Result<ReadEvents, StoreError> {
    // In this order: what is in neither has a higher number.
    let fresh = node.serving.reading.uncommitted.after(seq);
    let first = fresh.iter().flat_map(|batch| batch.iter()).map(|one| one.seq).find(|number| *number > seq);
    let until = match first {
        Some(first) if first.0 == seq.0 + 1 => {
            let mut found = ReadEvents { read: seq, ..ReadEvents::default() };
            let mut bytes = 0;
            for one in fresh.iter().flat_map(|batch| batch.iter()).filter(|one| one.seq > seq) {
                // Another process may have stored something in between.
                if found.events.len() >= most || bytes >= BYTES || one.seq.0 != found.read.0 + 1 {
                    break;
                }
                bytes += found.take(node, one.seq, one.event.view());
            }
            return Ok(found);
        }
        Some(first) => first,
        None => {
            let last = node.serving.store.read()?.last_seq()?;
            if last <= seq {
                return Ok(ReadEvents { read: seq, ..ReadEvents::default() });
            }
            Seq(last.0 + 1)
        }
    };
    let node = Arc::clone(node);
    on_disk(move || stored(&node, seq, until, most)).await
}

/// Reads stored events after `seq` and before `until`.
fn stored(node: &Node, seq: Seq, until: Seq, most: usize) -> Result<ReadEvents, StoreError> {
    let mut found = ReadEvents { read: seq, ..ReadEvents::default() };
    let (began, now, mut bytes) = (Instant::now(), now(), 0);
    let snapshot = node.serving.store.read()?;
    for (row, event) in snapshot.after(seq)?.enumerate() {
        let is_over = bytes >= BYTES || row >= ROWS || began.elapsed() >= TIME;
        if found.events.len() >= most || (is_over && row > 0) {
            return Ok(found);
        }
        let (seq, event) = event?;
        if seq >= until {
            break;
        }
        if event.is_expired(now) || snapshot.is_hidden(seq, event)? {
            found.read = seq;
        } else {
            bytes += found.take(node, seq, event);
        }
    }
    // Numbers of events that are gone are passed over too.
    found.read = Seq(until.0 - 1);
    Ok(found)
}
