//! The events a run knows: their JSON, their ids, and the indexes that tell what a query must find.
//!
//! It must never ask the relay: it is the oracle the answers are compared with.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What the indexes need of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    offset: usize,
    len: u32,
    /// Number of the author in this library.
    pub author: u32,
    /// Unix seconds.
    pub created_at: u64,
    /// The kind.
    pub kind: u16,
    /// False if a newer version, a deletion or its own kind (ephemeral) keeps it out of stored results.
    pub stored: bool,
}

/// Hashes a value that is already uniformly distributed: the first bytes of an id or of a digest.
#[derive(Default, Debug)]
pub struct Uniform(u64);

impl Hasher for Uniform {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type UniformMap<V> = HashMap<u64, V, BuildHasherDefault<Uniform>>;

/// All events of a run, numbered in the order they were added.
#[derive(Default, Debug)]
pub struct Library {
    json: Vec<u8>,
    metas: Vec<Meta>,
    ids: Vec<[u8; 32]>,
    by_id: UniformMap<u32>,
    authors: Vec<String>,
    author_numbers: HashMap<String, u32>,
    tags: UniformMap<Vec<u32>>,
    /// Current holder of each replaceable or addressable coordinate.
    holders: UniformMap<u32>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    pubkey: Cow<'a, str>,
    created_at: u64,
    kind: u16,
    tags: Vec<Vec<String>>,
}

impl Library {
    /// Reads a corpus: one event per line.
    ///
    /// # Errors
    /// If the file cannot be read or a line is no event; the message names the line.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read corpus {}", path.display()))?;
        let mut library = Self { json: Vec::with_capacity(bytes.len()), ..Self::default() };
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if !line.is_empty() {
                library.add(line).with_context(|| format!("{} line {}", path.display(), number + 1))?;
            }
        }
        Ok(library)
    }

    /// Adds one event; returns its number. An id that is already there is not added twice.
    ///
    /// # Errors
    /// If the text is no event.
    pub fn add(&mut self, json: &[u8]) -> Result<u32> {
        let line: Line<'_> = serde_json::from_slice(json).context("not an event")?;
        let id = decode_id(line.id.as_bytes()).context("`id` is not 64 hex digits")?;
        if let Some(number) = self.find(&id) {
            return Ok(number);
        }
        let number = u32::try_from(self.metas.len()).context("more than 2^32 events")?;
        let author = self.author_number(&line.pubkey);
        let meta = Meta {
            offset: self.json.len(),
            len: json.len() as u32,
            author,
            created_at: line.created_at,
            kind: line.kind,
            stored: !(20_000..30_000).contains(&line.kind),
        };
        self.json.extend_from_slice(json);
        self.metas.push(meta);
        self.ids.push(id);
        self.by_id.insert(prefix(&id), number);
        for tag in &line.tags {
            if let [name, value, ..] = tag.as_slice()
                && name.len() == 1
            {
                let entry = self.tags.entry(tag_key(name.as_bytes()[0], value)).or_default();
                if entry.last() != Some(&number) {
                    entry.push(number);
                }
            }
        }
        self.settle(number, &line);
        Ok(number)
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// The event's JSON.
    pub fn json(&self, number: u32) -> &[u8] {
        let meta = &self.metas[number as usize];
        &self.json[meta.offset..meta.offset + meta.len as usize]
    }

    /// What is known of an event.
    pub fn meta(&self, number: u32) -> Meta {
        self.metas[number as usize]
    }

    /// All of them, in order.
    pub fn metas(&self) -> &[Meta] {
        &self.metas
    }

    /// The event's id.
    pub fn id(&self, number: u32) -> &[u8; 32] {
        &self.ids[number as usize]
    }

    /// The event with this id.
    pub fn find(&self, id: &[u8; 32]) -> Option<u32> {
        let number = *self.by_id.get(&prefix(id))?;
        (self.ids[number as usize] == *id).then_some(number)
    }

    /// Public keys by author number, 64 hex digits each.
    pub fn authors(&self) -> &[String] {
        &self.authors
    }

    /// The number of an author.
    pub fn author(&self, pubkey: &str) -> Option<u32> {
        self.author_numbers.get(pubkey).copied()
    }

    /// Events that carry a single-letter tag with this value, by number.
    pub fn tagged(&self, name: u8, value: &str) -> &[u32] {
        self.tags.get(&tag_key(name, value)).map_or(&[], Vec::as_slice)
    }

    /// Mean length of the JSON in bytes.
    pub fn mean_bytes(&self) -> f64 {
        self.json.len() as f64 / self.metas.len().max(1) as f64
    }

    fn author_number(&mut self, pubkey: &str) -> u32 {
        if let Some(&number) = self.author_numbers.get(pubkey) {
            return number;
        }
        let number = self.authors.len() as u32;
        self.authors.push(pubkey.to_string());
        self.author_numbers.insert(pubkey.to_string(), number);
        number
    }

    /// Applies the rules of NIP-01 (replaceable, addressable) and NIP-09 to `stored`.
    fn settle(&mut self, number: u32, line: &Line<'_>) {
        if line.kind == 5 {
            self.delete_targets(number, line);
        }
        let replaceable = matches!(line.kind, 0 | 3 | 10_000..=19_999);
        let addressable = (30_000..40_000).contains(&line.kind);
        if !replaceable && !addressable {
            return;
        }
        let d = line.tags.iter().find(|tag| addressable && tag.first().is_some_and(|name| name == "d"));
        let d = d.and_then(|tag| tag.get(1)).map_or("", String::as_str);
        let key = tag_key(b'a', &format!("{}:{}:{d}", line.kind, line.pubkey));
        let Some(&holder) = self.holders.get(&key) else {
            self.holders.insert(key, number);
            return;
        };
        let rank = |n: u32| (self.metas[n as usize].created_at, std::cmp::Reverse(self.ids[n as usize]));
        let (winner, loser) = if rank(number) > rank(holder) { (number, holder) } else { (holder, number) };
        self.holders.insert(key, winner);
        self.metas[loser as usize].stored = false;
    }

    fn delete_targets(&mut self, number: u32, line: &Line<'_>) {
        let author = self.metas[number as usize].author;
        for tag in line.tags.iter().filter(|tag| tag.first().is_some_and(|name| name == "e")) {
            let target = tag.get(1).and_then(|value| decode_id(value.as_bytes())).and_then(|id| self.find(&id));
            if let Some(target) = target {
                let meta = &mut self.metas[target as usize];
                meta.stored &= meta.author != author || meta.kind == 5;
            }
        }
    }
}

