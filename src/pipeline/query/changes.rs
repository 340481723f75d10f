//! The feed of changes: what arrived in the store and what left it since a place in the feed, as lines of JSON.
//!
//! Two numbers name a place: that of the last arrival told, and that of the last removal told. In each slice the
//! removals come first and the arrivals after them, so whoever adds and removes ids in this order holds what the store
//! held. (An id that was removed and came back has one line of each sort, in this order.) An arrival that was removed
//! before it was told is not told.
//!
//! The feed is the operator's: it tells private and protected events too, and asks nobody who he is. It is bounded in
//! lines, bytes and time, and it is read by `read` threads alone, in the turns of Q4.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::metrics::{Change, StoreOperation};
use crate::nostr::Reason;
use crate::pipeline::client::ClientHandle;
use crate::pipeline::query::job::{Job, Reading};
use crate::store::{Budget, Removal, Seq, StoreError};

/// The most lines of one answer, besides its last one.
pub const MOST_LINES: usize = 10_000;

/// An answer ends with the line that makes it longer than this, in bytes.
pub const MOST_BYTES: usize = 1 << 20;

/// Answers at a time. Each is held until its last byte has left.
pub const MOST_ANSWERS: usize = 8;

/// How long an answer may be worked on, waiting for its turns included.
const MOST_TIME: Duration = Duration::from_secs(5);

/// The largest number of a removal.
const MOST_REMOVALS: u64 = (1 << 48) - 1;

/// A place in the feed of one store. Written as the first digits of the store's id and the two numbers, with dots in
/// between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    store: u32,
    arrived: Seq,
    removed: u64,
}

/// A text is no cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{}.{}", self.store, self.arrived, self.removed)
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let mut parts = text.split('.');
        let mut number = |radix| u64::from_str_radix(parts.next()?, radix).ok();
        let (store, arrived, removed) = (number(16), number(10), number(10));
        let (Some(store), Some(arrived), Some(removed), None) = (store, arrived, removed, parts.next()) else {
            return Err(NoCursor);
        };
        let store = u32::try_from(store).map_err(|_| NoCursor)?;
        let cursor = Self { store, arrived: Seq(arrived), removed };
        let is_cursor = arrived <= Seq::MAX.0 && removed <= MOST_REMOVALS && cursor.to_string() == text;
        is_cursor.then_some(cursor).ok_or(NoCursor)
    }
}

/// What a reader is told.
#[derive(Debug)]
pub struct ChangesPage {
    /// Whole lines, without the last one.
    pub text: Vec<u8>,
    /// From where to go on.
    pub cursor: Cursor,
    /// Whether there is more to tell already.
    pub more: bool,
    /// The number of the last commit that was looked at, as [`Store::txn_id`](crate::store::Store::txn_id).
    pub seen: u64,
}

/// Why a reader is told nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangesError {
    /// Not everything since its cursor is known: it has to start over.
    Lost,
    /// Too many queries wait.
    Busy,
    /// The store cannot be read. The operator is told why.
    Failed,
}

/// A reader's request, answered in slices.
pub struct ChangesJob {
    address: IpAddr,
    /// `None` until a slice has found the beginning.
    cursor: Option<Cursor>,
    lines_left: usize,
    text: Vec<u8>,
    began: Instant,
    spent_us: u64,
    answer: oneshot::Sender<Result<ChangesPage, ChangesError>>,
}

/// How a slice ended.
enum Ended {
    /// At the end of its time.
    Slice,
    /// The answer is complete.
    Answer(ChangesPage),
}

/// What a slice may still do.
struct RowBudget {
    rows: usize,
    until: Instant,
}

impl RowBudget {
    /// Counts a row; false when it was the last one.
    fn take(&mut self) -> bool {
        self.rows = self.rows.saturating_sub(1);
        self.rows > 0 && Instant::now() < self.until
    }
}

impl ChangesJob {
    /// A request from `address` for up to `lines` changes after `cursor`, or from the beginning. The answer comes
    /// through the receiver, which says nothing if the relay ends first.
    #[must_use]
    pub fn new(
        address: IpAddr,
        cursor: Option<Cursor>,
        lines: usize,
    ) -> (Box<Self>, oneshot::Receiver<Result<ChangesPage, ChangesError>>) {
        let (answer, answered) = oneshot::channel();
        let lines_left = lines.clamp(1, MOST_LINES);
        let (text, began) = (Vec::new(), Instant::now());
        (Box::new(Self { address, cursor, lines_left, text, began, spent_us: 0, answer }), answered)
    }

