//! The indexes that can answer a filter, and the ranges of each that must be scanned.
//!
//! Pure: it lists the candidates, and [`crate::store::scan::choose`] weighs them against the data. A range is named by
//! numbers (item and kind) and its key is built when it is needed, so a plan of a thousand ranges holds no keys.

use smallvec::SmallVec;

use crate::nostr::{EventId, Filter, Kind, Timestamp};
use crate::store::format::keys::{self, Index, LONGEST, PREFIX, Secret};
use crate::store::scan::position::Position;

/// An index that can find the events of a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// No stored event can match.
    Nothing,
    /// The id index, one look-up for each id.
    Ids,
    /// The tag index, one range for each value (and kind) of a condition.
    Tag {
        /// The position of the condition among the filter's tag conditions.
        condition: u16,
        /// The one value whose range is scanned, if the condition asks for all of them (NIP-91).
        value: Option<u32>,
    },
    /// The author index, one range for each author and kind.
    Authors,
    /// The kind index, one range for each kind.
    Kinds,
    /// The time index.
    Time,
}

/// How one filter is answered, to be read by people: `weir scan --explain` and the log of slow queries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The index, or `None` while it is not chosen.
    pub source: Option<Source>,
    /// The index that is scanned first, and given up if few of its newest events match.
    pub walked_first: Option<Source>,
    /// The index that the first is intersected with, so that only records in both are read.
    pub intersected: Option<Source>,
    /// The number of ranges merged; without `kinds`, each stands for all kinds of its author or tag value.
    pub ranges: u32,
    /// The most rows and ranges to read, if several indexes were weighed and this one was counted to its end.
    pub cost: Option<u32>,
}

impl Source {
    /// The index's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no",
            Self::Ids => "id",
            Self::Tag { .. } => "tag",
            Self::Authors => "author",
            Self::Kinds => "kind",
            Self::Time => "time",
        }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(source) = self.source else { return f.write_str("index not chosen yet") };
        if let Some(first) = self.walked_first {
            write!(f, "{} index, if the newest rows do not suffice ", first.name())?;
        }
        write!(f, "{} index, {} range{}", source.name(), self.ranges, if self.ranges == 1 { "" } else { "s" })?;
        if let Some(other) = self.intersected {
            write!(f, ", intersected with the {} index", other.name())?;
        }
        match self.cost {
            Some(cost) => write!(f, ", at most {cost} rows and ranges to look at"),
            None => Ok(()),
        }
    }
}

/// The most tag conditions and values that are weighed for one filter.
const MAX_SOURCES: usize = 8;

/// Every source worth weighing, at least one. A single one needs no look at the data.
pub(in crate::store) fn sources(filter: &Filter) -> SmallVec<[Source; 2]> {
    let mut sources = SmallVec::new();
    if finds_nothing(filter) {
        sources.push(Source::Nothing);
    } else if filter.ids.is_some() {
        sources.push(Source::Ids);
    } else {
        for (condition, tag) in (0..).zip(&filter.tags) {
            match tag.all {
                true => sources.extend((0..tag.values.len() as u32).map(|v| Source::Tag { condition, value: Some(v) })),
                false => sources.push(Source::Tag { condition, value: None }),
            }
        }
        sources.truncate(MAX_SOURCES);
        if filter.authors.is_some() {
            sources.push(Source::Authors);
        }
        if sources.is_empty() {
            sources.push(if filter.kinds.is_some() { Source::Kinds } else { Source::Time });
        }
    }
    sources
}

/// Whether the store cannot hold a match: the filter matches nothing, or asks only for ephemeral kinds or for times
/// past the maximum.
fn finds_nothing(filter: &Filter) -> bool {
    filter.is_never()
        || filter.kinds.as_ref().is_some_and(|kinds| kinds.iter().all(|kind| kind.is_ephemeral()))
        || filter.since.is_some_and(|since| since > Timestamp::MAX)
}

