//! Streams stored events as lines of JSON, one slice at a time.
//!
//! It never writes while a read transaction is open: a slow reader must not pin pages of the store (INV-9).

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::nostr::{EventView, Timestamp};
use crate::pipeline::now;
use crate::store::{Budget, Flow, OldestFirst, QueryLimits, Scan, Seq, Snapshot, Step, Store, StoreError, Visitor};

/// The limits of one read transaction.
pub const SLICE: Budget = Budget { rows: 1 << 16, time: Duration::from_millis(50) };

/// The size of the output buffer.
const BUFFER_BYTES: usize = 1 << 20;

/// No limits except those of the filters themselves.
pub const NO_LIMITS: QueryLimits =
    QueryLimits { default_limit: u32::MAX, max_limit: u32::MAX, hints: false, tie_extension: 0 };

/// A query that is run slice by slice, in either order.
pub trait Slices {
    /// Continues until the budget is spent or the visitor asks for a pause.
    fn slice<V: Visitor>(&mut self, snapshot: &Snapshot<'_>, visitor: &mut V) -> Result<Step, StoreError>;
}

impl Slices for Scan {
    fn slice<V: Visitor>(&mut self, snapshot: &Snapshot<'_>, visitor: &mut V) -> Result<Step, StoreError> {
        self.run(snapshot, SLICE, visitor)
    }
}

impl Slices for OldestFirst {
    fn slice<V: Visitor>(&mut self, snapshot: &Snapshot<'_>, visitor: &mut V) -> Result<Step, StoreError> {
        self.run(snapshot, SLICE, visitor)
    }
}

/// Renders or counts events.
struct Lines<'a> {
    text: Option<&'a mut Vec<u8>>,
    now: Timestamp,
    left: u64,
}

impl Visitor for Lines<'_> {
    fn admits(&mut self, event: EventView<'_>) -> bool {
        !event.is_expired(self.now)
    }

    fn take(&mut self, _: Seq, event: EventView<'_>) -> Flow {
        // The query pauses right after the event for which a pause is requested, so this never underflows.
        self.left -= 1;
        let mut is_enough = self.left == 0;
        if let Some(text) = &mut self.text {
            event.write_json(text);
            text.push(b'\n');
            is_enough |= text.len() >= BUFFER_BYTES;
        }
        if is_enough { Flow::Pause } else { Flow::Continue }
    }
}

/// The result of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Events written or counted.
    pub events: u64,
    /// Whether the user interrupted the stream, so that events may be missing.
    pub is_interrupted: bool,
}

/// Writes up to `limit` events of the query as lines; without `out` it only counts them.
pub fn run(
    store: &Store,
    query: &mut impl Slices,
    limit: u64,
    mut out: Option<&mut dyn Write>,
    progress: &ProgressBar,
    stop: &AtomicBool,
) -> anyhow::Result<Ended> {
    let mut text = Vec::with_capacity(if out.is_some() { BUFFER_BYTES + (64 << 10) } else { 0 });
    let mut left = limit;
    let now = now();
    while left > 0 {
        if stop.load(Ordering::Relaxed) {
            return Ok(Ended { events: limit - left, is_interrupted: true });
        }
        text.clear();
        let mut lines = Lines { text: out.is_some().then_some(&mut text), now, left };
        let step = query.slice(&store.read()?, &mut lines)?;
        left = lines.left;
        if let Some(out) = &mut out {
            out.write_all(&text)?;
        }
        progress.set_position(limit - left);
        if step != Step::Paused {
            break;
        }
    }
    Ok(Ended { events: limit - left, is_interrupted: false })
}
