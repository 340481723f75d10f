//! The keys of a corpus, derived from its seed.
//!
//! It must never be used for keys of people: the secrets are a public function of a small number.

use secp256k1::{Keypair, SecretKey};
use sha2::{Digest, Sha256};

use super::draft::Signer;

/// The authors of a corpus, by rank.
pub struct Authors {
    seed: u64,
    keypairs: Vec<Keypair>,
    pubkeys: Vec<String>,
}

impl Authors {
    /// Derives `count` (at least 1) keys on every core.
    pub fn derive(seed: u64, count: usize) -> Self {
        let count = count.max(1);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = count.div_ceil(threads);
        let mut keypairs = Vec::with_capacity(count);
        std::thread::scope(|scope| {
            let range = |part: usize| (part * share).min(count)..((part + 1) * share).min(count);
            let parts: Vec<_> = (0..threads)
                .map(|part| {
                    scope
                        .spawn(move || range(part).map(|rank| keypair(seed, "author", rank as u64)).collect::<Vec<_>>())
                })
                .collect();
            for part in parts {
                keypairs.extend(part.join().expect("deriving keys does not panic"));
            }
        });
        let pubkeys = keypairs.iter().map(pubkey_hex).collect();
        Self { seed, keypairs, pubkeys }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keypairs.len()
    }

    /// Whether there are none (never, by construction).
    pub fn is_empty(&self) -> bool {
        self.keypairs.is_empty()
    }

    /// The public key of a rank, 64 hex digits.
    pub fn pubkey(&self, author: u32) -> &str {
        &self.pubkeys[author as usize]
    }

    /// The public key of a one-time key, 64 hex digits.
    pub fn once_pubkey(&self, number: u64) -> String {
        pubkey_hex(&keypair(self.seed, "once", number))
    }

    /// The BIP-340 signature over an id, without auxiliary randomness, so that a seed gives the same bytes each time.
    pub fn sign(&self, signer: Signer, id: &[u8; 32]) -> [u8; 64] {
        let signature = match signer {
            Signer::Author(author) => secp256k1::schnorr::sign_no_aux_rand(id, &self.keypairs[author as usize]),
            Signer::Once(number) => secp256k1::schnorr::sign_no_aux_rand(id, &keypair(self.seed, "once", number)),
        };
        signature.to_byte_array()
    }
}

fn keypair(seed: u64, purpose: &str, number: u64) -> Keypair {
    let mut hasher = Sha256::new();
    hasher.update(b"loadtest key");
    hasher.update(seed.to_be_bytes());
    hasher.update(purpose.as_bytes());
    hasher.update(number.to_be_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    let secret =
        SecretKey::from_secret_bytes(digest).expect("a SHA-256 digest is below the group order but for 1 in 2^128");
    Keypair::from_secret_key(&secret)
}

fn pubkey_hex(keypair: &Keypair) -> String {
    faster_hex::hex_string(&keypair.x_only_public_key().0.to_byte_array())
}
