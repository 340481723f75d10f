//! How to open a store, and the guarantees of its commits.

/// The guarantee that a commit gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// A committed batch survives a power cut.
    #[default]
    Full,
    /// A power cut may undo the commits since the last [`Store::sync`](crate::store::Store::sync); it never damages the
    /// store (LMDB: `MDB_NOMETASYNC`).
    NoMetaSync,
    /// A power cut may damage the store until [`Store::force_sync`](crate::store::Store::force_sync) has returned. For
    /// imports only.
    None,
}

/// How to open a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The largest size of the data file, in bytes. This reserves address space only and allocates nothing.
    pub map_bytes: usize,
    /// Once the events take this many bytes, the store accepts only deletions and vanish requests. See
    /// [`Store::set_full`](crate::store::Store::set_full).
    pub full_bytes: Option<u64>,
    /// Restores and compactions, which add a file, end when the file system has less free than this, in bytes. For
    /// other writes see [`Store::set_full`](crate::store::Store::set_full).
    pub min_free_disk_bytes: u64,
    /// The most read transactions at a time, over all processes. Each reading thread has one.
    pub max_readers: u32,
    /// The guarantee that a commit gives.
    pub durability: Durability,
    /// The memory for remembering, by author and kind, at what time the newest event was written: feeds of hundreds of
    /// authors look up only what they return. In bytes; 0 remembers nothing.
    pub newest_times_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            map_bytes: 1 << 40,
            full_bytes: None,
            min_free_disk_bytes: 0,
            max_readers: 512,
            durability: Durability::Full,
            newest_times_bytes: 0,
        }
    }
}
