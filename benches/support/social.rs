//! Made-up events of a social network: what several benches fill their stores with.

use serde_json::{Value, json};

use crate::corpus::{self, Random};

/// An author by activity: half of the events are by one author in seven, and the first one writes about 20 times as
/// much as one in the middle.
pub fn active<'a>(random: &mut Random, authors: &'a [String]) -> &'a String {
    let (a, b) = (random.below(authors.len() as u64), random.below(authors.len() as u64));
    &authors[(a * b / authors.len() as u64) as usize]
}

/// An event of this time by an active author. It mentions up to three others, each with the event that `parent`
/// chooses.
pub fn social_event<'a>(
    random: &mut Random,
    authors: &[String],
    time: u64,
    parent: impl Fn(&mut Random) -> Option<&'a String>,
) -> Value {
    let author = active(random, authors).clone();
    let kind = *random.pick(&[1, 1, 1, 1, 1, 7, 7, 7, 7, 6, 0, 3, 9735, 30_023]);
    let mut tags = Vec::new();
    for _ in 0..random.below(4) {
        tags.push(json!(["p", active(random, authors)]));
        tags.extend(parent(random).map(|id| json!(["e", id, "wss://relay.example.com", "reply"])));
    }
    if random.once_in(4) {
        tags.push(json!(["t", format!("topic{}", random.below(50))]));
    }
    if random.once_in(2_000) {
        tags.push(json!(["t", "rare"]));
    }
    let content: String = (0..random.below(20)).map(|_| random.hex32()).collect();
    corpus::event(&author, time, kind, &json!(tags), &content)
}
