//! The version number of the format on disk.

/// The layout that this version reads and writes.
pub const FORMAT: u32 = 2;

/// This bit is set in the header's format while an upgrade step is under way.
pub(in crate::store) const UNDER_WAY: u32 = 1 << 31;
