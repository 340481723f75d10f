//! What the file system says of the store's directory. Opens nothing and changes nothing.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::store::Store;
use crate::store::file::generation::{self, DATA_FILE, Inner};
use crate::store::format::error::StoreError;

/// A file that is open, by its path and by what the file system knows it by.
pub(in crate::store) struct InPlace {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl InPlace {
    /// The file that the path leads to now. It was opened by that path a moment ago.
    pub fn at(path: PathBuf) -> Result<Self, StoreError> {
        match path.metadata() {
            Ok(found) => Ok(Self::new(path, &found)),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    pub fn new(path: PathBuf, file: &Metadata) -> Self {
        Self { path, device: file.dev(), inode: file.ino() }
    }

    /// # Errors
    /// [`StoreError::Removed`] when the path leads to no file or to another one.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.path.metadata() {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) => Err(StoreError::Removed(self.path.clone())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(StoreError::Removed(self.path.clone()))
            }
            Err(source) => Err(StoreError::Io { path: self.path.clone(), source }),
        }
    }
}

impl Inner {
    /// Whether the files that are open are those that the directory names: what is written to others is lost.
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.files.iter().try_for_each(InPlace::check)?;
        self.wal.check_file()
    }
}

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
