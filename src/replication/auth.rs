//! The proof of a key to the other relay (NIP-42): when it is due, and what became of it.
//!
//! Pure: what is to be sent is returned.

use crate::nostr::{EventId, Kind, Timestamp, sign};
use crate::peer::PeerUrl;
use crate::schnorr::SigningKey;

/// How far the proof has come.
#[derive(Default)]
pub struct Auth {
    challenge: Option<String>,
    pending: Option<EventId>,
    is_proven: bool,
}

impl Auth {
    /// The relay sent a challenge, which makes an earlier proof void.
    pub fn challenged(&mut self, challenge: String) {
        self.challenge = Some(challenge);
        self.is_proven = false;
    }

    /// The message that answers the challenge; `None` without a challenge or a key.
    #[must_use]
    pub fn prove(&mut self, key: Option<&SigningKey>, url: &PeerUrl, now: Timestamp) -> Option<String> {
        let (key, challenge) = (key?, self.challenge.as_ref()?);
        let tags = [["relay", url.as_str()], ["challenge", challenge.as_str()]];
        let event = sign::event(key, Kind::CLIENT_AUTH, now, &tags, "");
        self.pending = Some(event.view().id());
        Some(format!("[\"AUTH\",{}]", event.view().to_json()))
    }

    /// The relay answered an event. `None` if it is not the proof; otherwise whether the key is proven.
    pub fn answered(&mut self, id: EventId, accepted: bool) -> Option<bool> {
        self.pending.take_if(|pending| *pending == id)?;
        self.is_proven = accepted;
        Some(accepted)
    }

    /// Whether the relay owes an answer to the proof.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether a refusal for want of a key should be answered by a proof: none is proven or on its way.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        !self.is_proven && self.pending.is_none()
    }

    /// Whether the relay accepted the key.
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        self.is_proven
    }
}
