//! The query threads: REQ, COUNT and NIP-77 in slices.

pub mod job;
pub mod meter;
pub mod readers;
pub mod reconcile;
pub mod row_block;
pub mod scan_job;
pub mod sessions;
pub mod short;
pub mod slow;
pub mod visibility;
pub mod visit;
