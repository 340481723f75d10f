//! How far a node has come, on disk beside the store: what it takes to go on after a kill without losing anything.
//!
//! It is JSON, in the file `cluster/<node>.json` of the store, and is replaced as a whole. One that is damaged, or of
//! another store, is like that of a new node: then more is published and taken again, as duplicates.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::replication::file::{self, FileError};

/// The longest file, and how many of them are kept: a node that is called otherwise begins another one.
const MAX_BYTES: u64 = 4096;
const MAX_FILES: usize = 16;

/// How far a node has come with one stream of NATS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// When it was created, in nanoseconds since 1970, so that another one of the same name is noticed; 0: none was
    /// seen yet.
    pub created: i64,
    /// The highest number of it that was seen. A stream that ends before it has lost something.
    pub seen: u64,
    /// Every message of it up to this number was dealt with.
    pub taken: u64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Which store it belongs to, in hex.
    pub store: String,
    /// The arrival number up to which NATS has answered.
    pub published: u64,
    /// The arrival number up to which every other node has taken what was published.
    pub settled: u64,
    /// The stream of events.
    pub events: Stream,
    /// The number of the last act in the audit that was published.
    pub acts_published: u64,
    /// The stream of acts.
    pub acts: Stream,
}

/// What a stream of NATS says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamInfo {
    /// When it was created, in nanoseconds since 1970.
    pub created: i64,
    /// Its first number.
    pub first: u64,
    /// Its last number.
    pub last: u64,
}

/// How a stream has changed since a node last saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamChange {
    /// The stream as it was left.
    Same,
    /// The first one that it ever saw.
    First,
    /// Another one, or one that has lost its end: what was published may be gone.
    Lost,
    /// The same, but messages are gone that this node has not taken.
    Outrun,
}

impl Stream {
    /// Whether messages are gone that were not taken.
    #[must_use]
    pub fn is_outrun(&self, found: StreamInfo) -> bool {
        found.first > self.taken + 1
    }

    /// Goes on with the stream as it is found now.
    pub fn compare(&mut self, found: StreamInfo) -> StreamChange {
        let change = if self.created == 0 {
            StreamChange::First
        } else if self.created != found.created || found.last < self.seen {
            StreamChange::Lost
        } else if self.is_outrun(found) {
            StreamChange::Outrun
        } else {
            StreamChange::Same
        };
        if matches!(change, StreamChange::First | StreamChange::Lost) {
            *self = Self { created: found.created, seen: found.last, taken: 0 };
        }
        self.seen = self.seen.max(found.last);
        change
    }
}

/// The file of a node in the directory `data` of a store.
#[must_use]
pub fn path(data: &Path, node: &str) -> PathBuf {
    data.join("cluster").join(format!("{node}.json"))
}

/// What the file says about this store; `None` if there is nothing.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn load(file: &Path, store: &str) -> Result<Option<State>, FileError> {
    let Some(bytes) = file::read_at_most(file, MAX_BYTES)? else { return Ok(None) };
    let state: State =
        serde_json::from_slice(&bytes).map_err(|_| FileError::Damaged("it is not the state of a node"))?;
    Ok((state.store == store).then_some(state))
}

/// Replaces the file, on disk when this returns. Creates the directory.
///
/// # Errors
/// When the disk refuses. The old file is then still there.
pub fn save(file: &Path, state: &State) -> Result<(), FileError> {
    let text = serde_json::to_vec(state).map_err(std::io::Error::from)?;
    file::replace(file, &text, MAX_FILES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back_by_the_same_store_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = path(dir.path(), "a");
        assert_eq!(load(&file, "s1").expect("there is none"), None);
        let events = Stream { created: 3, seen: 9, taken: 8 };
        let state = State { store: "s1".into(), published: 7, settled: 5, events, ..State::default() };
        save(&file, &state).expect("the disk is good");
        assert_eq!(load(&file, "s1").expect("a good file"), Some(state));
        assert_eq!(load(&file, "s2").expect("a good file"), None);
        std::fs::write(&file, "{").expect("the disk is good");
        assert_eq!(load(&file, "s1").expect_err("damaged").to_string(), "it is not the state of a node");
    }

    #[test]
    fn a_stream_that_was_wiped_cut_or_outran_the_node_is_noticed() {
        let mut stream = Stream::default();
        let found = |created, first, last| StreamInfo { created, first, last };
        assert_eq!(stream.compare(found(1, 1, 5)), StreamChange::First);
        stream.taken = 5;
        assert_eq!(stream.compare(found(1, 4, 9)), StreamChange::Same);
        assert_eq!(stream.compare(found(1, 6, 9)), StreamChange::Same, "nothing is gone that was not taken");
        assert_eq!(stream.compare(found(1, 7, 9)), StreamChange::Outrun);
        assert_eq!(stream, Stream { created: 1, seen: 9, taken: 5 });
        assert_eq!(stream.compare(found(1, 1, 8)), StreamChange::Lost, "its end is gone");
        assert_eq!(stream, Stream { created: 1, seen: 8, taken: 0 });
        assert_eq!(stream.compare(found(2, 1, 20)), StreamChange::Lost, "it is another one");
        assert_eq!(stream, Stream { created: 2, seen: 20, taken: 0 });
    }
}
