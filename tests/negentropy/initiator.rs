//! The side that asks, implemented by the `negentropy` crate, which shares no code with the relay.

use std::collections::BTreeSet;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::wire::{Signed, hex};

/// The ids that one side has and the other lacks.
pub type Ids = BTreeSet<String>;

/// The ids of these events.
pub fn ids<'a>(events: impl IntoIterator<Item = &'a Signed>) -> Ids {
    events.into_iter().map(|event| event.id.clone()).collect()
}

/// Decodes hexadecimal digits.
pub fn bytes(digits: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// An initiator that holds these events, and its first message in hexadecimal.
pub fn initiator<'a>(
    own: impl IntoIterator<Item = &'a Signed>,
) -> (Negentropy<'static, NegentropyStorageVector>, String) {
    let mut storage = NegentropyStorageVector::new();
    for event in own {
        let value: Value = serde_json::from_str(&event.text).expect("JSON");
        let id = Id::from_slice(&bytes(&event.id)).expect("32 bytes");
        storage.insert(value["created_at"].as_u64().expect("a date"), id).expect("not sealed");
    }
    storage.seal().expect("not sealed");
    let mut negentropy = Negentropy::owned(storage, 60_000).expect("a frame of this size");
    let message = hex(&negentropy.initiate().expect("not begun"));
    (negentropy, message)
}

/// The message that opens `sub`.
pub fn open(sub: &str, filter: &Value, message: &str) -> String {
    json!(["NEG-OPEN", sub, filter, message]).to_string()
}

/// The relay's next message, which must be for `sub`.
#[track_caller]
pub fn reply(client: &mut Client<'_>, sub: &str) -> Vec<u8> {
    let frame = client.next();
    let message: Value = serde_json::from_str(&frame).expect("JSON");
    let digits = message[2].as_str().unwrap_or_else(|| panic!("a NEG-MSG, not {frame}"));
    assert_eq!(frame, format!(r#"["NEG-MSG","{sub}","{digits}"]"#));
    bytes(digits)
}

/// A session from NEG-OPEN to NEG-CLOSE: what only the client has, what only the relay has, and the number of rounds.
#[track_caller]
pub fn compare<'a>(
    client: &mut Client<'_>,
    filter: &Value,
    own: impl IntoIterator<Item = &'a Signed>,
) -> (Ids, Ids, usize) {
    let (mut negentropy, message) = initiator(own);
    client.send(open("sync", filter, &message));
    let (mut have, mut need) = (Vec::new(), Vec::new());
    for round in 1.. {
        let answer = reply(client, "sync");
        let next = negentropy.reconcile_with_ids(&answer, &mut have, &mut need).expect("a well-formed answer");
        let Some(next) = next else {
            client.send(r#"["NEG-CLOSE","sync"]"#);
            client.is_silent();
            let named = |ids: Vec<Id>| ids.iter().map(|id| hex(id.as_bytes())).collect();
            return (named(have), named(need), round);
        };
        client.send(json!(["NEG-MSG", "sync", hex(&next)]).to_string());
    }
    unreachable!("the loop has no end")
}

/// The ids that the relay names to a client that has nothing.
#[track_caller]
pub fn named(client: &mut Client<'_>, filter: &Value) -> Ids {
    let (have, need, _) = compare(client, filter, []);
    assert_eq!(have, Ids::new());
    need
}
