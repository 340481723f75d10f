//! Generated events for tests and benches: correct ids, signatures of zeros, all from one seed.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weir::nostr::json::Parser;
use weir::nostr::{Event, VerifiedEvent};

/// A small random generator (SplitMix64): a printed seed gives the same case on every machine.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in `times`, on average.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// 64 lower-case hexadecimal digits.
    pub fn hex32(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.next())).collect()
    }
}

/// An event with the right id.
pub fn event(pubkey: &str, created_at: u64, kind: u64, tags: &Value, content: &str) -> Value {
    let preimage = json!([0, pubkey, created_at, kind, tags, content]).to_string();
    let id: String = Sha256::digest(preimage.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "id": id, "pubkey": pubkey, "created_at": created_at, "kind": kind, "tags": tags, "content": content,
        "sig": "00".repeat(64),
    })
}

/// The event as the store takes it.
pub fn trusted(parser: &mut Parser, event: &Value) -> VerifiedEvent {
    VerifiedEvent::trust(Event::parse(parser, event.to_string().as_bytes()).expect("a well-formed event"))
}
