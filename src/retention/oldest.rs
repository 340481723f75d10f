//! The events of one rule over all its kinds, oldest first: the order in which they are removed to save space.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashSet;

use super::cause::Cause;
use super::slice::{Removable, Slice};
use crate::nostr::{EventView, Kind, Pubkey, Timestamp};
use crate::policy::{KeySet, Retention, RuleOfAll, Selector, is_addressed};
use crate::store::{Amount, Entry, Flow, Seq, Snapshot, StoreError, WalkPosition};

/// The oldest event of a kind that has not been passed on yet.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    created_at: Timestamp,
    /// Within one second, the highest id is removed first.
    id: Reverse<[u8; 3]>,
    seq: Reverse<Seq>,
    kind: Kind,
    place: WalkPosition,
    /// The sizes of its record and its footprint, if it belongs to the rule.
    sizes: Option<(u64, u64)>,
}

/// Merges the kinds of a rule from their oldest ends, up to the events in their grace period.
pub struct OldestFirst {
    rule: usize,
    heads: BinaryHeap<Reverse<Head>>,
    /// The kinds from here on have not been looked up yet.
    next_kind: u32,
}

impl OldestFirst {
    /// The events of the rule with this index.
    #[must_use]
    pub const fn new(rule: usize) -> Self {
        Self { rule, heads: BinaryHeap::new(), next_kind: 0 }
    }

    /// The index of the rule.
    #[must_use]
    pub const fn rule(&self) -> usize {
        self.rule
    }

    /// Finds events until the slice is over or `excess` is used up; `weigh` says by how much each event reduces it.
    /// Returns true when there are no more events.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(
        &mut self,
        slice: &mut Slice<'_>,
        cause: Cause,
        excess: &mut u64,
        weigh: impl Fn(&Removable) -> u64,
    ) -> Result<bool, StoreError> {
        while self.find_kind(slice)? {
            if slice.is_over() {
                return Ok(false);
            }
        }
        while !slice.is_over() && *excess > 0 {
            let Some(Reverse(head)) = self.heads.pop() else { return Ok(true) };
            let Head { created_at, id: Reverse(id), seq: Reverse(seq), kind, place, sizes } = head;
            if let Some((bytes, footprint)) = sizes {
                let removable = Removable { rule: self.rule, bytes, footprint };
                slice.find(Entry { kind, created_at, id, seq }, &removable, cause);
                *excess = excess.saturating_sub(weigh(&removable));
            }
            self.advance(kind, Some(place), slice)?;
        }
        Ok(false)
    }

    /// Looks up the next kind of the rule; false when there are no more.
    fn find_kind(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        let Ok(from) = u16::try_from(self.next_kind) else { return Ok(false) };
        slice.spend(1);
        let Some(kind) = slice.snapshot.next_kind(Kind(from))? else {
            self.next_kind = u32::MAX;
            return Ok(false);
        };
        self.next_kind = u32::from(kind.0) + 1;
        if slice.rules.rules_of_kind(kind).any(|(place, _)| place == self.rule) {
            self.advance(kind, None, slice)?;
        }
        Ok(true)
    }

    /// Adds the next event of a kind to the merge.
    fn advance(
        &mut self,
        kind: Kind,
        mut place: Option<WalkPosition>,
        slice: &mut Slice<'_>,
    ) -> Result<(), StoreError> {
        let snapshot = slice.snapshot;
        let mut next = None;
        let until = slice.rules.rules()[self.rule].grace_end(slice.now);
        snapshot.walk_oldest(kind, until, &mut place, |entry| {
            slice.spend(1);
            let of_rule = slice.removable(entry)?.filter(|removable| removable.rule == self.rule);
            let is_of_rule = of_rule.is_some();
            next = Some((entry, of_rule.map(|removable| (removable.bytes, removable.footprint))));
            // Events of other rules are skipped, as long as the slice lasts.
            Ok(if is_of_rule || slice.rows == 0 { Flow::Pause } else { Flow::Continue })
        })?;
        if let (Some((entry, sizes)), Some(place)) = (next, place)
            && (sizes.is_some() || slice.rows == 0)
        {
            let (id, seq) = (Reverse(entry.id), Reverse(entry.seq));
            self.heads.push(Reverse(Head { created_at: entry.created_at, id, seq, kind, place, sizes }));
        }
        Ok(())
    }
}

/// The events of each rule and the bytes of their records. Starts from the totals per kind, as if no rule named any
/// key, and then corrects them by the author and tag indexes for the keys that rules name. Follow lists that rules
/// depend on belong to no rule.
///
/// # Errors
/// When the store is damaged.
pub fn held_by_rule(rules: &Retention, snapshot: &Snapshot<'_>) -> Result<Vec<Amount>, StoreError> {
    let mut held = vec![Amount::default(); rules.rules().len()];
    for (kind, usage) in snapshot.kinds()? {
        if let Some(rule) = rules.rule_of_others(kind) {
            held[rule].events += usage.events;
            held[rule].bytes += usage.bytes;
        }
    }
    let mut count = |event: EventView<'_>| {
        let (own, others) = (rules.rule_of(event), rules.rule_of_others(event.kind()));
        let length = event.record().len() as u64;
        if own != others {
            if let Some(rule) = others {
                held[rule].events = held[rule].events.saturating_sub(1);
                held[rule].bytes = held[rule].bytes.saturating_sub(length);
            }
            if let Some(rule) = own {
                held[rule].events += 1;
                held[rule].bytes += length;
            }
        }
    };
    let selectors = || rules.rules().iter().map(|rule| &rule.selector);
    let authors: HashSet<&Pubkey> = selectors().flat_map(Selector::named).chain(rules.followed()).collect();
    for author in &authors {
        let mut place = WalkPosition::of_author(author, Kind(0));
        snapshot.walk_author(author, &mut place, |entry| {
            let is_like_others = RuleOfAll::Rule(rules.rule_of_others(entry.kind));
            if rules.rule_of_all(author, entry.kind) != is_like_others
                && let Some(event) = snapshot.get(entry.seq)?.filter(|event| event.pubkey() == **author)
            {
                count(event);
            }
            Ok(Flow::Continue)
        })?;
    }
    let mut recipients = HashSet::new();
    for recipient in selectors().filter_map(|selector| selector.addressed_to.as_ref()).flat_map(KeySet::iter) {
        if recipients.contains(recipient) {
            continue;
        }
        snapshot.walk_addressed(recipient, |seq| {
            // Count an event once, even if it is addressed to several of these keys.
            if let Some(event) = snapshot.get(seq)?
                && is_addressed(event, |key| key == recipient)
                && !is_addressed(event, |key| recipients.contains(key))
                && !authors.contains(&event.pubkey())
            {
                count(event);
            }
            Ok(())
        })?;
        recipients.insert(*recipient);
    }
    Ok(held)
}
