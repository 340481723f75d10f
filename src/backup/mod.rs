//! How do the events get to another disk, and back? Backups: directories of plain files, each run adding what is new.
//!
//! | file                | holds                                                                        |
//! |---------------------|------------------------------------------------------------------------------|
//! | `MANIFEST`          | which files belong to the backup, with the SHA-256 of each, and its own      |
//! | `records-N-K.weir`  | records in the order of arrival: of run N, part K                            |
//! | `live-N.weir`       | which arrival numbers are still held                                         |
//! | `tombstones-N.weir` | what must not come back                                                      |
//!
//! A run adds records behind the last number of the run before, and the other two files anew. `MANIFEST` is replaced
//! at the very end, by a rename: until then the backup is what it was. Events that are gone keep their bytes in a
//! part until most of the part is gone; then it is written anew.
//!
//! Reads the store in slices and never holds a transaction while it writes a file (INV-9). What a run holds: every
//! event that was stored before the run ended, but for those removed before it began; of what is removed meanwhile,
//! either. Nothing is lost to a replacement: whatever takes the place of an event during the run is copied too.

mod create;
mod error;
mod live;
mod manifest;
mod part;
mod restore;
#[cfg(test)]
mod tests;
mod verify;

pub use create::{Created, create};
pub use error::BackupError;
pub use manifest::Manifest;
pub use restore::{Restored, restore};
pub use verify::{Verified, verify};
