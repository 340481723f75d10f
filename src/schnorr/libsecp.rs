//! The reference engine: libsecp256k1, one signature at a time.
//!
//! It must never answer from anything but the full 32 bytes of a key.

use quick_cache::sync::Cache;
use secp256k1::XOnlyPublicKey;
use secp256k1::schnorr::{self, Signature};

use super::item::Item;

/// libsecp256k1 with a cache of lifted keys, which saves the square root of each repeated author.
pub(super) struct Libsecp {
    keys: Cache<[u8; 32], XOnlyPublicKey>,
}

impl Libsecp {
    /// `key_cache`: how many authors to remember; 0 for none.
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

/// BIP-340's verdict, without a cache: for the safety net, which must share nothing with what it checks.
pub(super) fn verify(item: &Item<'_>) -> bool {
    XOnlyPublicKey::from_byte_array(*item.pubkey).is_ok_and(|key| check(item, &key))
}

fn check(item: &Item<'_>, key: &XOnlyPublicKey) -> bool {
    schnorr::verify(&Signature::from_byte_array(*item.signature), item.id, key).is_ok()
}
