//! The shapes of queries that clients send, filled with values from the corpus so that they find rows.
//!
//! It must never ask for kinds that a relay may refuse without authentication (4, 1059).

use serde::{Deserialize, Serialize};

use super::filter::{Filter, Oracle};
use crate::corpus::library::Library;
use crate::random::Random;

/// A named shape; see the scenario files for what each one models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// One event by its id.
    ById,
    /// Kind 0 of one author.
    Profile,
    /// Replies to a note: kind 1 with `#e`.
    Thread,
    /// The newest 50 notes of one author.
    AuthorNotes,
    /// The newest 50 events that mention one author: `#p` and four kinds.
    Notifications,
    /// What one author wrote to another: a kind, an author and `#p`.
    Conversation,
    /// A hundred ids.
    #[serde(rename = "ids-100")]
    Ids100,
    /// The newest 100 notes.
    #[serde(rename = "newest-100")]
    Newest100,
    /// A follow feed: 300 authors, kinds 1 and 6, limit 100.
    #[serde(rename = "follow-feed-300x2")]
    FollowFeed300x2,
    /// Kind 0 of 300 authors.
    #[serde(rename = "profiles-300")]
    Profiles300,
    /// The newest 50 notes with one hashtag.
    Hashtag,
    /// Kind 7 in a window that holds about 19 of them.
    TimeWindow,
    /// Notes of a prolific author with a common hashtag that this author rarely uses.
    AuthorHashtag,
    /// A page of 100 notes of the most prolific author, at a random depth (`until`).
    AuthorPage,
}

/// All shapes, in the order of reports.
pub const ALL: [Shape; 14] = [
    Shape::ById,
    Shape::Profile,
    Shape::Thread,
    Shape::AuthorNotes,
    Shape::Notifications,
    Shape::Conversation,
    Shape::Ids100,
    Shape::Newest100,
    Shape::FollowFeed300x2,
    Shape::Profiles300,
    Shape::Hashtag,
    Shape::TimeWindow,
    Shape::AuthorHashtag,
    Shape::AuthorPage,
];

impl Shape {
    /// The name used in scenario files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::ById => "by-id",
            Self::Profile => "profile",
            Self::Thread => "thread",
            Self::AuthorNotes => "author-notes",
            Self::Notifications => "notifications",
            Self::Conversation => "conversation",
            Self::Ids100 => "ids-100",
            Self::Newest100 => "newest-100",
            Self::FollowFeed300x2 => "follow-feed-300x2",
            Self::Profiles300 => "profiles-300",
            Self::Hashtag => "hashtag",
            Self::TimeWindow => "time-window",
            Self::AuthorHashtag => "author-hashtag",
            Self::AuthorPage => "author-page",
        }
    }
}

/// Kinds that a public relay serves to anybody.
const OPEN_KINDS: [u16; 8] = [0, 1, 3, 6, 7, 9735, 10002, 30023];
/// Kinds of a notification query.
const MENTION_KINDS: [u16; 4] = [1, 6, 7, 9735];
/// Events of kind 7 in a time window.
const WINDOW_EVENTS: usize = 19;

/// Values to choose from, collected once.
pub struct Chooser<'a> {
    library: &'a Library,
    oracle: &'a Oracle,
    random: Random,
    open: Vec<u32>,
    small: Vec<u32>,
    /// Authors that somebody may follow: not the one-time keys of gift wraps.
    active: Vec<u32>,
    profiles: Vec<u32>,
    roots: Vec<u32>,
    writers: Vec<u32>,
    mentioned: Vec<String>,
    hashtags: Vec<String>,
    pairs: Vec<(u32, String)>,
    /// Authors and those they mention in a note.
    conversations: Vec<(u32, String)>,
    prolific: u32,
}

