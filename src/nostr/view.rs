//! An event's fields, read from its record without copying.
//!
//! The record may come from disk: its lengths are checked, never trusted.

use super::kind::{Kind, KindClass};
use super::record::{flags, offset};
use super::tag::{self, Tags};
use super::types::{EventId, Pubkey, Signature, Timestamp};

/// An event's record, borrowed from an [`Event`](super::Event) or from the store. [`record`](super::record) has its
/// layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EventView<'a> {
    record: &'a [u8],
}

impl<'a> EventView<'a> {
    /// Wraps the record of an [`Event`](super::Event), which is known to be whole.
    pub(super) const fn new(record: &'a [u8]) -> Self {
        Self { record }
    }

    /// Takes bytes from the store as a record; `None` when they are too short to be one.
    ///
    /// Tags and content are checked when they are read, not here.
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

    /// When the event expires (NIP-40), by its first `expiration` tag. From then on it is not served.
    #[must_use]
    pub fn expiration(self) -> Option<Timestamp> {
        if self.flags() & flags::EXPIRES == 0 {
            return None;
        }
        let value = self.tags().find(|tag| tag.name().is("expiration"))?.value()?;
        parse_expiration(value.as_text()?)
    }

    /// Whether the event has expired at `now` (NIP-40).
    #[must_use]
    pub fn is_expired(self, now: Timestamp) -> bool {
        self.expiration().is_some_and(|at| at <= now)
    }

    /// Whether only its author may publish the event: it has a `-` tag (NIP-70).
    #[must_use]
    pub fn is_protected(self) -> bool {
        self.flags() & flags::PROTECTED != 0
    }

    /// The `d` value of the event's address: that of the first `d` tag, or empty (NIP-01).
    ///
    /// For replaceable kinds it is empty, whatever their tags say. Other kinds than replaceable and addressable ones
    /// have no address: `None`.
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

    /// Whether this event replaces `other` at the same address: it is newer, or as old and has the lower id (NIP-01).
    #[must_use]
    pub fn replaces(self, other: EventView<'_>) -> bool {
        let rank = |event: EventView<'_>| (std::cmp::Reverse(event.created_at()), event.id());
        rank(self) < rank(other)
    }
}

/// Reads the value of an `expiration` tag: Unix seconds in decimal digits.
pub(super) fn parse_expiration(text: &[u8]) -> Option<Timestamp> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    // A number that does not fit in a u64 is a time that never comes.
    Some(Timestamp(text.parse().unwrap_or(u64::MAX)))
}
