//! Gives new files to the owner of the store's directory.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Gives a new file or directory to the owner of the store's directory `path`. When root runs a command while the relay
/// runs as another user, the relay must still be able to open the file.
///
/// # Errors
/// When the system refuses.
pub fn give_to_owner(path: &Path, new: &Path) -> std::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = path.metadata()?;
    std::os::unix::fs::chown(new, Some(owner.uid()), Some(owner.gid()))
}
