//! The events of a run: their JSON, their ids, and the indexes that give the rows a query must return.
//!
//! It must never ask the relay: it is the oracle that answers are compared with.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::event::{Event, decode_id};
use crate::limits::{Limits, Measure};

/// The properties of one event that the indexes need.
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
    /// False if a newer version, a deletion, an expiry or its own kind (ephemeral) keeps it out of stored results.
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

/// The lines of a file that cannot be used, by reason, with the first few of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many lines each reason took out.
    pub reasons: BTreeMap<String, u64>,
    /// The first lines in words.
    pub examples: Vec<String>,
}

/// Examples kept of skipped lines.
const MAX_SKIPPED_EXAMPLES: usize = 5;

impl Skipped {
    /// Counts one event; `place` describes its place.
    pub fn add(&mut self, reason: &str, place: impl FnOnce() -> String) {
        *self.reasons.entry(reason.to_string()).or_default() += 1;
        if self.examples.len() < MAX_SKIPPED_EXAMPLES {
            self.examples.push(format!("{}: {reason}", place()));
        }
    }
}

/// The relay's limits, and the time at which they apply.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The limits that the relay states.
    pub limits: &'a Limits,
    /// Unix seconds.
    pub now: u64,
}

/// An event that expires sooner than this many seconds from now may go at any moment of a run.
const EXPIRES_SOON_S: u64 = 6 * 3600;

impl Library {
    /// Reads a corpus: one event per line. Lines that are no verifiable event, or that the relay's limits forbid, are
    /// skipped and counted.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn load(path: &Path, terms: Terms<'_>) -> Result<(Self, Skipped)> {
        let bytes = std::fs::read(path).with_context(|| format!("read corpus {}", path.display()))?;
        let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
        let mut library = Self { json: Vec::with_capacity(bytes.len()), ..Self::default() };
        let mut skipped = Skipped::default();
        for (number, (line, verified)) in lines.iter().zip(verify_all(&lines)).enumerate() {
            if line.is_empty() {
                continue;
            }
            if let Err(reason) = verified.and_then(|()| library.add_within(line, terms)) {
                skipped.add(&reason.to_string(), || format!("{} line {}", path.display(), number + 1));
            }
        }
        Ok((library, skipped))
    }

    /// Adds an event if the relay's limits allow it.
    ///
    /// # Errors
    /// If the text is no event or beyond a limit.
    pub fn add_within(&mut self, json: &[u8], terms: Terms<'_>) -> Result<()> {
        let event = Event::parse(json)?;
        let measure = Measure {
            bytes: json.len(),
            tags: event.tags.len(),
            content: event.content.chars().count(),
            created_at: event.created_at,
        };
        if let Some(limit) = terms.limits.forbids(measure, terms.now) {
            bail!("beyond the relay's {limit}");
        }
        self.insert(json, &event, terms.now).map(|_| ())
    }

    /// Adds one event; returns its number. An id that is already there is not added twice.
    ///
    /// # Errors
    /// If the text is no event.
    pub fn add(&mut self, json: &[u8]) -> Result<u32> {
        self.insert(json, &Event::parse(json)?, 0)
    }

    fn insert(&mut self, json: &[u8], event: &Event<'_>, now: u64) -> Result<u32> {
        let id = event.id_bytes().context("`id` is not 64 hex digits")?;
        if let Some(number) = self.find(&id) {
            return Ok(number);
        }
        let number = u32::try_from(self.metas.len()).context("more than 2^32 events")?;
        let author = self.author_number(&event.pubkey);
        let expires = event.expiration().is_some_and(|at| at < now.saturating_add(EXPIRES_SOON_S));
        let meta = Meta {
            offset: self.json.len(),
            len: json.len() as u32,
            author,
            created_at: event.created_at,
            kind: event.kind,
            stored: !(20_000..30_000).contains(&event.kind) && !expires,
        };
        self.json.extend_from_slice(json);
        self.metas.push(meta);
        self.ids.push(id);
        self.by_id.insert(prefix(&id), number);
        for tag in &event.tags {
            if let [name, value, ..] = tag.as_slice()
                && name.len() == 1
            {
                let entry = self.tags.entry(tag_key(name.as_bytes()[0], value)).or_default();
                if entry.last() != Some(&number) {
                    entry.push(number);
                }
            }
        }
        self.replace_older(number, event);
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

    /// The properties of an event.
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

    /// Updates `stored` by the rules for replaceable and addressable events (NIP-01) and deletions (NIP-09).
    fn replace_older(&mut self, number: u32, event: &Event<'_>) {
        if event.kind == 5 {
            self.delete_targets(number, event);
        }
        let replaceable = matches!(event.kind, 0 | 3 | 10_000..=19_999);
        let addressable = (30_000..40_000).contains(&event.kind);
        if !replaceable && !addressable {
            return;
        }
        let d = event.tags.iter().find(|tag| addressable && tag.first().is_some_and(|name| name == "d"));
        let d = d.and_then(|tag| tag.get(1)).map_or("", String::as_str);
        let key = tag_key(b'a', &format!("{}:{}:{d}", event.kind, event.pubkey));
        let Some(&holder) = self.holders.get(&key) else {
            self.holders.insert(key, number);
            return;
        };
        let rank = |n: u32| (self.metas[n as usize].created_at, std::cmp::Reverse(self.ids[n as usize]));
        let (winner, loser) = if rank(number) > rank(holder) { (number, holder) } else { (holder, number) };
        self.holders.insert(key, winner);
        self.metas[loser as usize].stored = false;
    }

    fn delete_targets(&mut self, number: u32, event: &Event<'_>) {
        let author = self.metas[number as usize].author;
        for tag in event.tags.iter().filter(|tag| tag.first().is_some_and(|name| name == "e")) {
            let target = tag.get(1).and_then(|value| decode_id(value.as_bytes())).and_then(|id| self.find(&id));
            if let Some(target) = target {
                let meta = &mut self.metas[target as usize];
                meta.stored &= meta.author != author || meta.kind == 5;
            }
        }
    }
}

