//! The file of what is remembered of a relay.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `weirpeer` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | flags: 1 if the last sync left nothing else that differed |
//! | 16 | 4 | number of entries |
//! | 20 | 45 each | entries: id (32), reason (1), `created_at` (6), since when (6) |
//! | end | 32 | SHA-256 of everything before |
//!
//! Numbers are little-endian. The file is only a help: it may be deleted at any time, and one that is damaged is
//! ignored. It is replaced as a whole, so that a kill leaves the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::remembered::{LocalAbsence, MAX_REMEMBERED, Remembered, RemoteAbsence};
use crate::nostr::{EventId, Timestamp, hex};
use crate::store::{create_directory, give_to_owner, sync_names};

const MAGIC: &[u8; 8] = b"weirpeer";
const VERSION: u32 = 1;
const WAS_EQUAL: u32 = 1;
const HEAD_BYTES: usize = 20;
const ENTRY_BYTES: usize = 45;
const SUM_BYTES: usize = 32;

/// No file is longer.
const MAX_BYTES: u64 = (HEAD_BYTES + 2 * MAX_REMEMBERED * ENTRY_BYTES + SUM_BYTES) as u64;

/// Files kept at a time. Each relay and each filter has one; the ones unused for longest go.
const MAX_FILES: usize = 256;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error(transparent)]
    System(#[from] io::Error),
    /// It is not as written here.
    #[error("{0}")]
    Damaged(&'static str),
}

/// The file of a relay and a filter, in the directory `dir`.
#[must_use]
pub fn path(dir: &Path, url: &str, filter: &str) -> PathBuf {
    let name = Sha256::new().chain_update(url).chain_update([0]).chain_update(filter).finalize();
    dir.join(format!("{}.peer", hex::encode(&name[..16])))
}

/// What the file remembers; nothing if there is none.
///
/// # Errors
/// When the file cannot be read or is damaged.
pub fn load(file: &Path) -> Result<Remembered, FileError> {
    match read_at_most(file, MAX_BYTES)? {
        Some(bytes) => read(&bytes).map_err(FileError::Damaged),
        None => Ok(Remembered::default()),
    }
}

/// The bytes of a file, one more than `most` if it is longer; `None` if there is no file.
///
/// # Errors
/// When it cannot be read.
pub fn read_at_most(file: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let open = match File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    open.take(most + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Replaces the file. Creates the directory.
///
/// # Errors
/// When the disk refuses. The old file is then still there.
pub fn save(file: &Path, remembered: &Remembered) -> Result<(), FileError> {
    replace(file, &write(remembered), MAX_FILES)
}

/// Replaces a file of a directory that keeps `most` files, and creates the directory. It is on disk when this returns.
///
/// # Errors
/// When the disk refuses. The old file is then still there.
pub fn replace(file: &Path, bytes: &[u8], most: usize) -> Result<(), FileError> {
    let dir = file.parent().unwrap_or(Path::new("."));
    create_directory(dir, 0o700)?;
    give_to_owner(dir.parent().unwrap_or(dir), dir)?;
    // Two streams may remember the same at the same time.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let new = file.with_extension(format!("{}-{}.new", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let written = (|| {
        let mut out = File::create(&new)?;
        out.write_all(bytes)?;
        give_to_owner(dir, &new)?;
        out.sync_all()?;
        fs::rename(&new, file)?;
        sync_names(dir)
    })();
    if written.is_err() {
        // It may not have been created.
        let _ = fs::remove_file(&new);
    }
    written?;
    remove_oldest(dir, file, most)?;
    Ok(())
}

/// Removes the files that were written longest ago, but not `own`, and what killed processes left.
fn remove_oldest(dir: &Path, own: &Path, most: usize) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path() != own
            && let Some(metadata) = unless_gone(entry.metadata())?
        {
            files.push((metadata.modified()?, entry.path()));
        }
    }
    files.sort_unstable();
    let excess = (files.len() + 1).saturating_sub(most);
    files.into_iter().take(excess).try_for_each(|(_, path)| unless_gone(fs::remove_file(path)).map(drop))
}

/// Others may replace or remove a file at the same time.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// The bytes of the file.
#[must_use]
pub fn write(remembered: &Remembered) -> Vec<u8> {
    let count = remembered.refused.len() + remembered.kept.len();
    let mut out = Vec::with_capacity(HEAD_BYTES + count * ENTRY_BYTES + SUM_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(if remembered.was_equal { WAS_EQUAL } else { 0 }).to_le_bytes());
    out.extend_from_slice(&(count as u32).to_le_bytes());
    let refused = remembered.refused.iter().map(|(id, e)| (id, e.reason as u8, e.created_at, e.noted_at));
    let kept = remembered.kept.iter().map(|(id, e)| (id, e.reason as u8, e.created_at, e.noted_at));
    let mut entries: Vec<_> = refused.chain(kept).collect();
    entries.sort_unstable();
    for (id, reason, created_at, noted_at) in entries {
        out.extend_from_slice(&id.0);
        out.push(reason);
        out.extend_from_slice(&created_at.0.to_le_bytes()[..6]);
        out.extend_from_slice(&noted_at.0.to_le_bytes()[..6]);
    }
    let sum = Sha256::digest(&out);
    out.extend_from_slice(&sum);
    out
}

