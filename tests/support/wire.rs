//! Keys and signed events as text, made with serde_json and libsecp256k1 alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secp256k1::{Keypair, SecretKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

/// Waits for the clock, since no event tells that it is time.
pub fn wait_until(time: u64) {
    while now() < time {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key pair, always the same for one name.
pub struct Key {
    pair: Keypair,
    /// The public key in hex.
    pub hex: String,
}

impl Key {
    pub fn named(name: &str) -> Self {
        let secret = Sha256::digest(format!("the key of {name}")).into();
        let secret = SecretKey::from_secret_bytes(secret).expect("a hash is a valid secret, but for 1 in 2^128");
        let pair = Keypair::from_secret_key(&secret);
        let hex = hex(&pair.x_only_public_key().0.to_byte_array());
        Self { pair, hex }
    }

    /// A signed event. `tags` is an array of arrays of strings.
    pub fn event(&self, kind: u64, created_at: u64, tags: Value, content: &str) -> Signed {
        let preimage = json!([0, self.hex, created_at, kind, tags, content]).to_string();
        let tags = tags.to_string();
        self.sign(&preimage, &kind.to_string(), &created_at.to_string(), &tags, &Value::from(content).to_string())
    }

    /// A note of kind 1, made now.
    pub fn note(&self, content: &str) -> Signed {
        self.event(1, now(), json!([]), content)
    }

    /// An event whose id is the hash of `preimage`, whatever the fields say.
    pub fn sign(&self, preimage: &str, kind: &str, created_at: &str, tags: &str, content: &str) -> Signed {
        let id: [u8; 32] = Sha256::digest(preimage).into();
        let sig = hex(secp256k1::schnorr::sign_no_aux_rand(&id, &self.pair).as_ref());
        let (id, pubkey) = (hex(&id), &self.hex);
        let text = format!(
            r#"{{"id":"{id}","pubkey":"{pubkey}","created_at":{created_at},"kind":{kind},"tags":{tags},"content":{content},"sig":"{sig}"}}"#
        );
        Signed { id, text }
    }

    /// A deletion request (NIP-09).
    pub fn delete(&self, created_at: u64, tags: Value) -> Signed {
        self.event(5, created_at, tags, "")
    }

    /// The answer to a challenge (NIP-42).
    pub fn answer(&self, challenge: &str, relay: &str) -> Signed {
        self.event(22242, now(), json!([["relay", relay], ["challenge", challenge]]), "")
    }
}

/// A signed event: its id and its canonical JSON, byte for byte as the relay must send it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    pub id: String,
    pub text: String,
}

impl Signed {
    /// The message that publishes it.
    pub fn message(&self) -> String {
        format!(r#"["EVENT",{}]"#, self.text)
    }

    /// The frame that delivers it to `sub`, a subscription id that needs no escapes.
    pub fn frame(&self, sub: &str) -> String {
        format!(r#"["EVENT","{sub}",{}]"#, self.text)
    }

    /// The answer that accepts it.
    pub fn ok(&self) -> String {
        format!(r#"["OK","{}",true,""]"#, self.id)
    }

    /// The answer that calls it a duplicate.
    pub fn duplicate(&self) -> String {
        format!(r#"["OK","{}",true,"duplicate: already have this event"]"#, self.id)
    }

    /// The answer that refuses it.
    pub fn refused(&self, reason: &str) -> String {
        format!(r#"["OK","{}",false,{}]"#, self.id, Value::from(reason))
    }

    /// The event with one piece of its text changed.
    pub fn with(&self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "{old} is not in {}", self.text);
        Self { id: self.id.clone(), text: self.text.replacen(old, new, 1) }
    }
}
