//! The query threads: REQ, COUNT, NIP-77 and the feed of changes in slices.

pub mod changes;
pub mod job;
pub mod meter;
pub mod readers;
pub mod reconcile;
pub mod row_block;
pub mod scan_job;
pub mod sessions;
pub mod short_queries;
pub mod slow;
pub mod visibility;
pub mod visit;