impl<'a> Chooser<'a> {
    /// Collects candidates. Lists that stay empty make their shapes fall back to any author or event.
    pub fn new(library: &'a Library, oracle: &'a Oracle, seed: u64) -> Self {
        let open: Vec<u32> = OPEN_KINDS.iter().flat_map(|&kind| oracle.kind(kind)).copied().collect();
        let small = [6, 7].iter().flat_map(|&kind| oracle.kind(kind)).copied().collect();
        let authors = || 0..library.authors().len() as u32;
        let notes =
            |author: u32| oracle.author(author).iter().filter(|&&number| library.meta(number).kind == 1).count();
        let mut by_notes: Vec<(usize, u32)> = authors().map(|author| (notes(author), author)).collect();
        by_notes.sort_unstable_by(|a, b| b.cmp(a));
        let many = by_notes.iter().take_while(|(count, _)| *count >= 50).count().max(by_notes.len().min(10));
        let is_active =
            |author: &u32| oracle.author(*author).iter().any(|&number| OPEN_KINDS.contains(&library.meta(number).kind));
        let mut chooser = Self {
            library,
            oracle,
            random: Random::new(seed ^ 0x5EED_0F5A_9E50_0001),
            open,
            small,
            active: authors().filter(is_active).collect(),
            profiles: oracle.kind(0).iter().map(|&number| library.meta(number).author).collect(),
            roots: Vec::new(),
            writers: by_notes.iter().take(many).map(|&(_, author)| author).collect(),
            mentioned: Vec::new(),
            hashtags: Vec::new(),
            pairs: Vec::new(),
            conversations: Vec::new(),
            prolific: by_notes.first().map_or(0, |&(_, author)| author),
        };
        chooser.collect_threads();
        chooser.collect_mentioned();
        chooser.collect_hashtags();
        chooser
    }

    /// A query of this shape.
    pub fn choose(&mut self, shape: Shape) -> Filter {
        let none = Filter::default();
        match shape {
            Shape::ById => Filter { ids: self.ids(1, false), ..none },
            Shape::Ids100 => Filter { ids: self.ids(100, true), ..none },
            Shape::Profile => {
                let authors = vec![self.author_of(&self.profiles.clone())];
                Filter { authors, limit: Some(1), ..kinds(&[0]) }
            }
            Shape::AuthorNotes => {
                let authors = vec![self.author_of(&self.writers.clone())];
                Filter { authors, limit: Some(50), ..kinds(&[1]) }
            }
            Shape::Newest100 => Filter { limit: Some(100), ..kinds(&[1]) },
            Shape::FollowFeed300x2 => {
                let authors = self.distinct_authors(300);
                Filter { authors, limit: Some(100), ..kinds(&[1, 6]) }
            }
            Shape::Profiles300 => Filter { authors: self.distinct_authors(300), ..kinds(&[0]) },
            Shape::Thread | Shape::Notifications | Shape::Hashtag => self.tagged(shape),
            Shape::TimeWindow => self.window(),
            Shape::AuthorHashtag => {
                let pair = pick(&mut self.random, &self.pairs);
                let (author, value) = pair.unwrap_or((self.prolific, "none".into()));
                let tag = Some(('t', vec![value]));
                Filter { authors: self.pubkey(author), tag, ..kinds(&[1]) }
            }
            Shape::Conversation => {
                let pair = pick(&mut self.random, &self.conversations);
                let (author, pubkey) = pair.unwrap_or_else(|| (self.prolific, self.author_of(&[])));
                let tag = Some(('p', vec![pubkey]));
                Filter { authors: self.pubkey(author), tag, limit: Some(50), ..kinds(&[1]) }
            }
            Shape::AuthorPage => self.page(),
        }
    }

