//! A share of an io thread's time, and whether it is used up: a connection's, or that of queries while others wait for
//! a reader. Nothing here reads a clock.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// What was taken of a share.
#[derive(Debug)]
pub struct Share {
    /// The share is one part of this many.
    parts: u32,
    /// What may be taken at once after a pause.
    credit: Duration,
    /// What was taken beyond this is forgotten.
    most: Duration,
    /// When what was taken would be paid off at the share's rate.
    paid_off_at: Cell<Instant>,
}

impl Share {
    /// A share of which nothing was taken before `now`.
    pub const fn new(parts: u32, credit: Duration, most: Duration, now: Instant) -> Self {
        Self { parts, credit, most, paid_off_at: Cell::new(now) }
    }

    /// Counts the thread's time from `began` to `now`.
    pub fn spent(&self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        let paid_off_at = self.paid_off_at.get().max(began) + took * self.parts;
        self.paid_off_at.set(paid_off_at.min(now + self.most * self.parts));
    }

    /// When what was taken is paid off: the earlier, the less was taken lately.
    pub const fn paid_off_at(&self) -> Instant {
        self.paid_off_at.get()
    }

    /// Whether more was taken than the share and its credit.
    pub fn is_used_up(&self, now: Instant) -> bool {
        self.paid_off_at.get() > now + self.credit * self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_gets_its_credit_at_once_and_then_a_quarter_of_the_thread() {
        const SLICE: Duration = Duration::from_micros(250);
        let began = Instant::now();
        let (share, mut now) = (Share::new(4, Duration::from_millis(2), Duration::from_millis(4), began), began);
        let mut slices = Vec::new();
        // Somebody asks all the time; the thread does other work for 10 us whenever nothing may be run.
        while now < began + Duration::from_secs(1) {
            if share.is_used_up(now) {
                now += Duration::from_micros(10);
            } else {
                slices.push(now);
                now += SLICE;
                share.spent(now - SLICE, now);
            }
        }
        let at_once = slices.windows(2).take_while(|pair| pair[1] == pair[0] + SLICE).count() + 1;
        assert_eq!((at_once, slices.len()), (11, 1_008));
    }
}
