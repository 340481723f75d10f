//! Who holds how much of what is limited: by connection, by address, and in all (INV-12).
//!
//! It counts, and it tells who must give way. It frees nothing, and it does not know what it counts.
//!
//! Two ways to count, by what is to happen when it is full: an [`Account`] refuses whoever asks for more (filters, events,
//! outboxes), and a [`Pool`] takes from whoever holds the most (sockets at the door, incomplete messages).
//! ARCHITECTURE.md, *Memory*, lists every bound.

mod account;
mod accounts;
mod pool;

pub use account::{Account, Hold, Scope};
pub use accounts::{Address, Bound, Ledger, Options};
pub use pool::{GiveWay, Key, Pool};
