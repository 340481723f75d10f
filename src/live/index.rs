//! The index: subscriptions go in, the recipients of an event come out.
//!
//! It never decides who may read an event, only who asked for it. A subscription with thousands of values can be listed
//! and taken out in steps, so that nobody who shares the index waits for all of them.

use std::sync::Arc;

use smallvec::SmallVec;

use super::candidates::{Condition, DimensionUse, Keys, KindSet};
use super::postings::Postings;
use crate::nostr::{EventView, Filter};

/// Names one subscription of one index. It is never reused for another, even after the subscription is removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle {
    slot: u32,
    serial: u64,
}

/// What the lookup of one event cost and found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lookup {
    /// List entries that were examined.
    pub candidates: usize,
    /// Subscriptions that match.
    pub matches: usize,
}

/// The entry of a filter: what can be decided without loading the filter itself.
struct Listed {
    /// The last lookup that tried it, so that an event with many of its values tries it once.
    tried: u64,
    subscription: u32,
    /// Its index among the subscription's filters.
    filter: u32,
    kinds: KindSet,
    /// Whether every candidate is a match.
    whole: bool,
}

struct Subscription<R> {
    recipient: R,
    filters: Arc<[Filter]>,
    /// The entries of its filters, except those that cannot match.
    listed: SmallVec<[u32; 4]>,
    /// How far its values are listed.
    listed_to: Progress,
    /// It is being taken out.
    is_leaving: bool,
    until_seq: u64,
    /// The last lookup that visited it.
    visited: u64,
    serial: u64,
}

/// The first value of a subscription that is not listed.
#[derive(Clone, Copy, Default)]
struct Progress {
    filter: usize,
    value: usize,
}

/// What [`LiveIndex::unlist`] left.
#[derive(Debug, PartialEq, Eq)]
pub enum Unlisted<R> {
    /// Values that are still listed.
    Some,
    /// Nothing: the subscription is out. Here is its recipient, unless it was out before.
    All(Option<R>),
}

/// Subscriptions by what they ask for.
///
/// An insertion or removal costs one hash and one table access per listed value. A lookup costs one of each for the id,
/// the author, the kind and each tag of the event, and then a few nanoseconds per candidate. A subscription to a whole
/// kind is a candidate for every event of that kind: the cost is linear, like that of delivering to it.
pub struct LiveIndex<R> {
    keys: Keys,
    postings: Postings,
    used: DimensionUse,
    listed: Vec<Listed>,
    listed_free: Vec<u32>,
    subscriptions: Vec<Option<Subscription<R>>>,
    subscriptions_free: Vec<u32>,
    items: usize,
    filter_bytes: usize,
    serial: u64,
    lookups: u64,
}

impl<R> LiveIndex<R> {
    /// An empty index. `secret` is the key of its hashes; it must be random wherever clients choose the filters.
    #[must_use]
    pub fn new(secret: [u64; 2]) -> Self {
        Self {
            keys: Keys::new(secret),
            postings: Postings::new(),
            used: DimensionUse::new(),
            listed: Vec::new(),
            listed_free: Vec::new(),
            subscriptions: Vec::new(),
            subscriptions_free: Vec::new(),
            items: 0,
            filter_bytes: 0,
            serial: 0,
            lookups: 0,
        }
    }

    /// Adds a subscription to events that match any of the filters and have a `seq` above `until_seq`.
    ///
    /// Filters that cannot match are kept but not listed.
    pub fn insert(&mut self, recipient: R, filters: Arc<[Filter]>, until_seq: u64) -> Handle {
        let handle = self.begin(recipient, filters);
        self.list(handle, usize::MAX);
        self.open(handle, until_seq);
        handle
    }

    /// Adds a subscription of which nothing is listed yet. Until [`LiveIndex::open`] it gets no stored event, and of
    /// the ephemeral ones those that match what is listed.
    pub fn begin(&mut self, recipient: R, filters: Arc<[Filter]>) -> Handle {
        let slot = take_slot(&mut self.subscriptions_free, &mut self.subscriptions, || None);
        let listed = SmallVec::with_capacity(filters.iter().filter(|filter| !filter.is_never()).count());
        self.serial += 1;
        self.items += items(&filters);
        self.filter_bytes += heap_bytes(&filters, &listed);
        let serial = self.serial;
        self.subscriptions[slot as usize] = Some(Subscription {
            recipient,
            filters,
            listed,
            listed_to: Progress::default(),
            is_leaving: false,
            until_seq: u64::MAX,
            visited: 0,
            serial,
        });
        Handle { slot, serial }
    }

