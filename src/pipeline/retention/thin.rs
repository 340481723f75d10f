//! Where events were removed one by one, so that pages may be thin and worth packing.

use std::collections::BTreeSet;

use crate::store::{Run, Seq, Store, StoreError};

/// Arrival numbers that are remembered as one.
const REGION: u64 = 128;

/// Regions behind the latest removals that may see more of them.
pub const BUSY: usize = 16;

/// Regions of the arrival order where something was removed.
#[derive(Default)]
pub struct Thin {
    regions: BTreeSet<u64>,
}

impl Thin {
    /// These were removed.
    pub fn note(&mut self, seqs: impl Iterator<Item = Seq>) {
        self.regions.extend(seqs.map(|seq| seq.0 / REGION));
    }

    /// The next run that is worth packing, but for the latest `busy` regions.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn next(&mut self, store: &Store, busy: usize) -> Result<Option<Run>, StoreError> {
        while self.regions.len() > busy
            && let Some(region) = self.regions.pop_first()
        {
            let Some(run) = store.read()?.run_of_pages(Seq(region * REGION))? else { continue };
            // What the run reaches over is looked at already.
            self.regions = self.regions.split_off(&(run.last.0 / REGION));
            if run.is_thin {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }
}
