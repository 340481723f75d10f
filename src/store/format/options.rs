//! How a store is opened, and what its commits promise.

/// What a commit promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// A committed batch survives a power cut.
    #[default]
    Full,
    /// A power cut may undo what came since the last [`Store::sync`](crate::store::Store::sync); it never damages the store (LMDB: `MDB_NOMETASYNC`).
    NoMetaSync,
    /// A power cut may damage the store until [`Store::force_sync`](crate::store::Store::force_sync) has returned. Only for imports.
    None,
}

/// How to open a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The most bytes that the file may ever have. Address space only: nothing is allocated ahead.
    pub map_bytes: usize,
    /// Once the events take this many bytes, only deletions and vanish requests are stored. See [`Store::set_full`](crate::store::Store::set_full).
    pub full_bytes: Option<u64>,
    /// Read transactions at a time, over all processes; one per reading thread.
    pub max_readers: u32,
    /// What a commit promises.
    pub durability: Durability,
}

impl Default for Options {
    fn default() -> Self {
        Self { map_bytes: 1 << 40, full_bytes: None, max_readers: 512, durability: Durability::Full }
    }
}
