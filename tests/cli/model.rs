//! A model of what a relay should hold after a file of events: the NIPs in the simplest code, sharing none with weir.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The events held, and those that must not return.
#[derive(Default)]
pub struct Model {
    pub held: BTreeMap<String, Value>,
    /// The id held for each coordinate.
    holders: HashMap<String, String>,
    /// Pairs of an event and the author of its deletion.
    deleted: HashSet<(String, String)>,
    /// Coordinates, with the time up to which their versions are deleted.
    deleted_until: HashMap<String, u64>,
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().unwrap_or_default()
}

fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or_default()
}

fn tags<'a>(event: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    let tags = event["tags"].as_array().expect("tags");
    tags.iter().filter(move |tag| tag[0] == name).map(|tag| tag[1].as_str().unwrap_or_default())
}

fn is_hex(value: &Value, len: usize) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    value.as_str().is_some_and(|text| text.len() == len && digits(text))
}

/// Whether the line is a valid event by NIP-01, including its id but not its signature.
pub fn is_event(event: &Value) -> bool {
    let is_tag = |tag: &Value| tag.as_array().is_some_and(|tag| !tag.is_empty() && tag.iter().all(Value::is_string));
    let is_formed = is_hex(&event["id"], 64)
        && is_hex(&event["pubkey"], 64)
        && is_hex(&event["sig"], 128)
        && event["created_at"].as_u64().is_some_and(|time| time < 1 << 48)
        && event["kind"].as_u64().is_some_and(|kind| kind < 1 << 16)
        && event["content"].is_string()
        && event["tags"].as_array().is_some_and(|tags| tags.iter().all(is_tag));
    if !is_formed {
        return false;
    }
    let is_time = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    tags(event, "expiration").next().is_none_or(is_time) && id(event) == text(event, "id")
}

fn id(event: &Value) -> String {
    let array = json!([0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]);
    Sha256::digest(array.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the signature is the author's (BIP-340).
pub fn is_signed(event: &Value) -> bool {
    let bytes = |key| -> Vec<u8> {
        let text = text(event, key).as_bytes().chunks(2);
        text.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex")).collect()
    };
    let signature: [u8; 64] = bytes("sig").try_into().expect("128 digits");
    let key = secp256k1::XOnlyPublicKey::from_byte_array(bytes("pubkey").try_into().expect("64 digits"));
    let signature = secp256k1::schnorr::Signature::from_byte_array(signature);
    key.is_ok_and(|key| secp256k1::schnorr::verify(&signature, &bytes("id"), &key).is_ok())
}

/// The coordinate `kind:author:d` of an event that replaces older versions (NIP-01).
fn coordinate(event: &Value) -> Option<String> {
    let d = match number(event, "kind") {
        0 | 3 | 10_000..20_000 => "",
        30_000..40_000 => tags(event, "d").next().unwrap_or_default(),
        _ => return None,
    };
    Some(format!("{}:{}:{d}", number(event, "kind"), text(event, "pubkey")))
}

/// The keys that may delete an event: its author, and the recipients of a gift wrap (NIP-09, NIP-59).
fn owners(event: &Value) -> Vec<&str> {
    let mut owners = vec![text(event, "pubkey")];
    if number(event, "kind") == 1059 {
        owners.extend(tags(event, "p"));
    }
    owners
}

impl Model {
    /// Takes a line and returns its outcome.
    pub fn take(&mut self, line: &str, now: u64) -> &'static str {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return "invalid" };
        if !is_event(&event) {
            return "invalid";
        }
        let (kind, id) = (number(&event, "kind"), text(&event, "id").to_owned());
        if matches!(kind, 13 | 22_242 | 24_242 | 27_235) {
            return "refused";
        }
        if (20_000..30_000).contains(&kind) {
            return "ephemeral";
        }
        if tags(&event, "expiration").next().is_some_and(|at| at.parse().unwrap_or(u64::MAX) <= now) {
            return "expired";
        }
        if self.held.contains_key(&id) {
            return "duplicate";
        }
        let coordinate = coordinate(&event);
        let is_late = |until: &u64| number(&event, "created_at") <= *until;
        let is_deleted = owners(&event).iter().any(|by| self.deleted.contains(&(id.clone(), (*by).to_owned())));
        if kind != 5 && is_deleted || coordinate.as_ref().and_then(|c| self.deleted_until.get(c)).is_some_and(is_late) {
            return "deleted";
        }
        let rank = |event: &Value| (std::cmp::Reverse(number(event, "created_at")), text(event, "id").to_owned());
        let older = coordinate.as_ref().and_then(|coordinate| self.holders.get(coordinate)).cloned();
        if older.as_ref().is_some_and(|older| rank(&self.held[older]) < rank(&event)) {
            return "replaced";
        }
        if !is_signed(&event) {
            return "invalid";
        }
        if kind == 5 && !self.delete(&event) {
            return "invalid deletion";
        }
        if let Some(older) = older {
            self.remove(&older);
        }
        self.holders.extend(coordinate.map(|coordinate| (coordinate, id.clone())));
        self.held.insert(id, event);
        "stored"
    }

    fn remove(&mut self, id: &str) {
        if let Some(coordinate) = self.held.remove(id).as_ref().and_then(coordinate) {
            self.holders.remove(&coordinate);
        }
    }

    /// Applies a deletion request (NIP-09); returns false if no target can belong to its author.
    fn delete(&mut self, request: &Value) -> bool {
        let (by, at) = (text(request, "pubkey"), number(request, "created_at"));
        let mut is_valid = false;
        for target in tags(request, "e").filter(|target| is_hex(&json!(target), 64)) {
            let held = self.held.get(target);
            if held.is_some_and(|event| !owners(event).contains(&by)) {
                continue;
            }
            is_valid = true;
            if held.is_none_or(|event| number(event, "kind") != 5) {
                self.remove(target);
                self.deleted.insert((target.to_owned(), by.to_owned()));
            }
        }
        for target in tags(request, "a") {
            let parts: Vec<&str> = target.splitn(3, ':').collect();
            let kind: u64 = parts[0].parse().unwrap_or(u64::MAX);
            let is_replaceable = matches!(kind, 0 | 3 | 10_000..20_000) && parts.get(2).is_none_or(|d| d.is_empty());
            let is_addressable = (30_000..40_000).contains(&kind) && parts.len() == 3;
            if parts.get(1) != Some(&by) || !(is_replaceable || is_addressable) {
                continue;
            }
            is_valid = true;
            let coordinate = format!("{kind}:{by}:{}", parts.get(2).unwrap_or(&""));
            let until = self.deleted_until.entry(coordinate.clone()).or_default();
            *until = at.max(*until);
            let held = self.holders.get(&coordinate).cloned();
            if let Some(held) = held.filter(|held| number(&self.held[held], "created_at") <= at) {
                self.remove(&held);
            }
        }
        is_valid
    }
}
