//! Frames that belong together, such as the answers to one subscription: they end together.
//!
//! A stream belongs to one [`Outbox`](super::Outbox) and changes only under its lock. It never holds frames.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// See the module. Nothing of a stream is queued after [`Outbox::end`](super::Outbox::end) returned, nor does anything of
/// it still wait.
#[derive(Debug, Default)]
pub struct Stream {
    /// Which one of its outbox, from 1; 0 until its first frame is queued.
    id: AtomicU64,
    state: AtomicU8,
}

/// Frames are queued.
const OPEN: u8 = 0;
/// The last frame is queued.
const FINISHED: u8 = 1;
/// What was queued is withdrawn.
const ENDED: u8 = 2;

impl Stream {
    /// Whether more frames of it are taken. Only under the outbox's lock does this stay true.
    #[must_use]
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// Its number, which it gets from `last` when it has none.
    #[inline]
    pub(super) fn number(&self, last: &mut u64) -> u64 {
        match self.id.load(Ordering::Relaxed) {
            0 => {
                *last += 1;
                self.id.store(*last, Ordering::Relaxed);
                *last
            }
            id => id,
        }
    }

    /// Takes no more frames.
    pub(super) fn finish(&self) {
        self.state.store(FINISHED, Ordering::Release);
    }

    /// Takes no more frames and gives up those that are queued. Its number, if there may be any.
    pub(super) fn end(&self) -> Option<u64> {
        let before = self.state.swap(ENDED, Ordering::AcqRel);
        let id = self.id.load(Ordering::Relaxed);
        (before != ENDED && id != 0).then_some(id)
    }
}
