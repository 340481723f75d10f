//! What did admins decide while the relay ran (NIP-86)? Their decisions, the audit of how they came to be, and the
//! files that hold both.
//!
//! The audit is the log: an act is in it, on disk, before it takes effect. The state is what the acts come to. It is
//! written only now and then, as a checkpoint from which the audit goes on, so a process that is killed at any step
//! leaves either the old or the new decision, and the audit agrees. Nothing here knows HTTP, sockets or threads.

pub mod audit;
pub mod audit_search;
pub mod copies;
pub mod decision_order;
pub mod error;
pub mod files;
pub mod journal;
pub mod members;
pub mod methods;
pub mod options;
pub mod request;
pub mod role;
pub mod roles;
pub mod socket;
pub mod state;
pub mod subject;
#[cfg(test)]
mod tests;
pub mod used_authorizations;

pub use audit::{AuditEntry, Change, Decision, Origin, Verdict};
pub use error::JournalError;
pub use journal::{Actor, Journal};
pub use members::{Joined, NotJoined};
pub use methods::{Configured, call};
pub use options::Options;
pub use request::{CallError, MethodResult, Request};
pub use role::{Role, RoleId};
pub use subject::{InviteCode, Subject};
