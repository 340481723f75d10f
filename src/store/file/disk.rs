//! Questions to the file system about the store's directory. Changes nothing.

use std::path::Path;

use crate::store::file::generation::{self, DATA_FILE};
use crate::store::file::handle::Store;
use crate::store::format::error::StoreError;

impl Store {
    /// Whether the directory `path` holds a database, ours or another's. Without one, [`Store::open`] would create a
    /// store.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        generation::current(path).is_ok_and(|number| generation::directory(path, number).join(DATA_FILE).exists())
    }

    /// Checks that the store's files are still those that it opened. Costs three look-ups by name; every commit makes
    /// the same check. This thread must not be reading.
    ///
    /// # Errors
    /// [`StoreError::Removed`] when a file was removed or replaced.
    pub fn check_files(&self) -> Result<(), StoreError> {
        loop {
            let inner = self.inner();
            let Err(error) = inner.check_files() else { return Ok(()) };
            // After a move, the old files are removed.
            self.follow()?;
            if self.inner().number == inner.number {
                return Err(error);
            }
        }
    }

    /// Free and total space of the store's file system.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn disk_space(&self) -> Result<Space, StoreError> {
        let error = |source| StoreError::Io { path: self.path().into(), source };
        let stat = rustix::fs::statvfs(self.path()).map_err(|errno| error(errno.into()))?;
        let unit = stat.f_frsize;
        Ok(Space { free_bytes: stat.f_bavail.saturating_mul(unit), total_bytes: stat.f_blocks.saturating_mul(unit) })
    }
}

/// Space on a file system, as available to users other than root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Free bytes.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}
