//! Events that weir signs itself: proofs of its key to other relays, and what the relay says of its members (NIP-43).

use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::event::Event;
use super::hex;
use super::json::Parser;
use super::kind::Kind;
use super::types::Timestamp;
use crate::schnorr::SigningKey;

/// An event, signed by `key`. Its tags are a list of lists of strings.
///
/// # Panics
/// When `created_at` is later than [`Timestamp::MAX`], or the tags are something else or one is empty.
#[must_use]
pub fn event(
    key: &SigningKey,
    kind: Kind,
    created_at: Timestamp,
    tags: &(impl Serialize + ?Sized),
    content: &str,
) -> Event {
    let pubkey = hex::encode(&key.public());
    let (kind, created_at) = (kind.0, created_at.0);
    let preimage = json!([0, pubkey, created_at, kind, tags, content]).to_string();
    let id: [u8; 32] = Sha256::digest(preimage).into();
    let sig = hex::encode(&key.sign(&id));
    let text = json!({
        "id": hex::encode(&id), "pubkey": pubkey, "created_at": created_at, "kind": kind, "tags": tags,
        "content": content, "sig": sig,
    });
    Event::parse(&mut Parser::default(), text.to_string().as_bytes()).expect("the fields are those of an event")
}

/// The tags of an event to be made. Each has a name at least.
pub type NewTags = Vec<Vec<String>>;

/// An event of the relay's own: these tags, and no content.
///
/// # Panics
/// As [`event`].
#[must_use]
pub fn own_event(key: &SigningKey, kind: Kind, created_at: Timestamp, tags: &NewTags) -> Event {
    event(key, kind, created_at, tags, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::VerifiedEvent;
    use crate::schnorr::{Options, Verifier};

    #[test]
    fn an_event_has_its_fields_its_id_and_a_good_signature() {
        let key = SigningKey::new([7; 32]).expect("a good secret");
        let tags = [["relay", "wss://a/\"b"], ["challenge", "\n\u{1}é"]];
        let event = event(&key, Kind::CLIENT_AUTH, Timestamp(5), &tags, "x");
        let view = event.view();
        assert_eq!((view.pubkey().0, view.kind().0, view.created_at().0), (key.public(), 22242, 5));
        assert!(view.to_json().contains(r#""tags":[["relay","wss://a/\"b"],["challenge","\n\u0001é"]],"content":"x""#));
        assert!(VerifiedEvent::verify_one(&Verifier::new(Options::default()), event).is_ok());
    }
}
