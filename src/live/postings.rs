//! Sorted posting lists of filter slots by key, for hundreds of thousands of keys, most of which have one slot.
//!
//! A posting is 16 bytes and holds a single slot itself. Longer lists are in blocks of 2, 4, 8 … slots, which are
//! reused when freed. A key is a uniform 64-bit hash that the caller computes, and serves as its own hash here. Never
//! pass this module a key that a client could choose.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// The number of tables that the keys are spread over. A table that grows moves all its keys at once; 1/64 of a million
/// keys take a fraction of a millisecond.
const TABLES: usize = 64;

/// The slots that are listed under one key.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..8 | `key` | the hash |
/// | 8..12 | `at` | class 0: the only slot; otherwise the number of the block within its class |
/// | 12..16 | `size` | bits 0..5: the class, the capacity being 2^class; bits 5..32: the number of slots |
#[derive(Clone, Copy)]
struct Posting {
    key: u64,
    at: u32,
    size: u32,
}

const _: () = assert!(size_of::<Posting>() == 16);

const CLASS_BITS: u32 = 5;

impl Posting {
    const fn class(self) -> usize {
        (self.size & ((1 << CLASS_BITS) - 1)) as usize
    }

    const fn len(self) -> usize {
        (self.size >> CLASS_BITS) as usize
    }

    const fn set(&mut self, class: usize, len: usize) {
        assert!(len <= u32::MAX as usize >> CLASS_BITS, "a list has at most 2^27 slots");
        self.size = (len as u32) << CLASS_BITS | class as u32;
    }
}

/// The blocks of one capacity.
#[derive(Default)]
struct Class {
    slots: Vec<u32>,
    free: Vec<u32>,
    used: usize,
}

impl Class {
    fn take(&mut self, capacity: usize) -> u32 {
        self.used += 1;
        self.free.pop().unwrap_or_else(|| {
            let number = self.slots.len() / capacity;
            self.slots.resize(self.slots.len() + capacity, 0);
            u32::try_from(number).expect("a block holds 2 slots or more and a slot is 32 bits")
        })
    }

    fn give_back(&mut self, number: u32) {
        self.used -= 1;
        if self.used == 0 {
            *self = Self::default();
        } else {
            self.free.push(number);
        }
    }

    fn block(&self, number: u32, capacity: usize) -> &[u32] {
        &self.slots[number as usize * capacity..][..capacity]
    }

    fn block_mut(&mut self, number: u32, capacity: usize) -> &mut [u32] {
        &mut self.slots[number as usize * capacity..][..capacity]
    }
}

/// The blocks of all capacities. Class 0 stays empty, because a posting holds a single slot itself.
#[derive(Default)]
struct Blocks {
    classes: Vec<Class>,
}

impl Blocks {
    fn slots<'a>(&'a self, posting: &'a Posting) -> &'a [u32] {
        match posting.class() {
            0 => std::slice::from_ref(&posting.at),
            class => &self.classes[class].block(posting.at, 1 << class)[..posting.len()],
        }
    }

    fn slots_mut<'a>(&'a mut self, posting: &'a mut Posting) -> &'a mut [u32] {
        match posting.class() {
            0 => std::slice::from_mut(&mut posting.at),
            class => self.classes[class].block_mut(posting.at, 1 << class),
        }
    }

    /// Moves the list to a block of another capacity, which must be large enough.
    fn move_to(&mut self, posting: &mut Posting, class: usize) {
        let (old_class, old_at, len) = (posting.class(), posting.at, posting.len());
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, Class::default);
        }
        posting.set(class, len);
        match (old_class, class) {
            (0, _) => {
                posting.at = self.classes[class].take(1 << class);
                self.slots_mut(posting)[0] = old_at;
            }
            (_, 0) => posting.at = self.classes[old_class].block(old_at, 1 << old_class)[0],
            _ => {
                posting.at = self.classes[class].take(1 << class);
                let [from, to] = self.classes.get_disjoint_mut([old_class, class]).expect("two different classes");
                let kept = &from.block(old_at, 1 << old_class)[..len];
                to.block_mut(posting.at, 1 << class)[..len].copy_from_slice(kept);
            }
        }
        if old_class != 0 {
            self.classes[old_class].give_back(old_at);
        }
    }

    /// Inserts a slot in order, unless it is there.
    fn add(&mut self, posting: &mut Posting, slot: u32) {
        let Err(at) = self.slots(posting).binary_search(&slot) else { return };
        let len = posting.len();
        if len == 1 << posting.class() {
            self.move_to(posting, posting.class() + 1);
        }
        let slots = self.slots_mut(posting);
        slots.copy_within(at..len, at + 1);
        slots[at] = slot;
        posting.set(posting.class(), len + 1);
    }

    /// Removes a slot from a list of two or more. The list moves to a smaller block once three quarters of its block
    /// are empty, so that a list whose length goes up and down by one does not move each time.
    fn remove(&mut self, posting: &mut Posting, slot: u32) {
        let Ok(at) = self.slots(posting).binary_search(&slot) else { return };
        let (class, len) = (posting.class(), posting.len());
        self.slots_mut(posting).copy_within(at + 1..len, at);
        posting.set(class, len - 1);
        if len == 2 {
            self.move_to(posting, 0);
        } else if len - 1 <= (1 << class) / 4 {
            self.move_to(posting, class - 1);
        }
    }
}

