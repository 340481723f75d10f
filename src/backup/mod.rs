//! How do the events get to another disk, and back? Backups: directories of plain files, each run adding what is new.
//!
//! | file                | holds                                                                        |
//! |---------------------|------------------------------------------------------------------------------|
//! | `MANIFEST`          | which files belong to the backup, with the SHA-256 of each, and its own      |
//! | `records-N-K.weir`  | records in the order of arrival: of run N, part K                            |
//! | `held-N.weir`       | which arrival numbers were held after run N                                  |
//! | `tombstones-N.weir` | what was kept from coming back after run N                                   |
//!
//! A run adds the records behind the last number of the run before, and new files of the other two sorts. `MANIFEST` is
//! replaced at the very end, by a rename: until then the backup is what it was. The lists of earlier runs stay for a
//! time (`state.rs`), and with them the records that only they name, so that an earlier state can be restored. A part is
//! rewritten once no state needs most of it.
//!
//! Reads the store in slices and never holds a transaction while it writes a file (INV-9). What a run holds: every
//! event that was stored before the run ended, but for those removed before it began; of what is removed meanwhile,
//! either. Nothing is lost to a replacement: whatever takes the place of an event during the run is copied too.

mod contents;
mod create;
mod error;
mod file;
mod held;
mod manifest;
mod part;
mod restore;
mod state;
#[cfg(test)]
mod tests;
mod thin;
mod verify;

pub use create::{Created, Pruned, create, prune};
pub use error::BackupError;
pub use manifest::Manifest;
pub use restore::{Restored, Which, restore};
pub use state::State;
pub use verify::{Verified, verify};
