//! A cluster: several nodes of one operator, each with a store of its own, that share what is published at any of them
//! through NATS JetStream.
//!
//! The store is the outbox. What JetStream acknowledges is not taken for durable, and nothing here depends on a message
//! arriving once, in order or at all: an OK means that this node's disk has the event, an event that arrives twice or
//! late changes nothing, and what a stream lost is published again or found by comparing.
//!
//! ```text
//!  store ──arrival numbers──▶ outbox ──▶ weir.<name>.ev.<kind>  ──▶ inbox ──▶ writer ──OK──▶ ack
//!  live  ──ephemeral events─▶ outbox ──▶ weir.<name>.eph.<kind> ──▶ ephemeral ──▶ live
//!  store ◀──compare: negentropy─▶ weir.<name>.ask.<node> ──▶ answering, of another node
//!  audit ──acts of admins───▶ acts   ──▶ weir.<name>.act.<subject> ──▶ acts ──▶ audit
//! ```
//!
//! One thread runs all of it, in a session for each connection ([`session`]). How far a node has come is kept beside
//! the store ([`state`]).

mod acts;
mod answering;
mod answers;
mod ask;
mod batch;
mod compare;
mod disk;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod inbox;
mod intake;
mod known_acts;
mod login;
mod message;
mod names;
mod node;
mod options;
mod outbox;
mod owed;
mod reading;
mod session;
mod shared;
mod state;
mod status;
mod streams;
mod watch;
mod watermark;

pub use login::login;
pub use node::{Cluster, Parts};
pub use options::{CLUSTER_BYTES, MAX_AUTHORS, MAX_KINDS, Options, TAKEN_AT_ONCE};
pub use status::{NodeStatus, Overview, Status, status};
