//! A filter compiled for matching: sorted sets, a time window and a limit (NIP-01).
//!
//! It accepts what NIP-01 strictly defines. An unknown key is refused, never ignored: to ignore one would give the
//! client more than it asked for.

use super::json::Value;
use super::kind::Kind;
use super::tag::TagElement;
use super::types::{EventId, Pubkey, Timestamp};
use super::view::EventView;
use super::{hex, json};

/// How much of an unknown key, or an unknown type of message, its refusal quotes.
pub(super) const MAX_ECHOED_CHARS: usize = 32;

/// What the operator chose of the grammar of filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ParseOptions {
    /// Whether filters may have `&x` keys (NIP-91, a proposal).
    pub and_filters: bool,
}

/// Why a filter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A value is not as NIP-01 defines it. The answer is `invalid:`.
    #[error("{0}")]
    Invalid(String),
    /// A key that weir does not know or does not serve. The answer is `unsupported:`.
    #[error("{0}")]
    Unsupported(String),
}

/// One filter: an event matches when it meets every condition that is given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// `ids`, ascending, without duplicates; `None` when the key is absent.
    pub ids: Option<Box<[EventId]>>,
    /// `authors`, ascending, without duplicates.
    pub authors: Option<Box<[Pubkey]>>,
    /// `kinds`, ascending, without duplicates.
    pub kinds: Option<Box<[Kind]>>,
    /// `#x` conditions, by letter.
    pub tags: Box<[TagFilter]>,
    /// `created_at` is at least this.
    pub since: Option<Timestamp>,
    /// `created_at` is at most this.
    pub until: Option<Timestamp>,
    /// The most stored events to return. Not a condition.
    pub limit: Option<u32>,
}

/// One tag condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TagFilter {
    /// The tag's letter, a to z or A to Z.
    pub letter: u8,
    /// Whether the event must carry every value (`&x`, NIP-91) rather than at least one (`#x`).
    pub all: bool,
    /// The values, ascending, without duplicates.
    pub values: Box<[FilterValue]>,
}

/// A tag value that a filter asks for; events have it as a [`TagElement`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FilterValue {
    /// 64 lower-case hexadecimal digits.
    Hex([u8; 32]),
    /// Any other string.
    Text(Box<[u8]>),
}

impl FilterValue {
    /// The value with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match hex::decode(text.as_bytes()) {
            Some(bytes) => Self::Hex(bytes),
            None => Self::Text(text.as_bytes().into()),
        }
    }

    /// The value, borrowed.
    #[must_use]
    pub fn view(&self) -> TagElement<'_> {
        match self {
            Self::Hex(bytes) => TagElement::Hex(bytes),
            Self::Text(text) => TagElement::Text(text),
        }
    }
}

impl TagFilter {
    /// Whether the event's tags satisfy this condition.
    #[must_use]
    pub fn matches(&self, event: EventView<'_>) -> bool {
        let values = || event.tags().indexed().filter(|(letter, _)| *letter == self.letter);
        if self.all {
            return self.values.iter().all(|wanted| values().any(|(_, value)| value == wanted.view()));
        }
        values().any(|(_, value)| self.contains(value))
    }

    /// Whether `value` is one of the values.
    #[must_use]
    pub fn contains(&self, value: TagElement<'_>) -> bool {
        self.values.binary_search_by(|own| own.view().cmp(&value)).is_ok()
    }
}

impl Filter {
    /// Reads a filter from JSON text.
    ///
    /// # Errors
    /// When the text is not JSON or not a filter.
    pub fn parse(parser: &mut json::Parser, text: &[u8], options: ParseOptions) -> Result<Self, FilterError> {
        parser
            .parse(text, |value| Self::from_value(value, options))
            .map_err(|error| invalid(format!("the filter is {error}")))?
    }