    /// Lists at most `max_values` more of a subscription; whether all are listed. One that leaves is left as it is.
    pub fn list(&mut self, handle: Handle, max_values: usize) -> bool {
        let Some(subscription) = get_mut(&mut self.subscriptions, handle).filter(|found| !found.is_leaving) else {
            return true;
        };
        let filters = Arc::clone(&subscription.filters);
        let (mut at, mut left) = (subscription.listed_to, max_values);
        while let Some(filter) = filters.get(at.filter).filter(|_| left > 0) {
            if filter.is_never() {
                at.filter += 1;
                continue;
            }
            let condition = Condition::choose(filter);
            if at.value == 0 {
                let entry = Listed {
                    tried: 0,
                    subscription: handle.slot,
                    filter: u32::try_from(at.filter).expect("a message holds fewer than 2^32 filters"),
                    kinds: KindSet::of_filter(filter),
                    whole: condition.is_whole(filter),
                };
                subscription.listed.push(put(&mut self.listed_free, &mut self.listed, entry));
                self.used.add(condition);
            }
            let slot = *subscription.listed.last().expect("an entry was made with the first value");
            let to = condition.values().min(at.value.saturating_add(left));
            self.keys.of_values(condition, at.value..to, |key| self.postings.insert(key, slot));
            left -= to - at.value;
            at = if to < condition.values() {
                Progress { value: to, ..at }
            } else {
                Progress { filter: at.filter + 1, value: 0 }
            };
        }
        subscription.listed_to = at;
        at.filter == filters.len()
    }

    /// From now on a subscription gets events whose `seq` is above `until_seq`, unless it leaves.
    pub fn open(&mut self, handle: Handle, until_seq: u64) {
        let found = get_mut(&mut self.subscriptions, handle).filter(|found| !found.is_leaving);
        found.into_iter().for_each(|subscription| subscription.until_seq = until_seq);
    }

    /// From now on a subscription gets no stored event any more. [`LiveIndex::unlist`] takes it out.
    pub fn close(&mut self, handle: Handle) {
        if let Some(subscription) = get_mut(&mut self.subscriptions, handle) {
            (subscription.is_leaving, subscription.until_seq) = (true, u64::MAX);
        }
    }

    /// How many values the filters of a subscription have; 0 if it is out.
    #[must_use]
    pub fn items_of(&self, handle: Handle) -> usize {
        let place = self.subscriptions.get(handle.slot as usize).and_then(Option::as_ref);
        place.filter(|found| found.serial == handle.serial).map_or(0, |found| items(&found.filters))
    }

    /// Takes a subscription out and gives its recipient back; `None` if it is out already.
    pub fn remove(&mut self, handle: Handle) -> Option<R> {
        match self.unlist(handle, usize::MAX) {
            Unlisted::All(recipient) => recipient,
            Unlisted::Some => unreachable!("there was no bound"),
        }
    }

    /// Takes at most `max_values` of a subscription out of the lists, and with the last of them the subscription.
    pub fn unlist(&mut self, handle: Handle, max_values: usize) -> Unlisted<R> {
        self.close(handle);
        let Some(subscription) = get_mut(&mut self.subscriptions, handle) else { return Unlisted::All(None) };
        let mut left = max_values;
        while let Some(&slot) = subscription.listed.last() {
            if left == 0 {
                return Unlisted::Some;
            }
            let filter = self.listed[slot as usize].filter as usize;
            let condition = Condition::choose(&subscription.filters[filter]);
            let at = subscription.listed_to;
            let to = if at.filter == filter { at.value } else { condition.values() };
            let from = to.saturating_sub(left);
            self.keys.of_values(condition, from..to, |key| self.postings.remove(key, slot));
            left -= to - from;
            subscription.listed_to = Progress { filter, value: from };
            if from == 0 {
                subscription.listed.pop();
                self.used.remove(condition);
                self.listed_free.push(slot);
            }
        }
        Unlisted::All(self.free(handle.slot))
    }

    /// Forgets a subscription of which nothing is listed.
    fn free(&mut self, slot: u32) -> Option<R> {
        let subscription = self.subscriptions[slot as usize].take()?;
        self.subscriptions_free.push(slot);
        self.items -= items(&subscription.filters);
        self.filter_bytes -= heap_bytes(&subscription.filters, &subscription.listed);
        if self.is_empty() {
            self.subscriptions = Vec::new();
            self.subscriptions_free = Vec::new();
        }
        if self.listed_free.len() == self.listed.len() {
            self.listed = Vec::new();
            self.listed_free = Vec::new();
        }
        Some(subscription.recipient)
    }

