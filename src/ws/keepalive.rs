//! When to ping a silent peer and when to give it up: a pure state, told the time.
//!
//! It never reads a clock and never sets a timer.

/// How long a connection may be silent; milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveOptions {
    /// Silence after which a ping is sent; 0 never pings and never closes.
    pub ping_after_ms: u64,
    /// Silence after that ping after which the connection is closed.
    pub close_after_ms: u64,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Ask again at this time, in the same milliseconds as `now_ms`.
    Wait(u64),
    /// Send a ping now; ask again at this time.
    Ping(u64),
    /// The peer is dead: close.
    Close,
    /// Never ask again.
    Off,
}

/// The silence of one peer. Times are milliseconds of any clock that never goes back.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    options: KeepaliveOptions,
    heard_ms: u64,
    pinged_ms: Option<u64>,
}

impl Keepalive {
    /// A peer that was heard at `now_ms`.
    #[must_use]
    pub fn new(options: KeepaliveOptions, now_ms: u64) -> Self {
        Self { options, heard_ms: now_ms, pinged_ms: None }
    }

    /// Bytes arrived, whatever they were: the peer lives.
    #[inline]
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.pinged_ms = None;
    }

    /// Decides; to be asked at the time the last answer named, or at any other.
    pub fn beat(&mut self, now_ms: u64) -> Beat {
        if self.options.ping_after_ms == 0 {
            return Beat::Off;
        }
        let due_ms = match self.pinged_ms {
            Some(pinged_ms) => pinged_ms.saturating_add(self.options.close_after_ms),
            None => self.heard_ms.saturating_add(self.options.ping_after_ms),
        };
        match self.pinged_ms {
            _ if now_ms < due_ms => Beat::Wait(due_ms),
            Some(_) => Beat::Close,
            None => {
                self.pinged_ms = Some(now_ms);
                // Its answer starts the silence anew, so the next ping may be due before this one is given up.
                let again_ms = self.options.close_after_ms.min(self.options.ping_after_ms);
                Beat::Ping(now_ms.saturating_add(again_ms))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: KeepaliveOptions = KeepaliveOptions { ping_after_ms: 50, close_after_ms: 20 };

    #[test]
    fn a_silent_peer_is_pinged_once_and_then_closed() {
        let mut keepalive = Keepalive::new(OPTIONS, 100);
        assert_eq!(keepalive.beat(100), Beat::Wait(150));
        assert_eq!(keepalive.beat(150), Beat::Ping(170));
        assert_eq!(keepalive.beat(160), Beat::Wait(170));
        assert_eq!(keepalive.beat(170), Beat::Close);
    }

    #[test]
    fn anything_heard_starts_the_silence_anew() {
        let mut keepalive = Keepalive::new(OPTIONS, 0);
        keepalive.heard(49);
        assert_eq!(keepalive.beat(50), Beat::Wait(99));
        assert_eq!(keepalive.beat(99), Beat::Ping(119));
        keepalive.heard(118);
        assert_eq!(keepalive.beat(119), Beat::Wait(168));
    }

    #[test]
    fn the_next_ping_comes_in_time_though_a_peer_may_take_longer_to_answer() {
        let mut keepalive = Keepalive::new(KeepaliveOptions { ping_after_ms: 20, close_after_ms: 50 }, 0);
        assert_eq!(keepalive.beat(20), Beat::Ping(40));
        keepalive.heard(21);
        assert_eq!(keepalive.beat(40), Beat::Wait(41));
        assert_eq!(keepalive.beat(41), Beat::Ping(61));
        assert_eq!(keepalive.beat(61), Beat::Wait(91));
        assert_eq!(keepalive.beat(91), Beat::Close);
    }

    #[test]
    fn a_ping_time_of_zero_turns_it_off() {
        let options = KeepaliveOptions { ping_after_ms: 0, close_after_ms: 20 };
        assert_eq!(Keepalive::new(options, 0).beat(u64::MAX), Beat::Off);
    }
}
