//! What the file system says of the store's directory. Opens nothing and changes nothing.

use std::path::Path;

use crate::store::file::generation::{self, DATA_FILE};
use crate::store::file::handle::Store;
use crate::store::format::error::StoreError;

impl Store {
    /// Whether the directory `path` holds a database, ours or not. [`Store::open`] would create one.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        generation::current(path).is_ok_and(|number| generation::directory(path, number).join(DATA_FILE).exists())
    }

    /// Whether the store's files are where they were when it was opened. Costs three look-ups by name; every commit does
    /// the same by itself. This thread must not be reading.
    ///
    /// # Errors
    /// [`StoreError::Removed`] when one is not.
    pub fn check_files(&self) -> Result<(), StoreError> {
        loop {
            let inner = self.inner();
            let Err(error) = inner.check_files() else { return Ok(()) };
            // The old files go once the store has moved on.
            self.follow()?;
            if self.inner().number == inner.number {
                return Err(error);
            }
        }
    }

    /// The room on the file system that the store is on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn disk_space(&self) -> Result<Space, StoreError> {
        let error = |source| StoreError::Io { path: self.path().into(), source };
        let stat = rustix::fs::statvfs(self.path()).map_err(|errno| error(errno.into()))?;
        let unit = stat.f_frsize;
        Ok(Space { free_bytes: stat.f_bavail.saturating_mul(unit), total_bytes: stat.f_blocks.saturating_mul(unit) })
    }
}

/// Room on a file system, for whoever is not root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that it has.
    pub total_bytes: u64,
}
