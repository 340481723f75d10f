//! The keys that a filter is listed under, and those that an event is looked up by.
//!
//! A filter is listed under only one of its conditions: the one that the fewest events are expected to meet. Different
//! values may share a key, except kinds, so a candidate is not a match until the filter has been evaluated.

use std::ops::Range;

use siphasher::sip::SipHasher13;

use crate::nostr::filter::{FilterValue, TagFilter};
use crate::nostr::{EventId, EventView, Filter, Kind, Pubkey, TagElement};

/// The sort of condition that a filter is listed under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dimension {
    /// `ids`.
    Id,
    /// One `#x` or `&x` condition.
    Tag,
    /// `authors`.
    Author,
    /// `kinds`.
    Kind,
    /// Only a time window, or no condition at all.
    Rest,
}

impl Dimension {
    /// Every dimension, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = [Self::Id, Self::Tag, Self::Author, Self::Kind, Self::Rest];
}

/// The condition of a filter that it is listed under.
#[derive(Clone, Copy)]
pub(super) enum Condition<'a> {
    Ids(&'a [EventId]),
    Tag(&'a TagFilter),
    Authors(&'a [Pubkey]),
    Kinds(&'a [Kind]),
    Nothing,
}

/// How many events meet an `authors` or tag condition with one value, relative to one author. A hashtag or label occurs
/// in many more events than one author writes; a reference to one event or key in a few more.
const AUTHOR_WEIGHT: usize = 1;
const REFERENCE_WEIGHT: usize = 2;
const WORD_WEIGHT: usize = 50;

impl<'a> Condition<'a> {
    /// The condition of `filter` that the fewest events are expected to meet.
    ///
    /// Ids come first, since at most one event each will ever meet them. Then authors or a tag, whichever expects
    /// fewer. Kinds only if there is nothing else: a single kind may be most of the traffic.
    pub(super) fn choose(filter: &'a Filter) -> Self {
        if let Some(ids) = &filter.ids {
            return Self::Ids(ids);
        }
        let tags = filter.tags.iter().map(|tag| (tag_weight(tag), Self::Tag(tag)));
        let authors = filter.authors.iter().map(|authors| (authors.len() * AUTHOR_WEIGHT, Self::Authors(authors)));
        if let Some((_, condition)) = authors.chain(tags).min_by_key(|(weight, _)| *weight) {
            return condition;
        }
        filter.kinds.as_deref().map_or(Self::Nothing, Self::Kinds)
    }

    /// Under how many values the filter is listed.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Ids(ids) => ids.len(),
            Self::Tag(tag) => listed(tag).len(),
            Self::Authors(authors) => authors.len(),
            Self::Kinds(kinds) => kinds.len(),
            Self::Nothing => 1,
        }
    }

    pub(super) const fn dimension(self) -> Dimension {
        match self {
            Self::Ids(_) => Dimension::Id,
            Self::Tag(_) => Dimension::Tag,
            Self::Authors(_) => Dimension::Author,
            Self::Kinds(_) => Dimension::Kind,
            Self::Nothing => Dimension::Rest,
        }
    }

    /// Whether every event found under this condition matches the filter: the filter has no other condition, and kinds
    /// do not share keys.
    pub(super) fn is_whole(self, filter: &Filter) -> bool {
        matches!(self, Self::Kinds(_) | Self::Nothing) && filter.since.is_none() && filter.until.is_none()
    }
}

/// The weight of a tag condition. For `&x`, only one value is listed.
fn tag_weight(tag: &TagFilter) -> usize {
    let weight = |value: TagElement<'_>| match value {
        TagElement::Hex(_) => REFERENCE_WEIGHT,
        TagElement::Text(_) if matches!(tag.letter, b'a' | b'A' | b'i' | b'I') => REFERENCE_WEIGHT,
        TagElement::Text(_) => WORD_WEIGHT,
    };
    listed(tag).iter().map(|value| weight(value.view())).sum()
}

/// The values of a tag condition that the filter is listed under: all of `#x`, one of `&x`, since every match has all.
fn listed(tag: &TagFilter) -> &[FilterValue] {
    if tag.all { &tag.values[..1] } else { &tag.values }
}

/// The namespace of a hashed key; it goes into the key of the hash.
const ID: u64 = 1 << 8;
const AUTHOR: u64 = 2 << 8;
const HEX_TAG: u64 = 3 << 8;
const TEXT_TAG: u64 = 4 << 8;

/// Set in keys that stand for one value only; clear in hashes.
const EXACT: u64 = 1 << 40;

/// The key of a kind. The multiplier is odd, so the lowest 17 bits alone distinguish all kinds and [`REST`].
const fn kind_key(kind: Kind) -> u64 {
    exact_key(kind.0 as u64)
}

/// The key of filters without a condition to list them under.
const REST: u64 = exact_key(1 << 16);

const fn exact_key(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | EXACT
}

/// Turns values into keys: SipHash-1-3 under a secret key, so that no client can aim at a list.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    secret: [u64; 2],
}

impl Keys {
    pub(super) const fn new(secret: [u64; 2]) -> Self {
        Self { secret }
    }

