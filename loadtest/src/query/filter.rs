//! A NIP-01 filter, as JSON for the relay and as a plain check for the oracle.
//!
//! It must never share code with a relay: matching is the literal reading of NIP-01.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::corpus::event::Event;
use crate::corpus::library::{Library, Meta};

/// One filter. Empty lists mean that the key is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Event ids, 64 hex digits.
    pub ids: Vec<String>,
    /// Public keys, 64 hex digits.
    pub authors: Vec<String>,
    /// Kinds.
    pub kinds: Vec<u16>,
    /// A single-letter tag and its values.
    pub tag: Option<(char, Vec<String>)>,
    /// Lowest `created_at`.
    pub since: Option<u64>,
    /// Highest `created_at`.
    pub until: Option<u64>,
    /// Most rows of the stored answer.
    pub limit: Option<usize>,
}

impl Filter {
    /// The narrowest form of this filter that still matches an event: its own values alone, and no limit.
    #[must_use]
    pub fn narrowed(&self, library: &Library, number: u32) -> Self {
        let meta = library.meta(number);
        let keep = |list: &[String], value: String| if list.is_empty() { Vec::new() } else { vec![value] };
        let author = library.authors().get(meta.author as usize).cloned().unwrap_or_default();
        let tag = self.tag.as_ref().map(|(name, values)| {
            let carried = |value: &&String| library.tagged(*name as u8, value).contains(&number);
            (*name, values.iter().find(carried).cloned().into_iter().collect())
        });
        Self {
            ids: keep(&self.ids, faster_hex::hex_string(library.id(number))),
            authors: keep(&self.authors, author),
            kinds: if self.kinds.is_empty() { Vec::new() } else { vec![meta.kind] },
            tag,
            limit: None,
            ..self.clone()
        }
    }

    /// All versions of a replaceable or addressable event (NIP-01); `None` for any other.
    pub fn versions(library: &Library, number: u32) -> Option<Self> {
        let event = Event::parse(library.json(number)).ok()?;
        let tag = match event.kind {
            0 | 3 | 10_000..=19_999 => None,
            30_000..=39_999 => {
                let d = event.tags.iter().find(|tag| tag.first().is_some_and(|name| name == "d"));
                Some(('d', vec![d.and_then(|tag| tag.get(1)).cloned().unwrap_or_default()]))
            }
            _ => return None,
        };
        Some(Self { authors: vec![event.pubkey.to_string()], kinds: vec![event.kind], tag, ..Self::default() })
    }

    /// The JSON object.
    pub fn json(&self) -> String {
        let mut out = String::from("{");
        strings(&mut out, "ids", &self.ids);
        strings(&mut out, "authors", &self.authors);
        if !self.kinds.is_empty() {
            let kinds: Vec<String> = self.kinds.iter().map(u16::to_string).collect();
            key(&mut out, "kinds");
            let _ = write!(out, "[{}]", kinds.join(","));
        }
        if let Some((name, values)) = &self.tag {
            strings(&mut out, &format!("#{name}"), values);
        }
        let numbers = [("since", self.since), ("until", self.until), ("limit", self.limit.map(|limit| limit as u64))];
        for (name, number) in numbers {
            if let Some(number) = number {
                key(&mut out, name);
                // Writing to a String cannot fail.
                let _ = write!(out, "{number}");
            }
        }
        out.push('}');
        out
    }
}

fn key(out: &mut String, name: &str) {
    if out.len() > 1 {
        out.push(',');
    }
    // Writing to a String cannot fail.
    let _ = write!(out, "\"{name}\":");
}

fn strings(out: &mut String, name: &str, values: &[String]) {
    if values.is_empty() {
        return;
    }
    key(out, name);
    for (position, value) in values.iter().enumerate() {
        out.push(if position == 0 { '[' } else { ',' });
        crate::corpus::draft::push_json_string(value, out);
    }
    out.push(']');
}

/// A filter prepared for checking events of a library.
#[derive(Debug)]
pub struct Check {
    ids: HashSet<[u8; 32]>,
    authors: HashSet<u32>,
    kinds: Vec<u16>,
    tagged: Option<HashSet<u32>>,
    any_ids: bool,
    any_authors: bool,
    since: u64,
    until: u64,
}

impl Check {
    /// Looks the filter's values up in the library.
    pub fn new(filter: &Filter, library: &Library) -> Self {
        let tagged = filter.tag.as_ref().map(|(name, values)| {
            values.iter().flat_map(|value| library.tagged(*name as u8, value)).copied().collect::<HashSet<u32>>()
        });
        Self {
            ids: filter.ids.iter().filter_map(|id| crate::corpus::event::decode_id(id.as_bytes())).collect(),
            authors: filter.authors.iter().filter_map(|pubkey| library.author(pubkey)).collect(),
            kinds: filter.kinds.clone(),
            tagged,
            any_ids: filter.ids.is_empty(),
            any_authors: filter.authors.is_empty(),
            since: filter.since.unwrap_or(0),
            until: filter.until.unwrap_or(u64::MAX),
        }
    }

    /// Whether the filter matches an event of the library (NIP-01: AND over keys, OR inside a list).
    pub fn matches(&self, library: &Library, number: u32) -> bool {
        let meta = library.meta(number);
        (self.any_ids || self.ids.contains(library.id(number)))
            && (self.any_authors || self.authors.contains(&meta.author))
            && (self.kinds.is_empty() || self.kinds.contains(&meta.kind))
            && self.tagged.as_ref().is_none_or(|tagged| tagged.contains(&number))
            && (self.since..=self.until).contains(&meta.created_at)
    }
}

