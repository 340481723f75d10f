//! Knows when a phase is over: every actor has finished, or nothing has happened for too long.
//!
//! It must never end a phase by the clock alone while answers still come.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Shared by the actors of a phase.
pub struct Progress {
    running: Cell<usize>,
    last: Cell<Instant>,
    done: Notify,
}

impl Progress {
    /// Waits for `actors` actors.
    pub fn new(actors: usize) -> Rc<Self> {
        Rc::new(Self { running: Cell::new(actors), last: Cell::new(Instant::now()), done: Notify::new() })
    }

    /// Something was answered.
    pub fn touch(&self, at: Instant) {
        self.last.set(at);
    }

    /// One actor has everything it waits for; call it once per actor.
    pub fn finish(&self) {
        self.running.set(self.running.get().saturating_sub(1));
        if self.running.get() == 0 {
            self.done.notify_one();
        }
    }

    /// Whether every actor has finished.
    pub fn is_done(&self) -> bool {
        self.running.get() == 0
    }

    /// Returns when every actor has finished, or `stall` after the last answer.
    pub async fn wait(&self, stall: Duration) {
        self.last.set(Instant::now());
        while !self.is_done() {
            let left = (self.last.get() + stall).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // Either outcome is checked above.
            let _ = tokio::time::timeout(left, self.done.notified()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_ends_with_its_last_actor_or_by_stalling() {
        let progress = Progress::new(2);
        progress.finish();
        progress.wait(Duration::from_millis(5)).await;
        assert!(!progress.is_done());
        progress.finish();
        progress.wait(Duration::from_secs(600)).await;
        assert!(progress.is_done());
    }
}
