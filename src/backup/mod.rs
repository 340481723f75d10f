//! Backups: directories of plain files, to which each run adds the new events.
//!
//! | file                | holds                                                                        |
//! |---------------------|------------------------------------------------------------------------------|
//! | `MANIFEST`          | the files of the backup with their SHA-256, and its own SHA-256              |
//! | `records-N-K.weir`  | records in the order of arrival: part K of run N                             |
//! | `held-N.weir`       | the arrival numbers that were held after run N                               |
//! | `tombstones-N.weir` | the tombstones after run N                                                   |
//! | `attached-N.weir`   | files from beside the store after run N, such as the decisions of admins     |
//!
//! A run adds the records that arrived since the previous run, and new files of the other kinds. At the very end it
//! replaces `MANIFEST` by a rename; until then the backup is unchanged. The lists of earlier runs are kept for a time
//! (`state.rs`), together with the records that only they hold, so that an earlier state can be restored. A part is
//! rewritten once most of it has been deleted.
//!
//! The store is read in slices, and no transaction is open while a file is written (INV-9). A run holds every event
//! that was stored before it ended, except those removed before it began; an event removed meanwhile may be in it or
//! not. Replacements lose nothing: an event that replaces another one during the run is copied too.

mod attached_files;
mod claims;
mod contents;
mod create;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod manifest;
mod part;
mod restore;
mod rewrite;
mod seq_set;
mod state;
#[cfg(test)]
mod tests;
mod verify;

pub use attached_files::{AttachedFile, attached};
pub use create::{Created, Pruned, create, prune};
pub use error::BackupError;
pub use manifest::Manifest;
pub use restore::{Restored, StateChoice, restore};
pub use state::State;
pub use verify::{Verified, verify};
