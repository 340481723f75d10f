//! Random rules and stores, and a dumb model of what is left of them. It shares no code with what it is held against.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::nostr::testing::{self, author, trusted};
use crate::nostr::{self, EventId, EventView, Kind, Pubkey, Timestamp, VerifiedEvent};
use crate::policy::{
    Age, AgeBy, Bounds as RuleBounds, Follows, Keep, KeyFile, KeySet, KindSet, Retention, Rule, Selector,
};
use crate::store::Store;

const KINDS: [u16; 4] = [1, 7, 1111, 9735];
/// Whose follow list the rules go by.
pub const OWNER: u64 = 50;

pub fn rule() -> impl Strategy<Value = Rule> {
    let kinds = proptest::sample::subsequence(KINDS.to_vec(), 0..=2);
    let authors = || proptest::sample::subsequence(vec![0_u64, 1, 2, 3], 0..=2);
    let limits = (
        (0_u64..12, any::<bool>()),
        0_u64..8,
        0_u64..4,
        (prop_oneof![Just(0), 1_u64..30], prop_oneof![Just(0), 200_u64..6000]),
        0_u8..5,
    );
    let (in_files, follows) = (any::<bool>(), proptest::bool::weighted(0.2));
    let selected = (kinds, authors(), authors(), in_files, follows, authors());
    (selected, limits).prop_map(
        |(
            (kinds, authors, not_authors, in_files, follows, addressed_to),
            ((age, by_arrival), grace, number, (max_events, max_bytes), forever),
        )| {
            let keys = |seeds: Vec<u64>| seeds.into_iter().map(author).collect();
            let selector = Selector {
                kinds: (!kinds.is_empty()).then(|| KindSet::of(&kinds)),
                authors: (!in_files && !authors.is_empty()).then(|| keys(authors.clone())),
                authors_file: (in_files && !authors.is_empty())
                    .then(|| KeyFile { held: keys(authors), ..KeyFile::default() }),
                follows_of: follows.then(|| Follows { of: author(OWNER), keys: None }),
                not_authors: keys(if in_files { Vec::new() } else { not_authors.clone() }),
                not_authors_file: in_files.then(|| KeyFile { held: keys(not_authors), ..KeyFile::default() }),
                addressed_to: (!addressed_to.is_empty()).then(|| keys(addressed_to)),
            };
            let max_age = (age > 2).then_some(Age { seconds: age * 100 });
            let grace = (grace > 2).then_some(Age { seconds: grace * 100 });
            let bounds = match forever {
                0 => RuleBounds { keep: Some(Keep::Forever), ..RuleBounds::default() },
                _ => RuleBounds {
                    keep: None,
                    max_age,
                    age_by: if by_arrival && max_age.is_some() { AgeBy::Arrival } else { AgeBy::CreatedAt },
                    grace,
                    max_per_author_and_kind: number,
                    max_events,
                    max_bytes,
                },
            };
            Rule { selector, bounds }
        },
    )
}

/// Events of four authors in any order of arrival, many of the same second: by how many hundreds of seconds they are
/// old. The clock of the relay moves, so no event is near an age.
pub fn events(now: u64) -> impl Strategy<Value = Vec<VerifiedEvent>> {
    let recipients = proptest::sample::subsequence(vec![0_u64, 1, 2, 3], 0..=2);
    let length = prop_oneof![9 => 0_usize..300, 1 => 1900_usize..9000];
    let one = (0_u64..4, 0..KINDS.len(), 0_u64..14, length, recipients);
    let followed = proptest::option::of(proptest::sample::subsequence(vec![0_u64, 1, 2, 3], 0..=3));
    (proptest::collection::vec(one, 1..80), followed).prop_map(move |(all, followed)| {
        let of = |(index, (by, kind, hundreds, length, to)): (usize, (u64, usize, u64, usize, Vec<u64>))| {
            let to: Vec<String> = to.into_iter().map(|seed| author(seed).to_string()).collect();
            let tags: Vec<[&str; 2]> = to.iter().map(|key| ["p", key.as_str()]).chain([["t", "x"]]).collect();
            let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
            let text = format!("{index} {}", "z".repeat(length));
            trusted(author(by), KINDS[kind], now - 100 * hundreds - 50, &tags, &text)
        };
        let list = followed.map(|seeds| {
            let keys: Vec<String> = seeds.into_iter().map(|seed| author(seed).to_string()).collect();
            let tags: Vec<[&str; 2]> = keys.iter().map(|key| ["p", key.as_str()]).collect();
            let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
            trusted(author(OWNER), 3, now - 5000, &tags, "")
        });
        all.into_iter().enumerate().map(of).chain(list).collect()
    })
}

