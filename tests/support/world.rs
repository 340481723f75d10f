//! The store that the scan is tried on: few authors, kinds, tags and times, so that everything collides.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use weir::nostr::json::Parser;
use weir::nostr::{Filter, ParseOptions, Timestamp};
use weir::store::{Durability, Options, Seq, Store};

use super::Held;
use super::corpus::{self, Random};

/// A store with a small world of authors, kinds, tags and times, so that everything collides.
pub struct World {
    _dir: tempfile::TempDir,
    pub store: Store,
    pub parser: Parser,
    pub authors: Vec<String>,
    pub hexes: Vec<String>,
    pub ids: Vec<String>,
    pub random: Random,
}

pub const KINDS: [u64; 10] = [0, 1, 1, 1, 7, 3, 30_000, 65_535, 256, 9735];
const WORDS: [&str; 4] = ["x", "y", "z", ""];

impl World {
    /// A world of about this many authors; only a filter on many of them is worth a walk through the newest rows.
    pub fn new(mut random: Random, authors: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // Tables of newest events that hold all, a few, and none.
        let newest_times_bytes = *random.pick(&[0, 128, 512, 1 << 16]);
        let durability = Durability::None;
        let options = Options { durability, map_bytes: 1 << 28, newest_times_bytes, ..Options::default() };
        let store = Store::open(dir.path(), options).expect("a store");
        let mut authors: Vec<String> = (1..authors).map(|_| random.hex32()).collect();
        // One author shares the first eight bytes with another.
        authors.push(format!("{}{}", &authors[0][..16], &random.hex32()[16..]));
        // The last keys of any index.
        authors.push("f".repeat(64));
        let hexes = (0..4).map(|_| random.hex32()).chain(authors.iter().take(6).cloned()).collect();
        Self { _dir: dir, store, parser: Parser::default(), authors, hexes, ids: Vec::new(), random }
    }

    pub fn time(&mut self) -> u64 {
        match self.random.below(40) {
            0 => 0,
            1 => Timestamp::MAX.0,
            2 => 1 << 33,
            _ => 1_700_000_000 + self.random.below(9),
        }
    }

    pub fn tag_value(&mut self, letter: &str) -> String {
        match letter {
            "e" if !self.ids.is_empty() && self.random.once_in(2) => self.random.pick(&self.ids).clone(),
            "e" | "p" => self.random.pick(&self.hexes).clone(),
            _ => (*self.random.pick(&WORDS)).to_string(),
        }
    }

    pub fn event(&mut self) -> Value {
        let author = self.random.pick(&self.authors).clone();
        let time = self.time();
        if self.random.once_in(12) && !self.ids.is_empty() {
            let targets: Vec<Value> =
                (0..=self.random.below(3)).map(|_| json!(["e", self.random.pick(&self.ids)])).collect();
            return corpus::event(&author, time, 5, &json!(targets), "");
        }
        let mut tags = Vec::new();
        for _ in 0..self.random.below(5) {
            let letter = *self.random.pick(&["t", "t", "e", "p", "d", "T", "title", "a"]);
            let value = self.tag_value(letter);
            tags.push(match self.random.below(12) {
                0 => json!([letter]),
                1 => json!([letter, value, "more", "x"]),
                2 => json!([letter, "not hex"]),
                _ => json!([letter, value]),
            });
        }
        let content = *self.random.pick(&["", "private", "public", "other"]);
        let kind = *self.random.pick(&KINDS);
        corpus::event(&author, time, kind, &json!(tags), content)
    }

    /// Stores up to `most` new events; some replace or delete others.
    pub fn grow(&mut self, most: u64) {
        let events: Vec<Value> = (0..self.random.below(most + 1)).map(|_| self.event()).collect();
        let batch: Vec<_> = events.iter().map(|event| corpus::trusted(&mut self.parser, event)).collect();
        self.ids.extend(events.iter().map(|event| event["id"].as_str().expect("an id").to_string()));
        self.store.writer().commit(&batch, Timestamp(1)).expect("a commit");
    }

    /// Everything that is held and arrived up to `until_seq`, newest first.
    pub fn held(&self, until_seq: Seq) -> Vec<Held> {
        let snapshot = self.store.read().expect("a snapshot");
        let mut held = Vec::new();
        for row in snapshot.after(Seq(0)).expect("rows") {
            let (seq, event) = row.expect("a row");
            if seq <= until_seq {
                held.push(Held { seq, event: serde_json::from_str(&event.to_json()).expect("JSON") });
            }
        }
        held.sort_by(|a, b| a.rank().cmp(&b.rank()));
        held
    }

    pub fn some<T: Clone>(&mut self, from: &[T], most: u64) -> Vec<T> {
        // Now and then nothing at all: such a filter matches nothing.
        let count = if self.random.once_in(40) { 0 } else { 1 + self.random.below(most) };
        (0..count).map(|_| self.random.pick(from).clone()).collect()
    }

    pub fn filter(&mut self) -> Value {
        let mut filter = Map::new();
        if self.random.once_in(6) && !self.ids.is_empty() {
            let mut ids = self.ids.clone();
            ids.push(self.random.hex32());
            filter.insert("ids".into(), json!(self.some(&ids, 8)));
        }
        if self.random.once_in(3) {
            let authors = self.authors.clone();
            let most = *self.random.pick(&[3, 6, 2 * authors.len() as u64]);
            let mut list = self.some(&authors, most);
            if self.random.once_in(4) {
                // People who never wrote here.
                list.extend((0..120).map(|_| self.random.hex32()));
            }
            filter.insert("authors".into(), json!(list));
        }
        if self.random.once_in(2) {
            let kinds = [&KINDS[..], &[5, 20_001]].concat();
            filter.insert("kinds".into(), json!(self.some(&kinds, 4)));
        }
        for letter in ["t", "e", "p", "d"] {
            if self.random.once_in(if letter == "t" { 3 } else { 8 }) {
                let values: Vec<String> = (0..4).map(|_| self.tag_value(letter)).collect();
                let mark = if self.random.once_in(4) { '&' } else { '#' };
                filter.insert(format!("{mark}{letter}"), json!(self.some(&values, 3)));
            }
        }
        for bound in ["since", "until"] {
            if self.random.once_in(4) {
                let time = if self.random.once_in(20) { u64::MAX } else { self.time() };
                filter.insert(bound.into(), json!(time));
            }
        }
        if self.random.once_in(2) {
            filter.insert("limit".into(), json!(self.random.below(12)));
        }
        Value::Object(filter)
    }

    pub fn compile(&mut self, filters: &[Value]) -> Arc<[Filter]> {
        let options = ParseOptions { and_filters: true };
        let mut compile = |filter: &Value| Filter::parse(&mut self.parser, filter.to_string().as_bytes(), options);
        filters.iter().map(|filter| compile(filter).expect("a filter")).collect()
    }

    pub fn last_seq(&self) -> Seq {
        self.store.read().expect("a snapshot").last_seq().expect("a number")
    }
}
