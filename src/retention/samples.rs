//! A few events per cause, for the operator to look at before they are removed.
//!
//! They are drawn by a hash of the arrival number: every event of a cause is equally likely, and neither the order in
//! which events are found nor the size of the slices changes the draw. Keeps numbers, never records.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

use super::cause::{Candidate, Cause};
use crate::nostr::{EventId, Kind, Pubkey, Timestamp};
use crate::store::{Seq, Snapshot, StoreError};

/// Events drawn per cause.
const EACH: usize = 3;

/// Up to three arrival numbers for each cause: those with the lowest hashes of all that were offered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Samples(BTreeMap<Cause, BTreeSet<(u64, Seq)>>);

/// A sample: an event that would be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Its id.
    pub id: EventId,
    /// Its author.
    pub author: Pubkey,
    /// Its kind.
    pub kind: Kind,
    /// Its `created_at`.
    pub created_at: Timestamp,
}

impl Samples {
    /// Takes an event into the draw.
    pub fn add(&mut self, one: &Candidate) {
        let mut hasher = SipHasher24::new();
        hasher.write_u64(one.seq.0);
        let draws = self.0.entry(one.cause).or_default();
        draws.insert((hasher.finish(), one.seq));
        if draws.len() > EACH {
            draws.pop_last();
        }
    }

    /// The events drawn for a cause, oldest first, without those that no longer exist.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn read(&self, cause: Cause, snapshot: &Snapshot<'_>) -> Result<Vec<Sample>, StoreError> {
        let mut found = Vec::new();
        for (_, seq) in self.0.get(&cause).into_iter().flatten() {
            let event = snapshot.get(*seq)?;
            found.extend(event.map(|event| {
                let (id, author) = (event.id(), event.pubkey());
                Sample { id, author, kind: event.kind(), created_at: event.created_at() }
            }));
        }
        found.sort_by_key(|sample| (sample.created_at, sample.id));
        Ok(found)
    }
}
