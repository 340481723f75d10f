//! What is worth keeping: the operator's rules, in order, and whether an event that arrives would be kept.
//!
//! The first rule that selects an event is its rule; an event that no rule selects is kept. The order is also one of
//! value: when a total must shrink, events of later rules go first, and of one rule the oldest. Nothing here removes
//! anything.

use serde::{Deserialize, Serialize};

use super::sets::{KeySet, KindSet};
use crate::nostr::{EventView, Kind, Prefix, Reason, Timestamp};

/// The rules, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Retention {
    rules: Vec<Rule>,
}

/// Which events, and how many of them stay. A limit of 0 is none.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Only events of these kinds; empty for all.
    pub kinds: KindSet,
    /// Only events of these authors; empty for all.
    pub authors: KeySet,
    /// Days after `created_at` that an event stays.
    pub max_age_days: u32,
    /// The newest events of one author that stay.
    pub max_per_author: u64,
    /// The newest events of one author and kind that stay.
    pub max_per_author_and_kind: u64,
    /// Bytes of records that stay, the newest first.
    pub max_bytes: u64,
}

const DAY_S: u64 = 24 * 60 * 60;

impl Rule {
    /// Whether the rule is about `event`.
    #[must_use]
    pub fn selects(&self, event: EventView<'_>) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(event.kind()))
            && (self.authors.is_empty() || self.authors.contains(&event.pubkey()))
    }

    /// The earliest `created_at` that stays at `now`.
    #[must_use]
    pub fn oldest(&self, now: Timestamp) -> Timestamp {
        match self.max_age_days {
            0 => Timestamp(0),
            days => Timestamp(now.0.saturating_sub(u64::from(days) * DAY_S)),
        }
    }
}

impl Retention {
    /// Whether everything is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of `event`: its place and the rule.
    #[must_use]
    pub fn rule(&self, event: EventView<'_>) -> Option<(usize, &Rule)> {
        self.rules.iter().enumerate().find(|(_, rule)| rule.selects(event))
    }

    /// Whether `event` is young enough to be kept, so that what was removed for its age does not come back.
    /// Deletions and requests to vanish are always taken: they are about other events.
    ///
    /// # Errors
    /// `blocked:` with the age.
    pub fn check_age(&self, event: EventView<'_>, now: Timestamp) -> Result<(), Reason> {
        if self.rules.is_empty() || matches!(event.kind(), Kind::DELETION | Kind::VANISH) {
            return Ok(());
        }
        match self.rule(event) {
            Some((_, rule)) if event.created_at() < rule.oldest(now) => {
                let text = format!("events like this are kept for {} days here", rule.max_age_days);
                Err(Reason::new(Prefix::Blocked, text))
            }
            _ => Ok(()),
        }
    }
}

impl FromIterator<Rule> for Retention {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self { rules: rules.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AUTHOR, NOW, event_at, said};
    use super::*;
    use crate::nostr::Pubkey;

    /// Profiles for ever, one author for ten days, reactions for ninety, the rest for a year.
    fn rules() -> Retention {
        let rule = |kinds: &[u16], max_age_days| Rule { kinds: KindSet::of(kinds), max_age_days, ..Rule::default() };
        let author = Rule { authors: [Pubkey([1; 32])].into_iter().collect(), ..rule(&[], 10) };
        [rule(&[0, 3], 0), author, rule(&[7], 90), rule(&[], 365)].into_iter().collect()
    }

    #[test]
    fn the_first_rule_that_selects_an_event_is_its_rule() {
        let place = |kind| rules().rule(event_at(NOW, kind, "[]", r#""""#).view()).map(|(place, _)| place);
        assert_eq!([0, 7, 1].map(place), [Some(0), Some(2), Some(3)]);
        let own: Retention =
            [Rule { authors: [Pubkey(AUTHOR)].into_iter().collect(), ..Rule::default() }].into_iter().collect();
        assert_eq!(own.rule(event_at(NOW, 1, "[]", r#""""#).view()).map(|(place, _)| place), Some(0));
        let other: Retention =
            [Rule { authors: [Pubkey([1; 32])].into_iter().collect(), ..Rule::default() }].into_iter().collect();
        assert_eq!(other.rule(event_at(NOW, 1, "[]", r#""""#).view()), None);
    }

    #[test]
    fn what_would_be_removed_for_its_age_does_not_come_in() {
        let at = |kind, days: u64| {
            said(rules().check_age(event_at(NOW - days * DAY_S, kind, "[]", r#""""#).view(), Timestamp(NOW)))
        };
        assert_eq!([at(0, 5000), at(7, 90), at(1, 365), at(5, 5000), at(62, 5000)], [""; 5]);
        assert_eq!(at(7, 91), "blocked: events like this are kept for 90 days here");
        assert_eq!(at(1, 366), "blocked: events like this are kept for 365 days here");
        let none = Retention::default();
        assert_eq!(said(none.check_age(event_at(1, 1, "[]", r#""""#).view(), Timestamp(NOW))), "");
    }

    #[test]
    fn rules_are_written_as_a_list_of_tables_and_unknown_keys_are_refused() {
        let text = r#"[{"kinds":[7],"max_age_days":90}]"#;
        let expected = Rule { kinds: KindSet::of(&[7]), max_age_days: 90, ..Rule::default() };
        assert_eq!(serde_json::from_str::<Retention>(text).expect("rules").rules(), [expected]);
        assert!(serde_json::from_str::<Retention>(r#"[{"kind":[7]}]"#).is_err());
    }
}
