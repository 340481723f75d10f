//! NIP-13, proof of work.

use serde_json::json;

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// Leading zero bits of an id.
fn difficulty(event: &Signed) -> u32 {
    let digits: Vec<u32> = event.id.chars().map(|digit| digit.to_digit(16).expect("hex")).collect();
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    4 * zeros as u32 + digits.get(zeros).map_or(0, |digit| digit.leading_zeros() - 28)
}

/// Tries nonces until the difficulty is reached.
fn mine(key: &Key, kind: u64, target: Option<u32>, wanted: impl Fn(u32) -> bool) -> Signed {
    let at = now();
    let tags = |nonce: u32| match target {
        Some(target) => json!([["nonce", nonce.to_string(), target.to_string()], ["relay", "ALL_RELAYS"]]),
        None => json!([["nonce", nonce.to_string()], ["relay", "ALL_RELAYS"]]),
    };
    let tries = (0..).map(|nonce| key.event(kind, at, tags(nonce), ""));
    tries.into_iter().find(|event| wanted(difficulty(event))).expect("some nonce is right")
}

#[test]
fn an_event_needs_the_advertised_work_and_a_committed_target() {
    let relay = Relay::start("[limits]\nmin_pow_difficulty = 6");
    assert_eq!(relay.information()["limitation"]["min_pow_difficulty"], json!(6));
    let key = Key::named("miner");
    let mut client = relay.connect();
    client.publish(&mine(&key, 1, Some(6), |found| found >= 6));
    client.publish(&mine(&key, 1, Some(20), |found| found == 7));
    let easy = mine(&key, 1, Some(6), |found| found == 3);
    client.refused(&easy, "pow: difficulty 3 is below 6");
    let lucky = mine(&key, 1, Some(5), |found| found >= 6);
    client.refused(&lucky, "pow: the committed target 5 is below 6");
    let silent = mine(&key, 1, None, |found| found >= 6);
    client.refused(&silent, "pow: the nonce tag commits to no target; 6 is required");
    // A request to vanish (NIP-62) needs no proof of work.
    client.publish(&mine(&key, 62, None, |found| found == 0));
}

#[test]
fn luck_counts_where_the_operator_lets_it() {
    let relay = Relay::start("[limits]\nmin_pow_difficulty = 4\nrequire_committed_target = false");
    let key = Key::named("lucky miner");
    let mut client = relay.connect();
    client.publish(&mine(&key, 1, None, |found| found >= 4));
    client.refused(&mine(&key, 1, None, |found| found == 1), "pow: difficulty 1 is below 4");
}
