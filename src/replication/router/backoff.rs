//! How long to wait before a relay is tried again: longer each time, and never at the same moment as others.
//!
//! Pure: the caller passes what chance decides.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause. A relay that is away for days is back within a minute and a half.
const LONGEST: Duration = Duration::from_secs(60);

/// The failures so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause: twice the one before, and between half and one and a half times that, as `chance` says.
    pub fn next(&mut self, chance: u32) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX))
    }

    /// It worked: the next pause is the first one again.
    pub const fn reset(&mut self) {
        self.failures = 0;
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

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_again_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        (0..1000).for_each(|_| assert!(backoff.next(u32::MAX) <= LONGEST.mul_f64(1.5)));
        backoff.reset();
        assert_eq!((backoff.next(0), backoff.next(u32::MAX)), (FIRST / 2, FIRST * 3));
    }
}
