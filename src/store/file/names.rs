//! Makes the names of files durable. A sync of a file says nothing about its name: after a power cut, a synced file in
//! a directory that was never synced may be gone.
//!
//! Never looks into a file.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Waits until every name in a directory is on disk. Cheap when nothing changed since the last call.
///
/// # Errors
/// When the directory cannot be opened or the disk fails.
pub fn sync_names(directory: &Path) -> Result<()> {
    // The parent of a relative path may be the empty path.
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

/// Creates a directory with this mode, and its missing parents, durably. Does the same for a directory that exists: a
/// process may have created it and died before its name was on disk.
///
/// # Errors
/// When a directory cannot be created or the disk fails.
pub fn create_directory(path: &Path, mode: u32) -> Result<()> {
    let is_missing = |one: &&Path| !one.as_os_str().is_empty() && !one.exists();
    let missing = path.ancestors().take_while(is_missing).count();
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    for parent in path.ancestors().skip(1).take(missing.max(1)) {
        match sync_names(parent) {
            // Who may not read the parent did not create the directory, but was given it.
            Err(error) if missing == 0 && error.kind() == ErrorKind::PermissionDenied => {}
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_is_created_with_its_parents_and_its_mode_and_may_exist() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("one/two/three");
        for _ in 0..2 {
            create_directory(&path, 0o700).expect("it is created");
            let mode = path.metadata().expect("it exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        create_directory(Path::new("/"), 0o700).expect("a directory without a parent");
        sync_names(Path::new("")).expect("the current directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("a file");
        assert!(create_directory(&file, 0o700).is_err(), "a file is no directory");
    }
}
