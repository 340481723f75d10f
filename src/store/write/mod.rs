//! The rules that decide which events stay: replacement, deletion, vanish requests and expiration, and the transaction
//! that applies them.

pub mod arrivals;
pub mod buffers;
pub mod deletion;
pub mod group;
pub mod notes;
pub mod outcome;
pub mod partial_commit;
pub mod remember_removals;
pub mod removal;
pub mod size;
pub mod transaction;
pub mod vanish;
