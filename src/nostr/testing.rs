//! Deterministic events for tests. Never compiled into the relay.
//!
//! Ids are real hashes, since nothing else parses. Signatures are zeros, except those that [`signed`] makes.

#![allow(dead_code)]

use secp256k1::{Keypair, SecretKey};
use sha2::{Digest, Sha256};

use super::json::Parser;
use super::{Event, Pubkey, VerifiedEvent};

/// A made-up author, always the same for one seed.
pub fn author(seed: u64) -> Pubkey {
    Pubkey(Sha256::digest(format!("author {seed}")).into())
}

/// An event with a signature of zeros.
pub fn event(author: Pubkey, kind: u16, created_at: u64, tags: &[&[&str]], content: &str) -> Event {
    let (preimage, tags, content) = preimage(author, kind, created_at, tags, content);
    let id: [u8; 32] = Sha256::digest(preimage).into();
    assemble(&id, author, kind, created_at, &tags, &content, &[0; 64])
}

/// The same, its signature trusted.
pub fn trusted(author: Pubkey, kind: u16, created_at: u64, tags: &[&[&str]], content: &str) -> VerifiedEvent {
    VerifiedEvent::trust(event(author, kind, created_at, tags, content))
}

/// An event with a good signature by the key pair of `seed`.
pub fn signed(seed: u64, kind: u16, created_at: u64, tags: &[&[&str]], content: &str) -> Event {
    let keys = key_pair(seed);
    let author = Pubkey(keys.x_only_public_key().0.to_byte_array());
    let (preimage, tags, content) = preimage(author, kind, created_at, tags, content);
    let id: [u8; 32] = Sha256::digest(preimage).into();
    let signature = secp256k1::schnorr::sign_no_aux_rand(&id, &keys);
    assemble(&id, author, kind, created_at, &tags, &content, signature.as_ref())
}

/// The key pair of a seed, for [`signed`].
pub fn key_pair(seed: u64) -> Keypair {
    let secret = Sha256::digest(format!("secret {seed}")).into();
    Keypair::from_secret_key(
        &SecretKey::from_secret_bytes(secret).expect("a hash is a valid secret, but for 1 in 2^128"),
    )
}

fn preimage(author: Pubkey, kind: u16, created_at: u64, tags: &[&[&str]], content: &str) -> (String, String, String) {
    let tags = serde_json::to_string(tags).expect("strings are JSON");
    let content = serde_json::to_string(content).expect("a string is JSON");
    (format!("[0,\"{author}\",{created_at},{kind},{tags},{content}]"), tags, content)
}

fn assemble(id: &[u8], author: Pubkey, kind: u16, created_at: u64, tags: &str, content: &str, sig: &[u8]) -> Event {
    let (id, sig) = (super::hex::encode(id), super::hex::encode(sig));
    let text = format!(
        r#"{{"id":"{id}","pubkey":"{author}","created_at":{created_at},"kind":{kind},"tags":{tags},"content":{content},"sig":"{sig}"}}"#
    );
    Event::parse(&mut Parser::default(), text.as_bytes()).expect("the event is well formed and its id right")
}

#[test]
fn a_signed_test_event_verifies() {
    let event = signed(7, 1, 1_700_000_000, &[&["t", "a\u{1}b"]], "line\nline");
    let view = event.view();
    let key = secp256k1::XOnlyPublicKey::from_byte_array(view.pubkey().0).expect("a real key");
    let signature = secp256k1::schnorr::Signature::from_byte_array(view.signature().0);
    secp256k1::schnorr::verify(&signature, &view.id().0, &key).expect("a good signature");
}
