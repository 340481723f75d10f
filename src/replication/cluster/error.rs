//! Why a session of a cluster ends.
//!
//! Nothing here is told to clients.

use crate::replication::file::FileError;
use crate::store::StoreError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// NATS cannot be reached, or does not do what was asked.
    #[error("{what}: {why}")]
    Nats {
        /// What was tried.
        what: &'static str,
        /// What became of it.
        why: String,
    },
    /// The connection is gone.
    #[error("the connection to NATS is lost")]
    Disconnected,
    /// A file that the configuration names cannot be used.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// Why not.
        why: String,
    },
    /// The store cannot be read.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// How far the node has come cannot be kept.
    #[error("the state of the node cannot be kept: {0}")]
    State(#[from] FileError),
    /// The decisions of admins cannot be read or recorded.
    #[error("the audit: {0}")]
    Journal(String),
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
}

/// Names what failed.
pub fn nats<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> ClusterError {
    move |error| ClusterError::Nats { what, why: error.to_string() }
}
