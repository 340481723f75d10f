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
pub enum KeepaliveAction {
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
    pub fn poll(&mut self, now_ms: u64) -> KeepaliveAction {
        if self.options.ping_after_ms == 0 {
            return KeepaliveAction::Off;
        }
        let due_ms = match self.pinged_ms {
            Some(pinged_ms) => pinged_ms.saturating_add(self.options.close_after_ms),
            None => self.heard_ms.saturating_add(self.options.ping_after_ms),
        };
        match self.pinged_ms {
            _ if now_ms < due_ms => KeepaliveAction::Wait(due_ms),
            Some(_) => KeepaliveAction::Close,
            None => {
                self.pinged_ms = Some(now_ms);
                // Its answer starts the silence anew, so the next ping may be due before this one is given up.
                let again_ms = self.options.close_after_ms.min(self.options.ping_after_ms);
                KeepaliveAction::Ping(now_ms.saturating_add(again_ms))
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
        assert_eq!(keepalive.poll(100), KeepaliveAction::Wait(150));
        assert_eq!(keepalive.poll(150), KeepaliveAction::Ping(170));
        assert_eq!(keepalive.poll(160), KeepaliveAction::Wait(170));
        assert_eq!(keepalive.poll(170), KeepaliveAction::Close);
    }

    #[test]
    fn anything_heard_starts_the_silence_anew() {
        let mut keepalive = Keepalive::new(OPTIONS, 0);
        keepalive.heard(49);
        assert_eq!(keepalive.poll(50), KeepaliveAction::Wait(99));
        assert_eq!(keepalive.poll(99), KeepaliveAction::Ping(119));
        keepalive.heard(118);
        assert_eq!(keepalive.poll(119), KeepaliveAction::Wait(168));
    }

    #[test]
    fn the_next_ping_comes_in_time_though_a_peer_may_take_longer_to_answer() {
        let mut keepalive = Keepalive::new(KeepaliveOptions { ping_after_ms: 20, close_after_ms: 50 }, 0);
        assert_eq!(keepalive.poll(20), KeepaliveAction::Ping(40));
        keepalive.heard(21);
        assert_eq!(keepalive.poll(40), KeepaliveAction::Wait(41));
        assert_eq!(keepalive.poll(41), KeepaliveAction::Ping(61));
        assert_eq!(keepalive.poll(61), KeepaliveAction::Wait(91));
        assert_eq!(keepalive.poll(91), KeepaliveAction::Close);
    }

    #[test]
    fn a_ping_time_of_zero_turns_it_off() {
        let options = KeepaliveOptions { ping_after_ms: 0, close_after_ms: 20 };
        assert_eq!(Keepalive::new(options, 0).poll(u64::MAX), KeepaliveAction::Off);
    }
}