/// Keys and the slots listed under them.
pub(super) struct Postings {
    tables: Box<[HashTable<Posting>]>,
    blocks: Blocks,
}

impl Postings {
    pub(super) fn new() -> Self {
        Self { tables: (0..TABLES).map(|_| HashTable::new()).collect(), blocks: Blocks::default() }
    }

    /// The table of a key, by bits that a table uses neither to choose a bucket (the lowest) nor as tags (the highest
    /// 7).
    const fn table(key: u64) -> usize {
        (key >> 48) as usize % TABLES
    }

    /// Lists `slot` under `key`, unless it is listed there.
    pub(super) fn insert(&mut self, key: u64, slot: u32) {
        let table = &mut self.tables[Self::table(key)];
        match table.entry(key, |posting| posting.key == key, |posting| posting.key) {
            Entry::Occupied(mut entry) => self.blocks.add(entry.get_mut(), slot),
            Entry::Vacant(entry) => {
                let mut posting = Posting { key, at: slot, size: 0 };
                posting.set(0, 1);
                entry.insert(posting);
            }
        }
    }

    /// Removes `slot` from the list of `key`, if it is there. Frees memory as lists and tables become empty.
    pub(super) fn remove(&mut self, key: u64, slot: u32) {
        let table = &mut self.tables[Self::table(key)];
        let Ok(mut entry) = table.find_entry(key, |posting| posting.key == key) else { return };
        if entry.get().len() > 1 {
            return self.blocks.remove(entry.get_mut(), slot);
        }
        if entry.get().at != slot {
            return;
        }
        entry.remove();
        if table.is_empty() {
            *table = HashTable::new();
        } else if table.len() < table.capacity() / 8 {
            table.shrink_to(2 * table.len(), |posting| posting.key);
        }
    }

    /// The slots under `key`, ascending.
    pub(super) fn get(&self, key: u64) -> &[u32] {
        match self.tables[Self::table(key)].find(key, |posting| posting.key == key) {
            Some(posting) => self.blocks.slots(posting),
            None => &[],
        }
    }

    /// Bytes of heap held.
    pub(super) fn memory_bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(HashTable::allocation_size).sum();
        let blocks = |class: &Class| (class.slots.capacity() + class.free.capacity()) * size_of::<u32>();
        tables
            + size_of_val(&*self.tables)
            + self.blocks.classes.capacity() * size_of::<Class>()
            + self.blocks.classes.iter().map(blocks).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    impl Postings {
        /// How many keys have a list.
        pub(in crate::live) fn keys(&self) -> usize {
            self.tables.iter().map(HashTable::len).sum()
        }
    }

    /// Deterministic and spread over all bits, like the caller's hash.
    fn key(number: u64) -> u64 {
        let mut mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ mixed >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ mixed >> 29
    }

    #[test]
    fn lists_hold_what_a_map_of_sets_holds_and_free_all_memory() {
        let mut postings = Postings::new();
        let baseline = postings.memory_bytes();
        let mut oracle: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for step in 0..60_000_u64 {
            let (list, slot) = (key(key(step) % 40 * (key(step + 7) % 30)), (key(step + 1_000_000) % 500) as u32);
            // Waves: mostly growing, then mostly shrinking.
            if key(step + 2_000_000) % 4 < if step / 5_000 % 2 == 0 { 3 } else { 1 } {
                postings.insert(list, slot);
                oracle.entry(list).or_default().insert(slot);
            } else {
                postings.remove(list, slot);
                if let Some(slots) = oracle.get_mut(&list) {
                    slots.remove(&slot);
                }
                oracle.retain(|_, slots| !slots.is_empty());
            }
            let expected: Vec<u32> = oracle.get(&list).into_iter().flatten().copied().collect();
            assert_eq!(postings.get(list), expected, "step {step}");
        }
        assert_eq!(postings.keys(), oracle.len());
        for (list, slots) in &oracle {
            assert_eq!(postings.get(*list), Vec::from_iter(slots.iter().copied()));
            slots.iter().for_each(|slot| postings.remove(*list, *slot));
        }
        assert_eq!(postings.keys(), 0);
        let classes = postings.blocks.classes.capacity() * size_of::<Class>();
        assert_eq!(postings.memory_bytes(), baseline + classes);
    }
}