/// How many hundreds of seconds ago some events arrived, the first of them first: as many in each batch.
pub fn arrivals() -> impl Strategy<Value = Vec<u64>> {
    proptest::sample::subsequence((0..14).rev().collect::<Vec<u64>>(), 1..=5)
}

/// When the events of each batch had arrived for certain: half a minute from any age.
pub fn batches<'a>(events: &'a [VerifiedEvent], hundreds: &[u64], now: u64) -> Vec<(&'a [VerifiedEvent], u64)> {
    let each = events.len().div_ceil(hundreds.len());
    events.chunks(each).zip(hundreds).map(|(batch, hundreds)| (batch, now - 100 * hundreds - 30)).collect()
}

/// Stores each batch a minute before it is known to have arrived.
pub fn fill(store: &Store, batches: &[(&[VerifiedEvent], u64)]) {
    for (batch, arrived) in batches {
        store.writer().commit(batch, Timestamp(arrived - 60)).expect("a commit");
        store.writer().reap_expired(Timestamp(*arrived), 1).expect("upkeep");
    }
}

/// Which events are left, by sorting lists. It knows of rules what the documentation says.
pub struct Model<'a> {
    rules: &'a Retention,
    now: u64,
    arrived: BTreeMap<EventId, u64>,
    /// With the rule of each, the most valuable first; `None` is for ever.
    kept: Vec<(Option<usize>, EventView<'a>)>,
}

impl<'a> Model<'a> {
    fn rule_of(rules: &Retention, event: EventView<'_>, followed: &KeySet) -> Option<usize> {
        let (author, kind) = (event.pubkey(), event.kind());
        let goes_by_list = |rule: &Rule| rule.selector.follows_of.is_some();
        if kind.0 == 3 && author == testing::author(OWNER) && rules.rules().iter().any(goes_by_list) {
            return None;
        }
        let is_unknown = followed.is_empty();
        let place = rules.rules().iter().position(|Rule { selector, .. }| {
            let file = selector.authors_file.as_ref().map(|file| &file.held);
            let follows = selector.follows_of.as_ref().map(|_| followed);
            let mut names = [selector.authors.as_ref(), file, follows].into_iter().flatten().peekable();
            selector.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
                && ((follows.is_some() && is_unknown)
                    || names.peek().is_none()
                    || names.any(|keys| keys.contains(&author)))
                && !selector.not_authors.contains(&author)
                && !selector.not_authors_file.as_ref().is_some_and(|file| file.held.contains(&author))
                && selector.addressed_to.as_ref().is_none_or(|keys| {
                    let json: serde_json::Value = serde_json::from_str(&event.to_json()).expect("JSON");
                    let tags = json["tags"].as_array().expect("a list");
                    keys.iter().any(|key| tags.iter().any(|tag| tag[0] == "p" && tag[1] == key.to_string()))
                })
        })?;
        let rule = &rules.rules()[place];
        (rule.bounds.keep.is_none() && !(goes_by_list(rule) && is_unknown)).then_some(place)
    }

