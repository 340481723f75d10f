//! A retention rule: which events it selects, and how many of them are kept.
//!
//! Most rules select by author and kind alone, so the index row of an event determines its rule without reading the
//! record. Everything here is pure.

use std::fmt;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};

use super::key_set::{Follows, KeySet};
use super::list_file::KeyFile;
use super::sets::{KindSet, from_text};
use crate::nostr::{EventView, Kind, Pubkey, TagElement, Timestamp};

/// Which events a rule selects, and how many of them are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Rule {
    /// Which events it selects.
    pub selector: Selector,
    /// How many of them are kept.
    pub bounds: Bounds,
}

/// The events that a rule selects: every part must match.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    /// Only events of these kinds; `None` selects all.
    pub kinds: Option<KindSet>,
    /// Only events of these authors, of those in `authors_file` and of those that `follows_of` follows; if all three
    /// are absent, events of every author.
    pub authors: Option<KeySet>,
    /// See `authors`.
    pub authors_file: Option<KeyFile>,
    /// See `authors`.
    pub follows_of: Option<Follows>,
    /// Excludes events of these authors.
    pub not_authors: KeySet,
    /// Excludes events of these authors, too.
    pub not_authors_file: Option<KeyFile>,
    /// Only events with one of these keys in a `p` tag: zaps, messages, gift wraps; `None` selects all.
    pub addressed_to: Option<KeySet>,
}

/// How many events of a rule are kept. A limit of 0 means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// Whether they are never removed, whatever the limits say.
    pub keep: Option<Keep>,
    /// How long they are kept.
    pub max_age: Option<Age>,
    /// Where `max_age` begins.
    pub age_by: AgeBy,
    /// How long after `created_at` they are protected from eviction by count, by size and for room.
    pub grace: Option<Age>,
    /// Events kept per author and kind, the newest.
    pub max_per_author_and_kind: u64,
    /// Events kept in total, the newest.
    pub max_events: u64,
    /// Bytes of records kept, the newest events; index entries are not included.
    pub max_bytes: u64,
}

/// A rule as it is written in the configuration: one flat table.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    kinds: Option<KindSet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authors: Option<KeySet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authors_file: Option<KeyFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    follows_of: Option<Follows>,
    #[serde(skip_serializing_if = "KeySet::is_empty")]
    not_authors: KeySet,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_authors_file: Option<KeyFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addressed_to: Option<KeySet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<Keep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<Age>,
    #[serde(skip_serializing_if = "AgeBy::is_created_at")]
    age_by: AgeBy,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace: Option<Age>,
    #[serde(skip_serializing_if = "is_zero")]
    max_per_author_and_kind: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_events: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<Written> for Rule {
    fn from(written: Written) -> Self {
        let Written { kinds, authors, authors_file, follows_of, not_authors, not_authors_file, addressed_to, .. } =
            written;
        let Written { keep, max_age, age_by, grace, max_per_author_and_kind, max_events, max_bytes, .. } = written;
        let selector =
            Selector { kinds, authors, authors_file, follows_of, not_authors, not_authors_file, addressed_to };
        let bounds = Bounds { keep, max_age, age_by, grace, max_per_author_and_kind, max_events, max_bytes };
        Self { selector, bounds }
    }
}

impl From<Rule> for Written {
    fn from(Rule { selector, bounds }: Rule) -> Self {
        let Selector { kinds, authors, authors_file, follows_of, not_authors, not_authors_file, addressed_to } =
            selector;
        let Bounds { keep, max_age, age_by, grace, max_per_author_and_kind, max_events, max_bytes } = bounds;
        Self {
            kinds,
            authors,
            authors_file,
            follows_of,
            not_authors,
            not_authors_file,
            addressed_to,
            keep,
            max_age,
            age_by,
            grace,
            max_per_author_and_kind,
            max_events,
            max_bytes,
        }
    }
}

/// The value of `keep`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Never removed.
    Forever,
}

