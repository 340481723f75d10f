//! A client as the threads see it: its connection, its subscriptions, and the replies on their way to it.
//!
//! It never gives access to the socket.

pub mod handle;
pub mod replies;
pub mod roll;
pub mod subscription;

pub use handle::{ClientHandle, Identity, OnAnswer};
pub use replies::{BatchReplies, Replies};
pub use roll::Roll;
pub use subscription::Subscription;
