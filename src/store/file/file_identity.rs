//! Checks whether an open file is still the one that its path leads to.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::store::format::error::StoreError;

/// The path of an open file, and the identity of the file in its file system.
pub(in crate::store) struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The file that the path leads to now. The caller opened it by that path a moment ago.
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