/// Where the age of an event begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgeBy {
    /// At its `created_at`, which its author chose.
    #[default]
    CreatedAt,
    /// At its arrival, as far as the store knows it: an event may count as younger than it is.
    Arrival,
}

impl AgeBy {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_created_at(&self) -> bool {
        *self == Self::CreatedAt
    }
}

/// A duration of at least a second, written as a number and a unit: `"90d"`, `"1y"` (365 days).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age {
    /// Its length.
    pub seconds: u64,
}

/// Seconds per unit, the longest unit first.
const UNITS: [(char, u64); 6] = [('y', 31_536_000), ('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl Age {
    /// Reads a number and a unit.
    ///
    /// # Errors
    /// With what to write instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "expected a number and a unit (s, m, h, d, w, y), such as \"90d\"";
        let unit = text.chars().next_back().and_then(|last| UNITS.iter().find(|(unit, _)| *unit == last));
        let (unit, factor) = unit.ok_or(FORM)?;
        let number: u64 = text.strip_suffix(*unit).and_then(|text| text.parse().ok()).ok_or(FORM)?;
        match number.checked_mul(*factor) {
            Some(seconds) if seconds > 0 => Ok(Self { seconds }),
            _ => Err("must be at least one second"),
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) =
            UNITS.into_iter().find(|(_, factor)| self.seconds.is_multiple_of(*factor)).expect("1 divides every number");
        write!(f, "{}{unit}", self.seconds / factor)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a duration such as \"90d\"", Self::parse)
    }
}

impl Selector {
    /// Whether it selects this event.
    #[must_use]
    pub fn takes(&self, event: EventView<'_>) -> bool {
        self.may_take_of(&event.pubkey(), event.kind())
            && self.addressed_to.as_ref().is_none_or(|keys| is_addressed(event, |key| keys.contains(key)))
    }

    /// Whether it selects events of this author and kind, possibly only those addressed to certain keys.
    #[must_use]
    pub fn may_take_of(&self, author: &Pubkey, kind: Kind) -> bool {
        self.may_take(kind) && (self.takes_every_author() || self.has_author(author)) && !self.excludes(author)
    }

    /// Whether it selects events of this kind by any author.
    #[must_use]
    pub fn may_take(&self, kind: Kind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
    }

    /// Whether it selects all events of the kinds that it selects.
    #[must_use]
    pub fn selects_by_kind_alone(&self) -> bool {
        self.takes_every_author() && self.excluded().next().is_none() && self.addressed_to.is_none()
    }

    /// Whether it is not restricted to listed authors.
    #[must_use]
    pub const fn takes_every_author(&self) -> bool {
        self.authors.is_none() && self.authors_file.is_none() && self.follows_of.is_none()
    }

    fn author_sets(&self) -> impl Iterator<Item = &KeySet> {
        let follows = self.follows_of.iter().filter_map(|follows| follows.keys.as_ref());
        self.authors.iter().chain(self.authors_file.iter().map(|file| &file.held)).chain(follows)
    }

    fn names(&self, author: &Pubkey) -> bool {
        self.author_sets().any(|keys| keys.contains(author))
    }

    fn has_author(&self, author: &Pubkey) -> bool {
        self.is_unknown() || self.names(author)
    }