/// Verifies lines on every core; empty lines are good.
fn verify_all(lines: &[&[u8]]) -> Vec<Result<()>> {
    let verify = |line: &&[u8]| if line.is_empty() { Ok(()) } else { Event::parse(line)?.verify() };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = lines.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            lines.chunks(share).map(|part| scope.spawn(move || part.iter().map(verify).collect::<Vec<_>>())).collect();
        parts.into_iter().flat_map(|part| part.join().expect("verifying does not panic")).collect()
    })
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
    fn a_bad_line_is_skipped_and_told_with_its_number() {
        let mut text = Vec::new();
        let options = crate::corpus::Options::social(1, 3);
        crate::corpus::generate(&options, |line| {
            text.extend_from_slice(line);
            text.extend_from_slice(b"\n{\"kind\":1}\n\n");
            Ok(())
        })
        .expect("events");
        let forged = event(7, &"ab".repeat(32), 5, 1, "[]");
        text.extend_from_slice(&forged);
        let path = std::env::temp_dir().join(format!("loadtest-library-{}.jsonl", std::process::id()));
        std::fs::write(&path, &text).expect("a temporary file");
        let limits = Limits::default();
        let loaded = Library::load(&path, Terms { limits: &limits, now: 0 });
        let strict = Limits { max_message_length: Some(1), ..Limits::default() };
        let strict = Library::load(&path, Terms { limits: &strict, now: 0 });
        std::fs::remove_file(&path).expect("the same file");
        let (library, skipped) = loaded.expect("the file can be read");
        assert_eq!(library.len(), 3);
        let expected = [("`id` is not the hash of the event".to_string(), 1), ("not an event".to_string(), 3)];
        assert_eq!(skipped.reasons, BTreeMap::from(expected));
        assert_eq!(skipped.examples[0], format!("{} line 2: not an event", path.display()));
        let (library, skipped) = strict.expect("the file can be read");
        assert_eq!((library.len(), skipped.reasons["beyond the relay's max_message_length"]), (0, 3));
    }

    #[test]
    fn an_event_that_expires_during_the_run_does_not_count_as_stored() {
        let mut library = Library::default();
        let limits = Limits::default();
        let terms = Terms { limits: &limits, now: 1_000_000 };
        library.add_within(&event(1, "aa", 5, 1, r#"[["expiration","1000100"]]"#), terms).expect("an event");
        library.add_within(&event(2, "aa", 5, 1, r#"[["expiration","9000000"]]"#), terms).expect("an event");
        let stored: Vec<bool> = library.metas().iter().map(|meta| meta.stored).collect();
        assert_eq!(stored, [false, true]);
    }
}
