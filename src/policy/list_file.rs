//! Lists that the operator keeps in files of their own.
//!
//! Holds a file's path and what it held; `config` reads it.

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::address_list::AddressSet;
use super::key_set::KeySet;

/// A file with a list, written as its path; an empty path is no file. What it holds is read separately.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListFile<S> {
    /// Its path, as written; empty if there is no file.
    pub path: String,
    /// What the file held when it was read.
    pub held: S,
}

/// A file with keys.
pub type KeyFile = ListFile<KeySet>;

/// A file with addresses and prefixes.
pub type AddressFile = ListFile<AddressSet>;

impl<S> ListFile<S> {
    /// Whether there is a file.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        !self.path.is_empty()
    }
}

impl<S> Serialize for ListFile<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.serialize_str(&self.path)
    }
}

impl<'de, S: Default> Deserialize<'de> for ListFile<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { path: String::deserialize(deserializer)?, held: S::default() })
    }
}
