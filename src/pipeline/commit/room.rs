//! How long a batch that finds the store full waits while the retention rules make room.
//!
//! At a limit that the rules hold, room is a matter of moments. So the writer removes what it has been asked to remove
//! until the batch fits, and if that is not enough, it keeps the batch until more is found: clients are slowed down
//! instead of refused. It removes nothing itself, and it never waits where no rule makes room.

use std::time::{Duration, Instant};

/// The longest that a batch waits: many commits of a slow disk, and less than a client waits for its OK.
const LONGEST: Duration = Duration::from_secs(5);

/// How often a batch that waits looks for room: nobody tells it that there will be none.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Since when no batch has found room; a batch waits for 5 s at most.
#[derive(Default)]
pub struct RoomWait {
    /// Since when no batch has found room.
    since: Option<Instant>,
    /// Nobody will make room any more.
    is_over: bool,
}

impl RoomWait {
    /// A batch found no room at `now`: whether it is to wait. `is_made` says whether rules are at work. Once one has
    /// waited too long, the others are refused at once, until one finds room.
    pub fn is_worth_it(&mut self, is_made: bool, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        is_made && !self.is_over && now.duration_since(since) < LONGEST
    }

    /// How long to wait for a word before the batch looks for room again.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Duration {
        let left = self.since.map_or(LONGEST, |since| LONGEST.saturating_sub(now.duration_since(since)));
        left.min(LOOK_AGAIN)
    }

    /// A batch found room.
    pub const fn found(&mut self) {
        self.since = None;
    }

    /// The relay stops: nothing waits for room any more.
    pub const fn give_up(&mut self) {
        self.is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_for_room_only_while_rules_make_some_and_for_seconds() {
        let (mut wait, begin) = (RoomWait::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        assert!(!wait.is_worth_it(false, begin), "no rule makes room");
        assert!(wait.is_worth_it(true, begin));
        assert!(wait.is_worth_it(true, at(4_999)));
        assert_eq!([4_000, 4_990, 6_000].map(|ms| wait.pause(at(ms)).as_millis()), [20, 10, 0]);
        assert!(!wait.is_worth_it(true, at(5_000)));
        assert!(!wait.is_worth_it(true, at(5_001)), "nor does the next one");
        wait.found();
        assert!(wait.is_worth_it(true, at(5_002)), "there was room, so there may be again");
        wait.give_up();
        assert!(!wait.is_worth_it(true, at(5_003)));
    }
}
