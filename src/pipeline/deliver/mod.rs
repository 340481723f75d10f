//! Committed events to the subscriptions that match them, and replies to the client that sent them.

pub mod live;