    /// The shapes that ask by one tag alone.
    fn tagged(&mut self, shape: Shape) -> Filter {
        let random = &mut self.random;
        match shape {
            Shape::Thread => {
                let root = pick(random, &self.roots).or_else(|| pick(random, &self.open));
                let id = root.map(|number| faster_hex::hex_string(self.library.id(number)));
                let id = id.unwrap_or_else(|| "00".repeat(32));
                Filter { tag: Some(('e', vec![id])), ..kinds(&[1]) }
            }
            Shape::Notifications => {
                let pubkey = pick(random, &self.mentioned).unwrap_or_else(|| self.author_of(&[]));
                Filter { tag: Some(('p', vec![pubkey])), limit: Some(50), ..kinds(&MENTION_KINDS) }
            }
            _ => {
                let value = pick(random, &self.hashtags).unwrap_or_else(|| "none".into());
                Filter { tag: Some(('t', vec![value])), limit: Some(50), ..kinds(&[1]) }
            }
        }
    }

    fn pubkey(&self, author: u32) -> Vec<String> {
        self.library.authors().get(author as usize).cloned().into_iter().collect()
    }

    fn ids(&mut self, count: usize, small: bool) -> Vec<String> {
        let mut ids = std::collections::BTreeSet::new();
        for _ in 0..count * 4 {
            let from = if small && self.small.len() >= count { &self.small } else { &self.open };
            let Some(number) = pick(&mut self.random, from) else {
                break;
            };
            ids.insert(faster_hex::hex_string(self.library.id(number)));
            if ids.len() == count {
                break;
            }
        }
        ids.into_iter().collect()
    }

    fn author_of(&mut self, among: &[u32]) -> String {
        let all = self.library.authors();
        let author = pick(&mut self.random, among).unwrap_or_else(|| self.random.below(all.len()) as u32);
        all.get(author as usize).cloned().unwrap_or_else(|| "00".repeat(32))
    }

    fn distinct_authors(&mut self, count: usize) -> Vec<String> {
        let mut chosen = std::collections::BTreeSet::new();
        for _ in 0..count * 20 {
            if chosen.len() == count.min(self.active.len()) {
                break;
            }
            chosen.extend(pick(&mut self.random, &self.active));
        }
        chosen.into_iter().flat_map(|author| self.pubkey(author)).collect()
    }

    fn window(&mut self) -> Filter {
        let list = self.oracle.kind(7);
        let at = self.random.below(list.len().saturating_sub(WINDOW_EVENTS).max(1));
        let time = |at: usize| {
            list.get(at.min(list.len().saturating_sub(1))).map(|&number| self.library.meta(number).created_at)
        };
        Filter { kinds: vec![7], since: time(at), until: time(at + WINDOW_EVENTS - 1), ..Filter::default() }
    }

    fn page(&mut self) -> Filter {
        let at = pick(&mut self.random, self.oracle.author(self.prolific));
        let authors = self.pubkey(self.prolific);
        let until = at.map(|number| self.library.meta(number).created_at);
        Filter { authors, kinds: vec![1], until, limit: Some(100), ..Filter::default() }
    }

    /// Notes with 3 to 60 answers.
    fn collect_threads(&mut self) {
        let answers = |number: u32| {
            let id = faster_hex::hex_string(self.library.id(number));
            let tagged = self.library.tagged(b'e', &id);
            tagged.iter().filter(|&&number| self.library.meta(number).kind == 1).take(61).count()
        };
        let notes = self.oracle.kind(1).iter().copied();
        self.roots = notes.filter(|&number| (3..=60).contains(&answers(number))).collect();
    }

    /// Authors with at least 50 mentions, or else the most mentioned ones.
    fn collect_mentioned(&mut self) {
        let mentions = |pubkey: &String| {
            let tagged = self.library.tagged(b'p', pubkey).iter();
            tagged.filter(|&&number| MENTION_KINDS.contains(&self.library.meta(number).kind)).count()
        };
        let mut counted: Vec<(usize, &String)> =
            self.library.authors().iter().map(|key| (mentions(key), key)).collect();
        counted.sort_unstable_by(|a, b| b.cmp(a));
        let many = counted.iter().take_while(|(count, _)| *count >= 50).count().max(counted.len().min(10));
        self.mentioned = counted.iter().take(many).map(|(_, pubkey)| (*pubkey).clone()).collect();
    }

