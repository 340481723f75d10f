//! The files of a journal as a whole, for backups: taking a copy between two acts, and putting one where there is none.
//!
//! A copy appears at once or not at all, and only if it can be read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::files::{Files, give};

/// A file by its name.
pub type NamedFile = (String, Vec<u8>);

/// What became of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It is there now.
    Done,
    /// Other decisions are there, and stay.
    Kept,
}

/// The files of the journal in `dir`, as they are between two acts; none if there is no journal.
///
/// # Errors
/// When they cannot be read, or some are gone.
pub fn take(dir: &Path) -> Result<Vec<NamedFile>, JournalError> {
    let files = Files::new(dir.into());
    if !files.exist()? {
        return Ok(Vec::new());
    }
    let _lock = files.lock()?;
    if !files.audit().exists() {
        return Err(JournalError::Missing(files.audit()));
    }
    let mut copies = Vec::new();
    for path in files.all() {
        match fs::read(&path) {
            Ok(bytes) => copies.push((name(&path), bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(JournalError::File { file: path, source }),
        }
    }
    Ok(copies)
}

/// Puts the files that [`take`] returned into `dir`. Where there is another journal, it stays.
///
/// # Errors
/// When they are not the files of a journal, or cannot be written. Nothing is there then.
pub fn put(dir: &Path, copies: &[NamedFile]) -> Result<Put, JournalError> {
    let there = take(dir)?;
    if !there.is_empty() {
        return Ok(if there == copies { Put::Done } else { Put::Kept });
    }
    let mut new = dir.as_os_str().to_owned();
    new.push(".restored");
    let new = PathBuf::from(new);
    let written = write(&new, copies).and_then(|()| {
        // An empty directory would be in the way.
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(dir)(error)),
            _ => {}
        }
        fs::rename(&new, dir).map_err(failed(dir))
    });
    if written.is_err() {
        // What failed is told; these are only leftovers.
        let _ = fs::remove_dir_all(&new);
    }
    written.map(|()| Put::Done)
}

/// Writes the files into a new directory, and reads them as a journal.
fn write(dir: &Path, copies: &[NamedFile]) -> Result<(), JournalError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(dir)(error)),
        _ => {}
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| give(dir)).map_err(failed(dir))?;
    let files = Files::new(dir.into());
    for (own, bytes) in copies {
        let path = files.all().find(|path| name(path) == *own);
        let path = path.ok_or_else(|| JournalError::Foreign(own.chars().take(64).collect()))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.map_err(failed(&path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| give(&path)).map_err(failed(&path))?;
    }
    let _lock = files.lock()?;
    files.read()?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> JournalError + use<'_> {
    move |source| JournalError::File { file: path.into(), source }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
