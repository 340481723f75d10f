//! A client as the threads see it: its connection, its subscriptions, and the replies on their way to it.
//!
//! It never gives access to the socket.

pub mod handle;
pub mod registry;
pub mod replies;
pub mod subscription;

pub use handle::{ClientHandle, Identity, OnAnswer};
pub use registry::ClientRegistry;
pub use replies::{BatchReplies, Replies};
pub use subscription::Subscription;
