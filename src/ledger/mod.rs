//! Who holds how much of what is limited: by connection, by address, and in all (INV-12).
//!
//! It counts, and it tells who must give way. It frees nothing, and it does not know what it counts.
//!
//! | what | counted in | by connection | by address, in all | when full |
//! |---|---|---|---|---|
//! | filters of subscriptions and queries | [`Hold`] | `tiers.*.max_filter_bytes` | `memory.filters` | refused, with the reason |

mod account;
mod accounts;
mod pool;

pub use account::{Account, Hold, Scope};
pub use accounts::{Address, Bound, Ledger, Options};
pub use pool::{GiveWay, Key, Pool};