    /// Whether it depends on a follow list that is not stored: it might select any author.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.follows_of.as_ref().is_some_and(|follows| follows.keys.is_none())
    }

    fn excluded_sets(&self) -> impl Iterator<Item = &KeySet> {
        std::iter::once(&self.not_authors).chain(self.not_authors_file.iter().map(|file| &file.held))
    }

    fn excludes(&self, author: &Pubkey) -> bool {
        self.excluded_sets().any(|keys| keys.contains(author))
    }

    /// Keys that the rule refers to: those of its files and of the follow list.
    pub fn referenced_keys(&self) -> impl Iterator<Item = &KeySet> {
        let files = [&self.authors_file, &self.not_authors_file].into_iter().flatten().map(|file| &file.held);
        files.chain(self.follows_of.iter().filter_map(|follows| follows.keys.as_ref()))
    }

    /// The authors that it lists for inclusion.
    fn included(&self) -> impl Iterator<Item = &Pubkey> {
        self.author_sets().flat_map(KeySet::iter)
    }

    /// The authors that it lists for exclusion.
    fn excluded(&self) -> impl Iterator<Item = &Pubkey> {
        self.excluded_sets().flat_map(KeySet::iter)
    }

    /// All authors that it lists.
    pub fn named(&self) -> impl Iterator<Item = &Pubkey> {
        self.included().chain(self.excluded())
    }

    /// Whether it can select no event at all.
    #[must_use]
    pub fn selects_nothing(&self) -> bool {
        let takes_nobody = self.follows_of.is_none()
            && !self.takes_every_author()
            && self.included().all(|author| self.excludes(author));
        self.kinds.as_ref().is_some_and(KindSet::is_empty)
            || takes_nobody
            || self.addressed_to.as_ref().is_some_and(KeySet::is_empty)
    }

    /// Whether it selects every event that `other` selects, kinds aside.
    fn covers_events_of(&self, other: &Self) -> bool {
        let excludes_no_more = self
            .excluded()
            .all(|author| other.excludes(author) || (!other.takes_every_author() && !other.has_author(author)));
        let has_all = self.takes_every_author()
            || (!other.takes_every_author()
                && other.follows_of.is_none()
                && other.included().all(|author| self.names(author) || other.excludes(author)));
        let has_recipients = match (&self.addressed_to, &other.addressed_to) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(keys)) => keys.iter().all(|key| own.contains(key)),
        };
        excludes_no_more && has_all && has_recipients
    }

    /// If the selectors `before` together select everything that this one could: the index of the last one needed.
    #[must_use]
    pub fn covered_by<'a>(&'a self, before: impl Iterator<Item = &'a Self> + Clone) -> Option<usize> {
        // Membership changes only at the ends of ranges of kinds.
        let all = before.clone().chain(std::iter::once(self)).filter_map(|selector| selector.kinds.as_ref());
        let edges = all.flat_map(KindSet::edges).chain(std::iter::once(Kind(0))).filter(|kind| self.may_take(*kind));
        let mut last = None;
        for kind in edges {
            let covers = |one: &Self| one.may_take(kind) && one.covers_events_of(self);
            last = last.max(Some(before.clone().position(covers)?));
        }
        last
    }
}

/// Whether a `p` tag of the event holds a key that `is_meant`.
pub fn is_addressed(event: EventView<'_>, is_meant: impl Fn(&Pubkey) -> bool) -> bool {
    event.tags().values("p").filter_map(TagElement::as_hex).any(|key| is_meant(&Pubkey(*key)))
}

impl Rule {
    /// Whether its events are never removed.
    #[must_use]
    pub const fn is_forever(&self) -> bool {
        self.bounds.keep.is_some()
    }

    /// The earliest `created_at` that is kept at `now`.
    #[must_use]
    pub const fn oldest(&self, now: Timestamp) -> Timestamp {
        match (self.bounds.max_age, self.bounds.age_by) {
            (Some(age), AgeBy::CreatedAt) => Timestamp(now.0.saturating_sub(age.seconds)),
            _ => Timestamp(0),
        }
    }

    /// The earliest arrival that stays at `now`; `None` when arrivals do not matter.
    #[must_use]
    pub const fn oldest_arrival(&self, now: Timestamp) -> Option<Timestamp> {
        match (self.bounds.max_age, self.bounds.age_by) {
            (Some(age), AgeBy::Arrival) => Some(Timestamp(now.0.saturating_sub(age.seconds))),
            _ => None,
        }
    }

    /// At `now`, the grace period of events created before this has ended, so they may be evicted.
    #[must_use]
    pub const fn grace_end(&self, now: Timestamp) -> Timestamp {
        match self.bounds.grace {
            Some(grace) => Timestamp(now.0.saturating_sub(grace.seconds)),
            None => Timestamp(u64::MAX),
        }
    }

