//! Set reconciliation by NIP-77: the negentropy protocol, version 1, over records sorted by (created_at, id).
//!
//! Pure, and both sides of the protocol: [`Session`] answers, [`Initiator`] asks. A message from the other side is
//! input: it never causes a panic, and its cost is bounded by its own length and the frame size, never by the number of
//! records. Nothing here decides who may sync what.

mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod records;
mod wire;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

pub use error::NegError;
pub use records::{Records, RecordsBuilder, TooMany};
use wire::{Bound, FINGERPRINT_BYTES, Mode, Reader, Writer};

use crate::nostr::EventId;

/// The protocol version that weir speaks, the first byte of each message.
pub const VERSION: u8 = 0x61;

/// The smallest frame size. A frame must hold one split range and what ends a frame, about 1,100 bytes.
pub const MIN_FRAME_BYTES: usize = 4096;

/// A range that differs is split into this many parts if it has at least twice as many records.
const BUCKETS: usize = 16;

/// Room to end a frame early: a Skip to any bound and a fingerprint of the rest.
const END_BYTES: usize = wire::MAX_BOUND_BYTES + 1 + 2 + 1 + FINGERPRINT_BYTES;

/// The side that answers: one NEG-OPEN of one client.
#[derive(Debug)]
pub struct Session {
    records: Arc<Records>,
    frame_bytes: usize,
}

impl Session {
    /// A session over `records`. A reply has at most `frame_bytes`, and twice that in hexadecimal.
    ///
    /// # Panics
    /// When `frame_bytes` is below [`MIN_FRAME_BYTES`].
    #[must_use]
    pub fn new(records: Arc<Records>, frame_bytes: usize) -> Self {
        assert_holds_a_range(frame_bytes);
        Self { records, frame_bytes }
    }

    /// The answer to one message. The answer to another version is the byte of ours, so that the client can try again.
    ///
    /// # Errors
    /// When the message is malformed. The caller then ends the session with NEG-ERR.
    pub fn reply(&self, message: &[u8]) -> Result<Vec<u8>, NegError> {
        match read_version(message)? {
            (VERSION, ranges) => Frame::new(&self.records, self.frame_bytes).reconcile(ranges, None),
            _ => Ok(vec![VERSION]),
        }
    }

    /// Bytes of heap that the session's records take. Sessions over the same records share them.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.records.memory_bytes()
    }
}

/// What the two sides do not have in common.
///
/// These are sets, because some ranges are compared twice when a frame ends early.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Differences {
    /// Only the initiator has these.
    pub have: BTreeSet<EventId>,
    /// Only the other side has these.
    pub need: BTreeSet<EventId>,
}

/// The side that asks.
#[derive(Debug)]
pub struct Initiator {
    records: Arc<Records>,
    frame_bytes: usize,
}

impl Initiator {
    /// An initiator over `records`. A message has at most `frame_bytes`.
    ///
    /// # Panics
    /// When `frame_bytes` is below [`MIN_FRAME_BYTES`].
    #[must_use]
    pub fn new(records: Arc<Records>, frame_bytes: usize) -> Self {
        assert_holds_a_range(frame_bytes);
        Self { records, frame_bytes }
    }

    /// The first message, for NEG-OPEN.
    #[must_use]
    pub fn open(&self) -> Vec<u8> {
        self.open_in(BUCKETS)
    }

    /// The first message, with a fingerprint for each of `parts` parts. One part makes the shortest message, for two
    /// sides that are probably equal. Many parts save a round trip where they are not.
    ///
    /// # Panics
    /// When `parts` is 0, or the message could be larger than a frame.
    #[must_use]
    pub fn open_in(&self, parts: usize) -> Vec<u8> {
        let part_bytes = wire::MAX_BOUND_BYTES + 1 + FINGERPRINT_BYTES;
        assert!(parts > 0 && (parts <= BUCKETS || parts * part_bytes < self.frame_bytes), "{parts} parts");
        let mut frame = Frame::new(&self.records, self.frame_bytes);
        frame.split(0..self.records.len(), Bound::INFINITY, parts);
        frame.out.into_bytes()
    }

    /// Into how many parts the first message should split the records so that few differences are found in two round
    /// trips, against a side that splits as we do: then the second answer names ids.
    #[must_use]
    pub fn parts(&self) -> usize {
        const MAX_PARTS: usize = 512;
        (self.records.len() / (BUCKETS * BUCKETS * BUCKETS)).clamp(BUCKETS, MAX_PARTS)
    }

    /// Reads a reply, adds the differences that it reveals to `found`, and returns the next message; `None` when all
    /// are known.
    ///
    /// # Errors
    /// When the reply is malformed or of another version.
    pub fn next(&self, reply: &[u8], found: &mut Differences) -> Result<Option<Vec<u8>>, NegError> {
        let (version, ranges) = read_version(reply)?;
        if version != VERSION {
            return Err(NegError::OtherVersion(version));
        }
        let message = Frame::new(&self.records, self.frame_bytes).reconcile(ranges, Some(found))?;
        Ok((message.len() > 1).then_some(message))
    }
}

fn assert_holds_a_range(frame_bytes: usize) {
    assert!(frame_bytes >= MIN_FRAME_BYTES, "a frame of {frame_bytes} bytes cannot hold a split range");
}

