//! The operator's retention rules, in order, and whether an arriving event would be kept.
//!
//! The first rule that selects an event is its rule; events that no rule selects are kept forever. The order of the
//! rules is an order of value: to reduce a total, events of later rules are evicted first, and within a rule the
//! oldest. Nothing here removes anything.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::key_set::KeySet;
use super::list_file::KeyFile;
use super::rule::{AgeBy, Rule, Selector, is_addressed};
use crate::nostr::{EventView, Kind, Prefix, Pubkey, Reason, Timestamp};

/// Limits over all rules together. A limit of 0 means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes that events may take in the data file: see [`crate::store::keys::footprint`].
    pub max_bytes: u64,
    /// Events kept per author. Events that are kept forever are not counted.
    pub max_events_per_author: u64,
    /// Bytes kept per author in the data file. Events that are kept forever are not counted.
    pub max_bytes_per_author: u64,
    /// Bytes that must be free on the file system before the data file may grow.
    pub min_free_disk_bytes: u64,
    /// The largest share of the store, in per cent, that the rules may remove at once without the operator's
    /// confirmation; 100 never asks.
    pub confirm_removal_percent: u8,
}

/// Where the operator set a value, for messages: `weir.toml:2:1: storage.max_bytes`. It does not change what the rules
/// do, so all origins are equal.
#[derive(Clone, Debug)]
pub struct Origin(Arc<str>);

impl Origin {
    /// The line and column of a key in a file.
    #[must_use]
    pub fn new(file: &str, (line, column): (usize, usize), key: &str) -> Self {
        Self(format!("{file}:{line}:{column}: {key}").into())
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self("storage.max_bytes".into())
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Follow lists (NIP-02).
pub const FOLLOW_LIST: Kind = Kind(3);

/// The rules, and the limits over all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    rules: Vec<Rule>,
    limits: Limits,
    max_bytes_origin: Origin,
}

impl Retention {
    /// Combines the rules, in order, with the limits over all of them.
    #[must_use]
    pub fn new(rules: Vec<Rule>, limits: Limits) -> Self {
        Self { rules, limits, max_bytes_origin: Origin::default() }
    }

    /// The same rules, with the place of `max_bytes` in the file.
    #[must_use]
    pub fn with_max_bytes_origin(self, max_bytes_origin: Origin) -> Self {
        Self { max_bytes_origin, ..self }
    }

    /// Where the operator set `max_bytes`.
    #[must_use]
    pub const fn max_bytes_origin(&self) -> &Origin {
        &self.max_bytes_origin
    }

    /// The rules and limits as bytes, with the keys of files in place of the files, and without follow lists.
    ///
    /// # Panics
    /// Never: rules are numbers and texts.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let rules: Vec<Rule> = self.rules.iter().map(without_files).collect();
        serde_json::to_vec(&(rules, self.limits)).expect("rules are plain data")
    }

