//! Decides the events of a corpus one after the other: who writes, which kind, what it points at.
//!
//! It must never look at a clock or at another thread's progress: its output is a function of the options.

use std::collections::VecDeque;

use super::Options;
use super::authors::Authors;
use super::draft::{Draft, Fields, Signer, Tags, push_json_string};
use super::shapes;
use super::words::Words;
use crate::random::{Random, Zipf};

/// How many recent notes later events can point at.
const RECENT_NOTES: usize = 4096;
/// How many recent articles comments can point at.
const RECENT_ARTICLES: usize = 256;
/// Hashtags in use.
const HASHTAGS: usize = 5000;

/// What the events are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// The kinds of a public relay.
    Social,
    /// Kind 1 only.
    Notes,
}

/// A note that later events may answer, repost or like.
#[derive(Clone, Debug)]
pub struct Note {
    /// 64 hex digits.
    pub id: String,
    /// Its author's rank.
    pub author: u32,
    /// The first note of its thread: id and author.
    pub root: Option<(String, u32)>,
}

/// An article (kind 30023) that comments may name.
#[derive(Clone, Debug)]
pub struct Article {
    /// `30023:<pubkey>:<d>`.
    pub coordinate: String,
    /// Its author's rank.
    pub author: u32,
}

/// Everything the next event depends on.
pub struct Planner<'a> {
    /// The only source of chance.
    pub random: Random,
    /// Who may write.
    pub authors: &'a Authors,
    /// What they write.
    pub words: Words,
    /// Notes to point at, oldest first.
    pub notes: VecDeque<Note>,
    /// Articles to point at, oldest first.
    pub articles: VecDeque<Article>,
    /// How far the plan is.
    pub written: u64,
    /// Least length of a note's content in bytes.
    pub content_bytes: usize,
    mix: Mix,
    author_rank: Zipf,
    hashtag_rank: Zipf,
    /// One bit each: has a profile, a follow list, a relay list.
    once: Vec<u8>,
    created_at: u64,
    gap_ms: u64,
    clock_ms: u64,
    /// Some events are dated back.
    jitter: bool,
}

/// Tags and content of an event being planned, before escaping.
#[derive(Debug, Default)]
pub struct Body {
    /// The `tags` array.
    pub tags: Tags,
    /// The `content`, not escaped.
    pub content: String,
    /// What a later event needs to know if this one can be pointed at.
    pub root: Option<(String, u32)>,
    /// The `d` tag of an article.
    pub article: Option<String>,
}

impl<'a> Planner<'a> {
    /// A plan for `options.events` events spread over the `span_s` seconds before `until`.
    pub fn new(options: &Options, authors: &'a Authors) -> Self {
        let &Options { mix, events, until, span_s, content_bytes, .. } = options;
        Self {
            random: Random::new(options.seed),
            content_bytes,
            authors,
            words: Words::new(),
            notes: VecDeque::with_capacity(RECENT_NOTES),
            articles: VecDeque::with_capacity(RECENT_ARTICLES),
            written: 0,
            mix,
            author_rank: Zipf::new(authors.len(), 3),
            hashtag_rank: Zipf::new(HASHTAGS, 2),
            once: vec![0; authors.len()],
            created_at: until.saturating_sub(span_s),
            gap_ms: span_s * 1000 / events.max(1),
            clock_ms: 0,
            jitter: span_s > 2 * 3600,
        }
    }

    /// The next event.
    pub fn plan_next(&mut self) -> Draft {
        let kind = self.kind();
        let (author, kind) = self.author_for(kind);
        let body = shapes::body(self, kind, author);
        let created_at = self.tick();
        let (signer, pubkey) = match kind {
            1059 => {
                let number = self.written;
                (Signer::Once(number), self.authors.once_pubkey(number))
            }
            _ => (Signer::Author(author), self.authors.pubkey(author).to_string()),
        };
        let tags = body.tags.finish();
        let mut content = String::with_capacity(body.content.len() + 64);
        push_json_string(&body.content, &mut content);
        let fields = Fields { pubkey: &pubkey, created_at, kind, tags: &tags, content: &content };
        let draft = Draft::new(signer, fields);
        self.remember(kind, author, &draft, body.root, body.article);
        self.written += 1;
        draft
    }

    /// An author by how much they write and are mentioned.
    pub fn popular_author(&mut self) -> u32 {
        self.author_rank.sample(&mut self.random) as u32
    }

    /// A hashtag by how often it is used.
    pub fn hashtag(&mut self) -> String {
        let rank = self.hashtag_rank.sample(&mut self.random);
        self.words.hashtag(rank)
    }

    /// A note to point at; recent ones and the notes of frequent authors come up more often.
    pub fn target(&mut self) -> Option<Note> {
        let count = self.notes.len();
        if count == 0 {
            return None;
        }
        let reach = self.random.below(count) + 1;
        let back = self.random.below(reach);
        Some(self.notes[count - 1 - back].clone())
    }

    fn kind(&mut self) -> u16 {
        match self.mix {
            Mix::Notes => 1,
            Mix::Social => shapes::kind(&mut self.random),
        }
    }

    /// The author of the next event. Profiles, follow lists and relay lists appear once per author, so that the stored
    /// result does not depend on the order of arrival; when no author is found without one, a note is written instead.
    fn author_for(&mut self, kind: u16) -> (u32, u16) {
        let Some(bit) = [0u16, 3, 10002].iter().position(|&k| k == kind) else {
            return (self.popular_author(), kind);
        };
        for _ in 0..8 {
            let author = self.random.below(self.authors.len());
            if self.once[author] & (1 << bit) == 0 {
                self.once[author] |= 1 << bit;
                return (author as u32, kind);
            }
        }
        (self.popular_author(), 1)
    }

    /// Advances the corpus clock by a random gap; one event in ten carries a time up to an hour old, as late and
    /// rebroadcast events do, and one in twenty shares its second with the one before.
    fn tick(&mut self) -> u64 {
        if !self.random.chance(50) {
            self.clock_ms += self.random.below(self.gap_ms as usize * 2 + 1) as u64;
        }
        let now = self.created_at + self.clock_ms / 1000;
        if self.jitter && self.random.chance(100) {
            return now - self.random.below(3600) as u64;
        }
        now
    }

    fn remember(
        &mut self,
        kind: u16,
        author: u32,
        draft: &Draft,
        root: Option<(String, u32)>,
        article: Option<String>,
    ) {
        if kind == 1 {
            if self.notes.len() == RECENT_NOTES {
                self.notes.pop_front();
            }
            self.notes.push_back(Note { id: faster_hex::hex_string(&draft.id), author, root });
        }
        if let Some(d) = article {
            if self.articles.len() == RECENT_ARTICLES {
                self.articles.pop_front();
            }
            let coordinate = format!("30023:{}:{d}", self.authors.pubkey(author));
            self.articles.push_back(Article { coordinate, author });
        }
    }
}