    /// Calls `visit` once for each subscription that asks for `event` (INV-3).
    ///
    /// `seq` is the event's arrival number. An ephemeral event has none: it goes to every subscription that matches.
    pub fn matches(&mut self, event: EventView<'_>, seq: Option<u64>, visit: impl FnMut(&R)) -> Lookup {
        self.lookups += 1;
        let mut walk = Walk {
            event,
            kind: KindSet::of(event.kind()),
            seq,
            number: self.lookups,
            listed: &mut self.listed,
            subscriptions: &mut self.subscriptions,
            visit,
            lookup: Lookup::default(),
        };
        self.keys.of_event(event, &self.used, |key| walk.list(self.postings.get(key)));
        walk.lookup
    }

    /// How many subscriptions there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.subscriptions.len() - self.subscriptions_free.len()
    }

    /// Whether there are no subscriptions.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values their filters have, as [`Filter::items`] counts.
    #[must_use]
    pub const fn items(&self) -> usize {
        self.items
    }

    /// Bytes of heap that the index and its filters take, not counting what recipients point to.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.postings.memory_bytes()
            + self.filter_bytes
            + self.listed.capacity() * size_of::<Listed>()
            + self.subscriptions.capacity() * size_of::<Option<Subscription<R>>>()
            + (self.listed_free.capacity() + self.subscriptions_free.capacity()) * size_of::<u32>()
    }
}

/// A lookup in progress.
struct Walk<'a, R, V> {
    event: EventView<'a>,
    kind: KindSet,
    seq: Option<u64>,
    number: u64,
    listed: &'a mut [Listed],
    subscriptions: &'a mut [Option<Subscription<R>>],
    visit: V,
    lookup: Lookup,
}

impl<R, V: FnMut(&R)> Walk<'_, R, V> {
    fn list(&mut self, slots: &[u32]) {
        self.lookup.candidates += slots.len();
        for slot in slots {
            let listed = &mut self.listed[*slot as usize];
            if !listed.kinds.intersects(self.kind) || listed.tried == self.number {
                continue;
            }
            listed.tried = self.number;
            let Some(subscription) = &mut self.subscriptions[listed.subscription as usize] else {
                unreachable!("a filter is listed only while its subscription exists");
            };
            let wants = subscription.visited != self.number && self.seq.is_none_or(|seq| seq > subscription.until_seq);
            if wants && (listed.whole || subscription.filters[listed.filter as usize].matches(self.event)) {
                subscription.visited = self.number;
                self.lookup.matches += 1;
                (self.visit)(&subscription.recipient);
            }
        }
    }
}

fn get_mut<R>(subscriptions: &mut [Option<Subscription<R>>], handle: Handle) -> Option<&mut Subscription<R>> {
    let place = subscriptions.get_mut(handle.slot as usize)?.as_mut();
    place.filter(|subscription| subscription.serial == handle.serial)
}

fn items(filters: &[Filter]) -> usize {
    filters.iter().map(Filter::items).sum()
}

/// Puts a value into a free place, or a new one.
fn put<T>(free: &mut Vec<u32>, all: &mut Vec<T>, value: T) -> u32 {
    match free.pop() {
        Some(at) => {
            all[at as usize] = value;
            at
        }
        None => push(all, value),
    }
}

fn take_slot<T>(free: &mut Vec<u32>, all: &mut Vec<T>, empty: impl FnOnce() -> T) -> u32 {
    free.pop().unwrap_or_else(|| push(all, empty()))
}

fn push<T>(all: &mut Vec<T>, value: T) -> u32 {
    let at = u32::try_from(all.len()).expect("2^32 subscriptions or filters do not fit in memory");
    all.push(value);
    at
}

/// Bytes of heap that the filters of one subscription take.
fn heap_bytes(filters: &Arc<[Filter]>, listed: &SmallVec<[u32; 4]>) -> usize {
    // An Arc holds two counters before its contents.
    let spilled = if listed.spilled() { listed.capacity() * size_of::<u32>() } else { 0 };
    2 * size_of::<usize>()
        + size_of_val::<[Filter]>(filters)
        + filters.iter().map(Filter::heap_bytes).sum::<usize>()
        + spilled
}

#[cfg(test)]
mod tests;
