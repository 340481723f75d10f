//! Membership (NIP-43) on the built binary: requests to join and to leave, invites, the relay's own events, and roles.

mod support;

#[path = "membership/invites.rs"]
mod invites;
#[path = "membership/list.rs"]
mod list;
#[path = "membership/requests.rs"]
mod requests;
#[path = "membership/roles.rs"]
mod roles;
#[path = "membership/scene.rs"]
mod scene;