    /// Reads a filter that is part of a larger message.
    ///
    /// # Errors
    /// When the value is not an object, a key appears twice or is unknown, or a value is malformed. A key whose value
    /// is `null` counts as absent, since some clients serialize absent keys that way.
    pub fn from_value(value: Value<'_, '_>, options: ParseOptions) -> Result<Self, FilterError> {
        let entries = value.as_object().ok_or_else(|| invalid("the filter is not a JSON object"))?;
        let mut filter = Self::default();
        let (mut since, mut until, mut tags) = (None, None, Vec::new());
        if entries.clone().any(|(_, value)| value.is_null()) {
            each_once(entries.clone().map(|(key, _)| key).collect())?;
        }
        for (key, value) in entries {
            match key {
                _ if value.is_null() => {}
                "ids" => once(&mut filter.ids, key, hex_list(key, value)?)?,
                "authors" => once(&mut filter.authors, key, hex_list(key, value)?)?,
                "kinds" => once(&mut filter.kinds, key, kind_list(value)?)?,
                "since" => once(&mut since, key, whole_number(key, value)?)?,
                "until" => once(&mut until, key, whole_number(key, value)?)?,
                "limit" => once(&mut filter.limit, key, limit(value)?)?,
                _ => tags.push(tag_filter(key, value, options)?),
            }
        }
        tags.sort_by_key(|tag| (tag.letter, tag.all));
        if let Some(pair) = tags.windows(2).find(|pair| (pair[0].letter, pair[0].all) == (pair[1].letter, pair[1].all))
        {
            let mark = if pair[0].all { '&' } else { '#' };
            return Err(invalid(format!("{mark}{} appears twice", pair[0].letter as char)));
        }
        filter.tags = without_values_required_by_and(tags);
        (filter.since, filter.until) = window(since, until);
        Ok(filter)
    }

    /// Whether the event meets every condition; `limit` is not one.
    #[must_use]
    pub fn matches(&self, event: EventView<'_>) -> bool {
        self.matches_time(event.created_at())
            && self.kinds.as_ref().is_none_or(|kinds| kinds.binary_search(&event.kind()).is_ok())
            && self.authors.as_ref().is_none_or(|authors| contains(authors, event.pubkey_bytes()))
            && self.ids.as_ref().is_none_or(|ids| contains(ids, event.id_bytes()))
            && self.tags.iter().all(|tag| tag.matches(event))
    }

    /// Whether `created_at` is in the time window, both ends included.
    #[must_use]
    pub fn matches_time(&self, created_at: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= created_at) && self.until.is_none_or(|until| created_at <= until)
    }

    /// Whether no event can match: a list is empty, or the window ends before it begins.
    #[must_use]
    pub fn is_never(&self) -> bool {
        self.ids.as_ref().is_some_and(|list| list.is_empty())
            || self.authors.as_ref().is_some_and(|list| list.is_empty())
            || self.kinds.as_ref().is_some_and(|list| list.is_empty())
            || self.tags.iter().any(|tag| tag.values.is_empty())
            || matches!((self.since, self.until), (Some(since), Some(until)) if since > until)
    }

    /// Bytes of memory that the filter takes, including its entries in the index of live subscriptions.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.heap_bytes() + INDEX_ENTRY_BYTES * self.items()
    }

    /// Bytes of heap that its lists take.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let text = |value: &FilterValue| match value {
            FilterValue::Text(text) => text.len() + ALLOCATION_BYTES,
            FilterValue::Hex(_) => 0,
        };
        let tag = |tag: &TagFilter| {
            size_of::<TagFilter>() + size_of_val(&*tag.values) + tag.values.iter().map(text).sum::<usize>()
        };
        self.ids.as_deref().map_or(0, size_of_val)
            + self.authors.as_deref().map_or(0, size_of_val)
            + self.kinds.as_deref().map_or(0, size_of_val)
            + self.tags.iter().map(tag).sum::<usize>()
    }

    /// The number of values in all lists together.
    #[must_use]
    pub fn items(&self) -> usize {
        self.ids.as_ref().map_or(0, |list| list.len())
            + self.authors.as_ref().map_or(0, |list| list.len())
            + self.kinds.as_ref().map_or(0, |list| list.len())
            + self.tags.iter().map(|tag| tag.values.len()).sum::<usize>()
    }
}

/// What one value takes in the live index (`live::postings`): 16 bytes and a control byte, in a table that is at least
/// 7/16 full after it has grown. What a scan keeps while a query runs is counted separately.
const INDEX_ENTRY_BYTES: usize = 40;

