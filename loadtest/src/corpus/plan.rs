//! Decides the events of a corpus one after the other: author, kind and time.
//!
//! It must never look at a clock or at another thread's progress: its output is a function of the options.

use super::authors::Authors;
use super::draft::{Draft, Fields, Signer, push_json_string};
use super::pool::{Article, Note, Pool};
use super::shapes;

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// The kinds of a public relay.
    Social,
    /// Kind 1 only.
    Notes,
}

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The same options give the same bytes.
    pub seed: u64,
    /// How many events.
    pub events: u64,
    /// How many authors share them, by Zipf's law.
    pub authors: usize,
    /// `created_at` of the newest event, unix seconds.
    pub until: u64,
    /// Seconds between the oldest and the newest event.
    pub span_s: u64,
    /// Which kinds.
    pub mix: Mix,
    /// Least length of a note's content in bytes.
    pub content_bytes: usize,
}

impl Options {
    /// The default corpus: the social mix over 90 days up to a fixed time, so that a seed means the same bytes on any
    /// day.
    pub fn social(seed: u64, events: u64) -> Self {
        Self {
            seed,
            events,
            authors: (events / 10).clamp(20, 500_000) as usize,
            until: 1_767_225_600,
            span_s: 90 * 86_400,
            mix: Mix::Social,
            content_bytes: 0,
        }
    }
}

/// Everything the next event depends on.
pub struct Planner<'a> {
    pool: Pool<'a>,
    mix: Mix,
    /// One bit each: has a profile, a follow list, a relay list.
    once: Vec<u8>,
    created_at: u64,
    gap_ms: u64,
    clock_ms: u64,
    /// Some events are dated back.
    jitter: bool,
}

impl<'a> Planner<'a> {
    /// A plan for `options.events` events spread over the `span_s` seconds before `until`.
    pub fn new(options: &Options, authors: &'a Authors) -> Self {
        let &Options { seed, mix, events, until, span_s, content_bytes, .. } = options;
        Self {
            pool: Pool::new(seed, authors, content_bytes),
            mix,
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
        let body = shapes::body(&mut self.pool, kind, author);
        let created_at = self.tick();
        let (signer, pubkey) = match kind {
            1059 => {
                let number = self.pool.written;
                (Signer::Once(number), self.pool.authors.once_pubkey(number))
            }
            _ => (Signer::Author(author), self.pool.authors.pubkey(author).to_string()),
        };
        let tags = body.tags.finish();
        let mut content = String::with_capacity(body.content.len() + 64);
        push_json_string(&body.content, &mut content);
        let fields = Fields { pubkey: &pubkey, created_at, kind, tags: &tags, content: &content };
        let draft = Draft::new(signer, fields);
        self.remember(kind, author, &draft, body.root, body.article);
        self.pool.written += 1;
        draft
    }

    fn kind(&mut self) -> u16 {
        match self.mix {
            Mix::Notes => 1,
            Mix::Social => shapes::kind(&mut self.pool.random),
        }
    }

    /// The author of the next event. Profiles, follow lists and relay lists appear once per author, so that the stored
    /// result does not depend on the order of arrival; when no author is found without one, a note is written instead.
    fn author_for(&mut self, kind: u16) -> (u32, u16) {
        let Some(bit) = [0u16, 3, 10002].iter().position(|&k| k == kind) else {
            return (self.pool.popular_author(), kind);
        };
        for _ in 0..8 {
            let author = self.pool.random.below(self.pool.authors.len());
            if self.once[author] & (1 << bit) == 0 {
                self.once[author] |= 1 << bit;
                return (author as u32, kind);
            }
        }
        (self.pool.popular_author(), 1)
    }

    /// Advances the corpus clock by a random gap; one event in ten carries a time up to an hour old, as late and
    /// rebroadcast events do, and one in twenty shares its second with the one before.
    fn tick(&mut self) -> u64 {
        if !self.pool.random.chance(50) {
            self.clock_ms += self.pool.random.below(self.gap_ms as usize * 2 + 1) as u64;
        }
        let now = self.created_at + self.clock_ms / 1000;
        if self.jitter && self.pool.random.chance(100) {
            return now - self.pool.random.below(3600) as u64;
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
            self.pool.add_note(Note { id: faster_hex::hex_string(&draft.id), author, root });
        }
        if let Some(d) = article {
            let coordinate = format!("30023:{}:{d}", self.pool.authors.pubkey(author));
            self.pool.add_article(Article { coordinate, author });
        }
    }
}
