//! Where LMDB has mapped the data file, for `read/pages.rs`, which follows page numbers in it.
//!
//! LMDB has no call that returns this address (`mdb_env_info` reports it only for fixed maps). It is computed from a
//! row that LMDB lends and from the number of the page that holds the row. That number is trusted only if the data
//! file's meta page and the page itself agree on it, since a wrong number would displace the whole map. This module
//! never maps, reads or writes a page, except that it reads the header of a page that LMDB has just read.
//!
//! A meta page is one of the first two pages of the file. LMDB's format, data version 1, little-endian:
//!
//! | offset | bytes | field                                             |
//! |-------:|------:|---------------------------------------------------|
//! |      0 |     8 | page number                                       |
//! |     10 |     2 | page flags: 8                                     |
//! |     16 |     8 | magic and data version                            |
//! |     40 |     4 | page size                                         |
//! |     94 |     2 | depth of the unnamed table                        |
//! |    128 |     8 | root of the unnamed table                         |
//! |    144 |     8 | the transaction that wrote it                     |

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use heed::Env;

use crate::store::file::schema::Tables;
use crate::store::format::slots::Slots;

/// Bytes of a page: the only page size that weir's page reader supports.
pub(in crate::store) const PAGE: usize = 4096;

/// Bytes of a page's header.
pub(in crate::store) const HEADER: usize = 16;

const META_FLAG: u16 = 8;
const MAGIC: [u8; 8] = [0xde, 0xc0, 0xef, 0xbe, 1, 0, 0, 0];

/// How often the meta page is read again because other processes commit meanwhile.
const TRIES: usize = 4;

/// LMDB's map of a data file. Its address is fixed while the environment is open, since weir never resizes the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Map {
    address: usize,
    pages: u64,
}

impl Map {
    /// Finds where `env` has mapped `file`; `None` when the file's pages do not have the layout described above. The
    /// thread must not be reading.
    pub fn find(env: &Env<Slots>, tables: &Tables, file: &Path) -> Option<Self> {
        let file = File::open(file).ok()?;
        (0..TRIES).find_map(|_| Self::find_once(env, tables, &file))
    }

    fn find_once(env: &Env<Slots>, tables: &Tables, file: &File) -> Option<Self> {
        let txn = env.read_txn().ok()?;
        let row = tables.event_row(&txn).ok()??;
        let txn_id = txn.id() as u64;
        let mut meta = [0; PAGE];
        // Commits alternate between the two meta pages.
        file.read_exact_at(&mut meta, txn_id % 2 * PAGE as u64).ok()?;
        let root = root_of_unnamed(&meta, txn_id)?;
        // Expose the row's provenance, which is that of LMDB's map: the pages around it are found by address alone.
        let page = row.as_ptr().expose_provenance() & !(PAGE - 1);
        // SAFETY: LMDB lends rows from the middle of mapped pages, and pages are aligned in the map, as the map is in
        // memory; so the page that the row lies in is mapped. Its transaction is open, so nobody writes to it.
        let header = unsafe { &*std::ptr::with_exposed_provenance::<[u8; HEADER]>(page) };
        let number = u64::from_le_bytes(*header.first_chunk()?);
        let pages = env.info().map_size as u64 / PAGE as u64;
        let address = page.checked_sub(usize::try_from(root).ok()?.checked_mul(PAGE)?)?;
        (number == root && root < pages).then_some(Self { address, pages })
    }

    /// How many pages fit into the map. The file may have fewer.
    pub const fn pages(self) -> u64 {
        self.pages
    }

    /// The first byte of the map. From it, only bytes of the map may be reached.
    pub fn start(self) -> *const u8 {
        // LMDB's map was made by `mmap`, outside of what Rust allocates: its provenance is an exposed one.
        std::ptr::with_exposed_provenance(self.address)
    }

    /// Treats memory of a test as a map.
    #[cfg(any(test, fuzzing))]
    pub fn of_memory(memory: &[[u8; PAGE]]) -> Self {
        Self { address: memory.as_ptr().expose_provenance(), pages: memory.len() as u64 }
    }
}

/// The root of the unnamed table, by the meta page that the transaction `txn_id` wrote. `None` for any other page, or
/// if the table is more than its root: then a row need not lie there.
fn root_of_unnamed(meta: &[u8; PAGE], txn_id: u64) -> Option<u64> {
    let number = |at: usize| Some(u64::from_le_bytes(*meta.get(at..)?.first_chunk()?));
    let is_known = meta[10..12] == META_FLAG.to_le_bytes()
        && meta[16..24] == MAGIC
        && meta[40..44] == (PAGE as u32).to_le_bytes()
        && meta[94..96] == 1_u16.to_le_bytes()
        && number(144)? == txn_id;
    if is_known { number(128) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_read_from_the_meta_page_of_that_transaction_only() {
        let mut meta = [0; PAGE];
        meta[10] = 8;
        meta[16..24].copy_from_slice(&MAGIC);
        meta[40..44].copy_from_slice(&4096_u32.to_le_bytes());
        meta[94] = 1;
        meta[128..136].copy_from_slice(&77_u64.to_le_bytes());
        meta[144..152].copy_from_slice(&5_u64.to_le_bytes());
        assert_eq!([4, 5, 6].map(|txn_id| root_of_unnamed(&meta, txn_id)), [None, Some(77), None]);
        // The flags, the data version, the page size and the depth.
        for (at, value) in [(10, 2), (20, 2), (41, 0x20), (94, 2)] {
            let mut other = meta;
            other[at] = value;
            assert_eq!(root_of_unnamed(&other, 5), None, "byte {at}");
        }
    }
}
