//! Limits a log line that every connection may cause to one a minute, with the number of times it was due.
//!
//! It decides and the caller logs. It never waits and never reads a clock.

use std::sync::atomic::{AtomicU64, Ordering};

/// The interval between two lines.
const APART_US: u64 = 60_000_000;

/// The state of one kind of line, shared by all threads.
#[derive(Debug, Default)]
pub struct LogLimit {
    /// When the next line may be logged.
    due_us: AtomicU64,
    /// How often the line was due since the last one was written.
    count: AtomicU64,
}

impl LogLimit {
    /// Counts one occurrence at `now_us`, in microseconds of a monotonic clock. If a line is due now, returns the
    /// number of occurrences since the last line, this one included.
    pub fn admit(&self, now_us: u64) -> Option<u64> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let due_us = self.due_us.load(Ordering::Relaxed);
        if now_us < due_us {
            return None;
        }
        // Only one of several threads logs.
        let next_us = now_us.saturating_add(APART_US);
        self.due_us.compare_exchange(due_us, next_us, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(self.count.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_tells_how_often_it_was_due() {
        let limit = LogLimit::default();
        let admitted = [5, 6, 60_000_004, 60_000_005, 60_000_006, 300_000_000].map(|now_us| limit.admit(now_us));
        assert_eq!(admitted, [Some(1), None, None, Some(3), None, Some(2)]);
    }

    #[test]
    fn a_flood_is_one_line_a_minute_with_the_number_of_each() {
        let limit = LogLimit::default();
        let seconds = (0..200).map(|second| limit.admit(second * 1_000_000));
        let said: Vec<_> = seconds.enumerate().filter_map(|(second, count)| Some((second, count?))).collect();
        assert_eq!(said, [(0, 1), (60, 60), (120, 60), (180, 60)]);
    }

    #[test]
    fn of_many_threads_one_writes_and_nothing_is_counted_twice() {
        let limit = LogLimit::default();
        let told: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1000).filter_map(|_| limit.admit(7)).sum::<u64>())).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread ends well")).sum()
        });
        let rest = limit.admit(u64::MAX).expect("a line is due");
        assert_eq!(told + rest, 4001);
    }
}
