//! Kinds and keys as they are written in the configuration.
//!
//! They only hold values; the meaning of membership is decided elsewhere in `policy`.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use crate::nostr::bech32::parse_pubkey;
use crate::nostr::{Kind, Pubkey};

/// A set of kinds, written as a list of numbers and ranges: `[1, 7, "30000-39999"]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KindSet {
    /// First and last kind of each range, as written.
    ranges: Vec<(u16, u16)>,
}

impl KindSet {
    /// The set of these kinds.
    #[must_use]
    pub fn of(kinds: &[u16]) -> Self {
        Self { ranges: kinds.iter().map(|&kind| (kind, kind)).collect() }
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub fn contains(&self, kind: Kind) -> bool {
        self.ranges.iter().any(|&(first, last)| first <= kind.0 && kind.0 <= last)
    }

    /// The kinds at which membership changes.
    pub fn edges(&self) -> impl Iterator<Item = Kind> {
        self.ranges.iter().flat_map(|&(first, last)| [Some(first), last.checked_add(1)]).flatten().map(Kind)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl Serialize for KindSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.ranges.len()))?;
        for &(first, last) in &self.ranges {
            if first == last {
                list.serialize_element(&first)?;
            } else {
                list.serialize_element(&format!("{first}-{last}"))?;
            }
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for KindSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges: Vec<KindRange> = Vec::deserialize(deserializer)?;
        Ok(Self { ranges: ranges.into_iter().map(|range| (range.0, range.1)).collect() })
    }
}

struct KindRange(u16, u16);

impl<'de> Deserialize<'de> for KindRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindRangeVisitor)
    }
}

struct KindRangeVisitor;

impl Visitor<'_> for KindRangeVisitor {
    type Value = KindRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a kind from 0 to 65535 or a range of them such as \"30000-39999\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<KindRange, E> {
        let kind = u16::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))?;
        Ok(KindRange(kind, kind))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<KindRange, E> {
        let kind = u16::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))?;
        Ok(KindRange(kind, kind))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<KindRange, E> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(KindRange(first, last)),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// A key.
pub(super) struct Key(pub Pubkey);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a public key", parse_pubkey).map(Self)
    }
}

/// Deserializes a string with `parse`, so that errors carry its place in the file.
pub(super) fn from_text<'de, D: Deserializer<'de>, T, E: fmt::Display>(
    deserializer: D,
    what: &'static str,
    parse: fn(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    struct Text<T, E>(&'static str, fn(&str) -> Result<T, E>);
    impl<T, E: fmt::Display> Visitor<'_> for Text<T, E> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<D: de::Error>(self, text: &str) -> Result<T, D> {
            (self.1)(text).map_err(D::custom)
        }
    }
    deserializer.deserialize_str(Text(what, parse))
}

/// A key, or none, written as an empty string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OptionalKey(pub Option<Pubkey>);

impl Serialize for OptionalKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(key) => serializer.collect_str(&key),
            None => serializer.serialize_str(""),
        }
    }
}

impl<'de> Deserialize<'de> for OptionalKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| if text.is_empty() { Ok(None) } else { parse_pubkey(text).map(Some) };
        from_text(deserializer, "a public key or an empty string", parse).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbers_and_ranges_and_are_written_as_they_were_read() {
        let text = r#"[1,7,"30000-39999"]"#;
        let set: KindSet = serde_json::from_str(text).expect("a set of kinds");
        assert_eq!(serde_json::to_string(&set).expect("JSON"), text);
        let inside: Vec<u16> =
            [0, 1, 2, 7, 29_999, 30_000, 39_999, 40_000].into_iter().filter(|&kind| set.contains(Kind(kind))).collect();
        assert_eq!(inside, [1, 7, 30_000, 39_999]);
        for wrong in ["[65536]", "[-1]", r#"["7-1"]"#, r#"["x"]"#, "1", "[1.5]", r#"[""]"#] {
            assert!(serde_json::from_str::<KindSet>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_may_be_left_empty() {
        assert_eq!(serde_json::from_str::<OptionalKey>(r#""""#).expect("none"), OptionalKey(None));
        assert!(serde_json::from_str::<OptionalKey>(r#""npub1""#).is_err());
    }
}