/// The kinds between the first part of a key and its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Kinds<'f> {
    /// Nothing: the index has no kind in its key.
    None,
    /// One range for each of these kinds, except ephemeral ones.
    Listed(&'f [Kind]),
    /// One range for every stored kind. The scan finds the kinds by skipping from one to the next.
    All,
}

/// The ranges of one filter in one index.
#[derive(Clone, Copy)]
pub(in crate::store) struct Ranges<'f> {
    pub filter: &'f Filter,
    pub source: Source,
}

impl<'f> Ranges<'f> {
    /// The index that is scanned.
    pub fn index(self) -> Index {
        match self.source {
            Source::Ids => Index::Id,
            Source::Tag { .. } => Index::Tag,
            Source::Authors => Index::Author,
            Source::Kinds => Index::Kind,
            Source::Time | Source::Nothing => Index::Time,
        }
    }

    /// The number of ids, tag values or authors; 1 for the indexes without any.
    pub fn items(self) -> u32 {
        match self.source {
            Source::Nothing => 0,
            Source::Ids => self.filter.ids.as_ref().map_or(0, |ids| ids.len() as u32),
            Source::Tag { condition, value: None } => self.filter.tags[usize::from(condition)].values.len() as u32,
            Source::Authors => self.filter.authors.as_ref().map_or(0, |authors| authors.len() as u32),
            Source::Tag { value: Some(_), .. } | Source::Kinds | Source::Time => 1,
        }
    }

    /// The ids, if they are looked up in the id index.
    pub fn ids(self) -> Option<&'f [EventId]> {
        self.filter.ids.as_deref().filter(|_| self.source == Source::Ids)
    }

    /// The kinds for which each item has a range.
    pub fn kinds(self) -> Kinds<'f> {
        match (self.source, &self.filter.kinds) {
            (Source::Nothing | Source::Ids | Source::Time, _) => Kinds::None,
            (_, Some(kinds)) => Kinds::Listed(kinds),
            (_, None) => Kinds::All,
        }
    }

    /// The number of ranges known in advance. An item with all kinds counts as one.
    pub fn len(self) -> u32 {
        match self.kinds() {
            Kinds::Listed(kinds) => {
                self.items().saturating_mul(kinds.iter().filter(|k| !k.is_ephemeral()).count() as u32)
            }
            Kinds::None | Kinds::All => self.items(),
        }
    }

    /// The prefix of all keys of the item, of whatever kind.
    pub fn start(self, item: u32, secret: &Secret) -> Prefix {
        let item = item as usize;
        let first = match self.source {
            Source::Nothing | Source::Kinds | Source::Time => return Prefix::EMPTY,
            Source::Ids => {
                let id = &self.filter.ids.as_ref().expect("a source is chosen only for what the filter has")[item];
                return Prefix::EMPTY.and(&keys::id_prefix(&id.0));
            }
            Source::Authors => self.filter.authors.as_ref().map(|authors| keys::prefix(&authors[item].0)),
            Source::Tag { condition, value } => {
                let tag = &self.filter.tags[usize::from(condition)];
                Some(secret.tag(tag.letter, tag.values[value.map_or(item, |value| value as usize)].view()))
            }
        };
        Prefix::EMPTY.and(&first.expect("a source is chosen only for what the filter has"))
    }

    /// The prefix of all keys of the range.
    pub fn prefix(self, item: u32, kind: u16, secret: &Secret) -> Prefix {
        let start = self.start(item, secret);
        match self.kinds() {
            Kinds::None => start,
            Kinds::Listed(_) | Kinds::All => start.and(&keys::kind_prefix(Kind(kind))),
        }
    }
}

/// The bytes that all keys of a range begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Prefix {
    bytes: [u8; PREFIX + 2],
    len: u8,
}

impl Prefix {
    const EMPTY: Self = Self { bytes: [0; PREFIX + 2], len: 0 };

    fn and(mut self, more: &[u8]) -> Self {
        let at = usize::from(self.len);
        self.bytes[at..at + more.len()].copy_from_slice(more);
        self.len += more.len() as u8;
        self
    }

