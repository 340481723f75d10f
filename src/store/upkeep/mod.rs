//! Work on the whole store, offline or in the background: check, repair, compact, restore, upgrade.

pub mod check;
pub mod compact;
pub mod repair;
pub mod restore;
pub mod upgrade;