fn read_version(message: &[u8]) -> Result<(u8, &[u8]), NegError> {
    match message.split_first() {
        None => Err(NegError::Empty),
        Some((version @ 0x60..=0x6f, ranges)) => Ok((*version, ranges)),
        Some((byte, _)) => Err(NegError::NotAVersion(*byte)),
    }
}

/// A message being written, in answer to one being read.
struct Frame<'a> {
    records: &'a Records,
    frame_bytes: usize,
    out: Writer,
    /// Ranges up to here are done; `index` is the first record that is not below `bound`.
    bound: Bound,
    index: usize,
    /// Whether the last ranges need no answer and the Skip for them is not yet written.
    skipping: bool,
}

impl<'a> Frame<'a> {
    fn new(records: &'a Records, frame_bytes: usize) -> Self {
        let out = Writer::new(VERSION);
        Self { records, frame_bytes, out, bound: Bound::ZERO, index: 0, skipping: false }
    }

    /// Answers range by range. With `found` this is the initiator, which compares lists of ids and does not answer
    /// them; the other side answers a list with its own.
    fn reconcile(mut self, ranges: &[u8], mut found: Option<&mut Differences>) -> Result<Vec<u8>, NegError> {
        let mut reader = Reader::new(ranges);
        while let Some((bound, mode)) = reader.range()? {
            let upper = self.records.lower_bound(self.index, &bound);
            let range = self.index..upper;
            let start = self.out.mark();
            match mode {
                Mode::Skip => self.skipping = true,
                Mode::Fingerprint(theirs) if self.records.fingerprint(range.clone()) == *theirs => {
                    self.skipping = true;
                }
                Mode::Fingerprint(_) => {
                    let skipping = self.skipping;
                    self.write_skip();
                    self.split(range, bound, BUCKETS);
                    if self.out.len() > self.frame_bytes - END_BYTES {
                        self.out.back_to(start);
                        self.skipping = skipping;
                        self.end();
                        break;
                    }
                }
                Mode::Ids(theirs) => match &mut found {
                    Some(found) => {
                        self.compare(range, theirs, found);
                        self.skipping = true;
                    }
                    None => {
                        if !self.list(range, bound) {
                            self.end();
                            break;
                        }
                    }
                },
            }
            (self.bound, self.index) = (bound, upper);
        }
        Ok(self.out.into_bytes())
    }

    fn write_skip(&mut self) {
        if std::mem::take(&mut self.skipping) {
            self.out.range(&self.bound, Mode::SKIP);
        }
    }

    /// Ends the frame early, with a fingerprint of everything that is left: the next round continues there.
    fn end(&mut self) {
        self.write_skip();
        let rest = self.records.fingerprint(self.index..self.records.len());
        self.out.range(&Bound::INFINITY, Mode::FINGERPRINT);
        self.out.bytes(&rest);
        debug_assert!(self.out.len() <= self.frame_bytes);
    }

    /// Writes a range that differs: its ids if there are few, otherwise fingerprints of its parts.
    fn split(&mut self, range: std::ops::Range<usize>, bound: Bound, buckets: usize) {
        if range.len() < 2 * buckets {
            return self.write_ids(range, &bound);
        }
        let (each, extra) = (range.len() / buckets, range.len() % buckets);
        let mut start = range.start;
        for bucket in 0..buckets {
            let end = start + each + usize::from(bucket < extra);
            let upper = if end == range.end { bound } else { self.records.bound_before(end) };
            self.out.range(&upper, Mode::FINGERPRINT);
            self.out.bytes(&self.records.fingerprint(start..end));
            start = end;
        }
    }

    /// Answers a list of ids with the ids of the same range. Returns false if not all of them fit: the frame must then
    /// be ended.
    fn list(&mut self, range: std::ops::Range<usize>, bound: Bound) -> bool {
        // A Skip, then the bound, the mode and the count of this range.
        let heads = 2 * (wire::MAX_BOUND_BYTES + 1) + wire::MAX_NUMBER_BYTES;
        let room = self.frame_bytes.saturating_sub(END_BYTES + heads + self.out.len()) / 32;
        if range.len() <= room {
            self.write_skip();
            self.write_ids(range, &bound);
            return true;
        }
        if room > 0 {
            let cut = range.start + room;
            self.write_skip();
            let bound = self.records.bound_at(cut);
            self.write_ids(range.start..cut, &bound);
            (self.bound, self.index) = (bound, cut);
        }
        false
    }

    fn write_ids(&mut self, range: std::ops::Range<usize>, bound: &Bound) {
        self.out.range(bound, Mode::IDS);
        self.out.number(range.len() as u64);
        for id in self.records.ids(range) {
            self.out.bytes(&id.0);
        }
    }

    /// Adds the ids of a range that only one side has to `found`.
    fn compare(&self, range: std::ops::Range<usize>, theirs: &[[u8; 32]], found: &mut Differences) {
        let mut only_theirs: HashSet<&[u8; 32]> = theirs.iter().collect();
        found.have.extend(self.records.ids(range).filter(|own| !only_theirs.remove(&own.0)));
        found.need.extend(only_theirs.into_iter().map(|id| EventId(*id)));
    }
}

#[cfg(test)]
mod tests;
