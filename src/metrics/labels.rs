//! The labels of the metrics: enums, so that their number is bounded whatever clients send.
//!
//! Operators depend on their values: `docs/metrics.md` lists each, and a test compares the two.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

macro_rules! label_values {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$meaning])* $variant,)*
        }

        impl $name {
            /// Every value, so that each counter is exposed before it first counts.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The value in the exposition.
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

label_values!(
    /// The type of a client's message.
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
        /// A malformed message, or an event whose id is not its hash.
        Malformed = "malformed",
    }
);

label_values!(
    /// The outcome of an event.
    EventOutcome {
        /// Committed.
        Stored = "stored",
        /// Already stored.
        Duplicate = "duplicate",
        /// A newer version is stored.
        Replaced = "replaced",
        /// Its author has deleted it.
        Deleted = "deleted",
        /// Its author has vanished (NIP-62).
        Vanished = "vanished",
        /// Past its expiration.
        Expired = "expired",
        /// Delivered but not stored.
        Ephemeral = "ephemeral",
        /// Ephemeral, and nobody was subscribed.
        Muted = "muted",
        /// A request to join or to leave that was carried out (NIP-43).
        Request = "request",
        /// Malformed, or the id or signature is wrong.
        Invalid = "invalid",
        /// Refused by policy.
        Refused = "refused",
        /// Dropped since its author is muted or by the plugin, and its client told that it was accepted.
        Shadowed = "shadowed",
        /// Refused because the storage is full.
        Full = "full",
        /// The store failed.
        Failed = "failed",
    }
);

label_values!(
    /// The rule by which an event was refused.
    PolicyRule {
        /// Its kind is never published.
        PrivateKind = "private-kind",
        /// `access.allow_kinds`, `access.deny_kinds`, or a kind that an admin disallowed.
        Kind = "kind",
        /// An event that an admin banned.
        Event = "event",
        /// `access.deny_pubkeys`, or a key that an admin banned.
        Author = "author",
        /// `access.allow_pubkeys`, `[membership]`, or `auth.write` for clients that have proven another key.
        Member = "member",
        /// `policy.trust`.
        Trust = "trust",
        /// It takes a proven key (NIP-42).
        Auth = "auth",
        /// It is protected, or embeds a protected event (NIP-70).
        Protected = "protected",
        /// It is too large.
        Size = "size",
        /// It has too many tags.
        Tags = "tags",
        /// Its content holds words or patterns of `policy.content`.
        Content = "content",
        /// `created_at` or the expiration.
        Time = "time",
        /// Too little proof of work (NIP-13).
        Work = "work",
        /// A request to vanish from other relays (NIP-62).
        Vanish = "vanish",
        /// The retention rules would not keep it.
        Retention = "retention",
        /// Its author is new here and publishes too much.
        NewKey = "new-key",
        /// Its client owes too much.
        Rate = "rate",
        /// The plugin.
        Plugin = "plugin",
    }
);

label_values!(
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
        /// Beyond `max_bytes_per_author`.
        AuthorBytes = "author_bytes",
        /// To make room: `storage.max_bytes`, the map or the disk.
        Room = "room",
    }
);

label_values!(
    /// Why a connection was closed.
    CloseReason {
        /// The client closed it.
        Client = "client",
        /// The socket failed or was closed without a handshake.
        Lost = "lost",
        /// An admin closed the connection or blocked the address.
        Operator = "operator",
        /// The client violated RFC 6455.
        Protocol = "protocol",
        /// The client read too slowly and live events piled up.
        SlowConsumer = "slow",
        /// Partial messages held too much memory, and its address held the most.
        Memory = "memory",
        /// It kept sending despite too much debt.
        Debt = "debt",
        /// Too many of its events were refused.
        Offender = "offender",
        /// It did not answer a ping.
        Idle = "idle",
        /// The relay is stopping.
        Shutdown = "shutdown",
        /// A bug in the relay ended it.
        Panic = "panic",
    }
);

