//! The messages of the relay. Only this module writes them.
//!
//! A refusal begins with a machine-readable prefix (NIP-01). The prefix is an enum, so no caller can misspell one.
//!
//! Replies carry results of higher layers without depending on their types, as plain values: a negentropy message is a
//! `Vec<u8>` here, a count its number and registers, and an error of a higher layer a [`Reason`].

use std::borrow::Cow;
use std::fmt;

use super::hex;
use super::render;
use super::types::{EventId, SubscriptionId};

/// The machine-readable first word of a reason (NIP-01, NIP-42, NIP-43, NIP-77).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Prefix {
    /// Already stored, or superseded by a stored event.
    Duplicate,
    /// Too little proof of work (NIP-13).
    Pow,
    /// Not wanted from this client, or not at all.
    Blocked,
    /// Too much at once; worth another try later.
    RateLimited,
    /// Malformed, or beyond a limit.
    Invalid,
    /// The client is known and not allowed.
    Restricted,
    /// An ephemeral event that no client is subscribed to.
    Mute,
    /// A failure of the relay; worth another try later.
    Error,
    /// The client must authenticate first (NIP-42).
    AuthRequired,
    /// Something the relay does not do.
    Unsupported,
    /// A negentropy session was closed because it was idle (NIP-77).
    Closed,
    /// The event was accepted, with a remark (NIP-43).
    Info,
}

impl Prefix {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Pow => "pow",
            Self::Blocked => "blocked",
            Self::RateLimited => "rate-limited",
            Self::Invalid => "invalid",
            Self::Restricted => "restricted",
            Self::Mute => "mute",
            Self::Error => "error",
            Self::AuthRequired => "auth-required",
            Self::Unsupported => "unsupported",
            Self::Closed => "closed",
            Self::Info => "info",
        }
    }
}

/// Why the relay answers so: a prefix for programs and a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// The machine-readable part.
    pub prefix: Prefix,
    /// The human-readable part, without the prefix.
    pub text: Cow<'static, str>,
}

impl Reason {
    /// A reason with this prefix and this text.
    pub fn new(prefix: Prefix, text: impl Into<Cow<'static, str>>) -> Self {
        Self { prefix, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.prefix.as_str(), self.text)
    }
}

/// Whether the relay has more stored matches than it sent (NIP-67).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hint {
    /// Every stored match was sent.
    Finish,
    /// The relay has more.
    More,
}

/// One message to a client. `EVENT` is not among them: it is written around a shared body (see [`event_head`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RelayMessage {
    /// The answer to an EVENT or AUTH.
    Ok {
        /// Which event.
        id: EventId,
        /// Whether it was accepted.
        accepted: bool,
        /// Why; required when the event is not accepted (NIP-01).
        reason: Option<Reason>,
    },
    /// The end of stored events.
    Eose {
        /// Which subscription.
        sub: SubscriptionId,
        /// Whether there is more (NIP-67).
        hint: Option<Hint>,
    },
    /// A subscription or query was refused or ended.
    Closed {
        /// Which one, as the client wrote it.
        sub: Box<str>,
        /// Why.
        reason: Reason,
    },
    /// A text for people, for when there is no id to answer with.
    Notice(Reason),
    /// A challenge (NIP-42).
    Auth(Box<str>),
    /// The answer to a COUNT (NIP-45).
    Count {
        /// Which query.
        sub: SubscriptionId,
        /// How many events match.
        count: u64,
        /// Whether the number is an estimate.
        approximate: bool,
        /// HyperLogLog registers, for mergeable counts.
        hll: Option<Box<[u8; 256]>>,
    },
    /// A negentropy message (NIP-77).
    NegMsg {
        /// Which session.
        sub: SubscriptionId,
        /// The binary message.
        message: Vec<u8>,
    },
    /// A negentropy session was refused or ended (NIP-77).
    NegErr {
        /// Which session, as the client wrote it.
        sub: Box<str>,
        /// Why.
        reason: Reason,
        /// The most records that a session may have, when it would have more.
        max_records: Option<u64>,
    },
}

impl RelayMessage {
    /// A refusal of an EVENT or AUTH.
    pub fn refused(id: EventId, prefix: Prefix, text: impl Into<Cow<'static, str>>) -> Self {
        let reason = Some(Reason::new(prefix, text));
        Self::Ok { id, accepted: false, reason }
    }

    /// Appends the JSON text of the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ok { id, accepted, reason } => write_ok(id, *accepted, reason.as_ref(), out),
            Self::Eose { sub, hint } => {
                start("EOSE", sub.as_str(), out);
                let hint: &[u8] = match hint {
                    None => b"]",
                    Some(Hint::Finish) => b",[\"finish\"]]",
                    Some(Hint::More) => b",[\"more\"]]",
                };
                out.extend_from_slice(hint);
            }
            Self::Closed { sub, reason } => {
                start("CLOSED", sub, out);
                out.push(b',');
                write_reason(Some(reason), out);
                out.push(b']');
            }
            Self::Notice(reason) => {
                out.extend_from_slice(b"[\"NOTICE\",");
                write_reason(Some(reason), out);
                out.push(b']');
            }
            Self::Auth(challenge) => {
                start("AUTH", challenge, out);
                out.push(b']');
            }
            Self::Count { sub, count, approximate, hll } => write_count(sub, *count, *approximate, hll.as_deref(), out),
            Self::NegMsg { sub, message } => {
                start("NEG-MSG", sub.as_str(), out);
                out.extend_from_slice(b",\"");
                hex::append(message, out);
                out.extend_from_slice(b"\"]");
            }
            Self::NegErr { sub, reason, max_records } => {
                start("NEG-ERR", sub, out);
                out.push(b',');
                write_reason(Some(reason), out);
                if let Some(max) = max_records {
                    out.push(b',');
                    render::number(*max, out);
                }
                out.push(b']');
            }
        }
    }

    /// The JSON text of the message.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Appends `["EVENT",<sub>,`, which precedes the event's JSON. [`EVENT_TAIL`] follows it.
