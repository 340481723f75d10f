//! The files of a store: the current data file, its tables, the write-ahead log, and the journal for a copy.
//!
//! Knows nothing of events.

pub mod commit;
pub mod disk;
pub mod file_identity;
pub mod full;
pub mod generation;
pub mod handle;
#[cfg(all(test, feature = "interleavings"))]
mod interleavings;
pub mod journal;
pub mod lock;
pub mod map;
pub mod names;
pub mod newest;
pub mod owner;
pub mod prefetch;
pub mod schema;
pub mod tally;
pub mod wal;
