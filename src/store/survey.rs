//! Who takes the room, and how much of it came lately: a look at every event, or at some of them evenly spread.
//!
//! Reads in slices (INV-9), so it may run beside a relay. It counts records; index entries come on top.

use hashbrown::HashMap;

use super::{Seq, Store, StoreError};
use crate::nostr::{EventView, Pubkey, Timestamp};

/// Events that are looked at in one read transaction: about a millisecond when they are in memory.
const SLICE: u64 = 2048;

/// A number of events and the bytes of their records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// Events.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, event: EventView<'_>) {
        self.events += 1;
        self.bytes += event.record().len() as u64;
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// Everything that was looked at.
    pub seen: Amount,
    /// Of this, what was created at the time that was given or later.
    pub recent: Amount,
    /// Of this, what each author wrote.
    pub authors: HashMap<Pubkey, Amount>,
}

impl Survey {
    fn add(&mut self, event: EventView<'_>, recent_since: Timestamp) {
        self.seen.add(event);
        if event.created_at() >= recent_since {
            self.recent.add(event);
        }
        self.authors.entry(event.pubkey()).or_default().add(event);
    }

    /// The `count` authors with the most bytes, the largest first, ties by key.
    #[must_use]
    pub fn largest_authors(&self, count: usize) -> Vec<(Pubkey, Amount)> {
        let mut authors: Vec<_> = self.authors.iter().map(|(author, amount)| (*author, *amount)).collect();
        authors.sort_unstable_by_key(|(author, amount)| (std::cmp::Reverse(amount.bytes), author.0));
        authors.truncate(count);
        authors
    }
}

impl Store {
    /// Looks at every event, or at about `sample` of them, spread evenly over the order of arrival; `None` looks at
    /// all. Those that arrive meanwhile are left out. Tells `progress` the arrival number that it has come to.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn survey(
        &self,
        sample: Option<u64>,
        recent_since: Timestamp,
        mut progress: impl FnMut(Seq),
    ) -> Result<Survey, StoreError> {
        let last = self.read()?.last_seq()?.0;
        let step = sample.map_or(1, |sample| (last / sample.max(1)).max(1));
        let mut survey = Survey::default();
        let mut next = 1;
        while next <= last {
            self.follow()?;
            let snapshot = self.read()?;
            if step == 1 {
                let from = next;
                next = last + 1;
                for (count, row) in (0..).zip(snapshot.after(Seq(from - 1))?) {
                    let (seq, event) = row?;
                    if count == SLICE || seq.0 > last {
                        next = seq.0;
                        break;
                    }
                    survey.add(event, recent_since);
                }
            } else {
                for _ in 0..SLICE.min((last - next) / step + 1) {
                    if let Some(event) = snapshot.get(Seq(next))? {
                        survey.add(event, recent_since);
                    }
                    next += step;
                }
            }
            drop(snapshot);
            progress(Seq(next - 1));
        }
        Ok(survey)
    }
}
