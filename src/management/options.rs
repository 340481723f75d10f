//! The operator's choices about management, above all where decisions are kept. It never reads them.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::files::Files;
use crate::policy::KeySet;
use crate::store::{create_directory, sync_names};

/// Where the decisions are in the directory of a store, unless the configuration names another directory.
const DEFAULT: &str = "management";

/// The `[management]` section.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The keys that may manage the relay over HTTP (NIP-86); empty for nobody.
    pub admins: KeySet,
    /// The directory of the decisions and their audit; empty for `management` in the directory of the store.
    pub state: PathBuf,
}

impl Options {
    /// The directory of the decisions, given that of the store.
    #[must_use]
    pub fn directory(&self, data: &Path) -> PathBuf {
        if self.state.as_os_str().is_empty() { data.join(DEFAULT) } else { self.state.clone() }
    }

    /// Makes the directory of the decisions known beside the store in `data`, for commands that do not know the
    /// configuration: where another directory is configured, `management` becomes a link to it.
    ///
    /// # Errors
    /// When `management` holds decisions itself, when the directory to which it led is gone, or when the link cannot be
    /// written.
    pub fn link(&self, data: &Path) -> Result<(), JournalError> {
        let link = data.join(DEFAULT);
        let failed = |source| JournalError::File { file: link.clone(), source };
        if self.state.as_os_str().is_empty() {
            return Ok(());
        }
        let state = std::path::absolute(&self.state).map_err(failed)?;
        let gone = |source| JournalError::File { file: state.clone(), source };
        if std::fs::read_link(&link).is_ok_and(|target| target == state) {
            // It was there when the link was made.
            let there = std::fs::metadata(&state).map(|_| ());
            return there.map_err(|error| gone(io::Error::new(error.kind(), format!("{error}; is its disk mounted?"))));
        }
        create_directory(&state, 0o700).map_err(gone)?;
        let holds = |dir: &Path| Files::new(dir.into()).exist();
        let hidden = || JournalError::Hidden { here: link.clone(), state: state.clone() };
        match std::fs::symlink_metadata(&link) {
            Ok(found) if found.is_dir() => {
                if link.canonicalize().map_err(failed)? == state.canonicalize().map_err(gone)? {
                    return Ok(());
                }
                if holds(&link)? {
                    return Err(hidden());
                }
                std::fs::remove_dir(&link).map_err(failed)?;
            }
            // It led elsewhere. Whoever moved the decisions moved all of them.
            Ok(_) if !holds(&state)? && holds(&link)? => return Err(hidden()),
            Ok(_) => std::fs::remove_file(&link).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        symlink(&state, &link).and_then(|()| sync_names(data)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_directory_is_linked_and_neither_hides_decisions_nor_may_be_gone_later() {
        let home = tempfile::tempdir().expect("a directory");
        let link = home.path().join("management");
        let linked = |name: &str| {
            let state = if name.is_empty() { PathBuf::new() } else { home.path().join(name) };
            let said = Options { state, ..Options::default() }.link(home.path());
            said.map_err(|error| error.to_string().replace(&format!("{}/", home.path().display()), ""))
        };
        let target = || std::fs::read_link(&link).ok().map(|to| to.file_name().expect("a name").to_owned());
        assert_eq!((linked(""), link.exists()), (Ok(()), false), "nothing to link");
        std::fs::create_dir(&link).expect("a directory");
        assert_eq!((linked("management"), target()), (Ok(()), None), "the same");
        assert_eq!((linked("one"), target()), (Ok(()), Some("one".into())), "it was empty");
        assert_eq!((linked("one"), linked("two"), target()), (Ok(()), Ok(()), Some("two".into())), "configured again");
        assert_eq!((linked(""), target()), (Ok(()), Some("two".into())), "it is still where decisions are");
        drop(Files::new(home.path().join("two")).lock().expect("a journal"));
        let hidden = |name| {
            Err(format!(
                "management holds decisions, but management.state names {name}; move its files there, or move it away"
            ))
        };
        assert_eq!((linked("three"), target()), (hidden("three"), Some("two".into())));
        std::fs::remove_dir(home.path().join("three")).expect("it is empty");
        std::fs::rename(home.path().join("two"), home.path().join("three")).expect("moved");
        assert_eq!((linked("three"), target()), (Ok(()), Some("three".into())));
        std::fs::rename(home.path().join("three"), home.path().join("away")).expect("moved");
        let gone = "three: No such file or directory (os error 2); is its disk mounted?";
        assert_eq!(linked("three"), Err(gone.into()));
        assert!(!home.path().join("three").exists(), "no other begins in its place");
        std::fs::remove_file(&link).expect("the link");
        drop(Files::new(link.clone()).lock().expect("a journal"));
        assert_eq!((linked("one"), target()), (hidden("one"), None));
    }
}
