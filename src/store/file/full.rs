//! The limits from which the store accepts only deletions, and the bytes that the events took as of the last commit.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
use crate::store::format::error::StoreError;

/// Limits from which the store accepts only deletions and vanish requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// Limit of the bytes that the events take.
    pub used_bytes: u64,
    /// Limit of the bytes of pages in use.
    pub page_bytes: u64,
}

impl Full {
    /// No limit except the map's size.
    pub const NEVER: Self = Self { used_bytes: u64::MAX, page_bytes: u64::MAX };

    /// Whether either limit is reached.
    #[must_use]
    pub const fn is_reached(self, used_bytes: u64, page_bytes: u64) -> bool {
        used_bytes >= self.used_bytes || page_bytes >= self.page_bytes
    }
}

/// A [`Full`] that can be set while others read it. Each number is valid independently of the other.
pub(in crate::store) struct SharedFull {
    used_bytes: AtomicU64,
    page_bytes: AtomicU64,
    /// See [`Store::commits_to_fail`](crate::store::Store::commits_to_fail).
    #[cfg(test)]
    pub commits_to_fail: AtomicU64,
}

impl SharedFull {
    pub fn new(full: Full) -> Self {
        Self {
            used_bytes: AtomicU64::new(full.used_bytes),
            page_bytes: AtomicU64::new(full.page_bytes),
            #[cfg(test)]
            commits_to_fail: AtomicU64::new(0),
        }
    }

    /// Fails if a test has said so.
    #[cfg(test)]
    pub fn fail_if_told(&self) -> Result<(), StoreError> {
        let left = self.commits_to_fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let source = std::io::Error::other("a test says so");
        left.map_or(Ok(()), |_| Err(StoreError::Io { path: "data.mdb".into(), source }))
    }

    pub fn set(&self, full: Full) {
        self.used_bytes.store(full.used_bytes, Ordering::Relaxed);
        self.page_bytes.store(full.page_bytes, Ordering::Relaxed);
    }

    pub fn get(&self) -> Full {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Full { used_bytes: get(&self.used_bytes), page_bytes: get(&self.page_bytes) }
    }
}

/// The bytes that the events take as of one commit. It spares adding up the tallies twice: clients may have made many
/// kinds.
#[derive(Default)]
pub(in crate::store) struct LastUsed(Mutex<Option<(u64, u64)>>);

impl LastUsed {
    /// Remembers `used` as of `commit`.
    pub fn note(&self, commit: u64, used_bytes: u64) {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_none_or(|(of, _)| of <= commit) {
            *last = Some((commit, used_bytes));
        }
    }

    pub fn of(&self, commit: u64) -> Option<u64> {
        let last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.filter(|(of, _)| *of == commit).map(|(_, used_bytes)| used_bytes)
    }
}
