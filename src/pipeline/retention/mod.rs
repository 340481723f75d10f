//! Keeping the store within what the operator allows: the rules at work, and what happens when room runs out.
//!
//! There is one [`Plan`]. The dry run counts it, `weir retention --run` executes it, and so does the `retention` thread,
//! which reads in slices and hands batches of events to the writer, which removes them with its commits ([`Chores`]). It
//! never holds a transaction between slices (INV-9) and never makes the writer wait. What it has removed for want of room
//! does not come in again ([`Horizons`]). Rules that would remove much at once wait for the operator ([`brake`]).

mod arrivals;
pub mod brake;
mod chores;
mod disk;
mod due;
mod evictor;
mod follows;
mod forecast;
mod heavy_hitters;
mod horizons;
mod oldest;
mod pass;
mod plan;
mod report;
mod samples;
mod sweep;
#[cfg(test)]
mod tests;
mod usage;

pub use chores::Chores;
pub use disk::Disk;
pub use evictor::{Eviction, run};
pub use follows::resolve;
pub use forecast::{Daily, Forecast, Limit};
pub use heavy_hitters::Hitter;
pub use horizons::{Horizon, Horizons};
pub use pass::{Found, Mode, pass};
pub use plan::{Part, Parts, Plan};
pub use report::word;
pub use samples::{Sample, Samples};
pub use sweep::{Candidate, Cause};
pub use usage::{RuleUsage, Survey, survey};

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

    /// What must go of `bytes`.
    const fn excess(self, bytes: u64) -> u64 {
        if bytes > self.start { bytes - self.stop } else { 0 }
    }
}

/// The marks for what the events take and for the pages of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RoomMarks {
    used: Marks,
    pages: Marks,
}

impl RoomMarks {
    /// By `max_bytes`, and by the map, or by the file when it cannot grow.
    fn new(rules: &Retention, room: Room, is_disk_low: bool) -> Self {
        let used = match rules.limits().max_bytes {
            0 => u64::MAX,
            bytes => bytes,
        };
        let pages = if is_disk_low { within_file(room) } else { room.map_bytes };
        Self { used: Marks::new(used), pages: Marks::new(pages) }
    }

    /// What must go for room, in bytes that events take. Of pages at least as much must go: some stay part-filled.
    fn excess(self, room: Room) -> u64 {
        self.used.excess(room.used_bytes).max(self.pages.excess(room.page_bytes))
    }

    const fn is_relaxed(self, room: Room) -> bool {
        room.used_bytes < self.used.relax && room.page_bytes < self.pages.relax
    }
}

/// Pages that may be in use while the file must not grow: all of them but what deletions need.
fn within_file(room: Room) -> u64 {
    room.file_bytes.saturating_sub((room.file_bytes / 16).clamp(1 << 20, 64 << 20))
}
