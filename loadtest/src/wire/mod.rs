//! The client's side of the wire: RFC 6455 frames, the upgrade, and the relay messages of NIP-01.
//!
//! It must never allocate for an uncompressed message on the way in, and never do more to a message than find its
//! parts.

pub mod auth;
pub mod codec;
pub mod connect;
pub mod deflate;
pub mod frame;
pub mod information;
pub mod link;
pub mod message;
pub mod stream;
pub mod tls;
