//! What the io threads are told to do: serve, pause, or stop.

use std::time::Duration;

/// What clients are told when the relay stops, with 1012.
pub const RESTARTING: &str = "the relay is restarting";

/// What the io threads do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Accept and serve clients.
    Serving,
    /// Accept nobody and read nothing. Queries that were read before are answered, and live events are sent.
    Paused,
    /// The relay stops: close every client with 1012.
    Stopping {
        /// How long clients get to leave.
        grace: Duration,
    },
    /// Another process serves the same sockets: leave new connections to it, and close every client with 1012.
    Replaced {
        /// How long clients get to leave. Their closes are spread over three quarters of it, so that they do not all
        /// connect to the other process at once.
        grace: Duration,
    },
}

impl Stage {
    /// How long clients get to leave, if they are to.
    pub const fn grace(self) -> Option<Duration> {
        match self {
            Self::Serving | Self::Paused => None,
            Self::Stopping { grace } | Self::Replaced { grace } => Some(grace),
        }
    }

    /// How many of `count` clients should have been closed after `elapsed`.
    pub fn due(self, count: usize, elapsed: Duration) -> usize {
        let spread = match self {
            Self::Replaced { grace } => grace.mul_f64(0.75),
            Self::Serving | Self::Paused | Self::Stopping { .. } => Duration::ZERO,
        };
        if elapsed >= spread {
            return count;
        }
        (count as f64 * elapsed.div_duration_f64(spread)).ceil() as usize
    }

    /// Whether clients are accepted.
    pub const fn accepts_clients(self) -> bool {
        matches!(self, Self::Serving)
    }

    /// Whether operators are served: until the end, but never beside another process that serves the same address.
    pub const fn serves_operators(self) -> bool {
        matches!(self, Self::Serving | Self::Stopping { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closes_of_a_replaced_relay_are_spread_and_those_of_a_stopping_one_are_not() {
        let grace = Duration::from_secs(8);
        let due = |stage: Stage| [0, 1, 3000, 5999, 6000, 9000].map(|ms| stage.due(600, Duration::from_millis(ms)));
        assert_eq!(due(Stage::Replaced { grace }), [0, 1, 300, 600, 600, 600]);
        assert_eq!(due(Stage::Stopping { grace }), [600; 6]);
        assert_eq!(Stage::Replaced { grace: Duration::ZERO }.due(7, Duration::ZERO), 7);
    }
}