    pub fn new(rules: &'a Retention, batches: &[(&'a [VerifiedEvent], u64)], now: u64) -> Self {
        let id = |event: &VerifiedEvent| event.view().id();
        let arrived = batches.iter().flat_map(|(batch, by)| batch.iter().map(move |event| (id(event), *by))).collect();
        let events = || batches.iter().flat_map(|(batch, _)| *batch);
        let of_list = |tag: nostr::Tag<'_>| Pubkey::from_hex(tag.value().expect("a value").to_text().as_bytes());
        let list = events().map(VerifiedEvent::view).find(|event| event.kind().0 == 3);
        let followed = list.iter().flat_map(|list| list.tags()).filter_map(of_list).collect();
        let kept = events().map(|event| (Self::rule_of(rules, event.view(), &followed), event.view()));
        let mut kept: Vec<_> = kept.collect();
        kept.sort_by_key(|(rule, event)| (*rule, Reverse(event.created_at()), event.id()));
        Self { rules, now, arrived, kept }
    }

    fn has_grace(rules: &Retention, now: u64, rule: Option<usize>, event: EventView<'_>) -> bool {
        let grace = rule.and_then(|rule| rules.rules()[rule].bounds.grace);
        grace.is_some_and(|grace| event.created_at().0 >= now - grace.seconds)
    }

    fn bounds(&self, rule: usize) -> RuleBounds {
        self.rules.rules()[rule].bounds
    }

    pub fn left(mut self) -> BTreeSet<EventId> {
        let rules = self.rules;
        let bounds = |rule: usize| rules.rules()[rule].bounds;
        let now = self.now;
        let has_grace = |rule, event| Self::has_grace(rules, now, rule, event);
        self.kept.retain(|(rule, event)| {
            let Some((age, age_by)) = rule.and_then(|rule| Some((bounds(rule).max_age?, bounds(rule).age_by))) else {
                return true;
            };
            let since = if age_by == AgeBy::Arrival { self.arrived[&event.id()] } else { event.created_at().0 };
            since >= now - age.seconds
        });
        let mut seen: BTreeMap<(usize, Pubkey, Kind), u64> = BTreeMap::new();
        self.kept.retain(|(rule, event)| {
            let Some(rule) = rule else { return true };
            let count = seen.entry((*rule, event.pubkey(), event.kind())).or_default();
            *count += 1;
            let limit = bounds(*rule).max_per_author_and_kind;
            limit == 0 || *count <= limit || has_grace(Some(*rule), *event)
        });
        for rule in 0..rules.rules().len() {
            let limit = self.bounds(rule).max_events;
            while limit > 0 && self.of(rule).count() as u64 > limit && self.drop_oldest(rule) {}
        }
        for rule in 0..rules.rules().len() {
            let limit = self.bounds(rule).max_bytes;
            let bytes = |model: &Self| model.of(rule).map(|event| event.record().len() as u64).sum::<u64>();
            while limit > 0 && bytes(&self) > limit && self.drop_oldest(rule) {}
        }
        self.limit_authors();
        self.make_room();
        self.kept.into_iter().map(|(_, event)| event.id()).collect()
    }

    /// The worst of each author go until what is left is within both limits.
    fn limit_authors(&mut self) {
        let limits = self.rules.limits();
        let authors: BTreeSet<Pubkey> = self.kept.iter().map(|(_, event)| event.pubkey()).collect();
        for author in authors {
            loop {
                let of = |(rule, event): &&(Option<usize>, EventView<'_>)| rule.is_some() && event.pubkey() == author;
                let count = self.kept.iter().filter(of).count() as u64;
                let bytes = self.kept.iter().filter(of).map(|(_, event)| size(*event)).sum::<u64>();
                let is_over = |limit: u64, held: u64| limit > 0 && held > limit;
                if !is_over(limits.max_events_per_author, count) && !is_over(limits.max_bytes_per_author, bytes) {
                    break;
                }
                let (rules, now) = (self.rules, self.now);
                let may_go =
                    |one: &(Option<usize>, EventView<'_>)| of(&one) && !Self::has_grace(rules, now, one.0, one.1);
                let Some(worst) = self.kept.iter().rposition(may_go) else { break };
                self.kept.remove(worst);
            }
        }
    }

    fn make_room(&mut self) {
        let limit = self.rules.limits().max_bytes;
        let used = |model: &Self| model.kept.iter().map(|(_, event)| size(*event)).sum::<u64>();
        if limit == 0 || used(self) <= limit - limit / 32 {
            return;
        }
        for rule in (0..self.rules.rules().len()).rev() {
            while used(self) > limit - 2 * (limit / 32) && self.drop_oldest(rule) {}
        }
    }

    fn of(&self, rule: usize) -> impl Iterator<Item = EventView<'a>> {
        self.kept.iter().filter(move |(of, _)| *of == Some(rule)).map(|(_, event)| *event)
    }

    /// False when there is none.
    fn drop_oldest(&mut self, rule: usize) -> bool {
        let may_go = |of, event| of == Some(rule) && !Self::has_grace(self.rules, self.now, of, event);
        let last = self.kept.iter().rposition(|(of, event)| may_go(*of, *event));
        last.map(|last| self.kept.remove(last)).is_some()
    }
}

/// What an event of these tests takes, by the arithmetic of the documentation: 153 bytes for four index entries, 48 for
/// each tag, and the record with 16 bytes, in whole pages if two do not fit into one.
pub fn size(event: EventView<'_>) -> u64 {
    let record = event.record().len() as u64 + 16;
    153 + 48 * event.tags().count() as u64 + if record > 2040 { record.div_ceil(4096) * 4096 } else { record }
}
