//! How much time an io thread gives to first slices of scans in one round of its sockets.
//!
//! A round is over when every task that was ready as it began had its turn. Beyond [`ROUND_US`] of a round, scans go to
//! the readers: however many connections ask at once, a socket waits no longer than that for others' scans.

use std::cell::Cell;

use tokio::sync::Notify;

/// Microseconds of scans in one round: a few long first slices, or the short queries of hundreds of connections.
const ROUND_US: u64 = 4_000;

/// A round is told apart from the next only once this much was spent in it, so that light load pays nothing.
const WATCHED_US: u64 = 1_000;

/// See the module.
#[derive(Default)]
pub struct Round {
    spent_us: Cell<u64>,
    watched: Notify,
}

impl Round {
    /// Whether a scan may begin on this thread.
    pub fn has_time(&self) -> bool {
        self.spent_us.get() < ROUND_US
    }

    /// Counts what a scan took.
    pub fn spend(&self, spent_us: u64) {
        self.spent_us.set(self.spent_us.get() + spent_us);
        if self.spent_us.get() >= WATCHED_US {
            self.watched.notify_one();
        }
    }

    /// Begins one round after the other: runs as a task of the thread, which has its turn after all that are ready.
    pub async fn watch(&self) {
        loop {
            self.watched.notified().await;
            self.spent_us.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn scans_of_one_round_are_bounded_and_the_next_round_begins_when_all_had_their_turn() {
        let tasks = tokio::task::LocalSet::new();
        let round = Rc::new(Round::default());
        let watching = Rc::clone(&round);
        let watch = tasks.spawn_local(async move { watching.watch().await });
        let turn = |spent_us| {
            let round = Rc::clone(&round);
            async move {
                let had_time = round.has_time();
                round.spend(spent_us);
                had_time
            }
        };
        let first: Vec<_> = (0..4).map(|_| tasks.spawn_local(turn(ROUND_US / 2))).collect();
        let mut had_time = Vec::new();
        tasks
            .run_until(async {
                for task in first {
                    had_time.push(task.await.expect("no panic"))
                }
            })
            .await;
        assert_eq!(had_time, [true, true, false, false]);
        tasks.run_until(tokio::task::yield_now()).await;
        assert!(tasks.run_until(turn(0)).await);
        watch.abort();
    }
}
