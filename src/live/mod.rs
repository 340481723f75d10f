//! Who asked for this event? An inverted index of the live subscriptions.
//!
//! Pure: no I/O, clock, threads or randomness. A recipient is any value of the caller's; this module knows nothing of
//! sockets, and a lookup never blocks.

mod candidates;
mod index;
mod postings;

pub use index::{Handle, LiveIndex, Lookup, Unlisted};
