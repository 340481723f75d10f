//! An open store: the generation in use, and how this process follows when the store moves to another.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::store::file::full::SharedFull;
use crate::store::file::generation::{Generation, Inner, MOVES, current, open_one};
use crate::store::file::journal::State;
use crate::store::file::schema::Absent;
use crate::store::format::error::StoreError;
use crate::store::format::keys;
use crate::store::format::options::Options;

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(in crate::store) shared: Arc<Shared>,
}

/// The parts that stay the same when the store moves to another data file; see [`generation`].
pub(in crate::store) struct Shared {
    pub current: ArcSwap<Inner>,
    /// Held while this process follows a move, so that two threads do not both open the next data file.
    pub moving: Mutex<()>,
    pub secret: keys::Secret,
    /// See [`Store::set_full`].
    pub full: Arc<SharedFull>,
    pub path: PathBuf,
    pub options: Options,
}

impl Store {
    /// The generation that this process uses now.
    pub(in crate::store) fn inner(&self) -> Arc<Inner> {
        self.shared.current.load_full()
    }

    pub(in crate::store) fn generation(&self) -> Generation {
        Generation { inner: self.inner() }
    }

    /// Follows the store if another process has moved it: later reads come from the new data file. Call this when
    /// [`Store::txn_id`] changes; writers follow without it. This thread must not be reading.
    ///
    /// # Errors
    /// When the new file cannot be opened.
    pub fn follow(&self) -> Result<(), StoreError> {
        let inner = self.inner();
        match inner.state()? {
            State::Moved(_) => self.move_on(inner.number),
            State::Here | State::Copying(_) => Ok(()),
        }
    }

    /// Opens the generation after `from`, unless another thread has done so.
    pub(in crate::store) fn move_on(&self, from: u64) -> Result<(), StoreError> {
        let shared = &self.shared;
        let _one = shared.moving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let inner = self.inner();
        // The old file stays open until its last reader is done.
        if inner.number == from
            && let State::Moved(next) = inner.state()?
        {
            shared.current.store(Arc::new(self.open_from(next)?));
        }
        Ok(())
    }

    /// Opens the generation `number`, or the one that the store has moved to since.
    fn open_from(&self, mut number: u64) -> Result<Inner, StoreError> {
        let Shared { path, options, full, .. } = &*self.shared;
        for _ in 0..MOVES {
            match open_one(path, options, number, Absent::Leave, full)? {
                None => number = current(path)?.max(number),
                Some(inner) => match inner.state()? {
                    State::Moved(next) => number = next,
                    State::Here | State::Copying(_) => return Ok(inner),
                },
            }
        }
        Err(StoreError::Damaged("the data file that the store moved to is missing"))
    }
}
