//! Management of the running relay (NIP-86 with NIP-98) on the built binary: every method with real signatures, what is
//! refused, and what is left after a restart, a kill or damage.

mod support;

#[path = "management/auth.rs"]
mod auth;
#[path = "management/backups.rs"]
mod backups;
#[path = "management/bans.rs"]
mod bans;
#[path = "management/commands.rs"]
mod commands;
#[path = "management/dashboard.rs"]
mod dashboard;
#[path = "management/methods.rs"]
mod methods;
#[path = "management/scene.rs"]
mod scene;
#[path = "management/socket.rs"]
mod socket;
#[path = "management/state.rs"]
mod state;
