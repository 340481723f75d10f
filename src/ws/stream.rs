//! Frames that belong together, such as the answers to one subscription, and are withdrawn together.
//!
//! A stream belongs to one [`Outbox`](super::Outbox) and changes only under its lock. It never holds frames.

use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A group of frames of one outbox. No frame of a stream is queued after [`Outbox::end`](super::Outbox::end) returned,
/// nor does anything of it still wait.
#[derive(Debug, Default)]
pub struct Stream {
    /// Its number within the outbox, from 1; 0 until its first frame is queued.
    id: AtomicU64,
    state: AtomicU8,
}

/// It accepts frames.
const OPEN: u8 = 0;
/// Its last frame is queued.
const FINISHED: u8 = 1;
/// Its queued frames are withdrawn.
const ENDED: u8 = 2;

impl Stream {
    /// Whether it accepts more frames. The answer holds only as long as the outbox is locked.
    #[must_use]
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// Its number. A stream without one gets the next after `last`.
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

    /// From now on it accepts no frames.
    pub(super) fn finish(&self) {
        self.state.store(FINISHED, Ordering::Release);
    }

    /// From now on it accepts no frames, and its queued frames are to be dropped. Returns its number if there may be
    /// any.
    pub(super) fn end(&self) -> Option<u64> {
        let before = self.state.swap(ENDED, Ordering::AcqRel);
        let id = self.id.load(Ordering::Relaxed);
        (before != ENDED && id != 0).then_some(id)
    }
}
