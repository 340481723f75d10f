//! Who wrote so much that a limit of an author may be reached: so the relay looks at those, not at everybody.
//!
//! Counts arrivals; what an author has is found by walks over the index.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::authors::{AuthorLimit, AuthorWalk, Margin};
use super::sweep::SLICE_ROWS;
use crate::nostr::Pubkey;
use crate::policy::Retention;
use crate::store::keys::footprint;
use crate::store::{Seq, Store, StoreError};

/// Authors that are remembered to have room left.
const AUTHORS: usize = 65_536;

/// So long nothing came: then there is time to be exact.
const QUIET: Duration = Duration::from_secs(1);

/// What came of an author since his events were walked.
#[derive(Clone, Copy, Default)]
struct Came {
    events: u64,
    bytes: u64,
    /// So much may come before a limit can be passed.
    margin: Margin,
    /// With so many events it is worth a walk: at a limit once in 16 rows, so that an arrival costs a few microseconds of
    /// walking however many events its author has.
    worth: u64,
    /// The author is in [`Arrivals::due`].
    is_due: bool,
}

impl Came {
    const fn may_be_over(&self) -> bool {
        self.events > self.margin.events || self.bytes > self.margin.bytes
    }
}

/// See the module.
pub struct Arrivals {
    /// Up to here arrivals were counted.
    counted: Seq,
    came: HashMap<Pubkey, Came>,
    due: Vec<Pubkey>,
    last_came: Instant,
}

impl Arrivals {
    /// Nobody is known; what has come up to `counted` is no arrival.
    pub fn new(counted: Seq) -> Self {
        Self { counted, came: HashMap::new(), due: Vec::new(), last_came: Instant::now() }
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
            let came = self.came.entry(author).or_default();
            came.events += 1;
            came.bytes += footprint(event);
            if !came.is_due && came.may_be_over() && came.events > came.worth {
                came.is_due = true;
                self.due.push(author);
            }
        }
        drop(snapshot);
        if self.counted != before {
            self.last_came = Instant::now();
        }
        if self.came.len() > AUTHORS {
            // Everybody else is looked at once more, at about a microsecond each.
            self.came.retain(|_, came| came.may_be_over());
        }
        Ok(rows == SLICE_ROWS)
    }

    /// Whether it is worth looking at somebody, or nothing else is to be done.
    pub fn is_due(&self) -> bool {
        let is_quiet = self.last_came.elapsed() > QUIET;
        !self.due.is_empty() || (is_quiet && self.came.values().any(Came::may_be_over))
    }

    /// Everybody who may have passed a limit; they are not told again before they were looked at.
    pub fn take(&mut self) -> Vec<Pubkey> {
        self.due.clear();
        let over = self.came.iter().filter(|(_, came)| came.may_be_over());
        over.map(|(author, _)| *author).collect()
    }

    /// Notes what a walk found of an author.
    pub fn looked(&mut self, walk: &AuthorWalk, rules: &Retention) {
        let (margin, worth) = (walk.margin, walk.rows / 16);
        let came = self.came.entry(walk.author).or_default();
        let is_second = walk.limit == AuthorLimit::Total && rules.counts_kinds();
        *came = if is_second {
            Came { margin: came.margin.min(margin), ..*came }
        } else {
            Came { margin, worth, ..Came::default() }
        };
    }
}