/// What rounding up adds to a small allocation, on average.
const ALLOCATION_BYTES: usize = 16;

fn contains<T: AsRef<[u8]>>(sorted: &[T], wanted: &[u8; 32]) -> bool {
    sorted.binary_search_by(|own| own.as_ref().cmp(wanted)).is_ok()
}

fn invalid(text: impl Into<String>) -> FilterError {
    FilterError::Invalid(text.into())
}

fn once<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), FilterError> {
    if slot.replace(value).is_some() {
        return Err(invalid(format!("{key} appears twice")));
    }
    Ok(())
}

/// Refuses a key that appears twice.
fn each_once(mut keys: Vec<&str>) -> Result<(), FilterError> {
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(invalid(format!("{} appears twice", pair[0]))),
        None => Ok(()),
    }
}

fn whole_number(key: &str, value: Value<'_, '_>) -> Result<i128, FilterError> {
    value.as_integer().ok_or_else(|| invalid(format!("{key} is not a whole number")))
}

fn limit(value: Value<'_, '_>) -> Result<u32, FilterError> {
    let limit = value.as_integer().filter(|&limit| limit >= 0);
    let limit = limit.ok_or_else(|| invalid("limit is not a whole number of 0 or more"))?;
    Ok(u32::try_from(limit).unwrap_or(u32::MAX))
}

/// Clamps a window to the times that events can have, 0 to [`Timestamp::MAX`]. A window outside of these becomes an
/// empty one.
fn window(since: Option<i128>, until: Option<i128>) -> (Option<Timestamp>, Option<Timestamp>) {
    let last = i128::from(Timestamp::MAX.0);
    if until.is_some_and(|until| until < 0) || since.is_some_and(|since| since > last) {
        return (Some(Timestamp::MAX), Some(Timestamp(0)));
    }
    let within = |time: i128| Timestamp(time.clamp(0, last) as u64);
    (since.map(within), until.map(within))
}

fn hex_list<T: Is32 + Ord>(key: &str, value: Value<'_, '_>) -> Result<Box<[T]>, FilterError> {
    let wrong = || invalid(format!("{key} is not a list of strings of 64 lower-case hex digits"));
    let items = value.as_array().ok_or_else(wrong)?;
    let item = |value: Value<'_, '_>| value.as_str().and_then(|text| hex::decode(text.as_bytes())).map(T::from32);
    let mut list = every_item(items.map(item), wrong)?;
    // A fifth of the time that comparing all 32 bytes takes, for lists of thousands.
    list.sort_unstable_by(|one, other| one.head().cmp(&other.head()).then_with(|| one.cmp(other)));
    list.dedup();
    Ok(list.into_boxed_slice())
}

/// Types that are 32 bytes.
trait Is32 {
    fn from32(bytes: [u8; 32]) -> Self;

    /// The first eight bytes as a number, which orders all but a few.
    fn head(&self) -> u64;
}

