//! Two stores with random differences, deletions, versions, expirations and requests to vanish among them, end as the
//! same store: the one that an import of everything makes.

use serde_json::json;

use super::scene::{Home, field};
use crate::support::wire::{Key, Signed};

/// A small random generator (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

const AT: u64 = 1_700_000_000;

/// An event of any sort that two stores may differ in.
fn event(random: &mut Random, before: &[Signed]) -> Signed {
    let author = random.below(6);
    let key = Key::named(&format!("author {author}"));
    let (at, number) = (AT + random.below(300), random.below(1 << 40));
    let content = number.to_string();
    if author == 5 {
        // Whether its deletions outlive its vanishing depends on what came first, so it makes none.
        let vanishes = random.below(12) == 0;
        let tags = if vanishes { json!([["relay", "ALL_RELAYS"]]) } else { json!([]) };
        return key.event(if vanishes { 62 } else { 1 }, at, tags, &content);
    }
    match random.below(20) {
        0..=1 => key.event(0, at, json!([]), &content),
        2..=4 => key.event(30_023, at, json!([["d", random.below(4).to_string()]]), &content),
        5..=6 => {
            // Of events of others a request is refused where they are known, and kept where they are not. And whether
            // an older version outlives a newer one that is deleted by its id depends on what came first.
            let is_own = |event: &&Signed| field(&event.text, "pubkey") == key.hex && field(&event.text, "kind") == 1;
            let own: Vec<&Signed> = before.iter().filter(is_own).collect();
            let Some(target) = own.get(random.below(own.len().max(1) as u64) as usize) else {
                return key.event(1, at, json!([]), &content);
            };
            key.delete(at, json!([["e", target.id], ["k", "1"]]))
        }
        7 => key.delete(at, json!([["a", format!("30023:{}:{}", key.hex, random.below(4))]])),
        8 => key.event(1, at, json!([["expiration", "4000000000"]]), &content),
        _ => key.event(1, at, json!([]), &content),
    }
}

/// Both stores after they were level, and what they should be.
fn level(seed: u64, dir_of_second: &str) {
    let mut random = Random(seed);
    let (mut all, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..220 {
        let event = event(&mut random, &all);
        match random.below(4) {
            0 => ours.push(event.clone()),
            1 => theirs.push(event.clone()),
            _ => {
                ours.push(event.clone());
                theirs.push(event.clone());
            }
        }
        all.push(event);
    }
    let (here, there, whole) = (Home::with(&ours), Home::with(&theirs), Home::with(&all));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!(ran.counts(["not asked for", "invalid", "not delivered"]), [0; 3], "seed {seed}: {ran:?}");
    let again = here.sync(&relay.url(), &["--dir", dir_of_second]).good();
    assert_eq!(again.counts(["stored", "sent"]), [0; 2], "seed {seed}: {ran:?} {again:?}");
    drop(relay);
    assert_eq!(here.export(), there.export(), "seed {seed}: the two stores");
    assert_eq!(here.export(), whole.export(), "seed {seed}: the store that has everything");
    here.assert_clean();
    there.assert_clean();
}

#[test]
fn stores_that_differ_at_random_become_the_same_store() {
    for seed in 1..=6 {
        level(seed, if seed % 2 == 0 { "both" } else { "down" });
    }
}
