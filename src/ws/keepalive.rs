//! When to ping a silent peer, and when to give it up. A pure state machine: the caller passes the time.
//!
//! It never reads a clock and never sets a timer.

/// How long a peer may be silent, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveOptions {
    /// Send a ping after this much silence; 0 turns keepalive off.
    pub ping_after_ms: u64,
    /// Close the connection after this much silence following the ping.
    pub close_after_ms: u64,
}

/// What the connection is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepaliveAction {
    /// Poll again at this time, on the clock of `now_ms`.
    Wait(u64),
    /// Send a ping; poll again at this time.
    Ping(u64),
    /// The peer is dead: close.
    Close,
    /// Never poll again: keepalive is off.
    Off,
}

/// How long one peer has been silent. Times are milliseconds on any clock that never goes back.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    options: KeepaliveOptions,
    heard_ms: u64,
    pinged_ms: Option<u64>,
}

impl Keepalive {
    /// A peer that was heard from at `now_ms`.
    #[must_use]
    pub fn new(options: KeepaliveOptions, now_ms: u64) -> Self {
        Self { options, heard_ms: now_ms, pinged_ms: None }
    }

    /// Notes that bytes arrived, of whatever kind: the peer is alive.
    #[inline]
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.pinged_ms = None;
    }

    /// Decides what to do. Call it at the time that the last answer named; earlier or later does no harm.
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
                // The pong restarts the silence, so the next ping may be due before this one counts as unanswered.
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
    fn anything_heard_restarts_the_silence() {
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