impl Is32 for EventId {
    fn from32(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn head(&self) -> u64 {
        head(&self.0)
    }
}

impl Is32 for Pubkey {
    fn from32(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn head(&self) -> u64 {
        head(&self.0)
    }
}

fn head(bytes: &[u8; 32]) -> u64 {
    let (head, _) = bytes.split_first_chunk().expect("32 bytes are more than 8");
    u64::from_be_bytes(*head)
}

fn kind_list(value: Value<'_, '_>) -> Result<Box<[Kind]>, FilterError> {
    let wrong = || invalid("kinds is not a list of whole numbers");
    let items = value.as_array().ok_or_else(wrong)?;
    let mut kinds = Vec::with_capacity(items.len());
    for item in items {
        let number = item.as_integer().ok_or_else(wrong)?;
        // No event has a kind beyond 16 bits, so such a number adds nothing. (Some clients probe a connection that
        // way.)
        kinds.extend(u16::try_from(number).ok().map(Kind));
    }
    Ok(set(kinds))
}

/// Sorts a list and drops duplicates. Its capacity must be exact: one that had grown could keep twice its size.
fn set<T: Ord>(mut list: Vec<T>) -> Box<[T]> {
    list.sort_unstable();
    list.dedup();
    list.into_boxed_slice()
}

/// A list whose capacity is exact, if every item is there.
fn every_item<T>(
    items: impl ExactSizeIterator<Item = Option<T>>,
    wrong: impl Fn() -> FilterError,
) -> Result<Vec<T>, FilterError> {
    let mut list = Vec::with_capacity(items.len());
    for item in items {
        list.push(item.ok_or_else(&wrong)?);
    }
    Ok(list)
}

fn tag_filter(key: &str, value: Value<'_, '_>, options: ParseOptions) -> Result<TagFilter, FilterError> {
    let (letter, all) = match key.as_bytes() {
        [b'#', letter] if letter.is_ascii_alphabetic() => (*letter, false),
        [b'&', letter] if letter.is_ascii_alphabetic() && options.and_filters => (*letter, true),
        _ => {
            let name: String = key.chars().take(MAX_ECHOED_CHARS).collect();
            return Err(FilterError::Unsupported(format!("filter key {name:?} is unknown")));
        }
    };
    let wrong = || {
        invalid(if matches!(letter, b'e' | b'p') {
            format!("{key} is not a list of strings of 64 lower-case hex digits")
        } else {
            format!("{key} is not a list of Unicode strings")
        })
    };
    let item = |value: Value<'_, '_>| match (letter, FilterValue::new(value.as_str()?)) {
        (b'e' | b'p', FilterValue::Text(_)) => None,
        (_, value) => Some(value),
    };
    let items = value.as_array().ok_or_else(wrong)?;
    let values = set(every_item(items.map(item), wrong)?);
    Ok(TagFilter { letter, all, values })
}

/// Drops values from `#x` that `&x` has too (NIP-91). A `#x` that loses all its values that way adds no condition.
fn without_values_required_by_and(mut tags: Vec<TagFilter>) -> Box<[TagFilter]> {
    for index in 1..tags.len() {
        let (before, after) = tags.split_at_mut(index);
        let (any, every) = (&mut before[index - 1], &after[0]);
        if any.letter == every.letter && every.all && !any.values.is_empty() {
            let left: Vec<_> = any.values.iter().filter(|value| !every.contains(value.view())).cloned().collect();
            if left.is_empty() {
                // It must hold for every event that `&x` lets through, so keep one value that these are known to have.
                any.values = any.values[..1].into();
            } else {
                any.values = left.into();
            }
        }
    }
    tags.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Filter, FilterError> {
        Filter::parse(&mut json::Parser::default(), text.as_bytes(), ParseOptions { and_filters: true })
    }

    #[test]
    fn an_empty_list_matches_nothing() {
        for text in [r#"{"ids":[]}"#, r#"{"authors":[]}"#, r#"{"kinds":[]}"#, r##"{"#t":[]}"##] {
            assert!(parse(text).expect("a filter").is_never(), "{text}");
        }
        assert!(parse(r#"{"since":2,"until":1}"#).expect("a filter").is_never());
        assert!(!parse(r#"{"since":1,"until":1}"#).expect("a filter").is_never());
    }

    #[test]
    fn malformed_values_are_invalid_and_unknown_keys_unsupported() {
        let upper = format!(r#"{{"ids":["{}"]}}"#, "AB".repeat(32));
        let short = r##"{"#p":["abcd"]}"##;
        let texts = [
            upper.as_str(),
            short,
            r#"{"kinds":["1"]}"#,
            r#"{"kinds":[1.5]}"#,
            r#"{"kinds":[null]}"#,
            r#"{"since":1.5}"#,
            r#"{"since":"1"}"#,
            r#"{"limit":1.5}"#,
            r#"{"limit":-1}"#,
            r#"{"limit":-1e400}"#,
            r#"{"limit":1,"limit":2}"#,
            r#"{"limit":null,"limit":2}"#,
            r#"{"x":null,"x":null}"#,
            r##"{"#t":["\ud800"]}"##,
            r##"{"#t":["a"],"#t":["b"]}"##,
            r##"{"#t":[1]}"##,
            r#"[]"#,
            r#"{"#,
        ];
        for text in texts {
            assert!(matches!(parse(text), Err(FilterError::Invalid(_))), "{text}");
        }
        for text in [r#"{"x":1}"#, r##"{"#tt":["a"]}"##, r##"{"#1":["a"]}"##, r#"{"search":"x"}"#, r##"{"#":[]}"##] {
            assert!(matches!(parse(text), Err(FilterError::Unsupported(_))), "{text}");
        }
        let and = Filter::parse(&mut json::Parser::default(), br#"{"&t":["a"]}"#, ParseOptions::default());
        assert!(matches!(and, Err(FilterError::Unsupported(_))));
    }

    #[test]
    fn numbers_of_any_size_mean_what_they_say() {
        let kinds = |text: &str| parse(&format!(r#"{{"kinds":{text}}}"#)).expect("a filter").kinds;
        assert_eq!(kinds("[65535,65536,-1,1e0,18446744073709551616,-1e400]"), Some([Kind(1), Kind(65535)].into()));
        assert_eq!(kinds("[99999]"), Some([].into()));
        let window = |text: &str| {
            let filter = parse(text).expect("a filter");
            if filter.is_never() { None } else { Some((filter.since, filter.until)) }
        };
        let (first, last) = (Some(Timestamp(0)), Some(Timestamp::MAX));
        assert_eq!(window(r#"{"since":-1,"until":18446744073709551616}"#), Some((first, last)));
        assert_eq!(window(r#"{"since":-1e400,"until":1e400}"#), Some((first, last)));
        assert_eq!(window(r#"{"since":281474976710655}"#), Some((last, None)));
        assert_eq!(window(r#"{"since":1e3,"until":2000.0}"#), Some((Some(Timestamp(1000)), Some(Timestamp(2000)))));
        for never in [r#"{"until":-1}"#, r#"{"since":281474976710656}"#, r#"{"since":1e400}"#, r#"{"until":-1e400}"#] {
            assert_eq!(window(never), None, "{never}");
        }
        let limit = |text: &str| parse(&format!(r#"{{"limit":{text}}}"#)).expect("a filter").limit;
        assert_eq!(
            ["1e400", "18446744073709551616", "2.0", "-0.0"].map(limit),
            [Some(u32::MAX), Some(u32::MAX), Some(2), Some(0)]
        );
    }

    #[test]
    fn a_key_with_null_counts_as_absent() {
        let text = r##"{"ids":null,"authors":null,"kinds":null,"#t":null,"since":null,"until":null,"limit":null,
            "search":null}"##;
        assert_eq!(parse(text), Ok(Filter::default()));
        assert_eq!(parse(r#"{"since":null,"kinds":[1]}"#), parse(r#"{"kinds":[1]}"#));
    }

    #[test]
    fn the_memory_of_a_filter_grows_with_its_values() {
        let bytes = |text: &str| parse(text).expect("a filter").memory_bytes() - size_of::<Filter>();
        assert_eq!(bytes("{}"), 0);
        assert_eq!(bytes(r#"{"kinds":[1,7]}"#), 2 * (2 + 40));
        let authors = (0..2_000).map(|n| format!("\"{n:064x}\"")).collect::<Vec<_>>().join(",");
        assert_eq!(bytes(&format!(r#"{{"authors":[{authors}]}}"#)), 2_000 * (32 + 40));
        let value = "x".repeat(1_000_000);
        let long = bytes(&format!(r##"{{"#t":["{value}"]}}"##));
        assert_eq!(long, size_of::<TagFilter>() + size_of::<FilterValue>() + 1_000_000 + 16 + 40);
    }

    #[test]
    fn lists_are_sets() {
        let filter = parse(r##"{"kinds":[7,1,7],"#t":["b","a","b"],"limit":99999999999}"##).expect("a filter");
        assert_eq!(filter.kinds.as_deref(), Some(&[Kind(1), Kind(7)][..]));
        assert_eq!(filter.tags[0].values.len(), 2);
        assert_eq!((filter.limit, filter.items()), (Some(u32::MAX), 4));
    }
}
