//! Why the `retention` thread cannot continue.

use crate::store::StoreError;

/// An error that ends a turn of the `retention` thread.
pub enum EvictError {
    /// The writer has ended, and so does this thread.
    Closed,
    /// The store failed. The thread tries again.
    Store(StoreError),
}

impl From<StoreError> for EvictError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
