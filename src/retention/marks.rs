//! The watermarks of the store and its file: when the rules begin to make room, and when they stop.

use crate::policy::Retention;
use crate::store::Room;

/// Watermarks in bytes in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// Eviction begins above this.
    pub start: u64,
    /// Eviction continues down to this.
    pub stop: u64,
    /// Below this, older events are accepted again.
    pub relax: u64,
}

impl Marks {
    /// The watermarks for a limit. They are 1/32 of it apart, but at most 256 MiB, which the fastest writes take
    /// seconds to fill.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let gap = (limit / 32).min(256 << 20);
        Self { start: limit - gap, stop: limit - 2 * gap, relax: limit - 4 * gap }
    }

    /// Bytes to remove when `bytes` are in use.
    #[must_use]
    pub const fn excess(self, bytes: u64) -> u64 {
        if bytes > self.start { bytes - self.stop } else { 0 }
    }
}

/// The watermarks for the bytes of events and for the pages of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomMarks {
    /// For the bytes that events take.
    pub used: Marks,
    /// For the pages of the file that are in use.
    pub pages: Marks,
}

impl RoomMarks {
    /// From `max_bytes`, and from the map or, while the file must not grow, from the size of the file.
    #[must_use]
    pub fn new(rules: &Retention, room: Room, is_disk_low: bool) -> Self {
        let used = match rules.limits().max_bytes {
            0 => u64::MAX,
            bytes => bytes,
        };
        let pages = if is_disk_low { within_file(room) } else { room.map_bytes };
        Self { used: Marks::new(used), pages: Marks::new(pages) }
    }

    /// Bytes of events to remove. An excess of pages counts as at least as many bytes, since some pages stay partly
    /// filled.
    #[must_use]
    pub fn excess(self, room: Room) -> u64 {
        self.used.excess(room.used_bytes).max(self.pages.excess(room.page_bytes))
    }

    /// Whether older events are accepted again.
    #[must_use]
    pub const fn is_relaxed(self, room: Room) -> bool {
        room.used_bytes < self.used.relax && room.page_bytes < self.pages.relax
    }
}

/// Pages that may be in use while the file must not grow: all but those that deletions need.
#[must_use]
pub fn within_file(room: Room) -> u64 {
    room.file_bytes.saturating_sub((room.file_bytes / 16).clamp(1 << 20, 64 << 20))
}