    fn key(self, space: u64, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.secret[0] ^ space, self.secret[1]).hash(bytes) & !EXACT
    }

    fn tag_key(self, letter: u8, value: TagElement<'_>) -> u64 {
        match value {
            TagElement::Hex(bytes) => self.key(HEX_TAG | u64::from(letter), bytes),
            TagElement::Text(text) => self.key(TEXT_TAG | u64::from(letter), text),
        }
    }

    /// Calls `each` with the key of every value in `range` that the condition is listed under.
    pub(super) fn of_values(self, condition: Condition<'_>, range: Range<usize>, mut each: impl FnMut(u64)) {
        match condition {
            Condition::Ids(ids) => ids[range].iter().for_each(|id| each(self.key(ID, &id.0))),
            Condition::Tag(tag) => {
                listed(tag)[range].iter().for_each(|value| each(self.tag_key(tag.letter, value.view())));
            }
            Condition::Authors(authors) => authors[range].iter().for_each(|author| each(self.key(AUTHOR, &author.0))),
            Condition::Kinds(kinds) => kinds[range].iter().for_each(|kind| each(kind_key(*kind))),
            Condition::Nothing => range.for_each(|_| each(REST)),
        }
    }

    /// Calls `each` with every key whose list may have a filter that the event matches.
    pub(super) fn of_event(self, event: EventView<'_>, used: &DimensionUse, mut each: impl FnMut(u64)) {
        if used.filters(Dimension::Id) != 0 {
            each(self.key(ID, event.id_bytes()));
        }
        if used.filters(Dimension::Author) != 0 {
            each(self.key(AUTHOR, event.pubkey_bytes()));
        }
        if used.filters(Dimension::Tag) != 0 {
            let tags = event.tags().indexed().filter(|(letter, _)| used.letters[usize::from(*letter)] != 0);
            tags.for_each(|(letter, value)| each(self.tag_key(letter, value)));
        }
        if used.filters(Dimension::Kind) != 0 {
            each(kind_key(event.kind()));
        }
        if used.filters(Dimension::Rest) != 0 {
            each(REST);
        }
    }
}

/// How many filters are listed under each dimension and each tag letter. What has none need not be looked up.
pub(super) struct DimensionUse {
    dimensions: [usize; Dimension::ALL.len()],
    letters: [u32; 128],
}

impl DimensionUse {
    pub(super) const fn new() -> Self {
        Self { dimensions: [0; Dimension::ALL.len()], letters: [0; 128] }
    }

    pub(super) const fn filters(&self, dimension: Dimension) -> usize {
        self.dimensions[dimension as usize]
    }

    pub(super) fn add(&mut self, condition: Condition<'_>) {
        self.dimensions[condition.dimension() as usize] += 1;
        if let Condition::Tag(tag) = condition {
            self.letters[usize::from(tag.letter)] += 1;
        }
    }

    pub(super) fn remove(&mut self, condition: Condition<'_>) {
        self.dimensions[condition.dimension() as usize] -= 1;
        if let Condition::Tag(tag) = condition {
            self.letters[usize::from(tag.letter)] -= 1;
        }
    }
}

/// A set of kinds as a Bloom filter of 32 bits: it may claim a kind that it does not have, but never denies one it has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KindSet(u32);

impl KindSet {
    pub(super) fn of(kind: Kind) -> Self {
        // The top five bits of a multiplicative hash (2^32 divided by the golden ratio).
        Self(1 << (u32::from(kind.0).wrapping_mul(0x9E37_79B9) >> 27))
    }

    /// The kinds that `filter` accepts.
    pub(super) fn of_filter(filter: &Filter) -> Self {
        let all = |kinds: &[Kind]| kinds.iter().fold(0, |set, kind| set | Self::of(*kind).0);
        Self(filter.kinds.as_deref().map_or(u32::MAX, all))
    }

    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::{ParseOptions, json};

    #[test]
    fn no_two_kinds_share_a_key() {
        let mut keys: Vec<u64> = (0..=u16::MAX).map(|kind| kind_key(Kind(kind))).chain([REST]).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 65_537);
        assert!(keys.iter().all(|key| key & EXACT != 0));
        assert_eq!(Keys::new([1, 2]).key(ID, &[0xff; 32]) & EXACT, 0);
    }

    #[test]
    fn a_filter_is_listed_under_the_condition_that_the_fewest_events_meet() {
        let x = "ab".repeat(32);
        let many = (0..40).map(|n| format!("\"{n:064x}\"")).collect::<Vec<_>>().join(",");
        let cases = [
            (format!(r##"{{"ids":["{x}"],"authors":["{x}"]}}"##), Dimension::Id, 1),
            (format!(r##"{{"authors":[{many}],"#p":["{x}"]}}"##), Dimension::Tag, 1),
            (format!(r##"{{"authors":["{x}"],"#p":[{many}]}}"##), Dimension::Author, 1),
            (format!(r##"{{"authors":["{x}"],"#d":["a"],"kinds":[30023]}}"##), Dimension::Author, 1),
            (format!(r##"{{"authors":[{many}],"kinds":[1,6]}}"##), Dimension::Author, 40),
            (r##"{"&t":["a","b","c"],"#t":["d","e"],"kinds":[1]}"##.into(), Dimension::Tag, 1),
            (format!(r##"{{"#t":["a"],"#e":["{x}"]}}"##), Dimension::Tag, 1),
            (r##"{"kinds":[1,6],"since":5}"##.into(), Dimension::Kind, 2),
            (r##"{"since":5}"##.into(), Dimension::Rest, 1),
        ];
        for (text, dimension, keys) in cases {
            let options = ParseOptions { and_filters: true };
            let filter = Filter::parse(&mut json::Parser::default(), text.as_bytes(), options).expect("a filter");
            let condition = Condition::choose(&filter);
            let mut listed = 0;
            Keys::new([1, 2]).of_values(condition, 0..condition.values(), |_| listed += 1);
            assert_eq!((condition.dimension(), listed), (dimension, keys), "{text}");
        }
    }
}
