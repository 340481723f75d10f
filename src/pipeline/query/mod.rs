//! The query threads: REQ, COUNT and NIP-77 in slices.

pub mod reader;
pub mod reconcile;
pub mod row_block;
pub mod sight;
