//! The files of a store: which data file is open, what its tables are, the write-ahead log and the journal of a move.
//!
//! Knows nothing of events.

pub mod disk;
pub mod generation;
pub mod journal;
pub mod map;
pub mod schema;
pub mod wal;
