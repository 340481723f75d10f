//! Finds events that are older than `max_age`, by their `created_at` or by their arrival. Removes nothing.

use super::cause::Cause;
use super::slice::{Removable, SEEK_ROWS, Slice};
use crate::nostr::Kind;
use crate::store::keys::footprint;
use crate::store::{Seq, StoreError, WalkPosition};

/// Finds events that are too old by `created_at`: kind by kind from the oldest end, so recent events are not read.
#[derive(Default)]
pub struct AgeScan {
    kind: u32,
    place: Option<WalkPosition>,
}

impl AgeScan {
    /// Continues; true when the scan is complete.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        while !slice.is_over() {
            let from = u16::try_from(self.kind).ok().map(Kind);
            let Some(kind) = from.map(|from| slice.snapshot.next_kind(from)).transpose()?.flatten() else {
                return Ok(true);
            };
            if u32::from(kind.0) != self.kind {
                (self.kind, self.place) = (kind.0.into(), None);
            }
            slice.spend(SEEK_ROWS);
            let until = slice.rules.oldest_of_kind(kind, slice.now);
            let snapshot = slice.snapshot;
            let is_done = snapshot.walk_oldest(kind, until, &mut self.place, |entry| {
                slice.spend(1);
                if let Some(removable) = slice.removable(entry)?
                    && slice.is_too_old(removable.rule, entry.created_at, entry.seq)
                {
                    slice.find(entry, &removable, Cause::Age(removable.rule));
                }
                Ok(slice.flow())
            })?;
            if is_done {
                (self.kind, self.place) = (u32::from(kind.0) + 1, None);
            }
        }
        Ok(false)
    }
}

/// Finds events that are too old by arrival: in the order of arrival, so recent arrivals are not read, and none twice
/// for the same rule.
pub struct ArrivalScan {
    /// Per rule, the number below which events have been looked at, by this scan or an earlier one.
    seen: Vec<Seq>,
    rule: usize,
}

impl ArrivalScan {
    /// A scan that continues where an earlier one ended, per rule; for a rule without an entry it begins at the first
    /// event.
    #[must_use]
    pub const fn new(seen: Vec<Seq>) -> Self {
        Self { seen, rule: 0 }
    }

    /// Where the scan ended, per rule.
    #[must_use]
    pub fn into_seen(self) -> Vec<Seq> {
        self.seen
    }

    /// Continues; true when the scan is complete.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        self.seen.resize(slice.rules.rules().len(), Seq(1));
        while let Some(seen) = self.seen.get_mut(self.rule) {
            let (rule, until, snapshot) = (self.rule, slice.arrived(self.rule), slice.snapshot);
            for row in snapshot.after(Seq(seen.0 - 1))? {
                if slice.is_over() {
                    return Ok(false);
                }
                let (seq, event) = row?;
                if seq >= until {
                    break;
                }
                slice.spend(1);
                *seen = Seq(seq.0 + 1);
                if slice.rules.rule_of(event) == Some(rule) && !slice.is_gone(seq) {
                    let removable = Removable { rule, bytes: event.record().len() as u64, footprint: footprint(event) };
                    slice.find_at(seq, event.created_at(), &removable, Cause::Age(rule));
                }
            }
            *seen = (*seen).max(until);
            self.rule += 1;
        }
        Ok(true)
    }
}