/// Lists by author and by kind that keep the oracle from reading the whole library for each query.
#[derive(Debug)]
pub struct Oracle {
    by_author: Vec<Vec<u32>>,
    by_kind: std::collections::HashMap<u16, Vec<u32>>,
}

impl Oracle {
    /// Indexes every event that counts as stored.
    pub fn new(library: &Library) -> Self {
        let mut by_author = vec![Vec::new(); library.authors().len()];
        let mut by_kind = std::collections::HashMap::<u16, Vec<u32>>::new();
        for (number, meta) in stored(library) {
            by_author[meta.author as usize].push(number);
            by_kind.entry(meta.kind).or_default().push(number);
        }
        for list in by_kind.values_mut() {
            list.sort_unstable_by_key(|&number| library.meta(number).created_at);
        }
        Self { by_author, by_kind }
    }

    /// Stored events of an author, in corpus order.
    pub fn author(&self, author: u32) -> &[u32] {
        self.by_author.get(author as usize).map_or(&[], Vec::as_slice)
    }

    /// Stored events of a kind by ascending `created_at`.
    pub fn kind(&self, kind: u16) -> &[u32] {
        self.by_kind.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// The answer NIP-01 asks for: `created_at` descending, then id ascending, at most `limit`.
    pub fn answer(&self, filter: &Filter, library: &Library) -> Vec<u32> {
        self.answer_among(filter, library, |_| true)
    }

    /// The same over those events alone that `holds` is true for.
    pub fn answer_among(&self, filter: &Filter, library: &Library, holds: impl Fn(u32) -> bool) -> Vec<u32> {
        let check = Check::new(filter, library);
        let keep = |number: &u32| library.meta(*number).stored && holds(*number) && check.matches(library, *number);
        let mut rows: Vec<u32> = if !filter.ids.is_empty() {
            check.ids.iter().filter_map(|id| library.find(id)).filter(keep).collect()
        } else if let Some(tagged) = &check.tagged {
            tagged.iter().copied().filter(keep).collect()
        } else if !filter.authors.is_empty() {
            check.authors.iter().flat_map(|&author| self.author(author)).copied().filter(keep).collect()
        } else {
            filter.kinds.iter().flat_map(|&kind| self.kind(kind)).copied().filter(keep).collect()
        };
        rows.sort_unstable_by_key(|&number| order(library, number));
        rows.truncate(filter.limit.unwrap_or(usize::MAX));
        rows
    }
}

/// The sort key of an answer's rows.
pub fn order(library: &Library, number: u32) -> (std::cmp::Reverse<u64>, [u8; 32]) {
    (std::cmp::Reverse(library.meta(number).created_at), *library.id(number))
}

fn stored(library: &Library) -> impl Iterator<Item = (u32, Meta)> + '_ {
    let numbered = library.metas().iter().enumerate();
    numbered.filter(|(_, meta)| meta.stored).map(|(number, &meta)| (number as u32, meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library() -> Library {
        let mut library = Library::default();
        let rows = [(1, "aa", 10, 1, "x"), (2, "aa", 12, 7, "x"), (3, "bb", 12, 1, "y"), (4, "bb", 12, 1, "x")];
        for (id, pubkey, created_at, kind, tag) in rows {
            let id = faster_hex::hex_string(&[id; 32]);
            let json = format!(
                r#"{{"id":"{id}","pubkey":"{pubkey}","created_at":{created_at},"kind":{kind},"tags":[["t","{tag}"]],"content":"","sig":""}}"#
            );
            library.add(json.as_bytes()).expect("an event");
        }
        library
    }

    #[test]
    fn a_filter_is_written_with_only_the_keys_it_has() {
        let filter = Filter {
            authors: vec!["aa".into(), "bb".into()],
            kinds: vec![1, 6],
            tag: Some(('t', vec!["a\"".into()])),
            until: Some(9),
            limit: Some(5),
            ..Filter::default()
        };
        assert_eq!(filter.json(), r##"{"authors":["aa","bb"],"kinds":[1,6],"#t":["a\""],"until":9,"limit":5}"##);
        assert_eq!(Filter::default().json(), "{}");
    }

    #[test]
    fn a_narrowed_filter_keeps_only_the_values_of_its_event() {
        let filter = Filter {
            authors: vec!["aa".into(), "bb".into()],
            kinds: vec![1, 7],
            tag: Some(('t', vec!["x".into(), "y".into()])),
            until: Some(12),
            limit: Some(1),
            ..Filter::default()
        };
        let narrowed = filter.narrowed(&library(), 2).json();
        assert_eq!(narrowed, r##"{"authors":["bb"],"kinds":[1],"#t":["y"],"until":12}"##);
    }

    #[test]
    fn the_oracle_orders_by_time_then_id_and_cuts_at_the_limit() {
        let library = library();
        let oracle = Oracle::new(&library);
        let answer = |filter: Filter| oracle.answer(&filter, &library);
        assert_eq!(answer(Filter { kinds: vec![1], ..Filter::default() }), [2, 3, 0]);
        assert_eq!(answer(Filter { kinds: vec![1], limit: Some(1), ..Filter::default() }), [2]);
        assert_eq!(answer(Filter { tag: Some(('t', vec!["x".into()])), ..Filter::default() }), [1, 3, 0]);
        assert_eq!(answer(Filter { authors: vec!["aa".into(), "zz".into()], ..Filter::default() }), [1, 0]);
        assert_eq!(answer(Filter { authors: vec!["zz".into()], ..Filter::default() }), Vec::<u32>::new());
        assert_eq!(answer(Filter { kinds: vec![1], since: Some(11), until: Some(12), ..Filter::default() }), [2, 3]);
        assert_eq!(answer(Filter { ids: vec!["02".repeat(32)], ..Filter::default() }), [1]);
    }
}
