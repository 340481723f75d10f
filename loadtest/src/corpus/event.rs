//! One event taken apart and verified: its id is the hash of its fields, and its signature holds (NIP-01).
//!
//! It must never trust a relay or a file: both may send anything.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::draft::push_json_string;

/// Verified events that are remembered; when it is full it is emptied, and an event is verified again when it comes.
const MAX_REMEMBERED: usize = 1 << 20;

/// The seven fields of NIP-01. Two events are equal if these are; other fields say nothing about the event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Event<'a> {
    /// 64 hex digits.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// 64 hex digits.
    #[serde(borrow)]
    pub pubkey: Cow<'a, str>,
    /// Unix seconds.
    pub created_at: u64,
    /// 0..=65535.
    pub kind: u16,
    /// Arrays of strings.
    pub tags: Vec<Vec<String>>,
    /// Any text.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
    /// 128 hex digits.
    #[serde(borrow)]
    pub sig: Cow<'a, str>,
}

impl<'a> Event<'a> {
    /// Reads an event without verifying it.
    ///
    /// # Errors
    /// If the text is no JSON object with the seven fields; the message says which one is wrong.
    pub fn parse(json: &'a [u8]) -> Result<Self> {
        let event: Self = serde_json::from_slice(json).context("not an event")?;
        ensure!(event.id_bytes().is_some(), "`id` is not 64 hex digits");
        Ok(event)
    }

    /// The id as bytes.
    pub fn id_bytes(&self) -> Option<[u8; 32]> {
        decode(self.id.as_bytes())
    }

    /// Checks the id and the signature.
    ///
    /// # Errors
    /// If one of them is wrong; the message says which.
    pub fn verify(&self) -> Result<()> {
        let id = self.id_bytes().context("`id` is not 64 hex digits")?;
        // NIP-01 names seven escapes and takes every other character as it is; clients that use their language's JSON
        // writer escape control characters too.
        let is_id = hash(&self.serialization()) == id || hash(&self.escaped_serialization()) == id;
        ensure!(is_id, "`id` is not the hash of the event");
        let pubkey: [u8; 32] = decode(self.pubkey.as_bytes()).context("`pubkey` is not 64 hex digits")?;
        let signature: [u8; 64] = decode(self.sig.as_bytes()).context("`sig` is not 128 hex digits")?;
        let key = secp256k1::XOnlyPublicKey::from_byte_array(pubkey).context("`pubkey` is no key")?;
        let signature = secp256k1::schnorr::Signature::from_byte_array(signature);
        secp256k1::schnorr::verify(&signature, &id, &key).context("the signature does not hold")
    }

    /// When the event expires (NIP-40), unix seconds.
    pub fn expiration(&self) -> Option<u64> {
        let tag = self.tags.iter().find(|tag| tag.first().is_some_and(|name| name == "expiration"));
        tag?.get(1)?.parse().ok()
    }

    fn serialization(&self) -> String {
        let mut out = format!("[0,\"{}\",{},{},[", self.pubkey, self.created_at, self.kind);
        for (position, tag) in self.tags.iter().enumerate() {
            out.push_str(if position == 0 { "[" } else { ",[" });
            for (position, element) in tag.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                push_json_string(element, &mut out);
            }
            out.push(']');
        }
        out.push_str("],");
        push_json_string(&self.content, &mut out);
        out.push(']');
        out
    }

    fn escaped_serialization(&self) -> String {
        serde_json::json!([0, self.pubkey, self.created_at, self.kind, self.tags, self.content]).to_string()
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Decodes exactly `N` bytes of hex.
fn decode<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    (hex.len() == 2 * N).then(|| faster_hex::hex_decode(hex, &mut bytes).is_ok())?.then_some(bytes)
}

/// Decodes an id: 64 hex digits.
pub fn decode_id(hex: &[u8]) -> Option<[u8; 32]> {
    decode(hex)
}

/// Verifies events that a relay sends, each of them once.
#[derive(Debug, Default)]
pub struct Verifier {
    /// Hashes of the JSON of events that are good.
    good: RefCell<HashSet<[u8; 32]>>,
}

impl Verifier {
    /// Takes an event apart and verifies it.
    ///
    /// # Errors
    /// As [`Event::parse`] and [`Event::verify`].
    pub fn check<'a>(&self, json: &'a [u8]) -> Result<Event<'a>> {
        let event = Event::parse(json)?;
        let digest = Sha256::digest(json).into();
        let mut good = self.good.borrow_mut();
        if !good.contains(&digest) {
            event.verify()?;
            if good.len() == MAX_REMEMBERED {
                good.clear();
            }
            good.insert(digest);
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::draft::{Draft, Fields, Signer};

    /// An event of this content, signed over the serialization that `push_json_string` writes.
    fn signed(content: &str) -> Vec<u8> {
        let authors = crate::corpus::authors::Authors::derive(1, 1);
        let mut json = String::new();
        push_json_string(content, &mut json);
        let fields =
            Fields { pubkey: authors.pubkey(0), created_at: 9, kind: 1, tags: "[[\"t\",\"a\"]]", content: &json };
        let draft = Draft::new(Signer::Author(0), fields);
        let mut line = draft.json;
        line.extend_from_slice(faster_hex::hex_string(&authors.sign(Signer::Author(0), &draft.id)).as_bytes());
        line.extend_from_slice(b"\"}");
        line
    }

    fn outcome(json: &[u8]) -> Result<(), String> {
        Verifier::default().check(json).map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_holds_only_with_its_own_id_and_signature() {
        let good = String::from_utf8(signed("a \"quoted\" line\n")).expect("text");
        assert_eq!(outcome(good.as_bytes()), Ok(()));
        let changed = good.replace("quoted", "forged");
        assert_eq!(outcome(changed.as_bytes()), Err("`id` is not the hash of the event".into()));
        let at = good.find("\"sig\":\"").expect("a signature") + 7;
        let unsigned = format!("{}{}\"}}", &good[..at], "0".repeat(128));
        assert_eq!(outcome(unsigned.as_bytes()), Err("the signature does not hold".into()));
        assert_eq!(outcome(b"{\"id\":1}"), Err("not an event".into()));
    }

    #[test]
    fn an_event_is_verified_again_when_its_bytes_change() {
        let verifier = Verifier::default();
        let good = signed("x");
        verifier.check(&good).expect("a good event");
        verifier.check(&good).expect("the same event");
        let forged = String::from_utf8(good).expect("text").replace("\"content\":\"x\"", "\"content\":\"y\"");
        assert!(verifier.check(forged.as_bytes()).is_err());
    }

    #[test]
    fn fields_that_nip_01_does_not_name_do_not_make_another_event() {
        let good = String::from_utf8(signed("x")).expect("text");
        let more = good.replacen('{', "{\"seen\":true,", 1);
        let event = |json: &'static str| Event::parse(json.as_bytes()).expect("an event");
        assert_eq!(event(good.leak()), event(more.leak()));
    }
}
