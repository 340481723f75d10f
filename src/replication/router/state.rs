//! How far a link has come, on disk beside the store: what it takes to go on after a kill without losing anything.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `weirlink` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | flags: 1 if there is a mark, 2 if there is a cursor, 4 if what is older than the cursor was compared |
//! | 16 | 8 | the mark: the unix time up to which nothing that the relay has shown is missing here |
//! | 24 | 8 | the cursor: the arrival number up to which the relay has answered |
//! | 32 | 32 | SHA-256 of everything before |
//!
//! Numbers are little-endian, and zero where there is none. The file is replaced as a whole. One that is damaged or
//! gone is like that of a new link: more is compared, and nothing is lost of what `catch_up_s` covers.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::stream::LinkOptions;
use crate::nostr::{Timestamp, hex};
use crate::replication::file::{self, FileError};
use crate::store::Seq;

const MAGIC: &[u8; 8] = b"weirlink";
const VERSION: u32 = 1;
const HAS_MARK: u32 = 1;
const HAS_CURSOR: u32 = 2;
const HAS_COMPARED: u32 = 4;
const BODY_BYTES: usize = 32;
const SUM_BYTES: usize = 32;

/// Files kept. Those of links that were removed are forgotten when there are more.
const MAX_FILES: usize = 1024;

/// How far a link has come, as its file of 64 bytes says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Up to when the link was level, down.
    pub mark: Option<Timestamp>,
    /// Up to where it was answered, up.
    pub cursor: Option<Seq>,
    /// Whether what was stored before the cursor began has been compared, up.
    pub has_compared: bool,
}

/// The file of a link in the directory `dir`. Another filter makes another link, and so does another store, whose
/// arrival numbers are its own.
#[must_use]
pub fn path(dir: &Path, store_id: &[u8; 16], options: &LinkOptions) -> PathBuf {
    let mut name = Sha256::new();
    name.update(store_id);
    let scope = &options.stream.scope;
    let (since, until) = (scope.window().since, scope.window().until);
    for part in [&options.stream.name, options.url.as_str(), &scope.name(), &format!("{since}..{until}")] {
        name.update(part);
        name.update([0]);
    }
    dir.join(format!("{}.link", hex::encode(&name.finalize()[..16])))
}

/// What the file says; nothing if there is none.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn load(file: &Path) -> Result<State, FileError> {
    match file::read_at_most(file, (BODY_BYTES + SUM_BYTES) as u64)? {
        Some(bytes) => read(&bytes).map_err(FileError::Damaged),
        None => Ok(State::default()),
    }
}

/// Replaces the file, on disk when this returns. Creates the directory.
///
/// # Errors
/// When the disk refuses. The old file is then still there.
pub fn save(file: &Path, state: &State) -> Result<(), FileError> {
    file::replace(file, &write(state), MAX_FILES)
}

/// The bytes of the file.
#[must_use]
pub fn write(state: &State) -> Vec<u8> {
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    let flags = flag(state.mark.is_some(), HAS_MARK) | flag(state.cursor.is_some(), HAS_CURSOR);
    let flags = flags | flag(state.has_compared, HAS_COMPARED);
    let mut out = Vec::with_capacity(BODY_BYTES + SUM_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&state.mark.map_or(0, |mark| mark.0).to_le_bytes());
    out.extend_from_slice(&state.cursor.map_or(0, |cursor| cursor.0).to_le_bytes());
    let sum = Sha256::digest(&out);
    out.extend_from_slice(&sum);
    out
}

/// Reads the bytes of a file.
///
/// # Errors
/// What is wrong with them.
pub fn read(bytes: &[u8]) -> Result<State, &'static str> {
    let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or("it is too short")?;
    let Ok(body): Result<&[u8; BODY_BYTES], _> = body.try_into() else { return Err("its length is wrong") };
    if body[..8] != MAGIC[..] {
        return Err("it is not a file of weir's");
    }
    if Sha256::digest(body)[..] != sum[..] {
        return Err("its checksum is wrong");
    }
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| body[at + n]));
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| body[at + n]));
    if word(8) != VERSION {
        return Err("it is of another version of weir");
    }
    let (flags, mark, cursor) = (word(12), number(16), number(24));
    let (has_mark, has_cursor) = (flags & HAS_MARK != 0, flags & HAS_CURSOR != 0);
    if flags & !(HAS_MARK | HAS_CURSOR | HAS_COMPARED) != 0 || (!has_mark && mark != 0) || (!has_cursor && cursor != 0)
    {
        return Err("its flags are unknown");
    }
    let (mark, cursor) = (has_mark.then_some(Timestamp(mark)), has_cursor.then_some(Seq(cursor)));
    Ok(State { mark, cursor, has_compared: flags & HAS_COMPARED != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 3] = [
        State { mark: None, cursor: None, has_compared: false },
        State { mark: Some(Timestamp(0)), cursor: None, has_compared: true },
        State { mark: Some(Timestamp(1_700_000_000)), cursor: Some(Seq(7)), has_compared: true },
    ];

    #[test]
    fn what_is_saved_is_read_back_and_no_file_is_a_new_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("new").join("a.link");
        assert_eq!(load(&file).expect("there is none"), State::default());
        for state in STATES {
            save(&file, &state).expect("the disk is good");
            assert_eq!(load(&file).expect("a good file"), state);
        }
        std::fs::write(&file, [0; 200]).expect("the disk is good");
        assert_eq!(load(&file).expect_err("damaged").to_string(), "its length is wrong");
    }

    #[test]
    fn any_change_of_a_byte_is_noticed() {
        let bytes = write(&STATES[2]);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(read(&changed).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(read(&bytes), Ok(STATES[2]));
    }
}
