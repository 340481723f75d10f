//! The bytes of a store: keys, tallies, what a store is opened with, and what can go wrong with it.
//!
//! Never reads or writes a file. Every other room of the store may use this one.

pub mod error;
pub mod keys;
pub mod options;
pub mod version;
