//! An event as its binary record, owned ([`Event`]) or borrowed ([`EventView`]).
//!
//! Only [`Event::parse`] makes an `Event`, and it has checked that `id` is the SHA-256 of the content (INV-7).
//! The signature is not checked here.

use sha2::{Digest, Sha256};

use super::json::{JsonError, Parser, Value};
use super::kind::{Kind, KindClass};
use super::record::{self, flags, offset};
use super::render;
use super::tag::{self, Tags};
use super::types::{EventId, Pubkey, Signature, Timestamp};
use super::{hex, json};

/// Why some JSON is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The text is not JSON, or nests too deeply.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// The value is not an object.
    #[error("an event is a JSON object")]
    NotAnObject,
    /// A field is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field stands twice.
    #[error("{0} stands twice")]
    Duplicate(&'static str),
    /// A field does not have the form that NIP-01 gives it.
    #[error("{0}")]
    Malformed(&'static str),
    /// The id is not the hash of the content.
    #[error("id is not the SHA-256 of the event")]
    WrongId,
}

/// An event whose id is known to be the hash of its content.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    record: Box<[u8]>,
}

impl Event {
    /// Parses one event from JSON text.
    ///
    /// # Errors
    /// When the text is not an event by NIP-01, strictly read: unknown keys are dropped, everything else that
    /// is out of form is refused, and so is an `id` that is not the hash.
    pub fn parse(parser: &mut Parser, text: &[u8]) -> Result<Self, EventError> {
        parser.parse(text, Self::from_value)?
    }

    /// Parses one event that is part of a larger message.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn from_value(value: Value<'_, '_>) -> Result<Self, EventError> {
        let fields = Fields::read(value)?;
        let event = Self { record: fields.into_record()? };
        let view = event.view();
        if view.hash() == view.id() { Ok(event) } else { Err(EventError::WrongId) }
    }

    /// The same event, borrowed.
    #[must_use]
    pub fn view(&self) -> EventView<'_> {
        EventView { record: &self.record }
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.view().to_json())
    }
}

/// An event's record, borrowed from an [`Event`] or from the store. See [`record`] for the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EventView<'a> {
    record: &'a [u8],
}

impl<'a> EventView<'a> {
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
    pub fn d_tag(self) -> Option<tag::TagValue<'a>> {
        const EMPTY: tag::TagValue<'static> = tag::TagValue::Text(b"");
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

    /// SHA-256 of the NIP-01 serialization.
    #[must_use]
    pub fn hash(self) -> EventId {
        render::with_scratch(|scratch| {
            render::serialization(self, scratch);
            EventId(Sha256::digest(&*scratch).into())
        })
    }

    /// Appends the canonical JSON: keys in NIP-01's order, no white space, NIP-01's escapes.
    pub fn write_json(self, out: &mut Vec<u8>) {
        render::json(self, out);
    }

    /// The canonical JSON.
    #[must_use]
    pub fn to_json(self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// An owned copy, if the id is the hash of the content.
    ///
    /// # Errors
    /// [`EventError::WrongId`] when it is not, as for a damaged record.
    pub fn to_event(self) -> Result<Event, EventError> {
        if self.hash() != self.id() {
            return Err(EventError::WrongId);
        }
        Ok(Event { record: self.record.into() })
    }
}

/// Reads an `expiration` value: decimal digits, unix seconds.
fn parse_expiration(text: &[u8]) -> Option<Timestamp> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    // More digits than a u64 holds is simply a time that never comes.
    Some(Timestamp(text.parse().unwrap_or(u64::MAX)))
}

/// The fields of an event as the tape has them.
#[derive(Default)]
struct Fields<'t, 'i> {
    id: Option<[u8; 32]>,
    pubkey: Option<[u8; 32]>,
    sig: Option<[u8; 64]>,
    created_at: Option<u64>,
    kind: Option<u16>,
    tags: Option<json::Elements<'t, 'i>>,
    content: Option<&'i str>,
}

/// Fills `slot`, once.
fn set<T>(slot: &mut Option<T>, name: &'static str, value: Option<T>, form: &'static str) -> Result<(), EventError> {
    if slot.is_some() {
        return Err(EventError::Duplicate(name));
    }
    *slot = Some(value.ok_or(EventError::Malformed(form))?);
    Ok(())
}

