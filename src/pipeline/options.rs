//! The `[pipeline]` section: how queries are run, how many threads there are, and how often they commit and send.
//!
//! Holds what the operator chose; `config` checks it.

use serde::{Deserialize, Serialize};

/// How queries are run, and how many threads there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Threads that run scans; 0 chooses by the number of cores.
    pub read_threads: usize,
    /// Threads of the signature pool; 0 chooses by the number of cores.
    pub verify_threads: usize,
    /// Rows that a scan may read in one slice.
    pub slice_rows: u32,
    /// Microseconds that a scan may take in one slice.
    pub slice_us: u64,
    /// Rows that a scan may read on the io thread before it moves to a reader.
    pub inline_rows: u32,
    /// Microseconds that a scan may take on the io thread; 0 always uses a reader.
    pub inline_us: u64,
    /// A query that takes at least this many milliseconds of work is slow, and is logged with its plan; 0 logs none.
    pub slow_query_ms: u64,
    /// Milliseconds that events may be in the write-ahead log only; 0 commits each batch before its OKs.
    pub commit_interval_ms: u64,
    /// The least time between two sends of live events, in milliseconds; 0 sends at once.
    pub fanout_interval_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_threads: 0,
            verify_threads: 0,
            slice_rows: 4096,
            slice_us: 5_000,
            inline_rows: 512,
            inline_us: 300,
            slow_query_ms: 500,
            commit_interval_ms: 100,
            fanout_interval_ms: 0,
        }
    }
}

impl Options {
    /// The longest interval between commits: commands in other processes may wait that long for the write lock.
    pub const MAX_COMMIT_INTERVAL_MS: u64 = 1_000;

    /// The longest interval between sends: subscribers may wait that long for a new event.
    pub const MAX_FANOUT_INTERVAL_MS: u64 = 1_000;
}
