//! Knows when a phase is over: every actor has finished, nothing has happened for too long, or the user stopped the
//! run.
//!
//! It must never end a phase by the clock alone while answers still come.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Set when the user stops the run: nothing more is asked, but outstanding answers are still awaited.
#[derive(Default)]
pub struct Stop(Cell<bool>);

impl Stop {
    /// Ends the run.
    pub fn set(&self) {
        self.0.set(true);
    }

    /// Whether the run is to end.
    pub fn is_set(&self) -> bool {
        self.0.get()
    }
}

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

    /// The clock starts; earlier messages are not answers of this phase.
    pub fn begin(&self, at: Instant) {
        self.last.set(at);
    }

    /// Something was answered.
    pub fn touch(&self, at: Instant) {
        self.last.set(at);
    }

    /// When the last answer came.
    pub fn last(&self) -> Instant {
        self.last.get()
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
        let began = Instant::now();
        while !self.is_done() {
            let left = (self.last.get().max(began) + stall).saturating_duration_since(Instant::now());
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

    #[tokio::test]
    async fn waiting_does_not_move_the_last_answer() {
        let progress = Progress::new(1);
        let answer = Instant::now();
        progress.touch(answer);
        progress.wait(Duration::from_millis(5)).await;
        assert_eq!(progress.last(), answer);
    }
}
