//! The labels of the metrics: enums, so that their number is bounded whatever clients send.
//!
//! Their words are part of what operators build upon: `docs/metrics.md` lists each, and a test compares.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$meaning])* $variant,)*
        }

        impl $name {
            /// Every value, so that each counter can be seen before it first counts.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in the exposition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// What a client said.
    Verb {
        /// NIP-01.
        Event = "event",
        /// NIP-01.
        Req = "req",
        /// NIP-01.
        Close = "close",
        /// NIP-45.
        Count = "count",
        /// NIP-42.
        Auth = "auth",
        /// NIP-77.
        NegOpen = "neg-open",
        /// NIP-77.
        NegMsg = "neg-msg",
        /// NIP-77.
        NegClose = "neg-close",
        /// Nothing that can be read, or an event whose id is not its hash.
        Malformed = "malformed",
    }
);

words!(
    /// What became of an event.
    EventOutcome {
        /// Committed.
        Stored = "stored",
        /// Already held.
        Duplicate = "duplicate",
        /// A newer version is held.
        Replaced = "replaced",
        /// Its author deleted it before.
        Deleted = "deleted",
        /// Its author vanished.
        Vanished = "vanished",
        /// Past its expiration.
        Expired = "expired",
        /// Delivered, not stored.
        Ephemeral = "ephemeral",
        /// Ephemeral, and nobody listened.
        Muted = "muted",
        /// The id, signature or form is wrong.
        Invalid = "invalid",
        /// Policy said no.
        Refused = "refused",
        /// There was no room.
        Full = "full",
        /// The store could not take it.
        Failed = "failed",
    }
);

words!(
    /// Why the retention rules removed an event.
    EvictionCause {
        /// Older than `max_age`.
        Age = "age",
        /// Beyond `max_per_author_and_kind`.
        PerAuthorAndKind = "per_author_and_kind",
        /// Beyond the rule's `max_events`.
        RuleEvents = "rule_events",
        /// Beyond the rule's `max_bytes`.
        RuleBytes = "rule_bytes",
        /// Beyond `max_events_per_author`.
        PerAuthor = "per_author",
        /// For room: `storage.max_bytes`, the map or the disk.
        Room = "room",
    }
);

words!(
    /// Why a connection ended.
    CloseReason {
        /// The client closed it.
        Client = "client",
        /// The socket failed or ended.
        Lost = "lost",
        /// The client broke RFC 6455.
        Protocol = "protocol",
        /// Live events piled up.
        SlowConsumer = "slow",
        /// Messages of which only a part had come held too much memory, and its address held the most.
        Memory = "memory",
        /// It sent on although it owed too much.
        Debt = "debt",
        /// No answer to pings.
        Idle = "idle",
        /// The relay is stopping.
        Shutdown = "shutdown",
        /// A defect of ours ended it.
        Panic = "panic",
    }
);

words!(
    /// Why a connection was turned away before the upgrade.
    TurnedAway {
        /// The relay is full (503).
        Full = "full",
        /// The address has too many (429).
        Address = "address",
        /// The address owes too much (429).
        Debt = "debt",
        /// The address is denied (403).
        Denied = "denied",
        /// The door was full of sockets without a request, and its address had the most of them: no answer.
        HalfOpen = "half-open",
        /// It did not send its request in time: no answer.
        Slow = "slow",
        /// A trusted proxy sent an X-Forwarded-For that is no list of addresses (400).
        Forwarded = "forwarded",
        /// The request names no host, or two (400).
        Host = "host",
    }
);

words!(
    /// How a reload ended.
    Reload {
        /// New settings are in force.
        Applied = "applied",
        /// The file was bad; the old settings stay.
        Failed = "failed",
    }
);

words!(
    /// What the store was to do when it failed.
    StoreOperation {
        /// A query, a look-up or live delivery.
        Read = "read",
        /// Events into the write-ahead log.
        Log = "log",
        /// A commit.
        Commit = "commit",
        /// The background sync of relaxed durability.
        Sync = "sync",
        /// Finding or removing what the retention rules no longer keep.
        Retention = "retention",
    }
);

words!(
    /// A queue between threads (`pipeline::queues`).
    Queue {
        /// Events between the socket and the disk (Q1 and Q2).
        Ingest = "ingest",
        /// Batches of events waiting for the `verify` thread (Q1).
        Verify = "verify",
        /// Batches and upkeep waiting for the writer (Q2).
        Write = "write",
        /// Batches waiting for fan-out (Q3).
        Live = "live",
        /// Queries waiting for a reader (Q4).
        Scans = "scans",
    }
);

macro_rules! label {
    ($($name:ident { $field:ident: $value:ty }),* $(,)?) => {$(
        /// A label set of one label.
        #[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
        pub struct $name {
            /// The label.
            pub $field: $value,
        }
    )*};
}

label!(
    VerbLabel { verb: Verb },
    OutcomeLabel { outcome: EventOutcome },
    RefusalLabel { prefix: &'static str },
    CloseLabel { reason: CloseReason },
    TurnedAwayLabel { reason: TurnedAway },
    ReloadLabel { result: Reload },
    QueueLabel { queue: Queue },
    StoreLabel { operation: StoreOperation },
    TableLabel { table: &'static str },
);

/// The rule for which events were removed, from 1, and why.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct EvictionLabel {
    /// The rule's place in `storage.retention`.
    pub rule: u32,
    /// Why.
    pub cause: EvictionCause,
}
