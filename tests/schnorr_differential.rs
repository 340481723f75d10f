//! The fastest engine against libsecp256k1 on signatures that are good, damaged, malformed and crafted.
//!
//! `WEIR_SCHNORR_CASES` sets how many verdicts are compared (the default takes a few seconds in a debug build), and
//! `WEIR_SCHNORR_SEED` where the sequence starts. Ten million: `WEIR_SCHNORR_CASES=10000000 cargo test --release --test
//! schnorr_differential -- --nocapture`. On a machine without AVX-512 IFMA the same cases run on libsecp256k1 alone,
//! and the output says so.

#[path = "support/require.rs"]
mod require;

use require::Need;
use secp256k1::{Keypair, Scalar, SecretKey, XOnlyPublicKey, schnorr};
use sha2::{Digest, Sha256};
use weir::schnorr::{Engine, Item, Options, Verifier};

const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];
const PRIME: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xfc, 0x2f,
];
/// The bits of a case: 256 of the id, 256 of the key, 512 of the signature.
const BITS: usize = 1024;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes());
        }
        out
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Case {
    id: [u8; 32],
    pubkey: [u8; 32],
    signature: [u8; 64],
}

impl Case {
    fn signed(keypair: &Keypair, id: [u8; 32]) -> Self {
        let signature = schnorr::sign_no_aux_rand(&id, keypair).to_byte_array();
        Self { id, pubkey: keypair.x_only_public_key().0.to_byte_array(), signature }
    }

    fn item(&self) -> Item<'_> {
        Item { id: &self.id, pubkey: &self.pubkey, signature: &self.signature }
    }

    fn flip(mut self, bit: usize) -> Self {
        let byte = match bit / 8 {
            at @ 0..32 => &mut self.id[at],
            at @ 32..64 => &mut self.pubkey[at - 32],
            at => &mut self.signature[at - 64],
        };
        *byte ^= 1 << (bit % 8);
        self
    }

    fn with_r(mut self, r: [u8; 32]) -> Self {
        self.signature[..32].copy_from_slice(&r);
        self
    }

    fn with_s(mut self, s: [u8; 32]) -> Self {
        self.signature[32..].copy_from_slice(&s);
        self
    }

    fn challenge(&self) -> Option<Scalar> {
        let tag = Sha256::digest(b"BIP0340/challenge");
        let hash = Sha256::new().chain_update(tag).chain_update(tag);
        let hash = hash.chain_update(&self.signature[..32]).chain_update(self.pubkey).chain_update(self.id);
        Scalar::from_be_bytes(hash.finalize().into()).ok()
    }

    /// The verdict of libsecp256k1, called directly.
    fn oracle(&self) -> bool {
        XOnlyPublicKey::from_byte_array(self.pubkey).is_ok_and(|key| {
            schnorr::verify(&schnorr::Signature::from_byte_array(self.signature), &self.id, &key).is_ok()
        })
    }
}

/// The secret key of the point with the even y, which BIP-340 uses.
fn even_secret(keypair: &Keypair) -> SecretKey {
    let secret = SecretKey::from_keypair(keypair);
    match keypair.x_only_public_key().1 {
        secp256k1::Parity::Even => secret,
        secp256k1::Parity::Odd => secret.negate(),
    }
}

fn plus_small(mut number: [u8; 32], small: u64) -> [u8; 32] {
    let mut carry = small;
    for byte in number.iter_mut().rev() {
        carry += u64::from(*byte);
        *byte = carry as u8;
        carry >>= 8;
    }
    number
}

fn minus_one(mut number: [u8; 32]) -> [u8; 32] {
    for byte in number.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            break;
        }
    }
    number
}

/// s = e·d, so that s·G - e·P is the point at infinity.
fn infinite(keypair: &Keypair, case: Case) -> Case {
    let Some(e) = case.challenge() else { return case };
    even_secret(keypair).mul_tweak(&e).map_or(case, |s| case.with_s(s.to_secret_bytes()))
}

/// s = k + e·d for a nonce k of our choice with r = x(k·G), whatever the parity of its y: good if that is even.
fn with_nonce(keypair: &Keypair, case: Case, nonce: [u8; 32]) -> Case {
    let nonce = SecretKey::from_secret_bytes(nonce).expect("a small nonce or n - 1 is valid");
    let r = nonce.x_only_public_key().0.to_byte_array();
    let case = case.with_r(r);
    let Some(e) = case.challenge() else { return case };
    let product = even_secret(keypair).mul_tweak(&e).expect("a product of nonzero numbers");
    let s = nonce.add_tweak(&Scalar::from(product));
    s.map_or(case, |s| case.with_s(s.to_secret_bytes()))
}

