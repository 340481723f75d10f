//! The material for the next event of a corpus: authors, words, and recent events that it may refer to.
//!
//! It must never decide which event comes next; the planner does.

use std::collections::VecDeque;

use super::authors::Authors;
use super::draft::Tags;
use super::words::Words;
use crate::random::{Random, Zipf};

/// How many recent notes later events can point at.
const RECENT_NOTES: usize = 4096;
/// How many recent articles comments can point at.
const RECENT_ARTICLES: usize = 256;
/// Hashtags in use.
const HASHTAGS: usize = 5000;

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

/// Everything that the content and the tags of the next event depend on.
pub struct Pool<'a> {
    /// The only source of randomness.
    pub random: Random,
    /// The authors.
    pub authors: &'a Authors,
    /// The words.
    pub words: Words,
    /// Notes to point at, oldest first.
    pub notes: VecDeque<Note>,
    /// Articles to point at, oldest first.
    pub articles: VecDeque<Article>,
    /// How many events were written before.
    pub written: u64,
    /// Least length of a note's content in bytes.
    pub content_bytes: usize,
    author_rank: Zipf,
    hashtag_rank: Zipf,
}

/// Tags and content of an event being planned, before escaping.
#[derive(Debug, Default)]
pub struct Body {
    /// The `tags` array.
    pub tags: Tags,
    /// The `content`, not escaped.
    pub content: String,
    /// The data that later events need to refer to this one, if they may.
    pub root: Option<(String, u32)>,
    /// The `d` tag of an article.
    pub article: Option<String>,
}

impl<'a> Pool<'a> {
    /// A pool without events.
    pub fn new(seed: u64, authors: &'a Authors, content_bytes: usize) -> Self {
        Self {
            random: Random::new(seed),
            authors,
            words: Words::new(),
            notes: VecDeque::with_capacity(RECENT_NOTES),
            articles: VecDeque::with_capacity(RECENT_ARTICLES),
            written: 0,
            content_bytes,
            author_rank: Zipf::new(authors.len(), 3),
            hashtag_rank: Zipf::new(HASHTAGS, 2),
        }
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

    /// A note to refer to; recent ones and those of frequent authors are chosen more often.
    pub fn target(&mut self) -> Option<Note> {
        let count = self.notes.len();
        if count == 0 {
            return None;
        }
        let reach = self.random.below(count) + 1;
        let back = self.random.below(reach);
        Some(self.notes[count - 1 - back].clone())
    }

    /// Keeps a note for later events to point at.
    pub fn add_note(&mut self, note: Note) {
        if self.notes.len() == RECENT_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    /// Keeps an article for later comments to name.
    pub fn add_article(&mut self, article: Article) {
        if self.articles.len() == RECENT_ARTICLES {
            self.articles.pop_front();
        }
        self.articles.push_back(article);
    }
}
