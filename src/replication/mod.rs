//! Replication: brings this relay and another one to the same events.
//!
//! [`sync`] compares the two by negentropy (NIP-77) or, where the other relay does not speak it, page by page, fetches
//! what is missing here and sends up what is missing there. What arrives goes through the checks of an import, under
//! the rules for events from other relays. Nothing of a sync has to be kept: one that ends early is run again.
//!
//! The other relay is not trusted. It cannot make this one store what a client could not publish, hold more than a
//! bounded amount of memory, or wait for ever.
//!
//! ```text
//!  windows ──▶ comparison (NEG-OPEN …) ──ids──▶ downloads (REQ by ids) ──EVENT──▶ feed ──pieces──▶ import
//!      ▲          or pages (REQ by until)  └──▶ uploads (EVENT, unanswered ones bounded) ──▶ the other relay
//!      └─ halves of what is too big                remembered: what stays different, for the next sync
//! ```

mod attempts;
mod auth;
mod backoff;
mod cluster;
mod comparison;
mod download;
mod error;
mod feed;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod local;
mod open_window;
mod pages;
mod pause;
mod recent;
mod refusal;
mod remembered;
mod report;
mod router;
mod run;
mod scope;
mod session;
mod upload;
mod visibility_check;
mod window;

pub use cluster::{
    CLUSTER_BYTES, Cluster, MAX_AUTHORS as MAX_NODE_AUTHORS, MAX_KINDS as MAX_NODE_KINDS, NodeStatus,
    Options as ClusterOptions, Overview, Parts as ClusterParts, Status as NodeReport, TAKEN_AT_ONCE,
    login as cluster_login, status as cluster_status,
};
pub use error::SyncError;
pub use report::{Direction, Progress, Report, Side, SyncEnd, Watch};
pub use router::{IntakeParts, LINK_BYTES, MAX_LINKS, Parts as RouterParts, Router, Stream};
pub use run::{Parts, sync};
pub use scope::Scope;
pub use window::Window;
