//! Authentication of a connection (NIP-42), before anything else is done on it.
//!
//! It must never show the secret key: neither in a report nor in a message.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use secp256k1::{Keypair, SecretKey};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frame::opcode;
use super::stream::Upgraded;
use crate::corpus::draft::{Draft, Fields, Signer, Tags};

/// A relay that has not asked for authentication or not answered it by then is taken not to.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The key that a run authenticates with.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
    pubkey: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.pubkey).finish()
    }
}

impl Identity {
    /// Reads a secret key, 64 hex digits, from a file.
    ///
    /// # Errors
    /// If the file cannot be read or holds no key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::from_hex(text.trim()).with_context(|| format!("{}", path.display()))
    }

    /// Takes a secret key of 64 hex digits.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_hex(hex: &str) -> Result<Self> {
        let bytes = crate::corpus::event::decode_id(hex.as_bytes()).context("a secret key is 64 hex digits")?;
        let secret = SecretKey::from_secret_bytes(bytes).ok().context("this is no secret key")?;
        let keypair = Keypair::from_secret_key(&secret);
        let pubkey = faster_hex::hex_string(&keypair.x_only_public_key().0.to_byte_array());
        Ok(Self { keypair, pubkey })
    }

    /// The answer to a challenge: the id of the event, and the message.
    pub fn answer(&self, challenge: &str, relay: &str, now: u64) -> (String, String) {
        let mut tags = Tags::new();
        tags.push(&["relay", relay]);
        tags.push(&["challenge", challenge]);
        let fields =
            Fields { pubkey: &self.pubkey, created_at: now, kind: 22242, tags: &tags.finish(), content: "\"\"" };
        let draft = Draft::new(Signer::Author(0), fields);
        let signature = secp256k1::schnorr::sign_no_aux_rand(&draft.id, &self.keypair).to_byte_array();
        let event = format!("{}{}\"}}", String::from_utf8_lossy(&draft.json), faster_hex::hex_string(&signature));
        (faster_hex::hex_string(&draft.id), format!("[\"AUTH\",{event}]"))
    }
}

/// Waits for the relay's challenge, answers it and waits for the OK.
///
/// # Errors
/// If the relay does not ask within ten seconds, refuses, or closes the connection.
pub async fn authenticate(upgraded: &mut Upgraded, identity: &Identity, relay: &str) -> Result<()> {
    tokio::time::timeout(TIMEOUT, exchange(upgraded, identity, relay))
        .await
        .context("--auth: the relay sent no challenge, or did not answer ours, within 10 s")?
}

async fn exchange(upgraded: &mut Upgraded, identity: &Identity, relay: &str) -> Result<()> {
    let mut bytes = std::mem::take(&mut upgraded.early);
    let mut expected = None;
    loop {
        let mut messages: Vec<Value> = Vec::new();
        let outcome = upgraded.assembler.push(&bytes, |kind, payload| {
            if kind == opcode::TEXT {
                messages.extend(serde_json::from_slice::<Value>(payload));
            }
        });
        if let Err(reason) = outcome {
            bail!("{reason}");
        }
        for message in messages {
            match (message[0].as_str(), &expected) {
                (Some("AUTH"), _) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
                    let challenge = message[1].as_str().context("AUTH without a challenge")?;
                    let (id, answer) = identity.answer(challenge, relay, now);
                    let mut frame = Vec::new();
                    upgraded.codec.text(answer.as_bytes(), &mut frame);
                    upgraded.stream.write_all(&frame).await.context("write")?;
                    upgraded.stream.flush().await.context("write")?;
                    expected = Some(id);
                }
                (Some("OK"), Some(id)) if message[1] == id.as_str() => {
                    ensure!(message[2] == true, "the relay refuses our AUTH: {}", message[3]);
                    return Ok(());
                }
                _ => {}
            }
        }
        bytes = vec![0; 64 << 10];
        let read = upgraded.stream.read(&mut bytes).await.context("read")?;
        ensure!(read > 0, "the relay closed the connection before it was authenticated");
        bytes.truncate(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::event::Event;

    #[test]
    fn the_answer_to_a_challenge_is_a_signed_event_of_nip_42() {
        let identity = Identity::from_hex(&"07".repeat(32)).expect("a key");
        let (id, answer) = identity.answer("a \"challenge\"", "wss://relay.example", 1_700_000_000);
        let event = answer.strip_prefix("[\"AUTH\",").and_then(|rest| rest.strip_suffix(']')).expect("a message");
        let event = Event::parse(event.as_bytes()).expect("an event");
        event.verify().expect("signed");
        let tag = |name: &str, value: &str| vec![name.to_string(), value.to_string()];
        assert_eq!((event.kind, event.created_at, event.id.as_ref()), (22242, 1_700_000_000, id.as_str()));
        assert_eq!(event.tags, [tag("relay", "wss://relay.example"), tag("challenge", "a \"challenge\"")]);
    }

    #[test]
    fn the_secret_key_is_neither_guessed_nor_shown() {
        assert!(Identity::from_hex("07").is_err());
        assert!(Identity::from_hex(&"00".repeat(32)).is_err());
        let identity = Identity::from_hex(&"07".repeat(32)).expect("a key");
        assert!(!format!("{identity:?}").contains("0707"));
    }
}
