//! The router: streams of live events between this relay and others, which lose nothing of what passed while apart.
//!
//! Each relay of a stream is a [`link`] with its own task, so that one which is slow, away or hostile keeps no
//! other waiting. A link may be killed at any time: what it has done is on disk beside the store ([`state`]), and it
//! goes on from there.
//!
//! ```text
//!  the other relay ──EVENT (live)────▶ conversation/receive ─▶ intake: one import for all links ──▶ store
//!        ▲         ──catch_up: negentropy or pages────────▶                                       │ arrival numbers
//!        └──EVENT, unanswered ones bounded── conversation/send ◀── follow (after the cursor) ◀──────┘
//! ```
//!
//! Down, the mark is the time up to which nothing that the relay has shown is missing here. A link subscribes first,
//! then compares what was created since the mark, and some time before it. Up, the cursor is the arrival number up to
//! which the relay has answered.

mod account;
mod catch_up;
mod conversation;
mod down;
mod follow;
mod intake;
mod link;
mod logged_reason;
mod outgoing;
mod progress;
mod reconnect;
mod service;
pub(super) mod state;
mod status;
mod stream;
mod up;

pub use intake::Parts as IntakeParts;
pub use service::{Parts, Router};
pub use stream::{LINK_BYTES, MAX_LINKS, Stream};
