//! The subjects of a list in the order of the acts that decided them, so that any page of a long list is found at once.
//!
//! It is kept in chunks: a change moves the entries of one chunk, and a page is found by counting chunks. It knows no
//! decisions.

use super::subject::Subject;

/// Entries of a chunk, at most: 24 KiB.
const CHUNK: usize = 512;

/// An act and its subject.
type Entry = (u64, Subject);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct DecisionOrder {
    /// None is empty.
    chunks: Vec<Vec<Entry>>,
    len: usize,
}

/// Two are equal if they hold the same, in whatever chunks.
impl PartialEq for DecisionOrder {
    fn eq(&self, other: &Self) -> bool {
        self.chunks.iter().flatten().eq(other.chunks.iter().flatten())
    }
}

impl Eq for DecisionOrder {}

impl DecisionOrder {
    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.len
    }

    /// The chunk that an entry is in, or belongs into.
    fn chunk_of(&self, entry: &Entry) -> usize {
        self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| first <= entry)).saturating_sub(1)
    }

    /// Adds a subject that act `number` decided about. Most come in the order of their acts.
    pub fn insert(&mut self, number: u64, subject: Subject) {
        let entry = (number, subject);
        let at = self.chunk_of(&entry);
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(vec![entry]);
            self.len += 1;
            return;
        };
        let Err(place) = chunk.binary_search(&entry) else { return };
        self.len += 1;
        if chunk.len() < CHUNK {
            chunk.insert(place, entry);
        } else if place == CHUNK {
            self.chunks.insert(at + 1, vec![entry]);
        } else {
            let mut second = chunk.split_off(CHUNK / 2);
            if place <= CHUNK / 2 {
                chunk.insert(place, entry);
            } else {
                second.insert(place - CHUNK / 2, entry);
            }
            self.chunks.insert(at + 1, second);
        }
    }

    /// Takes a subject out that act `number` decided about.
    pub fn remove(&mut self, number: u64, subject: Subject) {
        let entry = (number, subject);
        let at = self.chunk_of(&entry);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let Ok(place) = chunk.binary_search(&entry) else { return };
        chunk.remove(place);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// The subjects after the first `skip`, those of the latest acts first.
    pub fn latest(&self, mut skip: usize) -> impl Iterator<Item = Subject> + '_ {
        let is_passed = |chunk: &&Vec<Entry>| {
            let is_passed = skip >= chunk.len();
            skip -= if is_passed { chunk.len() } else { 0 };
            is_passed
        };
        let whole = self.chunks.iter().rev().take_while(is_passed).count();
        let rest = self.chunks.iter().rev().skip(whole);
        rest.flat_map(|chunk| chunk.iter().rev()).skip(skip).map(|(_, subject)| *subject)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::nostr::Kind;

    fn subject(number: u64) -> Subject {
        Subject::Kind(Kind(number as u16 % 7))
    }

    proptest! {
        #[test]
        fn every_page_is_that_of_a_sorted_list(
            changes in prop::collection::vec((any::<bool>(), 0_u64..3_000), 0..4_000),
            in_order in 0_u64..3_000,
            skips in prop::collection::vec(0_usize..6_000, 8),
        ) {
            let (mut order, mut plain) = (DecisionOrder::default(), BTreeSet::new());
            let appended = (0..in_order).map(|number| (true, 10_000 + number));
            let removed = (0..in_order).step_by(3).map(|number| (false, 10_000 + number));
            for (is_in, number) in appended.chain(changes).chain(removed) {
                let entry = (number, subject(number));
                if is_in {
                    order.insert(entry.0, entry.1);
                    plain.insert(entry);
                } else {
                    order.remove(entry.0, entry.1);
                    plain.remove(&entry);
                }
            }
            prop_assert_eq!(order.count(), plain.len());
            prop_assert!(order.chunks.iter().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
            for skip in skips.into_iter().chain([0, plain.len().saturating_sub(1), plain.len()]) {
                let page: Vec<Subject> = order.latest(skip).take(50).collect();
                let expected: Vec<_> = plain.iter().rev().skip(skip).take(50).map(|(_, one)| *one).collect();
                prop_assert_eq!(page, expected, "after {}", skip);
            }
        }
    }
}
