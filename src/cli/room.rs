//! What commands tell the operator when there is no room. Pure.

use crate::backup::BackupError;
use crate::retention::Limit;
use crate::store::StoreError;

/// What to do when this limit is reached.
pub const fn make_room(limit: Limit) -> &'static str {
    match limit {
        Limit::MaxBytes => "free space or raise storage.max_bytes",
        Limit::MapBytes => "free space or raise storage.map_bytes",
        Limit::Disk => "free space on the disk, of which storage.min_free_disk_bytes must stay free",
    }
}

/// The error of a command that creates a data file. Where it found no room, this says what to do.
pub fn want_of_room(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let is_full = matches!(error.downcast_ref(), Some(StoreError::Full))
        || matches!(error.downcast_ref(), Some(BackupError::Store(StoreError::Full)));
    if is_full { error.context(format!("there is no room: {}", make_room(Limit::Disk))) } else { error }
}
