//! Who holds how much of what is limited: by connection, by address, and in all (INV-12).
//!
//! It counts, and it tells who must give way. It frees nothing, and it does not know what it counts.

mod pool;

pub use pool::{GiveWay, Key, Pool};
