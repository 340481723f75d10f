//! A private key, for the few events that weir signs itself.
//!
//! libsecp256k1 signs in constant time. A key is never printed, and its memory is overwritten when it is dropped.

use std::fmt;

use secp256k1::{Keypair, SecretKey, schnorr};

/// A private key.
pub struct SigningKey(Keypair);

impl SigningKey {
    /// The key with these bytes; `None` for the few that are none.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Option<Self> {
        let secret = SecretKey::from_secret_bytes(secret).ok()?;
        Some(Self(Keypair::from_secret_key(&secret)))
    }

    /// The public key, an x coordinate (BIP-340).
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.x_only_public_key().0.to_byte_array()
    }

    /// Signs an event id (BIP-340), without auxiliary randomness: the signature depends on the key and the id alone.
    #[must_use]
    pub fn sign(&self, id: &[u8; 32]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(schnorr::sign_no_aux_rand(id, &self.0).as_ref());
        signature
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Item, Options, Verifier};
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_key_and_id_alone_and_the_key_stays_secret() {
        let key = SigningKey::new([7; 32]).expect("a good secret");
        let (id, pubkey) = ([9; 32], key.public());
        let signature = key.sign(&id);
        let verifier = Verifier::new(Options::default());
        let good = |id: &[u8; 32], pubkey: &[u8; 32]| verifier.verify_one(Item { id, pubkey, signature: &signature });
        assert!(good(&id, &pubkey) && !good(&[8; 32], &pubkey));
        assert!(SigningKey::new([0; 32]).is_none() && SigningKey::new([0xff; 32]).is_none());
        assert_eq!(format!("{key:?}"), "SigningKey(…)");
    }
}
