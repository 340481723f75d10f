//! The challenge of BIP-340, e = hash_BIP0340/challenge(r ‖ pubkey ‖ id) modulo n.
//!
//! The message is always 32 bytes: what is signed of a Nostr event is its id (NIP-01).

use sha2::block_api::compress256;

use super::item::Item;
use super::scalar::{self, Words};

/// The state of SHA-256 after the block that a tagged hash begins with: SHA-256("BIP0340/challenge"), twice.
const MIDSTATE: [u32; 8] =
    [0x9cec_ba11, 0x2392_5381, 0x1167_9112, 0xd162_7e0f, 0x97c8_7550, 0x003c_c765, 0x90f6_1164, 0x33e9_b66a];

/// Bits hashed: the block of the tag, r, the key and the id.
const HASHED_BITS: u64 = 8 * (64 + 32 + 32 + 32);

/// e, reduced modulo n.
pub(super) fn challenge(item: &Item<'_>) -> Words {
    let mut blocks = [[0; 64]; 2];
    blocks[0][..32].copy_from_slice(&item.signature[..32]);
    blocks[0][32..].copy_from_slice(item.pubkey);
    blocks[1][..32].copy_from_slice(item.id);
    // The padding of FIPS 180-4 §5.1.1: a one bit, zeros, the length.
    blocks[1][32] = 0x80;
    blocks[1][56..].copy_from_slice(&HASHED_BITS.to_be_bytes());
    let mut state = MIDSTATE;
    compress256(&mut state, &blocks);
    // The digest is a big-endian number, most significant word first.
    let e = std::array::from_fn(|i| u64::from(state[6 - 2 * i]) << 32 | u64::from(state[7 - 2 * i]));
    scalar::reduced(&e)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_challenge_equals_the_tagged_hash_of_bip_340() {
        for seed in 0..=255u8 {
            let (id, pubkey, signature) = ([seed; 32], [seed ^ 0x5a; 32], [seed.wrapping_mul(3); 64]);
            let tag = Sha256::digest(b"BIP0340/challenge");
            let digest: [u8; 32] = Sha256::new()
                .chain_update(tag)
                .chain_update(tag)
                .chain_update(&signature[..32])
                .chain_update(pubkey)
                .chain_update(id)
                .finalize()
                .into();
            let item = Item { id: &id, pubkey: &pubkey, signature: &signature };
            assert_eq!(challenge(&item), scalar::reduced(&scalar::words(&digest)));
        }
    }
}
