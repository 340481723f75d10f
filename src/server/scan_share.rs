//! How much of an io thread's time goes to queries while others wait for a reader.
//!
//! A query that Q4 would serve next runs its first slice on the io thread. If a crowd arrives at once, such slices
//! would take the whole thread and delay events and answers. So they get a share of the thread, and other queries wait
//! for a reader. Nothing here reads a clock.

use std::cell::Cell;

/// The share is 1/4 of the thread's time.
const PART: u64 = 4;

/// Microseconds that may be used at once after a pause.
const CREDIT_US: u64 = 2_000;

/// What one io thread has used of its share.
#[derive(Default)]
pub struct ScanShare {
    /// When the use would be paid off at the share's rate.
    made_up_us: Cell<u64>,
}

impl ScanShare {
    /// Counts a slice that ended at `now_us`.
    pub fn spent(&self, us: u64, now_us: u64) {
        let began_us = now_us.saturating_sub(us);
        self.made_up_us.set(self.made_up_us.get().max(began_us) + us * PART);
    }

    /// Whether queries should wait for a reader now.
    pub fn is_used_up(&self, now_us: u64) -> bool {
        self.made_up_us.get() > now_us + CREDIT_US * PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_gets_its_credit_at_once_and_then_a_quarter_of_the_thread() {
        const SLICE_US: u64 = 250;
        let (share, mut now_us, mut slices) = (ScanShare::default(), 5_000_000, Vec::new());
        // Somebody asks all the time; the thread does other work for 10 us whenever nothing may be run.
        while now_us < 6_000_000 {
            if share.is_used_up(now_us) {
                now_us += 10;
            } else {
                slices.push(now_us);
                now_us += SLICE_US;
                share.spent(SLICE_US, now_us);
            }
        }
        let at_once = slices.windows(2).take_while(|pair| pair[1] == pair[0] + SLICE_US).count() + 1;
        assert_eq!((at_once, slices.len()), (11, 1_008));
    }
}
