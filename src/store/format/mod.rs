//! The bytes of a store and its vocabulary: keys, options, the format's version and errors.
//!
//! Never reads or writes a file. Every other room of the store may use this one.

pub mod error;
pub mod keys;
pub mod options;
pub mod slots;
pub mod version;