/// Reads the bytes of a file.
///
/// # Errors
/// What is wrong with them.
pub fn read(bytes: &[u8]) -> Result<Remembered, &'static str> {
    let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or("it is too short")?;
    if body.get(..8) != Some(MAGIC) {
        return Err("it is not a file of weir's");
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err("it is too long");
    }
    if Sha256::digest(body)[..] != sum[..] {
        return Err("its checksum is wrong");
    }
    let word = |at: usize| body.get(at..at + 4)?.first_chunk().map(|word| u32::from_le_bytes(*word));
    let (version, flags, count) = (word(8), word(12), word(16));
    if version != Some(VERSION) {
        return Err("it is of another version of weir");
    }
    let flags = flags.filter(|flags| flags & !WAS_EQUAL == 0).ok_or("its flags are unknown")?;
    let (entries, rest) = body.get(HEAD_BYTES..).unwrap_or_default().as_chunks::<ENTRY_BYTES>();
    if count != u32::try_from(entries.len()).ok() || !rest.is_empty() {
        return Err("the number of its entries is wrong");
    }
    let mut remembered = Remembered { was_equal: flags & WAS_EQUAL != 0, ..Remembered::default() };
    for entry in entries {
        put(&mut remembered, entry)?;
    }
    if remembered.refused.len() + remembered.kept.len() != entries.len() {
        return Err("it has more entries than are kept, or one twice");
    }
    Ok(remembered)
}

fn put(remembered: &mut Remembered, entry: &[u8; ENTRY_BYTES]) -> Result<(), &'static str> {
    let time = |at: usize| {
        let mut wide = [0; 8];
        wide[..6].copy_from_slice(&entry[at..at + 6]);
        Timestamp(u64::from_le_bytes(wide))
    };
    let (id, rest) = entry.split_first_chunk::<32>().ok_or("an entry is cut short")?;
    let (id, reason, created_at, noted_at) = (EventId(*id), rest[0], time(33), time(39));
    match (LocalAbsence::of(reason), RemoteAbsence::of(reason)) {
        (Some(reason), _) => remembered.refuse(id, created_at, reason, noted_at),
        (None, Some(reason)) if created_at == Timestamp(0) => remembered.keep(id, reason, noted_at),
        (None, Some(_)) => return Err("an entry has a time that it need not have"),
        (None, None) => return Err("a reason is unknown"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Remembered {
        let mut remembered = Remembered { was_equal: true, ..Remembered::default() };
        remembered.refuse(EventId([1; 32]), Timestamp::MAX, LocalAbsence::Replaced, Timestamp(9));
        remembered.refuse(EventId([2; 32]), Timestamp(0), LocalAbsence::Undelivered, Timestamp(9));
        remembered.keep(EventId([1; 32]), RemoteAbsence::Protected, Timestamp(10));
        remembered
    }

    #[test]
    fn what_is_saved_is_read_back_and_no_file_is_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = path(&dir.path().join("new"), "wss://relay", "{}");
        assert_eq!(load(&file).expect("there is none"), Remembered::default());
        for remembered in [some(), Remembered::default()] {
            save(&file, &remembered).expect("the disk is good");
            assert_eq!(load(&file).expect("a good file"), remembered);
        }
        let names: Vec<_> = fs::read_dir(file.parent().expect("its directory")).expect("it is there").collect();
        assert_eq!(names.len(), 1, "nothing else is left there");
        assert_ne!(file, path(&dir.path().join("new"), "wss://relay", "{\"kinds\":[1]}"));
    }

    #[test]
    fn any_change_of_a_byte_is_noticed() {
        let bytes = write(&some());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(read(&changed).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(read(&bytes), Ok(some()));
    }

    #[test]
    fn a_good_checksum_does_not_excuse_what_is_wrong() {
        let change = |at: usize, byte: u8| {
            let mut bytes = write(&some());
            bytes[at] = byte;
            let body = bytes.len() - SUM_BYTES;
            let sum = Sha256::digest(&bytes[..body]);
            bytes[body..].copy_from_slice(&sum);
            read(&bytes)
        };
        assert_eq!(change(8, 2), Err("it is of another version of weir"));
        assert_eq!(change(12, 2), Err("its flags are unknown"));
        assert_eq!(change(16, 2), Err("the number of its entries is wrong"));
        assert_eq!(change(HEAD_BYTES + 32, 9), Err("a reason is unknown"));
        assert_eq!(read(b""), Err("it is too short"));
        assert_eq!(read(&[0; 64]), Err("it is not a file of weir's"));
    }

    #[test]
    fn the_files_unused_for_longest_make_room() {
        let dir = tempfile::tempdir().expect("a directory");
        for n in 0..MAX_FILES + 3 {
            fs::write(dir.path().join(format!("{n}.peer")), "").expect("the disk is good");
        }
        let file = path(dir.path(), "wss://relay", "{}");
        save(&file, &some()).expect("the disk is good");
        assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), MAX_FILES);
        assert_eq!(load(&file).expect("the newest stays"), some());
    }
}
