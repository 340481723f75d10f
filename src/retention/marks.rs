//! Between which fillings of the store and its file the rules make room.

use crate::policy::Retention;
use crate::store::Room;

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
    #[must_use]
    pub const fn excess(self, bytes: u64) -> u64 {
        if bytes > self.start { bytes - self.stop } else { 0 }
    }
}

/// The marks for what the events take and for the pages of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomMarks {
    /// For what the events take.
    pub used: Marks,
    /// For the pages of the file.
    pub pages: Marks,
}

impl RoomMarks {
    /// By `max_bytes`, and by the map, or by the file when it cannot grow.
    #[must_use]
    pub fn new(rules: &Retention, room: Room, is_disk_low: bool) -> Self {
        let used = match rules.limits().max_bytes {
            0 => u64::MAX,
            bytes => bytes,
        };
        let pages = if is_disk_low { within_file(room) } else { room.map_bytes };
        Self { used: Marks::new(used), pages: Marks::new(pages) }
    }

    /// What must go for room, in bytes that events take. Of pages at least as much must go: some stay part-filled.
    #[must_use]
    pub fn excess(self, room: Room) -> u64 {
        self.used.excess(room.used_bytes).max(self.pages.excess(room.page_bytes))
    }

    /// Whether old events are welcome again.
    #[must_use]
    pub const fn is_relaxed(self, room: Room) -> bool {
        room.used_bytes < self.used.relax && room.page_bytes < self.pages.relax
    }
}

/// Pages that may be in use while the file must not grow: all of them but what deletions need.
#[must_use]
pub fn within_file(room: Room) -> u64 {
    room.file_bytes.saturating_sub((room.file_bytes / 16).clamp(1 << 20, 64 << 20))
}
