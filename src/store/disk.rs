//! What the file system says of the store's directory. Opens nothing and changes nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::generation::{self, DATA_FILE};
use super::{Store, StoreError};

impl Store {
    /// Whether the directory `path` holds a database, ours or not. [`Store::open`] would create one.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        generation::current(path).is_ok_and(|number| generation::directory(path, number).join(DATA_FILE).exists())
    }

    /// The room on the file system that the store is on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn disk_space(&self) -> Result<Space, StoreError> {
        let error = |source| StoreError::Io { path: self.path().into(), source };
        let path = CString::new(self.path().as_os_str().as_bytes()).map_err(|nul| error(nul.into()))?;
        // SAFETY: an all-zero statvfs is a valid value of its plain integers; the path ends with a zero byte and
        // both outlive the call.
        let (result, stat) = unsafe {
            let mut stat: libc::statvfs = std::mem::zeroed();
            (libc::statvfs(path.as_ptr(), &raw mut stat), stat)
        };
        if result != 0 {
            return Err(error(std::io::Error::last_os_error()));
        }
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
