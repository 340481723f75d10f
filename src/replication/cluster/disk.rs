//! Work that may wait for the disk, on a thread that may.
//!
//! The thread of the node itself never waits for a disk.

use std::panic::resume_unwind;

/// Works on a thread that may wait for the disk. A panic there is one here.
pub async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
