//! Committed and ephemeral events to the subscriptions that match them.

pub mod live;
pub mod outward;
