//! The tags of a record, read without copying.
//!
//! A tag is an array of strings, its elements. The first is its name, the second its value (NIP-01); a tag may have
//! more.
//!
//! A record comes from disk, so nothing here trusts a length: a damaged tag ends the walk.

use super::hex;
use super::record::{self, WORDS};

/// Any one string of a tag, be it the name, the value or a later one.
///
/// Equal strings are equal elements: 64 lower-case hexadecimal digits are always `Hex`, everything else is `Text`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TagElement<'a> {
    /// 64 lower-case hexadecimal digits, held as the 32 bytes that they stand for. In JSON the string is twice as long.
    Hex(&'a [u8; 32]),
    /// Any other string, in UTF-8.
    Text(&'a [u8]),
}

impl<'a> TagElement<'a> {
    /// The string, unless it is 64 hexadecimal digits.
    #[must_use]
    pub fn as_text(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Hex(_) => None,
        }
    }

    /// The 32 bytes, if the string is 64 hexadecimal digits.
    #[must_use]
    pub fn as_hex(self) -> Option<&'a [u8; 32]> {
        match self {
            Self::Hex(bytes) => Some(bytes),
            Self::Text(_) => None,
        }
    }

    /// Whether the string is `text`.
    #[must_use]
    pub fn is(self, text: &str) -> bool {
        matches!(self, Self::Text(own) if own == text.as_bytes())
    }

    /// The string as it is in the event.
    #[must_use]
    pub fn to_text(self) -> String {
        match self {
            Self::Hex(bytes) => hex::encode(bytes),
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
        }
    }
}

/// The tags of an event, in order.
#[derive(Clone, Copy)]
pub struct Tags<'a> {
    bytes: &'a [u8],
}

impl<'a> Tags<'a> {
    /// The tags in the part of a record that holds them.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The letter and the value of each tag that filters can ask for: its name is a single letter, a to z or A to Z,
    /// and it has a value (NIP-01).
    pub fn indexed(self) -> impl Iterator<Item = (u8, TagElement<'a>)> {
        self.filter_map(|tag| Some((tag.letter()?, tag.value()?)))
    }

    /// The value of each tag with this name.
    pub fn values(self, name: &'static str) -> impl Iterator<Item = TagElement<'a>> {
        self.filter(move |tag| tag.name().is(name)).filter_map(Tag::value)
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        let mut rest = self.bytes;
        let elements = record::take_varint(&mut rest)?;
        let first = take_element(&mut rest)?;
        let tag = Tag { first, left: elements.checked_sub(1)?, bytes: rest };
        for _ in 1..elements {
            if take_element(&mut rest).is_none() {
                self.bytes = &[];
                return None;
            }
        }
        self.bytes = rest;
        Some(tag)
    }
}

/// One tag: its name and the elements after it.
#[derive(Clone, Copy)]
pub struct Tag<'a> {
    first: TagElement<'a>,
    left: u32,
    bytes: &'a [u8],
}

impl<'a> Tag<'a> {
    /// The name: the first element.
    #[must_use]
    pub const fn name(self) -> TagElement<'a> {
        self.first
    }

    /// The name, if it is a single letter a to z or A to Z.
    #[must_use]
    pub fn letter(self) -> Option<u8> {
        match self.first {
            TagElement::Text([letter]) if letter.is_ascii_alphabetic() => Some(*letter),
            _ => None,
        }
    }

    /// The value: the second element, the only one that is indexed (NIP-01).
    #[must_use]
    pub fn value(self) -> Option<TagElement<'a>> {
        self.rest().next()
    }

    /// Every element after the name.
    #[must_use]
    pub const fn rest(self) -> TagElements<'a> {
        TagElements { left: self.left, bytes: self.bytes }
    }
}

/// The elements of a tag after its name, in order.
#[derive(Clone)]
pub struct TagElements<'a> {
    left: u32,
    bytes: &'a [u8],
}

impl<'a> Iterator for TagElements<'a> {
    type Item = TagElement<'a>;

    fn next(&mut self) -> Option<TagElement<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_element(&mut self.bytes)
    }
}

fn take_element<'a>(bytes: &mut &'a [u8]) -> Option<TagElement<'a>> {
    let header = record::take_varint(bytes)?;
    if header == 1 {
        let (value, rest) = bytes.split_first_chunk::<32>()?;
        *bytes = rest;
        return Some(TagElement::Hex(value));
    }
    if header & 1 == 1 {
        let word = WORDS.get((header as usize - 3) / 2)?;
        return Some(TagElement::Text(word.as_bytes()));
    }
    let (value, rest) = bytes.split_at_checked(header as usize / 2)?;
    *bytes = rest;
    Some(TagElement::Text(value))
}

/// Appends one element in its only encoding.
pub(super) fn put_element(text: &[u8], out: &mut Vec<u8>) {
    if let Some(bytes) = hex::decode::<32>(text) {
        record::put_varint(1_u32, out);
        out.extend_from_slice(&bytes);
    } else if let Some(index) = record::word_index(text) {
        record::put_varint(record::word_header(index), out);
    } else {
        record::put_varint(2 * text.len() as u32, out);
        out.extend_from_slice(text);
    }
}
