//! A set of public keys that may hold a million of them: a sorted array, an index of it by the first bits, and a bit
//! for each way in which one of the keys begins.
//!
//! Most keys that are looked up are in no list, and of these one in sixteen at most gets past the bits, which are small
//! enough for the cache. The index has about as many entries as there are keys, so the others read one of its entries
//! and, since keys are random, one or two keys: `benches/policy.rs` says what that takes. However unevenly keys begin,
//! it is a binary search at worst. It only holds values; the meaning of membership is decided elsewhere in `policy`.

use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::sets::Key;
use crate::nostr::Pubkey;

/// A set of keys, each written as `npub1…` or 64 lower-case hex digits. Clones share the keys and compare equal without
/// comparing them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeySet {
    sorted: Arc<Sorted>,
}

#[derive(PartialEq, Eq, Debug, Default)]
struct Sorted {
    /// Without duplicates.
    keys: Box<[Pubkey]>,
    /// Where the keys with each value of their first bits begin, and the end of the last of them.
    starts: Box<[u32]>,
    /// How many bits of the first four bytes the index does not look at.
    shift: u32,
    /// A bit for each value of the first bits, [`FINER`] more than the index looks at: whether a key begins so.
    begins: Box<[u64]>,
}

/// The bits of `begins` for each entry of the index, as a power of two: 16 to 32 for each key, 2 MiB for a million.
const FINER: u32 = 5;

impl Sorted {
    fn new(mut keys: Vec<Pubkey>) -> Self {
        if keys.is_empty() {
            return Self::default();
        }
        keys.sort_unstable();
        keys.dedup();
        // At least one bit, since a shift by all 32 is none.
        let bits = keys.len().checked_ilog2().unwrap_or_default().clamp(1, 24);
        let shift = u32::BITS - bits;
        let place = |at: usize| u32::try_from(at).expect("memory holds fewer than 2^32 keys of 32 bytes here");
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, key) in keys.iter().enumerate() {
            starts.resize(starts.len().max(first_bits(key, shift) + 1), place(at));
        }
        starts.resize((1 << bits) + 1, place(keys.len()));
        let mut begins = vec![0; 1 << (bits + FINER).saturating_sub(u64::BITS.ilog2())];
        for (word, bit) in keys.iter().map(|key| place_of_bit(key, shift)) {
            begins[word] |= bit;
        }
        Self { keys: keys.into(), starts: starts.into(), shift, begins: begins.into() }
    }

    fn contains(&self, key: &Pubkey) -> bool {
        let (word, bit) = place_of_bit(key, self.shift);
        if self.begins.get(word).is_none_or(|bits| bits & bit == 0) {
            return false;
        }
        let group = first_bits(key, self.shift);
        match self.starts.get(group..=group + 1) {
            Some(&[start, end]) => self.keys[start as usize..end as usize].binary_search(key).is_ok(),
            _ => false,
        }
    }
}

const fn first_bits(key: &Pubkey, shift: u32) -> usize {
    let [a, b, c, d, ..] = key.0;
    (u32::from_be_bytes([a, b, c, d]) >> shift) as usize
}

/// The word of `begins` and the bit in it that belong to the first bits of `key`.
const fn place_of_bit(key: &Pubkey, shift: u32) -> (usize, u64) {
    let value = first_bits(key, shift - FINER);
    (value / u64::BITS as usize, 1 << (value % u64::BITS as usize))
}

impl KeySet {
    /// Whether `key` is in the set.
    #[must_use]
    pub fn contains(&self, key: &Pubkey) -> bool {
        !self.is_empty() && self.sorted.contains(key)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.keys.is_empty()
    }

    /// The keys, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Pubkey> {
        self.sorted.keys.iter()
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.keys.len()
    }
}

impl FromIterator<Pubkey> for KeySet {
    fn from_iter<I: IntoIterator<Item = Pubkey>>(keys: I) -> Self {
        Self { sorted: Arc::new(Sorted::new(keys.into_iter().collect())) }
    }
}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for KeySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = KeySet;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<KeySet, A::Error> {
                std::iter::from_fn(|| list.next_element::<Key>().map(|key| key.map(|key| key.0)).transpose()).collect()
            }
        }
        deserializer.deserialize_seq(Keys)
    }
}

/// A follow list, written as the key of its owner. The keys on it are looked up in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Follows {
    /// The owner of the follow list (kind 3, NIP-02).
    pub of: Pubkey,
    /// The keys on it; `None` while no list with a key on it is stored.
    pub keys: Option<KeySet>,
}

impl Serialize for Follows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.of)
    }
}

impl<'de> Deserialize<'de> for Follows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { of: Key::deserialize(deserializer)?.0, keys: None })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Keys that begin alike, too: the last bytes differ, or only the first.
        #[test]
        fn a_set_holds_what_it_was_given_and_nothing_else(
            bytes in proptest::collection::vec((0..4_usize, any::<u8>()), 0..200)
        ) {
            let key = |&(at, byte): &(usize, u8)| {
                let mut key = [7; 32];
                key[[0, 1, 3, 31][at]] = byte;
                Pubkey(key)
            };
            let (inside, _) = bytes.split_at(bytes.len() / 2);
            let oracle: BTreeSet<Pubkey> = inside.iter().map(key).collect();
            let set: KeySet = inside.iter().map(key).collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), oracle.iter().collect::<Vec<_>>());
            for key in bytes.iter().map(key).chain([Pubkey([0; 32]), Pubkey([255; 32])]) {
                prop_assert_eq!(set.contains(&key), oracle.contains(&key));
            }
            prop_assert_eq!((set.len(), set.is_empty()), (oracle.len(), oracle.is_empty()));
        }
    }

    #[test]
    fn keys_are_npubs_or_lower_case_hex() {
        let text = format!(r#"["{}","{}"]"#, "0a".repeat(32), "0b".repeat(32));
        let set: KeySet = serde_json::from_str(&text).expect("a set of keys");
        assert_eq!(serde_json::to_string(&set).expect("JSON"), text);
        assert!(set.contains(&Pubkey([10; 32])) && !set.contains(&Pubkey([12; 32])));
        assert!(serde_json::from_str::<KeySet>(&text.to_uppercase()).is_err());
    }
}