    /// Reads [`Self::to_bytes`]; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (rules, limits) = serde_json::from_slice(bytes).ok()?;
        Some(Self::new(rules, limits))
    }

    /// Whether there are no rules, so that everything is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The limits over all rules together.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// The keys whose follow lists the rules use, in order.
    pub fn followed(&self) -> impl Iterator<Item = &Pubkey> {
        self.rules.iter().filter_map(|rule| Some(&rule.selector.follows_of.as_ref()?.of))
    }

    /// The same rules with the follow lists that `list` returns.
    ///
    /// # Errors
    /// Those of `list`.
    pub fn with_follows<E>(mut self, mut list: impl FnMut(&Pubkey) -> Result<Option<KeySet>, E>) -> Result<Self, E> {
        for follows in self.rules.iter_mut().filter_map(|rule| rule.selector.follows_of.as_mut()) {
            follows.keys = list(&follows.of)?;
        }
        Ok(self)
    }

    /// Hashes everything that distinguishes these rules from others, without the limits over all of them. The bytes are
    /// the same in every build.
    ///
    /// # Panics
    /// Never: rules consist of numbers and strings.
    pub fn hash_rules(&self, hasher: &mut impl Hasher) {
        hasher.write(&serde_json::to_vec(&self.rules).expect("rules are plain data"));
        for keys in self.rules.iter().flat_map(|rule| rule.selector.referenced_keys()) {
            let mut keys: Vec<_> = keys.iter().collect();
            keys.sort_unstable();
            hasher.write_u64(keys.len() as u64);
            keys.iter().for_each(|key| hasher.write(&key.0));
        }
    }

    /// Whether any rule has a `max_age`.
    #[must_use]
    pub fn has_ages(&self) -> bool {
        self.rules.iter().any(|rule| rule.bounds.max_age.is_some())
    }

    /// Whether any rule limits the time since arrival.
    #[must_use]
    pub fn has_ages_by_arrival(&self) -> bool {
        self.rules.iter().any(|rule| rule.bounds.max_age.is_some() && rule.bounds.age_by == AgeBy::Arrival)
    }

    /// Whether any rule limits its events in total.
    #[must_use]
    pub fn limits_rules(&self) -> bool {
        self.rules.iter().any(|rule| rule.bounds.max_events > 0 || rule.bounds.max_bytes > 0)
    }

    /// Whether any rule limits the events of an author and kind.
    #[must_use]
    pub fn counts_kinds(&self) -> bool {
        self.rules.iter().any(|rule| rule.bounds.max_per_author_and_kind > 0)
    }

    /// Whether the events of an author are limited over all kinds.
    #[must_use]
    pub const fn counts_totals(&self) -> bool {
        (self.limits.max_events_per_author > 0 || self.limits.max_bytes_per_author > 0) && !self.is_empty()
    }

    /// Whether the events of an author are limited in any way.
    #[must_use]
    pub fn counts_authors(&self) -> bool {
        self.counts_kinds() || self.counts_totals()
    }

    /// The index of the rule of this event; `None` if it is kept forever, by a rule or because no rule selects it.
    #[must_use]
    pub fn rule_of(&self, event: EventView<'_>) -> Option<usize> {
        self.first(&event.pubkey(), event.kind(), |keys| is_addressed(event, |key| keys.contains(key)))
    }

    /// The same for all events of an author and kind.
    #[must_use]
    pub fn rule_of_all(&self, author: &Pubkey, kind: Kind) -> RuleOfAll {
        match self.rules.iter().find(|rule| rule.selector.may_take_of(author, kind)) {
            Some(rule) if rule.selector.addressed_to.is_some() => RuleOfAll::ByRecipient,
            _ => RuleOfAll::Rule(self.first(author, kind, |_| false)),
        }
    }

    /// The same for events of a kind whose author and recipients no rule lists.
    #[must_use]
    pub fn rule_of_others(&self, kind: Kind) -> Option<usize> {
        // No one can have this key.
        self.first(&Pubkey([0; 32]), kind, |_| false)
    }

    /// The index of the rule that selects this event, whether or not it keeps it forever; `None` if no rule does.
    #[must_use]
    pub fn selected_by(&self, event: EventView<'_>) -> Option<usize> {
        self.select(&event.pubkey(), event.kind(), |keys| is_addressed(event, |key| keys.contains(key)))
    }

    fn first(&self, author: &Pubkey, kind: Kind, is_addressed: impl Fn(&KeySet) -> bool) -> Option<usize> {
        let place = self.select(author, kind, is_addressed)?;
        let rule = &self.rules[place];
        // Events that an unknown list might select are neither removed by this rule nor left to a later one.
        (!rule.is_forever() && !rule.selector.is_unknown()).then_some(place)
    }

    fn select(&self, author: &Pubkey, kind: Kind, is_addressed: impl Fn(&KeySet) -> bool) -> Option<usize> {
        if kind == Kind::VANISH || (kind == FOLLOW_LIST && self.followed().any(|followed| followed == author)) {
            // Vanish requests stay as proof (NIP-62), and so do the follow lists that the rules use.
            return None;
        }
        self.rules.iter().map(|rule| &rule.selector).position(|selector| {
            selector.may_take_of(author, kind) && selector.addressed_to.as_ref().is_none_or(&is_addressed)
        })
    }

    /// The rules that can apply to events of this kind, in order.
    pub fn rules_of_kind(&self, kind: Kind) -> impl Iterator<Item = (usize, &Rule)> {
        let mut is_open = kind != Kind::VANISH;
        self.rules
            .iter()
            .enumerate()
            .take_while(move |(_, rule)| {
                let was_open = is_open;
                is_open &= !rule.selector.may_take(kind) || !rule.selector.selects_by_kind_alone();
                was_open
            })
            .filter(move |(_, rule)| rule.selector.may_take(kind))
    }

    /// The indexes of rules that never apply: those that select nothing, and those whose events are all selected by
    /// earlier rules, with the index of the last of these.
    #[must_use]
    pub fn idle_rules(&self) -> Vec<(usize, Option<usize>)> {
        let covered = |(place, rule): (usize, &Rule)| {
            if rule.selector.selects_nothing() {
                return Some((place, None));
            }
            let before = self.rules[..place].iter().map(|rule| &rule.selector);
            Some((place, Some(rule.selector.covered_by(before)?)))
        };
        self.rules.iter().enumerate().filter_map(covered).collect()
    }

    /// At `now`, some events of the kind with an earlier `created_at` than this are too old; zero if none ever are.
    #[must_use]
    pub fn oldest_of_kind(&self, kind: Kind, now: Timestamp) -> Timestamp {
        self.rules_of_kind(kind).map(|(_, rule)| rule.oldest(now)).max().unwrap_or_default()
    }

    /// Whether `event` is recent enough to be kept, so that events removed for their age do not return; by arrival, it
    /// is new. Deletion and vanish requests are always accepted, because they concern other events.
    ///
    /// # Errors
    /// `blocked:` with the rule's `max_age`.
    pub fn check_age(&self, event: EventView<'_>, now: Timestamp) -> Result<(), Reason> {
        let kind = event.kind();
        if self.rules.is_empty() || kind.is_ephemeral() || is_request(kind) {
            return Ok(());
        }
        let Some(place) = self.rule_of(event) else { return Ok(()) };
        match self.rules[place].bounds.max_age {
            Some(age) if event.created_at() < self.rules[place].oldest(now) => {
                Err(blocked(format!("events of kind {kind} are kept for {age} here (rule {})", place + 1)))
            }
            _ => Ok(()),
        }
    }
}