/// Decodes 64 hex digits.
pub fn decode_id(hex: &[u8]) -> Option<[u8; 32]> {
    let mut id = [0u8; 32];
    (hex.len() == 64).then(|| faster_hex::hex_decode(hex, &mut id).is_ok())?.then_some(id)
}

fn prefix(id: &[u8; 32]) -> u64 {
    u64::from_be_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]])
}

fn tag_key(name: u8, value: &str) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update([name]);
    hasher.update(value.as_bytes());
    prefix(&hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u8, pubkey: &str, created_at: u64, kind: u16, tags: &str) -> Vec<u8> {
        let id = faster_hex::hex_string(&[id; 32]);
        format!(r#"{{"id":"{id}","pubkey":"{pubkey}","created_at":{created_at},"kind":{kind},"tags":{tags},"content":"","sig":""}}"#)
            .into_bytes()
    }

    #[test]
    fn an_event_is_found_by_id_author_and_tag() {
        let mut library = Library::default();
        library.add(&event(1, "aa", 5, 1, r#"[["t","rust"],["client","x"]]"#)).expect("an event");
        library.add(&event(2, "bb", 6, 1, r#"[["t","rust"],["t","rust"]]"#)).expect("an event");
        assert_eq!(library.find(&[2; 32]), Some(1));
        assert_eq!(library.find(&[3; 32]), None);
        assert_eq!(library.tagged(b't', "rust"), [0, 1]);
        assert_eq!(library.authors(), ["aa", "bb"]);
        assert_eq!(library.meta(1).created_at, 6);
    }

    #[test]
    fn only_the_newest_version_of_a_replaceable_event_counts_as_stored() {
        let mut library = Library::default();
        for (id, created_at) in [(4, 10), (3, 12), (2, 12), (5, 11)] {
            library.add(&event(id, "aa", created_at, 0, "[]")).expect("an event");
        }
        let stored: Vec<bool> = library.metas().iter().map(|meta| meta.stored).collect();
        assert_eq!(stored, [false, false, true, false]);
    }

    #[test]
    fn a_deletion_by_the_author_takes_the_event_out() {
        let mut library = Library::default();
        library.add(&event(1, "aa", 1, 1, "[]")).expect("an event");
        library.add(&event(2, "bb", 1, 1, "[]")).expect("an event");
        let tags = format!(r#"[["e","{}"],["e","{}"]]"#, "01".repeat(32), "02".repeat(32));
        library.add(&event(9, "aa", 2, 5, &tags)).expect("an event");
        let stored: Vec<bool> = library.metas().iter().map(|meta| meta.stored).collect();
        assert_eq!(stored, [false, true, true]);
    }

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let error = Library::default().add(b"{\"kind\":1}").expect_err("fields are missing");
        assert_eq!(error.to_string(), "not an event");
    }
}
