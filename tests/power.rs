//! What survives a power cut: every call on the store's files is recorded in a storm, and disks are built that a cut at
//! some instant may have left.
//!
//! `WEIR_POWER_CUTS=1000 cargo test --test power` cuts more often; `WEIR_POWER_SEED` repeats a run's choices.

mod support;

#[path = "support/corpus.rs"]
#[allow(dead_code)]
mod corpus;

mod power {
    mod cuts;
    mod disk;
    mod ledger;
    mod promises;
    mod recorder;
    mod storm;
}