    /// Mistakes within the rule: the key, and how to fix it.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let Bounds { keep, max_age, age_by, grace, max_per_author_and_kind, max_events, max_bytes } = self.bounds;
        let mut faults = Vec::new();
        if self.selector.kinds.as_ref().is_some_and(KindSet::is_empty) {
            faults.push(("kinds", "an empty list selects nothing; omit the key to select every kind"));
        }
        if self.selector.authors.as_ref().is_some_and(KeySet::is_empty) {
            faults.push(("authors", "an empty list selects nobody; omit the key to select every author"));
        }
        if self.selector.authors_file.as_ref().is_some_and(|file| file.held.is_empty()) {
            faults.push(("authors_file", "the file contains no keys, so the rule selects nothing"));
        }
        if self.selector.addressed_to.as_ref().is_some_and(KeySet::is_empty) {
            faults.push(("addressed_to", "an empty list selects nothing; omit the key to select every recipient"));
        }
        let limits = [
            ("max_age", max_age.is_some()),
            ("grace", grace.is_some()),
            ("max_per_author_and_kind", max_per_author_and_kind > 0),
            ("max_events", max_events > 0),
            ("max_bytes", max_bytes > 0),
        ];
        for (key, _) in limits.into_iter().filter(|(_, is_set)| keep.is_some() && *is_set) {
            faults.push((key, "keep = \"forever\" contradicts this limit; remove one of them"));
        }
        if max_age.is_none() && age_by != AgeBy::default() {
            faults.push(("age_by", "has no effect without max_age; add max_age or remove this"));
        }
        if max_age.is_some_and(|age| grace.is_some_and(|grace| grace.seconds >= age.seconds)) {
            faults.push((
                "grace",
                "max_age removes events before their grace period ends; make grace shorter than max_age",
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::testing::{author, trusted};

    #[test]
    fn an_age_is_a_number_and_a_unit_and_is_written_in_the_largest_unit_that_fits() {
        let round = |text: &str| Age::parse(text).map(|age| age.to_string());
        let cases = [("90d", "90d"), ("14d", "2w"), ("365d", "1y"), ("24h", "1d"), ("61s", "61s"), ("120m", "2h")];
        for (text, back) in cases {
            assert_eq!(round(text), Ok(back.to_string()));
        }
        for wrong in ["", "d", "5", "0d", "-1d", "1.5d", "1 d", "999999999999999999y", "5µ"] {
            assert!(Age::parse(wrong).is_err(), "{wrong}");
        }
    }

    fn rule(text: &str) -> Rule {
        serde_json::from_str(text).expect("a rule")
    }

    #[test]
    fn unknown_keys_and_rules_that_contradict_themselves_are_refused() {
        for wrong in [r#"{"kind":[7]}"#, r#"{"max_age":90}"#, r#"{"keep":"always"}"#] {
            assert!(serde_json::from_str::<Rule>(wrong).is_err(), "{wrong}");
        }
        let keys = |text: &str| rule(text).faults().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(r#"{"keep":"forever","max_age":"1d","max_bytes":5}"#), ["max_age", "max_bytes"]);
        assert_eq!(keys(r#"{"kinds":[],"authors":[],"max_age":"1h"}"#), ["kinds", "authors"]);
        assert_eq!([keys(r#"{"keep":"forever"}"#), keys("{}")], [vec![""; 0], vec![]]);
        assert_eq!(keys(r#"{"keep":"forever","grace":"1d"}"#), ["grace"]);
        assert_eq!(keys(r#"{"age_by":"arrival"}"#), ["age_by"]);
        assert_eq!(keys(r#"{"age_by":"arrival","max_age":"1d"}"#), [""; 0]);
        let graces = ["7d", "8d", "6d"].map(|grace| keys(&format!(r#"{{"max_age":"1w","grace":"{grace}"}}"#)));
        assert_eq!(graces, [vec!["grace"], vec!["grace"], vec![]], "max_age comes after the grace");
    }

    #[test]
    fn an_empty_list_selects_nothing_and_an_absent_one_everything() {
        let takes = |text: &str| rule(text).selector.may_take_of(&Pubkey([1; 32]), Kind(1));
        assert_eq!(["{}", r#"{"authors":[]}"#, r#"{"kinds":[]}"#].map(takes), [true, false, false]);
        let note = trusted(author(1), 1, 5, &[&["p", &author(2).to_string()], &["P", &author(3).to_string()]], "");
        let to = |text: &str| rule(text).selector.takes(note.view());
        let [second, third] = [2, 3].map(|seed| format!(r#"{{"addressed_to":["{}"]}}"#, author(seed)));
        assert_eq!([&*second, &third, r#"{"addressed_to":[]}"#, "{}"].map(to), [true, false, false, true]);
        let text = |text: &str| serde_json::to_string(&rule(text)).expect("JSON");
        let texts = [r#"{"kinds":[]}"#, r#"{"authors":[],"max_age":"1h"}"#, "{}"];
        assert_eq!(texts.map(text), texts, "what was written is written again");
    }

    #[test]
    fn a_selector_is_covered_when_those_before_it_take_all_of_its_authors_of_each_kind() {
        let [a, b] = [1, 2].map(|byte| Pubkey([byte; 32]));
        let covered = |texts: &[&str]| {
            let all: Vec<Rule> = texts
                .iter()
                .map(|text| rule(&text.replace('A', &a.to_string()).replace('B', &b.to_string())))
                .collect();
            let (last, before) = all.split_last().expect("a rule");
            last.selector.covered_by(before.iter().map(|rule| &rule.selector))
        };
        assert_eq!(covered(&["{}", r#"{"kinds":[1]}"#]), Some(0));
        assert_eq!(covered(&[r#"{"kinds":[1]}"#, r#"{"kinds":["2-7"]}"#, r#"{"kinds":[1,3,7]}"#]), Some(1));
        assert_eq!(covered(&[r#"{"kinds":["0-65535"]}"#, "{}"]), Some(0));
        assert_eq!(covered(&[r#"{"authors":["A","B"]}"#, r#"{"authors":["B"]}"#]), Some(0));
        assert_eq!(covered(&[r#"{"not_authors":["A"]}"#, r#"{"authors":["B"]}"#]), Some(0));
        assert_eq!(covered(&[r#"{"not_authors":["A"]}"#, r#"{"not_authors":["A","B"]}"#]), Some(0));
        assert_eq!(covered(&[r#"{"addressed_to":["A","B"]}"#, r#"{"addressed_to":["B"]}"#]), Some(0));
        assert_eq!(covered(&[r#"{"authors":["A"]}"#, r#"{"authors":["A"],"addressed_to":["B"]}"#]), Some(0));
        for open in [
            [r#"{"kinds":[1]}"#, "{}"],
            [r#"{"kinds":["0-65534"]}"#, "{}"],
            [r#"{"authors":["A"]}"#, r#"{"authors":["A","B"]}"#],
            [r#"{"not_authors":["A"]}"#, r#"{"authors":["A"]}"#],
            [r#"{"not_authors":["A"]}"#, "{}"],
            [r#"{"authors":[]}"#, "{}"],
            [r#"{"addressed_to":["A"]}"#, "{}"],
            [r#"{"addressed_to":["A"]}"#, r#"{"addressed_to":["A","B"]}"#],
        ] {
            assert_eq!(covered(&open), None, "{open:?}");
        }
        let void = |text: &str| rule(&text.replace('A', &a.to_string())).selector.selects_nothing();
        let texts = ["{}", r#"{"kinds":[]}"#, r#"{"authors":["A"],"not_authors":["A"]}"#, r#"{"not_authors":["A"]}"#];
        assert_eq!(texts.map(void), [false, true, true, false]);
    }
}
