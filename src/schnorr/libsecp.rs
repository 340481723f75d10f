//! The reference engine: libsecp256k1, one signature at a time.
//!
//! Its cache must never be looked up by anything but the full 32 bytes of a key.

use quick_cache::sync::Cache;
use secp256k1::XOnlyPublicKey;
use secp256k1::schnorr::{self, Signature};

use super::item::Item;

/// libsecp256k1 with a cache of decoded keys, which saves a square root for every repeated author.
pub(super) struct Libsecp {
    keys: Cache<[u8; 32], XOnlyPublicKey>,
}

impl Libsecp {
    /// `key_cache` is how many authors to cache; 0 for none.
    pub(super) fn new(key_cache: usize) -> Self {
        Self { keys: Cache::new(key_cache) }
    }

    /// BIP-340's verdict.
    pub(super) fn verify(&self, item: &Item<'_>) -> bool {
        self.key(item.pubkey).is_some_and(|key| check(item, &key))
    }

    fn key(&self, bytes: &[u8; 32]) -> Option<XOnlyPublicKey> {
        if let Some(key) = self.keys.get(bytes) {
            return Some(key);
        }
        let key = XOnlyPublicKey::from_byte_array(*bytes).ok()?;
        self.keys.insert(*bytes, key);
        Some(key)
    }
}

/// BIP-340's verdict, without a cache: a check of the fast engine must share nothing with what it checks.
pub(super) fn verify(item: &Item<'_>) -> bool {
    XOnlyPublicKey::from_byte_array(*item.pubkey).is_ok_and(|key| check(item, &key))
}

fn check(item: &Item<'_>, key: &XOnlyPublicKey) -> bool {
    schnorr::verify(&Signature::from_byte_array(*item.signature), item.id, key).is_ok()
}