/// A new case: mostly good or with one bit wrong, sometimes malformed or crafted. `bits` walks through all bits.
fn case(random: &mut Random, keys: &[Keypair], bits: &mut usize) -> Case {
    let keypair = &keys[random.below(keys.len())];
    let good = Case::signed(keypair, random.bytes());
    let small = random.next() % 4;
    match random.below(32) {
        0..10 => good,
        10..22 => {
            *bits = (*bits + 1) % BITS;
            good.flip(*bits)
        }
        // r: not an x coordinate below p, zero, of another signature.
        22 => good.with_r(plus_small(PRIME, small)),
        23 => good.with_r(if small == 0 { [0; 32] } else { random.bytes() }),
        24 => good.with_r([0xff; 32]),
        // s: zero, n - 1, n and above.
        25 => good.with_s(if small == 0 { [0; 32] } else { plus_small(ORDER, small - 1) }),
        26 => good.with_s(if small == 0 { minus_one(ORDER) } else { [0xff; 32] }),
        // Keys: half of all numbers are no x coordinate; p and above never are.
        27 => Case { pubkey: random.bytes(), ..good },
        28 => Case { pubkey: plus_small(PRIME, small), ..good },
        // The sum is infinity, or the nonce is tiny or n - 1, so that R = ±G and its neighbours.
        29 => infinite(keypair, good),
        30 => with_nonce(keypair, good, plus_small([0; 32], small + 1)),
        _ => with_nonce(keypair, good, minus_one(ORDER)),
    }
}

/// Keys of which some are ±G and its neighbours; few, so that they repeat within a batch.
fn keys(random: &mut Random) -> Vec<Keypair> {
    let pair = |secret: [u8; 32]| Keypair::from_secret_bytes(secret).expect("a valid key");
    let mut keys: Vec<Keypair> = (1..=3).map(|small| pair(plus_small([0; 32], small))).collect();
    keys.push(pair(minus_one(ORDER)));
    keys.extend((0..60).map(|_| pair(random.bytes())));
    keys
}

#[test]
fn every_verdict_equals_that_of_libsecp() {
    let default = if cfg!(debug_assertions) { 6_000 } else { 60_000 };
    let (count, seed) = (number("WEIR_SCHNORR_CASES", default), number("WEIR_SCHNORR_SEED", 1));
    // No rechecks, which would correct a wrong verdict.
    let verifier = Verifier::new(Options { recheck_one_in: 0, ..Options::default() });
    require::has(Need::Avx512, verifier.engine() == Engine::Avx512Ifma);
    let mut random = Random(seed as u64);
    let keys = keys(&mut random);
    let (mut done, mut good, mut bits) = (0, 0, 0);
    while done < count {
        let cases: Vec<Case> = (0..2 + random.below(100)).map(|_| case(&mut random, &keys, &mut bits)).collect();
        let items: Vec<Item<'_>> = cases.iter().map(Case::item).collect();
        let mut verdicts = vec![false; items.len()];
        verifier.verify(&items, &mut verdicts);
        for (case, verdict) in cases.iter().zip(&verdicts) {
            assert_eq!(*verdict, case.oracle(), "seed {seed}, after {done} verdicts: {case:x?}");
        }
        done += items.len();
        good += verdicts.iter().filter(|good| **good).count();
    }
    eprintln!("{}: {done} verdicts, {good} good, {} undecided, seed {seed}", verifier.engine(), verifier.undecided());
}

#[test]
fn a_signature_with_any_one_bit_wrong_is_rejected_in_any_lane() {
    let verifier = Verifier::new(Options { recheck_one_in: 0, ..Options::default() });
    let keypair = Keypair::from_secret_bytes([0x42; 32]).expect("a valid key");
    let good = Case::signed(&keypair, [0x24; 32]);
    // First only lane l of each batch of 16 has a flipped bit. Then all lanes have, each a different one.
    for first in (0..BITS).step_by(16) {
        let lane = first / 16 % 16;
        let mut batches = vec![vec![good; 16], (0..16).map(|i| good.flip(first + i)).collect::<Vec<_>>()];
        batches[0][lane] = good.flip(first + lane);
        for batch in batches {
            let items: Vec<Item<'_>> = batch.iter().map(Case::item).collect();
            let mut verdicts = vec![false; 16];
            verifier.verify(&items, &mut verdicts);
            let want: Vec<bool> = batch.iter().map(|case| *case == good).collect();
            assert_eq!(verdicts, want, "bits from {first}");
        }
    }
}
