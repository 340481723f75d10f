//! A query that can stop after any row and resume in a later transaction.
//!
//! Never writes. Holds nothing of LMDB's between two slices.

pub mod batched_lookups;
pub mod choose;
pub mod intersect;
pub mod oldest_first;
pub mod part;
pub mod plan;
pub mod position;
pub mod query;
pub mod quota;
pub mod rows;
pub mod slice;
pub mod walk;