label_values!(
    /// Why a connection was refused before the upgrade.
    TurnedAway {
        /// The relay has too many connections (503).
        Full = "full",
        /// The address has too many connections (429).
        Address = "address",
        /// The address has too much debt (429).
        Debt = "debt",
        /// The address is denied, or blocked by an admin (403).
        Denied = "denied",
        /// Too many events from the address were refused (403).
        Offender = "offender",
        /// Too many sockets had not sent a request, and its address had the most of them: no answer.
        HalfOpen = "half-open",
        /// It did not send its request in time: no answer.
        Slow = "slow",
        /// A trusted proxy sent an X-Forwarded-For that is not a list of addresses (400).
        Forwarded = "forwarded",
        /// The request names no host or more than one (400).
        Host = "host",
        /// With `server.proxy_protocol`, it did not come from a trusted proxy: no answer.
        Direct = "direct",
        /// A trusted proxy sent no header of the PROXY protocol, or a malformed one: no answer.
        ProxyHeader = "proxy-header",
    }
);

label_values!(
    /// The result of a reload.
    Reload {
        /// The new settings are in force.
        Applied = "applied",
        /// The file has mistakes; the old settings stay in force.
        Failed = "failed",
    }
);

label_values!(
    /// The operation of the store that failed.
    StoreOperation {
        /// A query, a look-up or live delivery.
        Read = "read",
        /// Appending events to the write-ahead log.
        Log = "log",
        /// A commit.
        Commit = "commit",
        /// The background sync of relaxed durability.
        Sync = "sync",
        /// Finding or removing events that the retention rules no longer keep.
        Retention = "retention",
    }
);

label_values!(
    /// A change that the feed tells.
    Change {
        /// An event was stored.
        Arrived = "arrived",
        /// An event is no longer held.
        Removed = "removed",
    }
);

label_values!(
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
        /// Events that the plugin has not judged yet.
        Plugin = "plugin",
    }
);

label_values!(
    /// What the plugin decided about an event.
    PluginVerdict {
        /// It passes.
        Accept = "accept",
        /// It is refused.
        Reject = "reject",
        /// It is dropped, and its client told that it was accepted.
        ShadowReject = "shadow-reject",
        /// No verdict: `plugin.on_failure` decides.
        Failed = "failed",
        /// Not asked about: in a dry run, too many others waited.
        Skipped = "skipped",
    }
);

label_values!(
    /// How a process of the plugin failed.
    PluginFailure {
        /// It could not be started.
        Start = "start",
        /// It ended.
        Died = "died",
        /// It owed answers and was silent for too long.
        Timeout = "timeout",
        /// It printed too much that is no answer.
        Rubbish = "rubbish",
    }
);

label_values!(
    /// What became of a management request.
    ManagementOutcome {
        /// It was carried out.
        Done = "done",
        /// It was from an admin, and failed.
        Failed = "failed",
        /// It had no valid authorization by an admin.
        Unauthorized = "unauthorized",
    }
);

label_values!(
    /// What a decision of an admin is about.
    Decided {
        /// A key that is banned.
        BannedKey = "banned-key",
        /// A key that was allowed, or that joined.
        AllowedKey = "allowed-key",
        /// An event.
        Event = "event",
        /// A kind.
        Kind = "kind",
        /// An address or prefix that is blocked.
        Address = "address",
        /// An invite that is not used up.
        Invite = "invite",
        /// A role.
        Role = "role",
        /// A key that has roles.
        RoleHolder = "role-holder",
    }
);

label_values!(
    /// What became of an event that a stream was to send to another relay.
    Sent {
        /// The other relay took it.
        Accepted = "accepted",
        /// The other relay had it.
        Duplicate = "duplicate",
        /// The other relay had shown it, so it was not sent back.
        Echo = "echo",
        /// Only its author may send it (NIP-70).
        Protected = "protected",
        /// The other relay asked weir to wait; it is sent again.
        Postponed = "postponed",
        /// Refused: blocked, or restricted.
        Blocked = "blocked",
        /// Refused: malformed, or beyond a limit.
        Invalid = "invalid",
        /// Refused: too little proof of work.
        Pow = "pow",
        /// Refused: the other relay failed, again and again.
        Error = "error",
        /// Refused in other words.
        Refused = "refused",
        /// The other relay answers others, but never this one.
        Unanswered = "unanswered",
    }
);

