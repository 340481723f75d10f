//! What a client's acts cost the relay, in nanoseconds of CPU: the one table that charges are made by.
//!
//! Each figure was measured on two cores of an EPYC at 2.6 GHz by `cargo bench --bench cost`, which runs the code that
//! does the work; what it cannot reach was taken from the process's CPU time under `loadtest`. Other machines differ by a
//! factor, all acts alike, so what is charged is a share of the machine and not of a clock. What reader threads do is
//! charged by the time that it took, and not listed here.

/// Something that a client has the relay do, charged when it arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// An HTTP request on a socket of its own: accepting, hyper, the answer, the end of the socket.
    Request,
    /// A WebSocket: its upgrade, its task and session, and giving all of it back.
    Connection,
    /// A read of the socket that brought this many bytes, and their unmasking.
    Read(usize),
    /// This many frames: their headers, whatever is in them. A message may be cut into one for each byte.
    Frames(u64),
    /// This many bytes came out of compressed messages.
    Inflated(usize),
    /// A text message of this many bytes: UTF-8, JSON, the hash of an event, an answer of a line.
    Message(usize),
    /// A ping: its pong is queued and sent.
    Ping,
    /// An event that can be read: the look-up of what is known already.
    Event,
    /// An event that is new: its signature, the rules, the log and its part of a commit.
    Submission,
    /// A query with this many filters and values in them, beyond reading it: put into the live index and taken out again.
    Filters {
        /// Filters.
        filters: usize,
        /// Values in their lists.
        items: usize,
    },
    /// The signature of an AUTH, which is checked by itself.
    Auth,
    /// An event whose signature was wrong, or an AUTH that proved nothing, beyond what a good one costs.
    Rejected,
    /// A write to the socket of this many bytes: what was stored, live events, replies.
    Sent(u64),
}

impl Act {
    /// The cost in nanoseconds.
    #[must_use]
    pub const fn ns(self) -> u64 {
        match self {
            // 50 µs of the relay's CPU, and 70 µs when the request opens a WebSocket: 2.1 s for 29,740 of them.
            Self::Request => 50_000,
            Self::Connection => 20_000,
            // 2.5 µs for a call that brings little, a third of what both ends of a socket take; 0.15 ns a byte.
            Self::Read(bytes) => 2_500 + per_kib(150, bytes as u64),
            // 7 ns.
            Self::Frames(frames) => 8_u64.saturating_mul(frames),
            // 0.1 ns a byte of spaces, 0.9 ns of words.
            Self::Inflated(bytes) => per_kib(900, bytes as u64),
            // 0.1 µs for the shortest, and as much to answer it; 0.2 ns a byte of spaces, 0.9 ns of an event.
            Self::Message(bytes) => 250 + per_kib(900, bytes as u64),
            // 0.4 µs beside the writes.
            Self::Ping => 450,
            // 2 µs.
            Self::Event => 2_000,
            // 13 µs in large batches, 25 µs alone.
            Self::Submission => 15_000,
            // 60 ns a value, and a head for each filter. Planning is part of the query's time.
            Self::Filters { filters, items } => {
                500_u64.saturating_mul(filters as u64).saturating_add(60_u64.saturating_mul(items as u64))
            }
            // 35 µs by libsecp256k1 for a key that it has not seen.
            Self::Auth => 35_000,
            // Not what it costs, but ten times that: no library sends a wrong one.
            Self::Rejected => 350_000,
            // 5.5 µs for a call, the peer's wake-up included; 0.1 ns a byte.
            Self::Sent(bytes) => 5_500 + per_kib(100, bytes),
        }
    }
}

const fn per_kib(ns: u64, bytes: u64) -> u64 {
    bytes.saturating_mul(ns) >> 10
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five thousand notes of one's own, the first thing that a client sends a new relay.
    #[test]
    fn publishing_five_thousand_notes_costs_less_than_a_burst_of_an_anonymous_client() {
        let note = Act::Message(800).ns() + Act::Event.ns() + Act::Submission.ns() + Act::Read(810).ns();
        let anonymous = super::super::Tiers::default().anonymous;
        assert!(5_000 * note < u64::from(anonymous.cpu_us.burst) * 1_000 / 4, "{note}");
        assert!(5_000 < anonymous.events.burst && 5_000 * 1_000 < anonymous.bytes.burst);
    }
}