impl<'t, 'i> Fields<'t, 'i> {
    fn read(value: Value<'t, 'i>) -> Result<Self, EventError> {
        let mut fields = Self::default();
        for (key, value) in value.as_object().ok_or(EventError::NotAnObject)? {
            fields.set(key, value)?;
        }
        Ok(fields)
    }

    fn set(&mut self, key: &str, value: Value<'t, 'i>) -> Result<(), EventError> {
        let text = || value.as_str().map(str::as_bytes);
        match key {
            "id" => set(&mut self.id, "id", text().and_then(hex::decode), "id is not 64 lower-case hex digits"),
            "pubkey" => {
                set(&mut self.pubkey, "pubkey", text().and_then(hex::decode), "pubkey is not 64 lower-case hex digits")
            }
            "sig" => set(&mut self.sig, "sig", text().and_then(hex::decode), "sig is not 128 lower-case hex digits"),
            "created_at" => set(
                &mut self.created_at,
                "created_at",
                value.as_integer().and_then(|time| time.try_into().ok()).filter(|&time| time <= Timestamp::MAX.0),
                "created_at is not a whole number of seconds from 0 to 281474976710655",
            ),
            "kind" => set(
                &mut self.kind,
                "kind",
                value.as_integer().and_then(|kind| kind.try_into().ok()),
                "kind is not a whole number from 0 to 65535",
            ),
            "tags" => set(&mut self.tags, "tags", value.as_array(), "tags is not an array"),
            "content" => set(&mut self.content, "content", value.as_str(), "content is not a Unicode string"),
            _ => Ok(()),
        }
    }

    fn into_record(self) -> Result<Box<[u8]>, EventError> {
        let content = self.content.ok_or(EventError::Missing("content"))?;
        let tags = self.tags.ok_or(EventError::Missing("tags"))?;
        let created_at = self.created_at.ok_or(EventError::Missing("created_at"))?;
        let mut out = Vec::with_capacity(offset::TAGS + 48 * tags.len() + content.len());
        out.extend_from_slice(&self.id.ok_or(EventError::Missing("id"))?);
        out.extend_from_slice(&self.pubkey.ok_or(EventError::Missing("pubkey"))?);
        out.extend_from_slice(&self.sig.ok_or(EventError::Missing("sig"))?);
        out.extend_from_slice(&created_at.to_le_bytes()[..6]);
        out.extend_from_slice(&self.kind.ok_or(EventError::Missing("kind"))?.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out[offset::FLAGS] = put_tags(tags, &mut out)?;
        let tags_len = out.len() - offset::TAGS;
        if tags_len > record::MAX_TAGS_BYTES {
            return Err(EventError::Malformed("tags take more than 16 MiB"));
        }
        out[offset::TAGS_LEN..offset::TAGS].copy_from_slice(&(tags_len as u32).to_le_bytes()[..3]);
        out.extend_from_slice(content.as_bytes());
        Ok(out.into_boxed_slice())
    }
}

/// Appends the tags and returns the flags they raise.
fn put_tags(tags: json::Elements<'_, '_>, out: &mut Vec<u8>) -> Result<u8, EventError> {
    const NOT_STRINGS: EventError = EventError::Malformed("a tag is an array of one or more Unicode strings");
    let mut raised = 0;
    for tag in tags {
        let mut elements = tag.as_array().ok_or(NOT_STRINGS)?;
        record::put_varint(elements.len() as u32, out);
        let name = elements.next().and_then(Value::as_str).ok_or(NOT_STRINGS)?;
        tag::put_element(name.as_bytes(), out);
        let second = elements.clone().next();
        for element in elements {
            let text = element.as_str().ok_or(NOT_STRINGS)?;
            tag::put_element(text.as_bytes(), out);
        }
        if name == "-" {
            raised |= flags::PROTECTED;
        } else if name == "expiration" && raised & flags::EXPIRES == 0 {
            second
                .and_then(Value::as_str)
                .and_then(|text| parse_expiration(text.as_bytes()))
                .ok_or(EventError::Malformed("expiration is not a number of unix seconds"))?;
            raised |= flags::EXPIRES;
        }
    }
    Ok(raised)
}

#[cfg(test)]
mod tests;
