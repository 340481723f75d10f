//! The number of the format on disk.

/// The layout that this version reads and writes.
pub const FORMAT: u32 = 1;

/// Set in the format of a store while a step is under way.
pub(in crate::store) const UNDER_WAY: u32 = 1 << 31;
