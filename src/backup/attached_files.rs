//! Files from beside the store that a backup holds too, such as the decisions of admins: each row is a name and what
//! the file held.
//!
//! Nothing here knows what they are for. A name is never taken for a path.

use std::path::Path;

use super::error::BackupError;
use super::file::Listed;
use super::manifest::Manifest;
use super::part::{PartReader, PartWriter, put_row};
use super::restore::StateChoice;
use super::state::State;

/// The most files of one run.
const MOST: usize = 16;

/// The longest name.
const LONGEST_NAME: usize = 64;

/// One such file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachedFile {
    /// Its name: letters, digits, `-` and `.`.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// The files that a state of the backup in `dir` holds; none of a backup that was made without.
///
/// # Errors
/// When there is no such state, or the backup is damaged.
pub fn attached(dir: &Path, which: StateChoice) -> Result<Vec<AttachedFile>, BackupError> {
    let manifest = Manifest::read_present(dir)?;
    read(dir, which.of(&manifest)?)
}

pub(super) fn write(dir: &Path, run: u64, files: &[AttachedFile]) -> Result<Option<Listed>, BackupError> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut part = PartWriter::new(dir, format!("attached-{run}.weir"))?;
    for AttachedFile { name, bytes } in files {
        let mut row = Vec::with_capacity(bytes.len() + 128);
        put_row(name.as_bytes(), bytes, &mut row);
        part.rows(&row, 1)?;
    }
    part.finish().map(Some)
}

pub(super) fn read(dir: &Path, state: &State) -> Result<Vec<AttachedFile>, BackupError> {
    let Some(listed) = &state.attached else { return Ok(Vec::new()) };
    let (mut part, mut files) = (PartReader::open(dir, listed)?, Vec::<AttachedFile>::new());
    while let Some((name, bytes)) = part.row()? {
        let name = String::from_utf8(name).ok().filter(|name| is_name(name));
        let name = name.filter(|name| files.len() < MOST && files.iter().all(|file| file.name != *name));
        let name = name.ok_or_else(|| part.damaged("it holds a file that cannot be one of a backup"))?;
        files.push(AttachedFile { name, bytes });
    }
    Ok(files)
}

fn is_name(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    is_plain && (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.')
}
