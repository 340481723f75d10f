//! A read transaction and the look-ups in it.
//!
//! Never writes, and never reads more rows than one call needs.

pub mod arrival_times;
pub mod index_pages;
pub mod judge;
pub mod lookup;
pub mod pages;
pub mod remembered_removals;
pub mod snapshot;
pub mod survey;
pub mod usage;
pub mod walks;
