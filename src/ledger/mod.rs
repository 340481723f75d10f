//! Counts limited resources by connection, by address and in total (INV-12).
//!
//! It counts and decides who must give something up. It frees nothing itself and does not know what it counts.
//!
//! There are two ways to count, which differ in what happens when the limit is reached: an [`Account`] refuses further
//! requests (filters, events; outboxes, which take what is owed all the same, are cut off by `ws/outboxes.rs`), and a
//! [`Pool`] evicts from the address that holds the most (sockets without a request, partial messages). The section
//! *Memory* of ARCHITECTURE.md lists every bound.

mod account;
mod addresses;
mod pool;

pub use account::{Account, Hold, Scope};
pub use addresses::{Address, Bound, Ledger, Options};
pub use pool::{EvictedPlace, Key, Pool};