pub fn event_head(sub: &SubscriptionId, out: &mut Vec<u8>) {
    start("EVENT", sub.as_str(), out);
    out.push(b',');
}

/// What follows the event's JSON in an `EVENT` message.
pub const EVENT_TAIL: &[u8] = b"]";

/// Appends `["<name>",<first>`.
fn start(name: &str, first: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\",");
    render::string(first.as_bytes(), out);
}

fn write_ok(id: &EventId, accepted: bool, reason: Option<&Reason>, out: &mut Vec<u8>) {
    debug_assert!(accepted || reason.is_some(), "NIP-01: a refusal has a reason");
    out.extend_from_slice(b"[\"OK\",\"");
    hex::append(&id.0, out);
    out.extend_from_slice(if accepted { b"\",true," } else { b"\",false," });
    write_reason(reason, out);
    out.push(b']');
}

fn write_reason(reason: Option<&Reason>, out: &mut Vec<u8>) {
    let Some(Reason { prefix, text }) = reason else {
        out.extend_from_slice(b"\"\"");
        return;
    };
    render::string(format!("{}: {text}", prefix.as_str()).as_bytes(), out);
}

fn write_count(sub: &SubscriptionId, count: u64, approximate: bool, hll: Option<&[u8; 256]>, out: &mut Vec<u8>) {
    start("COUNT", sub.as_str(), out);
    out.extend_from_slice(b",{\"count\":");
    render::number(count, out);
    if approximate {
        out.extend_from_slice(b",\"approximate\":true");
    }
    if let Some(registers) = hll {
        out.extend_from_slice(b",\"hll\":\"");
        hex::append(registers, out);
        out.push(b'"');
    }
    out.extend_from_slice(b"}]");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_refusal_is_explained_to_developers_of_clients() {
        use Prefix::{
            AuthRequired, Blocked, Closed, Duplicate, Error, Invalid, Mute, Pow, RateLimited, Restricted, Unsupported,
        };
        let page = include_str!("../../docs/clients.md");
        let (_, table) = page.split_once("## Refusals").expect("a section");
        let refusals =
            [Duplicate, Pow, Blocked, RateLimited, Invalid, Restricted, Mute, Error, AuthRequired, Unsupported, Closed];
        for prefix in refusals {
            assert!(table.contains(&format!("\n| `{}:", prefix.as_str())), "{}", prefix.as_str());
        }
    }

    #[test]
    fn every_message_is_written_as_its_nip_has_it() {
        let sub = SubscriptionId::new("a\"b").expect("a subscription id");
        let id = EventId([0xab; 32]);
        let hexed = "ab".repeat(32);
        let reason = Reason::new(Prefix::AuthRequired, "log in");
        let cases = [
            (RelayMessage::Ok { id, accepted: true, reason: None }, format!(r#"["OK","{hexed}",true,""]"#)),
            (
                RelayMessage::refused(id, Prefix::RateLimited, "slow down"),
                format!(r#"["OK","{hexed}",false,"rate-limited: slow down"]"#),
            ),
            (RelayMessage::Eose { sub: sub.clone(), hint: None }, r#"["EOSE","a\"b"]"#.into()),
            (RelayMessage::Eose { sub: sub.clone(), hint: Some(Hint::More) }, r#"["EOSE","a\"b",["more"]]"#.into()),
            (
                RelayMessage::Closed { sub: "x".into(), reason: reason.clone() },
                r#"["CLOSED","x","auth-required: log in"]"#.into(),
            ),
            (RelayMessage::Notice(reason.clone()), r#"["NOTICE","auth-required: log in"]"#.into()),
            (RelayMessage::Auth("c".into()), r#"["AUTH","c"]"#.into()),
            (
                RelayMessage::Count { sub: sub.clone(), count: 3, approximate: false, hll: None },
                r#"["COUNT","a\"b",{"count":3}]"#.into(),
            ),
            (
                RelayMessage::Count { sub: sub.clone(), count: 3, approximate: true, hll: Some(Box::new([1; 256])) },
                format!(r#"["COUNT","a\"b",{{"count":3,"approximate":true,"hll":"{}"}}]"#, "01".repeat(256)),
            ),
            (RelayMessage::NegMsg { sub, message: vec![0x61, 0] }, r#"["NEG-MSG","a\"b","6100"]"#.into()),
            (
                RelayMessage::NegErr {
                    sub: "x".into(),
                    reason: Reason::new(Prefix::Blocked, "too many records (11, at most 10)"),
                    max_records: Some(10),
                },
                r#"["NEG-ERR","x","blocked: too many records (11, at most 10)",10]"#.into(),
            ),
        ];
        for (message, text) in cases {
            assert_eq!(message.to_text(), text);
        }
    }
}
