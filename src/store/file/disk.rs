//! Questions to the file system about the store's directory. Changes nothing.

use std::path::Path;

use rustix::io::Errno;

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
        space(self.path()).map_err(|errno| StoreError::Io { path: self.path().into(), source: errno.into() })
    }

    /// Whether a restore or a compaction, which adds a file, may go on.
    ///
    /// # Errors
    /// [`StoreError::Full`] when the file system has less free than [`Options::min_free_disk_bytes`]; otherwise when
    /// the system call fails.
    ///
    /// [`Options::min_free_disk_bytes`]: crate::store::Options::min_free_disk_bytes
    pub(in crate::store) fn may_add_file(&self) -> Result<(), StoreError> {
        let is_low = self.disk_space()?.free_bytes < self.shared.options.min_free_disk_bytes;
        if is_low { Err(StoreError::Full) } else { Ok(()) }
    }
}

fn space(path: &Path) -> Result<Space, Errno> {
    let stat = rustix::fs::statvfs(path)?;
    let unit = stat.f_frsize;
    Ok(Space { free_bytes: stat.f_bavail.saturating_mul(unit), total_bytes: stat.f_blocks.saturating_mul(unit) })
}

/// With less free than this, a write failed for want of room: LMDB writes at most 64 pages at once, unless one record
/// takes more.
const NO_ROOM: u64 = 64 * 4096;

/// The error of a write to the data file in `directory`. When a file system takes only a part of a write, LMDB returns
/// EIO (`mdb_page_flush`), as when a disk fails. It was want of room if the file system has none left.
pub(in crate::store) fn of_write(directory: &Path, error: StoreError) -> StoreError {
    let is_short =
        matches!(&error, StoreError::Lmdb(heed::Error::Io(io)) if Errno::from_io_error(io) == Some(Errno::IO));
    let is_full = || space(directory).is_ok_and(|space| space.free_bytes < NO_ROOM);
    if is_short && is_full() { StoreError::Full } else { error }
}

/// Space on a file system, as available to users other than root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Free bytes.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_on_a_disk_that_has_room_stays_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = |errno: Errno| of_write(dir.path(), StoreError::from(heed::Error::Io(errno.into())));
        assert!(matches!(error(Errno::IO), StoreError::Lmdb(heed::Error::Io(_))));
        assert!(matches!(error(Errno::NOSPC), StoreError::Full));
    }
}
