//! How long to wait before a relay is tried again: longer each time, and never at the same moment as others.
//!
//! Pure: the caller passes what chance decides.

use std::time::{Duration, Instant};

use crate::replication::pause::doubled;

/// The longest pause. A relay that is away for days is back within a minute and a half.
const LONGEST: Duration = Duration::from_secs(60);

/// What stood for so long was good: the next pause is a short one.
pub const GOOD: Duration = Duration::from_secs(30);

/// The failures so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause: twice the one before, and between half and one and a half times that, as `chance` says.
    pub fn next(&mut self, chance: u32) -> Duration {
        let whole = doubled(self.failures, LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX))
    }

    /// It worked: the next pause is the first one again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Until when nothing is sent to a relay that asks weir to wait. What it refuses meanwhile was sent before, so a burst
/// of refusals is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pause {
    until: Option<Instant>,
    /// Pauses since the relay last took something.
    begun: u32,
}

impl Pause {
    /// The longest pause.
    const LONGEST: Duration = Duration::from_secs(30);

    /// The relay asks weir to wait. Returns whether a pause begins, twice as long as the one before.
    pub fn begin(&mut self, now: Instant) -> bool {
        let begins = self.is_over(now);
        if begins {
            self.until = Some(now + doubled(self.begun, Self::LONGEST));
            self.begun = self.begun.saturating_add(1);
        }
        begins
    }

    /// Whether there is none now.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// Ends it.
    pub const fn end(&mut self) {
        self.until = None;
    }

    /// The relay took something: the next pause is the first one again.
    pub const fn reset(&mut self) {
        self.begun = 0;
    }
}

/// A number of the system's choice; the same one if it has none to give.
#[must_use]
pub fn chance() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::pause::FIRST;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_again_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        (0..1000).for_each(|_| assert!(backoff.next(u32::MAX) <= LONGEST.mul_f64(1.5)));
        backoff.reset();
        assert_eq!((backoff.next(0), backoff.next(u32::MAX)), (FIRST / 2, FIRST * 3));
    }

    #[test]
    fn a_burst_of_refusals_is_one_pause_and_the_next_burst_a_longer_one() {
        let (mut pause, start) = (Pause::default(), Instant::now());
        let burst = |pause: &mut Pause, at| (0..100).filter(|_| pause.begin(at)).count();
        assert_eq!(burst(&mut pause, start), 1);
        assert!(!pause.is_over(start + FIRST / 2) && pause.is_over(start + FIRST));
        assert_eq!(burst(&mut pause, start + FIRST), 1);
        assert!(!pause.is_over(start + FIRST * 2) && pause.is_over(start + FIRST * 3));
        pause.reset();
        pause.end();
        assert!(pause.begin(start) && pause.is_over(start + FIRST));
        let mut at = start;
        (0..20).for_each(|_| {
            at += Pause::LONGEST;
            assert!(pause.begin(at));
        });
        assert!(pause.is_over(at + Pause::LONGEST) && !pause.is_over(at + Pause::LONGEST / 2));
    }
}
