//! The price list: what each act of a client costs the relay, in nanoseconds of CPU.
//!
//! Each figure was measured on two cores of an EPYC at 2.6 GHz by `cargo bench --bench cost`, which runs the code that
//! does the work; costs that it cannot reach were taken from the process's CPU time under `loadtest`. Other machines
//! differ by a factor that is about the same for all acts, so a charge stands for a share of the machine. Work of
//! reader threads is charged by the time it took and is not listed here.

/// Something that a client makes the relay do, charged when it arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// An HTTP request on a new socket: accepting it, hyper, the response, closing it.
    Request,
    /// A WebSocket: its upgrade, its task and session, and freeing them.
    Connection,
    /// A read from the socket that returned this many bytes, and unmasking them.
    Read(usize),
    /// The headers of this many frames. A message may be split into one frame per byte.
    Frames(u64),
    /// Messages decompressed.
    Inflated {
        /// The bytes that came out.
        bytes: usize,
        /// The deflate blocks that went in.
        blocks: u64,
    },
    /// A text message of this many bytes: UTF-8, JSON, the hash of an event, a one-line answer.
    Message(usize),
    /// A ping: queueing and sending its pong.
    Ping,
    /// A well-formed event: looking up whether it is known.
    Event,
    /// Searches through this many bytes of content for the operator's words and patterns.
    Searched(usize),
    /// A new event: its signature, the rules, the log and its share of a commit.
    Submission,
    /// The filters of a query: adding them to the live index and removing them again. Parsing them is not included.
    Filters {
        /// The number of filters.
        filters: usize,
        /// The number of values in their lists.
        items: usize,
    },
    /// The signature of an AUTH event, which is verified on its own.
    Auth,
    /// A surcharge for an event with a wrong signature or a failed AUTH.
    Rejected,
    /// A write of this many bytes to the socket: stored events, live events, replies.
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
            // 2.5 µs for a call that returns little, a third of what both ends of a socket take; 0.15 ns a byte.
            Self::Read(bytes) => 2_500 + per_kib(150, bytes as u64),
            // 7 ns.
            Self::Frames(frames) => 8_u64.saturating_mul(frames),
            // 0.1 ns per byte of spaces, 0.9 ns per byte of words; 0.1 µs for an empty block with the fixed codes, and
            // 0.7 µs for one with codes of its own.
            Self::Inflated { bytes, blocks } => per_kib(900, bytes as u64).saturating_add(blocks.saturating_mul(700)),
            // 0.1 µs for the shortest and 0.1 µs to answer it; 0.2 ns per byte of spaces, 0.9 ns per byte of an event.
            Self::Message(bytes) => 250 + per_kib(900, bytes as u64),
            // 0.4 µs plus the writes.
            Self::Ping => 450,
            // 2 µs.
            Self::Event => 2_000,
            // 1 ns per byte and pattern.
            Self::Searched(bytes) => bytes as u64,
            // 13 µs in large batches, 25 µs alone.
            Self::Submission => 15_000,
            // 60 ns a value, plus a base for each filter. Planning is part of the query's time.
            Self::Filters { filters, items } => {
                500_u64.saturating_mul(filters as u64).saturating_add(60_u64.saturating_mul(items as u64))
            }
            // 35 µs by libsecp256k1 for a key that it has not seen before.
            Self::Auth => 35_000,
            // Ten times the actual cost: no library ever sends a wrong signature.
            Self::Rejected => 350_000,
            // 5.5 µs for a call, including the wake-up of the peer; 0.1 ns per byte.
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

    /// Clients begin on a new relay by republishing everything that their user ever wrote.
    #[test]
    fn publishing_five_thousand_notes_costs_less_than_a_burst_of_an_anonymous_client() {
        let note = Act::Message(800).ns() + Act::Event.ns() + Act::Submission.ns() + Act::Read(810).ns();
        let anonymous = super::super::Tiers::default().anonymous;
        assert!(5_000 * note < u64::from(anonymous.cpu_us.burst) * 1_000 / 4, "{note}");
        assert!(5_000 < anonymous.events.burst && 5_000 * 1_000 < anonymous.bytes.burst);
    }
}
