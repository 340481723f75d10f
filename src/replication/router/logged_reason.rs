//! Tells a reason that is news from one that operators have just been told.
//!
//! Pure.

use std::time::{Duration, Instant};

/// How often operators are reminded of a trouble that stays for the same reason.
const REMIND: Duration = Duration::from_secs(3600);

/// What operators were last told, and when.
#[derive(Default)]
pub struct LoggedReason {
    why: String,
    at: Option<Instant>,
}

impl LoggedReason {
    /// Whether operators are to be told: it is another reason, or the same for an hour.
    pub fn is_news(&mut self, why: &str, now: Instant) -> bool {
        let is_news = self.why != why || self.at.is_none_or(|at| now.duration_since(at) >= REMIND);
        if is_news {
            (self.why, self.at) = (why.to_owned(), Some(now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reason_is_told_once_an_hour_and_another_at_once() {
        let (mut logged, now) = (LoggedReason::default(), Instant::now());
        let mut told = |why: &str, seconds| logged.is_news(why, now + Duration::from_secs(seconds));
        assert_eq!([told("a", 0), told("a", 5), told("b", 6), told("a", 7)], [true, false, true, true]);
        assert_eq!([told("a", 3_606), told("a", 3_607), told("a", 3_608)], [false, true, false]);
    }
}
