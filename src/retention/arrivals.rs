//! Who wrote so much that a limit of an author may be reached: so the relay looks at those, not at everybody.
//!
//! Counts arrivals; what an author has is found by walks over the index.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::sweep::SLICE_ROWS;
use super::sweep::{AuthorLimit, AuthorWalk};
use crate::nostr::Pubkey;
use crate::policy::Retention;
use crate::store::{Seq, Store, StoreError};

/// Authors that are remembered to have room left.
const AUTHORS: usize = 65_536;

/// So long nothing came: then there is time to be exact.
const QUIET: Duration = Duration::from_secs(1);

/// How many more events an author may send before somebody looks.
#[derive(Clone, Copy, Default)]
struct Margin {
    /// Until a limit can be passed.
    exact: u64,
    /// Until it is worth a walk: at a limit once in 16 rows, so that an arrival costs a few microseconds of walking however
    /// many events its author has.
    lazy: u64,
    came: u64,
}

/// See the module.
pub struct Arrivals {
    /// Up to here arrivals were counted.
    counted: Seq,
    margins: HashMap<Pubkey, Margin>,
    due: Vec<Pubkey>,
    last_came: Instant,
}

impl Arrivals {
    /// Nobody is known; what has come up to `counted` is no arrival.
    pub fn new(counted: Seq) -> Self {
        Self { counted, margins: HashMap::new(), due: Vec::new(), last_came: Instant::now() }
    }

    /// Counts some of what came; true when there may be more.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn count(&mut self, store: &Store) -> Result<bool, StoreError> {
        let before = self.counted;
        let snapshot = store.read()?;
        let mut rows = 0;
        for row in snapshot.after(self.counted)?.take(SLICE_ROWS as usize) {
            let (seq, event) = row?;
            (self.counted, rows) = (seq, rows + 1);
            let author = event.pubkey();
            let margin = self.margins.entry(author).or_default();
            margin.came += 1;
            if margin.came == margin.lazy + 1 {
                self.due.push(author);
            }
        }
        drop(snapshot);
        if self.counted != before {
            self.last_came = Instant::now();
        }
        if self.margins.len() > AUTHORS {
            // Everybody else is looked at once more, at about a microsecond each.
            self.margins.retain(|_, margin| margin.came > margin.exact);
        }
        Ok(rows == SLICE_ROWS)
    }

    /// Whether it is worth looking at somebody, or nothing else is to be done.
    pub fn is_due(&self) -> bool {
        let is_quiet = self.last_came.elapsed() > QUIET;
        !self.due.is_empty() || (is_quiet && self.margins.values().any(|margin| margin.came > margin.exact))
    }

    /// Everybody who may have passed a limit; they are not told again before they were looked at.
    pub fn take(&mut self) -> Vec<Pubkey> {
        self.due.clear();
        let over = self.margins.iter().filter(|(_, margin)| margin.came > margin.exact);
        over.map(|(author, _)| *author).collect()
    }

    /// Notes what a walk found of an author.
    pub fn looked(&mut self, walk: &AuthorWalk, rules: &Retention) {
        let (exact, lazy) = (walk.margin, walk.margin.max(walk.rows / 16));
        let margin = self.margins.entry(walk.author).or_default();
        let is_second = walk.limit == AuthorLimit::Total && rules.counts_kinds();
        *margin = if is_second {
            Margin { exact: margin.exact.min(exact), lazy: margin.lazy.min(lazy), ..*margin }
        } else {
            Margin { exact, lazy, came: 0 }
        };
    }
}
