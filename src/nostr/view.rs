//! An event's fields, read from its record without copying.
//!
//! The record may come from disk: its lengths are checked, never trusted.

use super::kind::{Kind, KindClass};
use super::record::{flags, offset};
use super::tag::{self, Tags};
use super::types::{EventId, Pubkey, Signature, Timestamp};

/// An event's record, borrowed from an [`Event`](super::Event) or from the store. See [`record`](super::record) for the
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EventView<'a> {
    record: &'a [u8],
}

impl<'a> EventView<'a> {
    /// Wraps the record of an [`Event`](super::Event), which is known to be whole.
    pub(super) const fn new(record: &'a [u8]) -> Self {
        Self { record }
    }

    /// Takes bytes from the store as a record.
    ///
    /// `None` when they are too short to be one. What is inside the tags and the content is looked at only
    /// when it is read, and never trusted.
    #[must_use]
    pub fn from_record(record: &'a [u8]) -> Option<Self> {
        let view = Self { record };
        (record.len() >= offset::TAGS && offset::TAGS + view.tags_len() <= record.len()).then_some(view)
    }

    /// The bytes of the record.
    #[must_use]
    pub const fn record(self) -> &'a [u8] {
        self.record
    }

    fn array<const N: usize>(self, at: usize) -> &'a [u8; N] {
        self.record[at..].first_chunk().expect("a record is at least as long as its header")
    }

    /// `id`.
    #[must_use]
    pub fn id(self) -> EventId {
        EventId(*self.array(offset::ID))
    }

    /// `pubkey`.
    #[must_use]
    pub fn pubkey(self) -> Pubkey {
        Pubkey(*self.array(offset::PUBKEY))
    }

    /// `id`, borrowed.
    #[must_use]
    pub fn id_bytes(self) -> &'a [u8; 32] {
        self.array(offset::ID)
    }

    /// `pubkey`, borrowed.
    #[must_use]
    pub fn pubkey_bytes(self) -> &'a [u8; 32] {
        self.array(offset::PUBKEY)
    }

    /// `sig`.
    #[must_use]
    pub fn signature(self) -> Signature {
        Signature(*self.array(offset::SIG))
    }

    /// `sig`, borrowed.
    #[must_use]
    pub fn signature_bytes(self) -> &'a [u8; 64] {
        self.array(offset::SIG)
    }

    /// `created_at`.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        let [a, b, c, d, e, f] = *self.array(offset::CREATED_AT);
        Timestamp(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// `kind`.
    #[must_use]
    pub fn kind(self) -> Kind {
        Kind(u16::from_le_bytes(*self.array(offset::KIND)))
    }

    fn flags(self) -> u8 {
        self.record[offset::FLAGS]
    }

    fn tags_len(self) -> usize {
        let [a, b, c] = *self.array(offset::TAGS_LEN);
        u32::from_le_bytes([a, b, c, 0]) as usize
    }

    /// `tags`.
    #[must_use]
    pub fn tags(self) -> Tags<'a> {
        Tags::new(&self.record[offset::TAGS..offset::TAGS + self.tags_len()])
    }

    /// `content`, in UTF-8.
    #[must_use]
    pub fn content(self) -> &'a [u8] {
        &self.record[offset::TAGS + self.tags_len()..]
    }

    /// The time after which the event is not served (NIP-40), from the first `expiration` tag.
    #[must_use]
    pub fn expiration(self) -> Option<Timestamp> {
        if self.flags() & flags::EXPIRES == 0 {
            return None;
        }
        let value = self.tags().find(|tag| tag.name().is("expiration"))?.value()?;
        parse_expiration(value.as_text()?)
    }

    /// Whether the event is past its expiration at `now` (NIP-40).
    #[must_use]
    pub fn is_expired(self, now: Timestamp) -> bool {
        self.expiration().is_some_and(|at| at <= now)
    }

    /// Whether only its author may publish the event (NIP-70: a `-` tag).
    #[must_use]
    pub fn is_protected(self) -> bool {
        self.flags() & flags::PROTECTED != 0
    }

    /// The value that names an addressable event: the first `d` tag's, or empty (NIP-01).
    ///
    /// Replaceable kinds have an empty one whatever their tags say. Only kinds with a coordinate have one.
    #[must_use]
    pub fn d_tag(self) -> Option<tag::TagElement<'a>> {
        const EMPTY: tag::TagElement<'static> = tag::TagElement::Text(b"");
        match self.kind().class() {
            KindClass::Replaceable => Some(EMPTY),
            KindClass::Addressable => {
                let first = self.tags().find(|tag| tag.name().is("d"));
                Some(first.and_then(tag::Tag::value).unwrap_or(EMPTY))
            }
            KindClass::Regular | KindClass::Ephemeral => None,
        }
    }

    /// Whether this event takes the place of `other` at the same coordinate: newer, or as old with a lower id
    /// (NIP-01).
    #[must_use]
    pub fn replaces(self, other: EventView<'_>) -> bool {
        let rank = |event: EventView<'_>| (std::cmp::Reverse(event.created_at()), event.id());
        rank(self) < rank(other)
    }
}

/// Reads an `expiration` value: decimal digits, unix seconds.
pub(super) fn parse_expiration(text: &[u8]) -> Option<Timestamp> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    // More digits than a u64 holds is simply a time that never comes.
    Some(Timestamp(text.parse().unwrap_or(u64::MAX)))
}
