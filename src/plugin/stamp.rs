//! Whether a file has changed since it was read, or since the process of its program was started.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the file is looked at while events come.
const EVERY: Duration = Duration::from_millis(100);

/// The file as it was when its process was started, and when it was last looked at.
pub struct Stamp<'a> {
    file: Option<&'a Path>,
    was: Option<FileVersion>,
    looked_at: Instant,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileVersion {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileVersion {
    /// The version of a file with this metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { inode: metadata.ino(), bytes: metadata.len(), modified }
    }

    /// The version of the file at a path; `None` if there is none.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    /// Whether the file holds nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bytes == 0
    }
}

impl<'a> Stamp<'a> {
    /// The file as it is now. Without a file, nothing ever changes.
    pub fn take(file: Option<&'a Path>) -> Self {
        Self { file, was: file.and_then(FileVersion::at), looked_at: Instant::now() }
    }

    /// Whether it is another file now. One that is missing has not changed: it may be about to be replaced.
    pub fn has_changed(&mut self, now: Instant) -> bool {
        let Some(file) = self.file else { return false };
        if now.saturating_duration_since(self.looked_at) < EVERY {
            return false;
        }
        self.looked_at = now;
        let is = FileVersion::at(file);
        is.is_some() && is != self.was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_has_changed_and_one_that_is_missing_has_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, other) = (dir.path().join("plugin"), dir.path().join("other"));
        std::fs::write(&file, "one").expect("written");
        let mut stamp = Stamp::take(Some(&file));
        let later = |turn: u32| Instant::now() + EVERY * turn;
        assert!(!stamp.has_changed(later(1)));
        std::fs::write(&other, "two").expect("written");
        std::fs::remove_file(&file).expect("removed");
        assert!(!stamp.has_changed(later(2)));
        std::fs::rename(&other, &file).expect("renamed");
        assert!(!stamp.has_changed(later(2)), "it was looked at just now");
        assert!(stamp.has_changed(later(4)));
        assert!(!Stamp::take(None).has_changed(later(9)));
    }
}
