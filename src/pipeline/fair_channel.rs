//! A [`FairQueue`] between threads: a mutex and a condition variable.
//!
//! Putting in never waits, on whatever thread: a full queue gives back the job that has to give way.

use std::net::IpAddr;

use super::fair::{FairQueue, SHORT_US};
use crate::allocator;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Any number of threads put jobs in and take them out.
pub struct FairChannel<T> {
    state: Mutex<State<T>>,
    /// A job was put in, or the queue was closed.
    filled: Condvar,
    /// Jobs that wait, for those who only look.
    len: AtomicUsize,
}

struct State<T> {
    queue: FairQueue<T>,
    /// Threads that sleep until `filled`.
    sleeping: usize,
    is_closed: bool,
}

/// A job whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn<T> {
    /// Whose it is.
    pub address: IpAddr,
    /// The job.
    pub job: T,
    /// How long it may be worked for, in microseconds. Its address is charged that until [`FairChannel::correct`].
    pub slice_us: u64,
}

impl<T> FairChannel<T> {
    /// A queue of at most `max_jobs`.
    #[must_use]
    pub fn new(max_jobs: usize) -> Self {
        let state = State { queue: FairQueue::new(max_jobs), sleeping: 0, is_closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), len: AtomicUsize::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics while it holds a queue")
    }

    /// Jobs that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a job in line, as [`FairQueue::push`]; gives back the one that is to be refused.
    #[must_use]
    pub fn push(&self, address: IpAddr, job: T, spent_us: u64, now_us: u64) -> Option<T> {
        let mut state = self.state();
        let refused = state.queue.push(address, job, spent_us, now_us);
        self.len.store(state.queue.len(), Ordering::Relaxed);
        let wake = state.sleeping > 0;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        refused
    }

    /// Takes the next job, waiting for one; `None` once the queue is closed and empty. Its slice is `max_us` long.
    /// While others wait it is as long as what was spent on the job before, so that each of a crowd is begun soon and a
    /// long query comes to long slices after a few.
    #[must_use]
    pub fn pop(&self, max_us: u64, now_us: impl Fn() -> u64) -> Option<Turn<T>> {
        allocator::collect_if_due();
        let mut state = self.state();
        while state.queue.is_empty() && !state.is_closed {
            state.sleeping += 1;
            state = allocator::wait(&self.filled, &self.state, state);
            state.sleeping -= 1;
        }
        let (others_wait, mut slice_us) = (state.queue.len() > 1, max_us);
        let slice = |spent_us: u64| {
            if others_wait {
                slice_us = spent_us.max(SHORT_US).min(max_us);
            }
            slice_us
        };
        let (address, job) = state.queue.pop(slice, now_us())?;
        self.len.store(state.queue.len(), Ordering::Relaxed);
        Some(Turn { address, job, slice_us })
    }

    /// As [`FairQueue::charge`].
    pub fn charge(&self, address: IpAddr, spent_us: u64, now_us: u64) {
        self.state().queue.charge(address, spent_us, now_us);
    }

    /// As [`FairQueue::correct`].
    pub fn correct(&self, address: IpAddr, advance_us: u64, spent_us: u64, now_us: u64) {
        self.state().queue.correct(address, advance_us, spent_us, now_us);
    }

    /// Whether a job of this address that came now would be the next one.
    #[must_use]
    pub fn would_be_next(&self, address: &IpAddr, spent_us: u64, now_us: u64) -> bool {
        self.is_empty() || self.state().queue.would_be_next(address, spent_us, now_us)
    }

    /// Lets those go who wait for a job, once none is left.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn many_threads_carry_every_job_exactly_once_and_a_closed_queue_is_emptied_first() {
        const EACH: usize = 5_000;
        let queue = Arc::new(FairChannel::new(usize::MAX));
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    std::iter::from_fn(|| queue.pop(1, || 0)).map(|turn| turn.job).collect::<Vec<usize>>()
                })
            })
            .collect();
        let givers: Vec<_> = (0..4)
            .map(|giver| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    for number in 0..EACH {
                        assert_eq!(queue.push(ADDRESS, giver * EACH + number, 0, 0), None);
                    }
                })
            })
            .collect();
        givers.into_iter().for_each(|thread| thread.join().expect("no panic"));
        queue.close();
        let mut all: Vec<_> = takers.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..4 * EACH));
        assert!(queue.is_empty() && queue.pop(1, || 0).is_none());
    }

    #[test]
    fn while_others_wait_a_slice_is_as_long_as_what_was_spent_on_its_job_before() {
        let queue = FairChannel::new(9);
        for (last, spent_us) in [(1, 9_000), (2, 2_100), (3, 400), (4, 0), (5, 60), (6, 9_000)] {
            assert!(queue.push(IpAddr::from([198, 51, 100, last]), last, spent_us, 0).is_none());
        }
        let slice = |max_us| queue.pop(max_us, || 0).map(|turn| (turn.job, turn.slice_us));
        let slices = [5_000, 100, 5_000, 5_000, 5_000].map(slice);
        let expected = [(4, SHORT_US), (5, 100), (3, 400), (2, 2_100), (1, 5_000)].map(Some);
        assert_eq!(slices, expected, "and never longer than it is configured");
        assert!(queue.push(ADDRESS, 7, 0, 0).is_none());
        assert_eq!([slice(5_000), slice(5_000)], [Some((7, SHORT_US)), Some((6, 5_000))]);
        assert!(queue.push(ADDRESS, 8, 0, 0).is_none());
        assert_eq!(slice(5_000), Some((8, 5_000)), "nobody else waits");
    }
}
