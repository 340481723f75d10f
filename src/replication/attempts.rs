//! How often a lost connection is reestablished, and the pauses in between.
//!
//! Pure.

use std::time::Duration;

use super::pause::doubled;

/// Attempts in a row, after which the relay is given up. They take 15 seconds.
const MAX_IN_A_ROW: u32 = 5;

/// Attempts of one sync.
const MAX_IN_ALL: u32 = 100;

/// The attempts so far.
#[derive(Default)]
pub struct Attempts {
    in_a_row: u32,
    in_all: u32,
    /// Events that had moved by the last one.
    moved: u64,
}

impl Attempts {
    /// The pause before the next attempt; `None` when there were enough. An event that has moved since the last attempt
    /// ends the row.
    pub fn next(&mut self, moved: u64) -> Option<Duration> {
        if moved > self.moved {
            self.in_a_row = 0;
        }
        self.moved = moved;
        if self.in_a_row == MAX_IN_A_ROW || self.in_all == MAX_IN_ALL {
            return None;
        }
        let pause = doubled(self.in_a_row, Duration::MAX);
        self.in_a_row += 1;
        self.in_all += 1;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_an_event_moves_and_there_are_enough_in_a_row_and_in_all() {
        let mut attempts = Attempts::default();
        let pauses = |attempts: &mut Attempts, moved| -> Vec<u128> {
            std::iter::from_fn(|| attempts.next(moved)).map(|pause| pause.as_millis()).collect()
        };
        assert_eq!(pauses(&mut attempts, 0), [500, 1_000, 2_000, 4_000, 8_000]);
        assert_eq!(pauses(&mut attempts, 1), [500, 1_000, 2_000, 4_000, 8_000]);
        assert_eq!(pauses(&mut attempts, 1), []);
        let in_all = (2..1_000).map(|moved| attempts.next(moved)).take_while(Option::is_some).count();
        assert_eq!(in_all as u32, MAX_IN_ALL - 10);
    }
}
