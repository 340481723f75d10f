//! Keeping the store within what the operator allows: the rules at work, and what happens when room runs out.
//!
//! The `retention` thread reads, in slices, and hands batches of events to the writer, which removes them with its
//! commits, or in steps of a few milliseconds between them ([`Chores`]); it never holds a transaction between slices (INV-9) and never makes the writer wait. What it
//! has removed for want of room does not come in again ([`Horizons`]).
//!
//! Order of removal: age, numbers, a rule's bytes; then, above the mark of `max_bytes`, the oldest of
//! the last rule, and when that has nothing left, of the rule before it. Pages that removals leave
//! thin are packed, for LMDB joins them only when they are nearly empty.

mod chores;
mod disk;
mod evictor;
mod horizons;
mod oldest;
mod pass;
mod sweep;
#[cfg(test)]
mod tests;
mod thin;

pub use chores::Chores;
pub use disk::Disk;
pub use evictor::{Chore, Eviction, run};
pub use horizons::{Horizon, Horizons};
pub use pass::{Found, Mode, pass};
pub use sweep::{Candidate, Cause};

use crate::policy::Retention;
use crate::store::Room;

/// Index rows of one slice: about 2 ms when every one needs a look at its record.
pub(super) const SLICE_ROWS: u32 = 2048;

/// Between which fillings eviction works, in bytes in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// Above this, it begins.
    pub start: u64,
    /// Down to this, it goes on.
    pub stop: u64,
    /// Below this, old events are welcome again.
    pub relax: u64,
}

impl Marks {
    /// The marks below a limit: a 32nd of it apart, but not more than 256 MiB, which is seconds of the fastest writes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let gap = (limit / 32).min(256 << 20);
        Self { start: limit - gap, stop: limit - 2 * gap, relax: limit - 4 * gap }
    }
}

/// The most bytes that may be in use, by the rules and by the map.
fn limit(rules: &Retention, room: Room) -> u64 {
    match rules.limits().max_bytes {
        0 => room.map_bytes,
        bytes => bytes.min(room.map_bytes),
    }
}
