//! The events of one rule, the oldest first, over all its kinds: what goes when bytes must be saved.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashSet;

use super::sweep::{Cause, Judged, Slice};
use crate::nostr::{Kind, Pubkey, Timestamp};
use crate::policy::Retention;
use crate::store::{Entry, Flow, Place, Seq, Snapshot, StoreError};

/// The oldest event of a kind that was not passed on yet.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    created_at: Timestamp,
    /// Of one second, the highest id goes first.
    id: Reverse<[u8; 3]>,
    seq: Reverse<Seq>,
    kind: Kind,
    place: Place,
    /// Bytes of its record and its footprint, if it is of the rule.
    sizes: Option<(u64, u64)>,
}

/// A merge over the oldest ends of a rule's kinds, up to the events that have their grace.
pub struct OldestFirst {
    rule: usize,
    heads: BinaryHeap<Reverse<Head>>,
    /// Kinds from here on are still to be found.
    next_kind: u32,
}

impl OldestFirst {
    /// The events of the rule at this place.
    #[must_use]
    pub const fn new(rule: usize) -> Self {
        Self { rule, heads: BinaryHeap::new(), next_kind: 0 }
    }

    /// Whose events they are.
    #[must_use]
    pub const fn rule(&self) -> usize {
        self.rule
    }

    /// Finds further events until the slice is over or they come to `excess`, which shrinks by what `weigh` says of each.
    /// True when there are no more.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(
        &mut self,
        slice: &mut Slice<'_>,
        cause: Cause,
        excess: &mut u64,
        weigh: fn(&Judged) -> u64,
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
                let judged = Judged { rule: self.rule, bytes, footprint };
                slice.find(Entry { kind, created_at, id, seq }, &judged, cause);
                *excess = excess.saturating_sub(weigh(&judged));
            }
            self.advance(kind, Some(place), slice)?;
        }
        Ok(false)
    }

    /// Finds the next kind of the rule; false when all are found.
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

    /// Puts the next event of a kind in line.
    fn advance(&mut self, kind: Kind, mut place: Option<Place>, slice: &mut Slice<'_>) -> Result<(), StoreError> {
        let snapshot = slice.snapshot;
        let mut next = None;
        let until = slice.rules.rules()[self.rule].grace_over(slice.now);
        snapshot.walk_oldest(kind, until, &mut place, |entry| {
            slice.spend(1);
            let of_rule = slice.judge(entry)?.filter(|judged| judged.rule == self.rule);
            let is_of_rule = of_rule.is_some();
            next = Some((entry, of_rule.map(|judged| (judged.bytes, judged.footprint))));
            // Others' events are passed over, as long as the slice lasts.
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

/// Bytes of the records that each rule has, from the tallies by kind and the index of authors that rules name.
///
/// # Errors
/// When the store is damaged.
pub fn bytes_by_rule(rules: &Retention, snapshot: &Snapshot<'_>) -> Result<Vec<u64>, StoreError> {
    let mut bytes = vec![0; rules.rules().len()];
    // Nobody has this key: it stands for all authors that no rule names.
    let stranger = Pubkey([0; 32]);
    let named: HashSet<Pubkey> = rules.rules().iter().flat_map(|rule| rule.selector.named()).copied().collect();
    for (kind, usage) in snapshot.kinds()? {
        let mut of_strangers = usage.bytes;
        if rules.rules_of_kind(kind).any(|(_, rule)| rule.selector.goes_by_author()) {
            for author in &named {
                let own = bytes_of(snapshot, author, kind)?;
                of_strangers = of_strangers.saturating_sub(own);
                if let Some(rule) = rules.rule_of(author, kind) {
                    bytes[rule] += own;
                }
            }
        }
        if let Some(rule) = rules.rule_of(&stranger, kind) {
            bytes[rule] += of_strangers;
        }
    }
    Ok(bytes)
}

fn bytes_of(snapshot: &Snapshot<'_>, author: &Pubkey, kind: Kind) -> Result<u64, StoreError> {
    let mut bytes = 0;
    let mut place = Place::of_author(author, kind);
    snapshot.walk_author(author, &mut place, |entry| {
        if entry.kind != kind {
            return Ok(Flow::Pause);
        }
        if let Some(event) = snapshot.get(entry.seq)?.filter(|event| event.pubkey() == *author) {
            bytes += event.record().len() as u64;
        }
        Ok(Flow::Continue)
    })?;
    Ok(bytes)
}