    /// Tells more, as one commit shows it.
    fn tell(&mut self, reading: &Reading, budget: Budget) -> Result<Ended, ChangesError> {
        let failed = |error: StoreError| {
            reading.health.failed(StoreOperation::Read, &error);
            ChangesError::Failed
        };
        let now = reading.clock.now();
        let mut left = RowBudget { rows: budget.rows as usize, until: Instant::now() + budget.time };
        let snapshot = reading.store.read().map_err(failed)?;
        let store = u32::from_be_bytes(*snapshot.store_id().map_err(failed)?.first_chunk().expect("4 of 16 bytes"));
        let (last, seen) = (snapshot.last_seq().map_err(failed)?, snapshot.txn_id());
        let mut cursor = match self.cursor {
            Some(cursor) => cursor,
            // Who holds nothing yet need not know what was removed before.
            None => Cursor { store, arrived: Seq(0), removed: snapshot.last_removal().map_err(failed)? },
        };
        if cursor.store != store || cursor.arrived > last {
            return Err(ChangesError::Lost);
        }
        let Some(removals) = snapshot.removals_after(cursor.removed).map_err(failed)? else {
            return Err(ChangesError::Lost);
        };
        for row in removals {
            let Removal { number, seq, id } = row.map_err(failed)?;
            cursor.removed = number;
            self.put(|text| writeln!(text, "{{\"cursor\":\"{cursor}\",\"removed\":{seq},\"id\":\"{id}\"}}"));
            reading.metrics.change(Change::Removed);
            if let Some(ended) = self.pause(cursor, seen, &mut left) {
                return Ok(ended);
            }
        }
        for row in snapshot.after(cursor.arrived).map_err(failed)? {
            let (seq, event) = row.map_err(failed)?;
            cursor.arrived = seq;
            if !event.is_expired(now) && !snapshot.is_hidden(seq, event).map_err(failed)? {
                self.put(|text| {
                    write!(text, "{{\"cursor\":\"{cursor}\",\"arrived\":{seq},\"event\":")?;
                    event.write_json(text);
                    text.write_all(b"}\n")
                });
                reading.metrics.change(Change::Arrived);
            }
            if let Some(ended) = self.pause(cursor, seen, &mut left) {
                return Ok(ended);
            }
        }
        // Numbers of events that are gone, or that were never held, need not be looked at again.
        cursor.arrived = last;
        Ok(Ended::Answer(ChangesPage { text: std::mem::take(&mut self.text), cursor, more: false, seen }))
    }

    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) {
        write(&mut self.text).expect("a vector takes every byte");
        self.lines_left -= 1;
    }

    /// Ends the answer or the slice after a row, if either is to end here.
    fn pause(&mut self, cursor: Cursor, seen: u64, left: &mut RowBudget) -> Option<Ended> {
        let is_full = self.lines_left == 0 || self.text.len() >= MOST_BYTES;
        if is_full || self.began.elapsed() >= MOST_TIME {
            return Some(Ended::Answer(ChangesPage { text: std::mem::take(&mut self.text), cursor, more: true, seen }));
        }
        self.cursor = Some(cursor);
        (!left.take()).then_some(Ended::Slice)
    }
}

impl Job for ChangesJob {
    fn address(&self) -> IpAddr {
        self.address
    }

    fn client(&self) -> Option<&Arc<ClientHandle>> {
        None
    }

    fn spent_us(&self) -> u64 {
        self.spent_us
    }

    fn spend(&mut self, us: u64) {
        self.spent_us += us;
    }

    fn run(mut self: Box<Self>, reading: &Arc<Reading>, budget: Budget) -> Option<Box<dyn Job>> {
        if self.is_over() {
            return None;
        }
        let answer = match self.tell(reading, budget) {
            Ok(Ended::Slice) => return Some(self),
            Ok(Ended::Answer(told)) => Ok(told),
            Err(untold) => Err(untold),
        };
        // Whoever asked may have gone.
        let _ = self.answer.send(answer);
        None
    }

    fn is_over(&self) -> bool {
        self.answer.is_closed()
    }

    fn refuse(self: Box<Self>, reading: &Reading, reason: Reason) {
        reading.metrics.refusal(reason.prefix.as_str());
        // As above.
        let _ = self.answer.send(Err(ChangesError::Busy));
    }
}
