//! Why a sync does not come to its end.

use super::comparison::ComparisonError;
use super::download::Abuse;
use crate::peer::PeerError;
use crate::store::StoreError;

/// Why a sync ended early. What was transferred until then stays.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// There is no connection, or none any more.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The relay did not answer in time.
    #[error("the relay did not answer for {0} s{1}")]
    TimedOut(u64, String),
    /// The relay refuses what a sync takes.
    #[error("the relay refuses: {0}")]
    Refused(String),
    /// The relay wants a key to be proven.
    #[error("the relay requires authentication ({0}); name a file with a private key")]
    AuthRequired(String),
    /// The relay does not accept the key.
    #[error("the relay does not accept the key: {0}")]
    AuthRefused(String),
    /// The relay does what no relay should.
    #[error("the relay misbehaves: {0}")]
    Abuse(#[from] Abuse),
    /// Its negentropy messages are wrong.
    #[error("the relay misbehaves: {0}")]
    Comparison(ComparisonError),
    /// Our store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What arrives cannot be stored any more; the import says why.
    #[error("events cannot be stored")]
    ImportOver,
    /// The operator stopped it.
    #[error("interrupted")]
    Interrupted,
}
