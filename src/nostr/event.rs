//! An event that was parsed, held as its binary record.
//!
//! Whatever makes an `Event` ([`Event::parse`], [`Event::from_value`], [`EventView::to_event`]) checks that `id` is the
//! SHA-256 of the NIP-01 serialization (INV-7). Signatures are not checked here.

use super::json::{JsonError, Parser, Value};
use super::record::{self, flags, offset};
use super::tag;
use super::types::Timestamp;
use super::view::{EventView, parse_expiration};
use super::{hex, json};

/// Why a piece of JSON is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The text is not JSON, or is nested too deeply.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// The value is not an object.
    #[error("the event is not a JSON object")]
    NotAnObject,
    /// A field is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field appears twice.
    #[error("{0} appears twice")]
    Duplicate(&'static str),
    /// A field is not as NIP-01 defines it.
    #[error("{0}")]
    Malformed(&'static str),
    /// The id is not the hash of the event.
    #[error("id is not the SHA-256 of the event")]
    WrongId,
}

/// An event whose id is known to be its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    record: Box<[u8]>,
}

impl Event {
    /// Parses one event from JSON text.
    ///
    /// # Errors
    /// When the text is not an event as NIP-01 strictly defines it, or when `id` is not its hash. Unknown keys are
    /// dropped.
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

    /// The event, borrowed.
    #[must_use]
    pub fn view(&self) -> EventView<'_> {
        EventView::new(&self.record)
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.view().to_json())
    }
}

impl EventView<'_> {
    /// An owned copy.
    ///
    /// # Errors
    /// [`EventError::WrongId`] when the id is not the hash of the event: the record is damaged.
    pub fn to_event(self) -> Result<Event, EventError> {
        if self.hash() != self.id() {
            return Err(EventError::WrongId);
        }
        Ok(Event { record: self.record().into() })
    }
}

/// The fields of an event as they are on the tape.
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

/// Fills `slot`, which must be empty. `form` is the error when there is no value.
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

/// Appends the tags and returns the flags that they set.
fn put_tags(tags: json::Elements<'_, '_>, out: &mut Vec<u8>) -> Result<u8, EventError> {
    const NOT_STRINGS: EventError = EventError::Malformed("a tag is an array of one or more Unicode strings");
    let mut set_flags = 0;
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
            set_flags |= flags::PROTECTED;
        } else if name == "expiration" && set_flags & flags::EXPIRES == 0 {
            second
                .and_then(Value::as_str)
                .and_then(|text| parse_expiration(text.as_bytes()))
                .ok_or(EventError::Malformed("expiration is not a number of Unix seconds"))?;
            set_flags |= flags::EXPIRES;
        }
    }
    Ok(set_flags)
}

#[cfg(test)]
mod tests;