    /// Hashtags of at least 50 notes, or else the most common ones; and who mentions whom.
    fn collect_hashtags(&mut self) {
        #[derive(Deserialize)]
        struct Tags {
            tags: Vec<Vec<String>>,
        }
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for &number in self.oracle.kind(1) {
            let Ok(event) = serde_json::from_slice::<Tags>(self.library.json(number)) else {
                continue;
            };
            for tag in event.tags.into_iter().filter(|tag| tag.len() > 1) {
                match tag[0].as_str() {
                    "t" => *counts.entry(tag[1].clone()).or_default() += 1,
                    "p" => self.conversations.push((self.library.meta(number).author, tag[1].clone())),
                    _ => {}
                }
            }
        }
        let mut counted: Vec<(usize, String)> = counts.into_iter().map(|(value, count)| (count, value)).collect();
        counted.sort_unstable_by(|a, b| b.cmp(a));
        let many = counted.iter().take_while(|(count, _)| *count >= 50).count().max(counted.len().min(10));
        self.hashtags = counted.iter().take(many).map(|(_, value)| value.clone()).collect();
        self.collect_pairs();
    }

    /// Of the twenty most prolific authors and the twenty most common hashtags, the pairs that occur least.
    fn collect_pairs(&mut self) {
        let prolific: Vec<u32> = self.writers.iter().copied().take(20).collect();
        let mut pairs = Vec::new();
        for value in self.hashtags.iter().take(20) {
            let mut uses = std::collections::BTreeMap::<u32, usize>::new();
            for &number in self.library.tagged(b't', value) {
                let meta = self.library.meta(number);
                if meta.kind == 1 && meta.stored && prolific.contains(&meta.author) {
                    *uses.entry(meta.author).or_default() += 1;
                }
            }
            pairs.extend(uses.into_iter().map(|(author, count)| (count, author, value.clone())));
        }
        pairs.sort_unstable();
        let rare = pairs.iter().take_while(|(count, ..)| *count <= 3).count().max(20);
        self.pairs = pairs.into_iter().take(rare).map(|(_, author, value)| (author, value)).collect();
    }
}

fn kinds(kinds: &[u16]) -> Filter {
    Filter { kinds: kinds.to_vec(), ..Filter::default() }
}

fn pick<T: Clone>(random: &mut Random, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| from[random.below(from.len())].clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Options, generate, plan::Mix};

    #[test]
    fn every_shape_finds_rows_in_a_generated_corpus() {
        let mut library = Library::default();
        let options = Options {
            seed: 1,
            events: 4000,
            authors: 400,
            until: 1_760_000_000,
            span_s: 864_000,
            mix: Mix::Social,
            content_bytes: 0,
        };
        generate(&options, |line| library.add(line).map(|_| ())).expect("a corpus");
        let oracle = Oracle::new(&library);
        let mut chooser = Chooser::new(&library, &oracle, 1);
        for shape in ALL {
            let found: usize = (0..10).map(|_| oracle.answer(&chooser.choose(shape), &library).len()).sum();
            assert!(found >= 10, "{} found {found} rows in 10 queries", shape.name());
        }
    }

    #[test]
    fn names_are_the_same_in_files_and_in_reports() {
        for shape in ALL {
            assert_eq!(serde_json::to_value(shape).expect("a name"), shape.name());
        }
    }

    #[test]
    fn an_empty_library_gives_filters_and_no_panic() {
        let library = Library::default();
        let oracle = Oracle::new(&library);
        let mut chooser = Chooser::new(&library, &oracle, 1);
        for shape in ALL {
            assert_eq!(oracle.answer(&chooser.choose(shape), &library), Vec::<u32>::new());
        }
    }
}
