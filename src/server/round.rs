//! How much time an io thread gives to first slices of scans in one round of its sockets.
//!
//! A round is over when every task that was ready as it began had its turn. Beyond [`ROUND_US`] of a round, scans go to
//! the readers: however many connections ask at once, a socket waits no longer than that for others' scans.
//!
//! A scan that finds pages of the store on disk and not in memory takes as long as the disk. After one such, all scans
//! go to the readers for [`COLD_US`]: of a store larger than memory, an io thread reads from disk once in that time.

use std::cell::Cell;

use tokio::sync::Notify;

use crate::pipeline::reader::Here;

/// Microseconds of scans in one round: a few long first slices, or the short queries of hundreds of connections.
const ROUND_US: u64 = 4_000;

/// A round is told apart from the next only once this much was spent in it, so that light load pays nothing.
const WATCHED_US: u64 = 1_000;

/// Microseconds for which nothing is read here after a page came from disk.
const COLD_US: u64 = 1_000_000;

/// A slice that was faster read nothing from a disk, which takes 50 µs at best: most are not asked.
const SUSPECT_US: u64 = 50;

/// See the module.
#[derive(Default)]
pub struct Round {
    spent_us: Cell<u64>,
    watched: Notify,
    /// Page faults of this thread that waited for a disk, when they were looked at last.
    faults: Cell<u64>,
    cold_until_us: Cell<u64>,
}

impl Round {
    /// Which scans may begin on this thread.
    pub fn here(&self, now_us: impl FnOnce() -> u64) -> Here {
        if self.cold_until_us.get() != 0 {
            if now_us() < self.cold_until_us.get() {
                return Here::Nothing;
            }
            self.cold_until_us.set(0);
        }
        if self.spent_us.get() < ROUND_US { Here::Anything } else { Here::Short }
    }

    /// Counts what a scan took.
    pub fn spend(&self, spent_us: u64, now_us: impl FnOnce() -> u64) {
        self.spent_us.set(self.spent_us.get() + spent_us);
        if self.spent_us.get() >= WATCHED_US {
            self.watched.notify_one();
        }
        if spent_us >= SUSPECT_US {
            self.saw_faults(major_faults(), now_us);
        }
    }

    /// Notes how many faults there were by now.
    fn saw_faults(&self, faults: u64, now_us: impl FnOnce() -> u64) {
        if self.faults.replace(faults) < faults {
            self.cold_until_us.set(now_us() + COLD_US);
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

/// Page faults of this thread that waited for a disk (getrusage(2)).
fn major_faults() -> u64 {
    // SAFETY: an all-zero rusage is valid, and it outlives the call, which only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    usage.ru_majflt.unsigned_abs()
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
                let here = round.here(|| 0);
                round.spend(spent_us, || 0);
                here
            }
        };
        let first: Vec<_> = (0..4).map(|_| tasks.spawn_local(turn(ROUND_US / 2))).collect();
        let mut heres = Vec::new();
        tasks
            .run_until(async {
                for task in first {
                    heres.push(task.await.expect("no panic"))
                }
            })
            .await;
        assert_eq!(heres, [Here::Anything, Here::Anything, Here::Short, Here::Short]);
        tasks.run_until(tokio::task::yield_now()).await;
        assert_eq!(tasks.run_until(turn(0)).await, Here::Anything);
        watch.abort();
    }

    #[test]
    fn after_a_page_from_disk_every_scan_goes_to_the_readers_for_a_second() {
        let round = Round::default();
        let fault = 5;
        round.saw_faults(0, || 0);
        assert_eq!(round.here(|| 0), Here::Anything);
        round.saw_faults(fault, || 7);
        let heres = [8, COLD_US + 6, COLD_US + 7, COLD_US + 8].map(|now_us| round.here(|| now_us));
        assert_eq!(heres, [Here::Nothing, Here::Nothing, Here::Anything, Here::Anything]);
        round.saw_faults(fault, || 2 * COLD_US);
        assert_eq!(round.here(|| 2 * COLD_US), Here::Anything, "those were seen");
    }

    #[test]
    fn the_system_counts_the_faults_of_a_thread() {
        let before = major_faults();
        assert!(major_faults() >= before);
    }
}