label_values!(
    /// What became of what this node had for the others of its cluster.
    NodeSent {
        /// NATS took the event.
        Published = "published",
        /// The event is larger than NATS takes.
        TooLarge = "too_large",
        /// An ephemeral event was published.
        Ephemeral = "ephemeral",
        /// An ephemeral event found no room.
        Dropped = "dropped",
        /// An act of an admin was published.
        Act = "act",
    }
);

label_values!(
    /// What became of a message of the cluster.
    NodeReceived {
        /// The event is stored.
        Stored = "stored",
        /// The event was missing here, and is stored.
        Compared = "compared",
        /// The event was stored before, or a newer version.
        Duplicate = "duplicate",
        /// The event is refused: banned, deleted, vanished, expired, not kept, or too large.
        Refused = "refused",
        /// This node takes no events of that kind or author.
        Unwanted = "unwanted",
        /// This node published it.
        Own = "own",
        /// It could not be stored, and comes again.
        Postponed = "postponed",
        /// It is none of ours, and is passed over.
        Poison = "poison",
        /// An ephemeral event was delivered.
        Ephemeral = "ephemeral",
        /// An ephemeral event found no room.
        Dropped = "dropped",
        /// An act of an admin was recorded.
        Act = "act",
    }
);

macro_rules! label {
    ($($name:ident { $field:ident: $value:ty }),* $(,)?) => {$(
        /// A label set with one label.
        #[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
        pub struct $name {
            /// The label.
            pub $field: $value,
        }
    )*};
}

label!(
    NodeSentLabel { result: NodeSent },
    NodeReceivedLabel { outcome: NodeReceived },
    VerbLabel { verb: Verb },
    OutcomeLabel { outcome: EventOutcome },
    RefusalLabel { prefix: &'static str },
    PolicyRuleLabel { rule: PolicyRule },
    CloseLabel { reason: CloseReason },
    TurnedAwayLabel { reason: TurnedAway },
    ReloadLabel { result: Reload },
    ManagementLabel { outcome: ManagementOutcome },
    DecidedLabel { about: Decided },
    ChangeLabel { change: Change },
    QueueLabel { queue: Queue },
    PluginVerdictLabel { verdict: PluginVerdict },
    PluginFailureLabel { cause: PluginFailure },
    StoreLabel { operation: StoreOperation },
    TableLabel { table: &'static str },
);

/// A link of a stream. Operators choose their number: 256 at most.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct LinkLabel {
    /// The name of the stream.
    pub stream: String,
    /// The other relay.
    pub url: String,
}

/// A link, and what became of events that it brought.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ReceivedLabel {
    /// The name of the stream.
    pub stream: String,
    /// The other relay.
    pub url: String,
    /// The outcome, as `weir import` names it.
    pub outcome: &'static str,
}

/// A link, and what became of events that it was to send.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct SentLabel {
    /// The name of the stream.
    pub stream: String,
    /// The other relay.
    pub url: String,
    /// The result.
    pub result: Sent,
}

impl LinkLabel {
    /// With an outcome.
    #[must_use]
    pub fn received(&self, outcome: &'static str) -> ReceivedLabel {
        ReceivedLabel { stream: self.stream.clone(), url: self.url.clone(), outcome }
    }

    /// With a result.
    #[must_use]
    pub fn sent(&self, result: Sent) -> SentLabel {
        SentLabel { stream: self.stream.clone(), url: self.url.clone(), result }
    }
}

/// The rule that removed events, and why.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct EvictionLabel {
    /// The number of the rule in `storage.retention`, from 1.
    pub rule: u32,
    /// The reason.
    pub cause: EvictionCause,
}