/// The same rule with the keys of its files written out.
fn without_files(rule: &Rule) -> Rule {
    let Selector { authors, authors_file, not_authors, not_authors_file, .. } = &rule.selector;
    let all = |keys: &KeySet, file: &KeyFile| keys.iter().chain(file.held.iter()).copied().collect::<KeySet>();
    let authors = match authors_file {
        Some(file) => Some(all(authors.as_ref().unwrap_or(&KeySet::default()), file)),
        None => authors.clone(),
    };
    let not_authors = not_authors_file.as_ref().map_or_else(|| not_authors.clone(), |file| all(not_authors, file));
    let selector =
        Selector { authors, authors_file: None, not_authors, not_authors_file: None, ..rule.selector.clone() };
    Rule { selector, bounds: rule.bounds }
}

/// The rule of all events of an author and kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleOfAll {
    /// The index of the rule; `None` if they are kept forever.
    Rule(Option<usize>),
    /// Their rules differ by recipient, so each event must be examined.
    ByRecipient,
}

/// Whether events of this kind request the removal of others and are accepted at any age (NIP-09, NIP-62).
#[must_use]
pub const fn is_request(kind: Kind) -> bool {
    matches!(kind, Kind::DELETION | Kind::VANISH)
}

/// The refusal of an event that would not be kept.
#[must_use]
pub fn blocked(text: String) -> Reason {
    Reason::new(Prefix::Blocked, text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AUTHOR, NOW, event_at, said};
    use super::*;
    use crate::nostr::testing::{author, trusted};

    const DAY: u64 = 86_400;
    const OTHER: Pubkey = Pubkey([1; 32]);

    /// Keeps profiles forever, one author for ten days, reactions for ninety, and everything else, except for another
    /// author, for a year.
    fn rules() -> Retention {
        let text = format!(
            r#"[{{"kinds":[0,3],"keep":"forever"}},{{"authors":["{OTHER}"],"max_age":"10d"}},
               {{"kinds":[7],"max_age":"90d"}},{{"not_authors":["{}"],"max_age":"1y"}}]"#,
            Pubkey([2; 32])
        );
        Retention::new(serde_json::from_str(&text).expect("rules"), Limits::default())
    }

    #[test]
    fn the_first_rule_that_selects_an_event_is_its_rule_and_without_one_it_stays() {
        let of = |author, kind| match rules().rule_of_all(&author, Kind(kind)) {
            RuleOfAll::Rule(rule) => rule,
            RuleOfAll::ByRecipient => panic!("no rule goes by recipients"),
        };
        assert_eq!([0, 7, 1, 62].map(|kind| of(Pubkey(AUTHOR), kind)), [None, Some(2), Some(3), None]);
        assert_eq!([0, 7, 1].map(|kind| of(OTHER, kind)), [None, Some(1), Some(1)]);
        assert_eq!([0, 7, 1].map(|kind| of(Pubkey([2; 32]), kind)), [None, Some(2), None]);
    }

    #[test]
    fn rules_are_remembered_with_the_keys_of_their_files() {
        let [a, b, c] = [1, 2, 3].map(author);
        let file = |key: Pubkey| Some(KeyFile { held: [key].into_iter().collect(), ..KeyFile::default() });
        let parse = |text: &str| serde_json::from_str::<Rule>(text).expect("a rule");
        let mut by_file = parse(&format!(r#"{{"authors":["{a}"],"max_age":"1d"}}"#));
        (by_file.selector.authors_file, by_file.selector.not_authors_file) = (file(b), file(c));
        let limits = Limits { max_bytes: 5, ..Limits::default() };
        let written = parse(&format!(r#"{{"authors":["{a}","{b}"],"not_authors":["{c}"],"max_age":"1d"}}"#));
        let row = Retention::new(vec![by_file], limits).to_bytes();
        assert_eq!(Retention::from_bytes(&row), Some(Retention::new(vec![written], limits)));
        assert_eq!([&b""[..], b"{}", b"[[],{}]"].map(Retention::from_bytes), [const { None }; 3]);
    }

    #[test]
    fn the_rules_of_a_kind_end_with_the_first_that_takes_every_author() {
        let of = |kind| rules().rules_of_kind(Kind(kind)).map(|(place, _)| place).collect::<Vec<_>>();
        assert_eq!([of(0), of(7), of(1), of(62)], [vec![0], vec![1, 2], vec![1, 3], vec![]]);
        let oldest = |kind| (NOW - rules().oldest_of_kind(Kind(kind), Timestamp(NOW)).0) / DAY;
        assert_eq!([oldest(7), oldest(1)], [10, 10]);
        assert_eq!(rules().oldest_of_kind(Kind(0), Timestamp(NOW)), Timestamp(0));
    }

    #[test]
    fn what_an_unknown_follow_list_might_select_is_kept_and_so_is_the_list() {
        let [owner, friend, stranger] = [1, 2, 3].map(author);
        let text = format!(r#"[{{"kinds":[1],"follows_of":"{owner}","max_age":"1y"}},{{"max_age":"1d"}}]"#);
        let rules = Retention::new(serde_json::from_str(&text).expect("rules"), Limits::default());
        let of = |rules: &Retention, author, kind| rules.rule_of(trusted(author, kind, 5, &[], "").view());
        let all =
            |rules: &Retention| [owner, friend, stranger].map(|author| [1, 7, 3].map(|kind| of(rules, author, kind)));
        let others = [None, Some(1), Some(1)];
        assert_eq!(all(&rules), [[None, Some(1), None], others, others]);
        assert_eq!(rules.idle_rules(), []);
        let list = |key: &Pubkey| Ok::<_, ()>((*key == owner).then(|| [friend].into_iter().collect()));
        let rules = rules.with_follows(list).expect("a list");
        assert_eq!(all(&rules), [[Some(1), Some(1), None], [Some(0), Some(1), Some(1)], [Some(1), Some(1), Some(1)]]);
        assert_eq!(
            serde_json::to_string(rules.rules()).expect("JSON"),
            text,
            "the text says whose list, not who is on it"
        );
    }

    #[test]
    fn what_would_be_removed_for_its_age_does_not_come_in() {
        let at = |kind, age| said(rules().check_age(event_at(NOW - age, kind, "[]", r#""""#).view(), Timestamp(NOW)));
        let kept = [(0, 5000 * DAY), (7, 90 * DAY), (1, 365 * DAY), (5, 5000 * DAY), (62, 5000 * DAY), (20_001, DAY)];
        assert_eq!(kept.map(|(kind, age)| at(kind, age)), [""; 6]);
        assert_eq!(at(7, 90 * DAY + 1), "blocked: events of kind 7 are kept for 90d here (rule 3)");
        assert_eq!(at(1, 366 * DAY), "blocked: events of kind 1 are kept for 1y here (rule 4)");
        let none = Retention::default();
        assert_eq!(said(none.check_age(event_at(1, 1, "[]", r#""""#).view(), Timestamp(NOW))), "");
    }
}
