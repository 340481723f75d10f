//! Who asked for this event: an inverted index of the live subscriptions.
//!
//! Pure: no I/O, clock, threads or randomness here. A recipient is whatever the caller hands in; nothing in
//! this module knows about sockets, and a lookup never waits.

mod candidates;
mod index;
mod postings;

pub use index::{Handle, LiveIndex, Lookup};