    /// The prefix of one kind within this prefix.
    pub fn and_kind(self, kind: u16) -> Self {
        self.and(&keys::kind_prefix(Kind(kind)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The kind that follows this prefix in `key`.
    pub fn kind_of(&self, key: &[u8]) -> Option<u16> {
        let kind = key.strip_prefix(self.as_bytes())?.first_chunk()?;
        Some(u16::from_be_bytes(*kind))
    }

    /// The key of the row at `position` in this range.
    pub fn key(&self, position: Position) -> Key {
        let mut key = Key { bytes: [0; LONGEST], len: self.len + Position::LEN as u8 };
        let at = usize::from(self.len);
        key.bytes[..at].copy_from_slice(self.as_bytes());
        key.bytes[at..at + Position::LEN].copy_from_slice(&position.bytes());
        key
    }

    /// The row of `key`, if it is in this range.
    pub fn row(&self, key: &[u8]) -> Option<Position> {
        let row = key.strip_prefix(self.as_bytes())?;
        (row.len() == Position::LEN).then(|| Position::of_key(row))?
    }
}

/// A key of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Key {
    bytes: [u8; LONGEST],
    len: u8,
}

impl Key {
    /// Before every key.
    pub const START: Self = Self { bytes: [0; LONGEST], len: 0 };
    /// After every key.
    pub const END: Self = Self { bytes: [0xff; LONGEST], len: LONGEST as u8 };

    /// A key read from an index; `None` when no index has keys of this length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut key = Self { bytes: [0; LONGEST], len: bytes.len() as u8 };
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(key)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::ParseOptions;
    use crate::nostr::json::Parser;

    fn plan(text: &str) -> Vec<Source> {
        let options = ParseOptions { and_filters: true };
        sources(&Filter::parse(&mut Parser::default(), text.as_bytes(), options).expect("a filter")).to_vec()
    }

    #[test]
    fn each_shape_of_filter_has_its_sources() {
        let id = "ab".repeat(32);
        let tag = |condition, value| Source::Tag { condition, value };
        let cases = [
            ("{}".to_string(), vec![Source::Time]),
            (r#"{"kinds":[1,20001]}"#.into(), vec![Source::Kinds]),
            (format!(r#"{{"authors":["{id}"]}}"#), vec![Source::Authors]),
            (format!(r#"{{"authors":["{id}"],"kinds":[1]}}"#), vec![Source::Authors]),
            (format!(r##"{{"authors":["{id}"],"kinds":[1],"#t":["x"]}}"##), vec![tag(0, None), Source::Authors]),
            (format!(r##"{{"#e":["{id}"],"#p":["{id}"]}}"##), vec![tag(0, None), tag(1, None)]),
            (r#"{"&t":["x","y"]}"#.into(), vec![tag(0, Some(0)), tag(0, Some(1))]),
            (format!(r##"{{"ids":["{id}"],"authors":["{id}"],"#t":["x"]}}"##), vec![Source::Ids]),
            (r#"{"ids":[]}"#.into(), vec![Source::Nothing]),
            (r#"{"kinds":[20000,29999]}"#.into(), vec![Source::Nothing]),
            (r#"{"since":2,"until":1}"#.into(), vec![Source::Nothing]),
            (r#"{"since":281474976710656}"#.into(), vec![Source::Nothing]),
        ];
        for (text, expected) in cases {
            assert_eq!(plan(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_key_is_the_prefix_and_the_row() {
        let filter = Filter { kinds: Some([Kind(7)].into()), ..Filter::default() };
        let prefix = Ranges { filter: &filter, source: Source::Kinds }.prefix(0, 7, &Secret([0; 16]));
        let key = prefix.key(Position::FIRST);
        assert_eq!((key.as_bytes().len(), prefix.row(key.as_bytes())), (16, Some(Position::FIRST)));
        assert_eq!(prefix.row(prefix.and_kind(1).key(Position::FIRST).as_bytes()), None, "too long");
        assert_eq!(prefix.row(&[0; 16]), None, "another kind");
    }
}
