//! Which authors published so much that they may exceed a limit: the relay checks these instead of all authors.
//!
//! Counts new events only; a walk over the index finds out what an author has.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::authors::{AuthorLimit, AuthorWalk, Margin};
use super::slice::SLICE_ROWS;
use crate::nostr::Pubkey;
use crate::policy::Retention;
use crate::store::keys::footprint;
use crate::store::{Seq, Store, StoreError};

/// Authors that are remembered.
const AUTHORS: usize = 65_536;

/// After this long without events there is time to be exact.
const QUIET: Duration = Duration::from_secs(1);

/// What an author published since the last walk over his events.
#[derive(Clone, Copy, Default)]
struct Activity {
    events: u64,
    bytes: u64,
    /// What may be published before a limit can be exceeded.
    margin: Margin,
    /// A walk is worth it after more events than this: 1/16 of the rows of the last walk, so that an event costs a few
    /// microseconds of walking, however many events its author has.
    worth: u64,
    /// Whether the author is listed as due.
    is_due: bool,
}

impl Activity {
    const fn may_be_over(&self) -> bool {
        self.events > self.margin.events || self.bytes > self.margin.bytes
    }
}

/// New events and bytes by author since each was last checked, and the authors that are due for a check. Remembers up
/// to 65,536 authors.
pub struct BusyAuthors {
    /// The last arrival number that was counted.
    counted: Seq,
    activity: HashMap<Pubkey, Activity>,
    due: Vec<Pubkey>,
    last_event: Instant,
}

impl BusyAuthors {
    /// Starts behind the arrival number `counted`, without any authors.
    pub fn new(counted: Seq) -> Self {
        Self { counted, activity: HashMap::new(), due: Vec::new(), last_event: Instant::now() }
    }

    /// Counts some of the new events; true when there may be more.
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
            let activity = self.activity.entry(author).or_default();
            activity.events += 1;
            activity.bytes += footprint(event);
            if !activity.is_due && activity.may_be_over() && activity.events > activity.worth {
                activity.is_due = true;
                self.due.push(author);
            }
        }
        drop(snapshot);
        if self.counted != before {
            self.last_event = Instant::now();
        }
        if self.activity.len() > AUTHORS {
            // The others are walked again when they publish, at about a microsecond each.
            self.activity.retain(|_, activity| activity.may_be_over());
        }
        Ok(rows == SLICE_ROWS)
    }

    /// Whether a walk is worth it, or there is time for one.
    pub fn is_due(&self) -> bool {
        let is_quiet = self.last_event.elapsed() > QUIET;
        !self.due.is_empty() || (is_quiet && self.activity.values().any(Activity::may_be_over))
    }

    /// All authors who may exceed a limit. They become due again only after a walk.
    pub fn take(&mut self) -> Vec<Pubkey> {
        self.due.clear();
        let over = self.activity.iter().filter(|(_, activity)| activity.may_be_over());
        over.map(|(author, _)| *author).collect()
    }

    /// Notes the result of a walk over the events of an author.
    pub fn walked(&mut self, walk: &AuthorWalk, rules: &Retention) {
        let (margin, worth) = (walk.margin, walk.rows / 16);
        let activity = self.activity.entry(walk.author).or_default();
        let is_second = walk.limit == AuthorLimit::Total && rules.counts_kinds();
        *activity = if is_second {
            Activity { margin: activity.margin.min(margin), ..*activity }
        } else {
            Activity { margin, worth, ..Activity::default() }
        };
    }
}
