//! Finds records by arrival number in LMDB's pages, several at a time.
//!
//! A look-up through LMDB waits for memory two or three times in a row, at the header of a leaf and at its keys, and
//! compares keys by function calls; this took a quarter of the time for a page of 50 notes. Here the waits of several
//! look-ups overlap, and a key is one number.
//!
//! It only reads, and trusts nothing that it reads: it checks every page number against the map before it touches the
//! page, and every offset against its page. It never says that a record does not exist. If it does not find or does not
//! understand a record, the caller asks LMDB (`read/lookup.rs`), which reports damage.
//!
//! LMDB's format, data version 1, little-endian, with pages of 4,096 bytes:
//!
//! | page    | bytes | node    | bytes                                                   |
//! |---------|------:|---------|--------------------------------------------------------:|
//! | number  |     8 | size    | 4, of the data; in a branch, with flags: page number    |
//! | pad     |     2 | flags   | 2, 1: the data is the number of its first overflow page |
//! | flags   |     2 | key len | 2                                                       |
//! | lower   |     2 | key     | 6 here; in a branch, the first has none                 |
//! | upper   |     2 | data    | …                                                       |
//! | nodes   | 2 each|         |                                                         |

use crate::store::file::map::{HEADER, Map, PAGE};
use crate::store::file::prefetch::prefetch;
use crate::store::format::keys::Seq;

/// The number of look-ups that descend the tree together.
pub(in crate::store) const BATCH: usize = 8;

pub(super) const BRANCH: u16 = 1;
pub(super) const LEAF: u16 = 2;

/// A table's row in the unnamed table is 48 bytes: its depth and its root page are at these offsets.
const TABLE_LEN: usize = 48;
const DEPTH: usize = 6;
const ROOT: usize = 40;

/// Look-ups in deeper trees are left to LMDB.
const MAX_DEPTH: u16 = 8;

/// A node's flag: the data is on overflow pages.
const BIG: u16 = 1;

/// Offsets within a node.
pub(super) const KEY: usize = 8;
const DATA: usize = KEY + 6;

/// A range of at most this many nodes is searched one by one: those loads do not wait for each other.
const FEW: usize = 8;

pub(super) type Page = [u8; PAGE];

/// A table as one transaction sees it: the event table, or an index (`read/index_pages.rs`).
pub(in crate::store) struct Pages {
    /// The start of LMDB's map.
    start: *const u8,
    /// Pages that may be touched; all of them are in the map.
    pages: u64,
    root: u64,
    depth: u16,
}

impl Pages {
    /// The table whose row in the unnamed table is `row`; `None` when the table is empty, too deep, or not a table.
    ///
    /// # Safety
    /// `map` must stay mapped for as long as the result lives, and `row` must be that of the commit that a read
    /// transaction sees, which lives as long. The file must have the page `last_page`. (LMDB may never have written the
    /// last pages that it allocated. A damaged number that leads to one of them ends the process with SIGBUS, in LMDB's
    /// own look-ups as here.)
    pub unsafe fn of_table(map: Map, row: &[u8], last_page: u64) -> Option<Self> {
        let root = u64::from_le_bytes(*row.get(ROOT..TABLE_LEN)?.first_chunk()?);
        let depth = u16_at(row, DEPTH)?;
        // Another process may have a larger map, and the file more pages than ours.
        let pages = last_page.saturating_add(1).min(map.pages());
        ((1..=MAX_DEPTH).contains(&depth) && root < pages).then_some(Self { start: map.start(), pages, root, depth })
    }

    pub(super) fn root(&self) -> u64 {
        self.root
    }

    pub(super) fn depth(&self) -> u16 {
        self.depth
    }

    /// The record with this number, if it is found.
    pub fn find(&self, seq: Seq) -> Option<&[u8]> {
        let mut records = [None];
        self.find_all(&[seq], &mut records);
        records[0]
    }

    /// The records with these numbers, as far as they are found; `records` is as long as `seqs`.
    pub fn find_all<'t>(&'t self, seqs: &[Seq], records: &mut [Option<&'t [u8]>]) {
        let mut numbers = [self.root; BATCH];
        debug_assert!(seqs.len() <= BATCH && seqs.len() == records.len());
        for _ in 1..self.depth {
            for (number, seq) in numbers.iter_mut().zip(seqs) {
                // The levels below find nothing on a page with this number.
                *number = self.page(*number).and_then(|branch| child(branch, *seq)).unwrap_or(u64::MAX);
                if let Some(page) = self.page(*number) {
                    prefetch(&page[..HEADER]);
                }
            }
        }
        if seqs.len() > 1 {
            let leaves = numbers[..seqs.len()].iter().filter_map(|number| self.page(*number));
            leaves.for_each(|leaf| {
                (0..nodes(leaf, LEAF).unwrap_or(0).min(FEW)).for_each(|index| fetch_node(leaf, index))
            });
        }
        for ((number, seq), record) in numbers.iter().zip(seqs).zip(records) {
            *record = self.page(*number).and_then(|leaf| self.data(leaf, place(leaf, *seq)?));
        }
    }

    /// The page with this number; `None` outside the map.
    pub(super) fn page(&self, number: u64) -> Option<&Page> {
        let page = self.bytes(number)?;
        // SAFETY: the whole page is in the map, and bytes need no alignment. LMDB does not write to pages that an open
        // transaction can see (it copies on write). A damaged number may lead to another page of the file, which is
        // mapped as well; that such a page is not being written is what heed's `open` asks of the file's owner.
        Some(unsafe { &*page.cast::<Page>() })
    }

    /// The first byte of the page with this number; `None` outside the map.
    fn bytes(&self, number: u64) -> Option<*const u8> {
        let at = (number < self.pages).then(|| number as usize * PAGE)?;
        // SAFETY: the map has at least `pages` pages, so the result is in it.
        Some(unsafe { self.start.add(at) })
    }

    /// The data of the node at `place`.
    fn data<'t>(&'t self, leaf: &'t Page, place: usize) -> Option<&'t [u8]> {
        let size = u32::from_le_bytes(*leaf.get(place..)?.first_chunk()?) as usize;
        let data = leaf.get(place + DATA..)?;
        if u16_at(leaf, place + 4)? & BIG == 0 {
            return data.get(..size);
        }
        let number = u64::from_le_bytes(*data.first_chunk()?);
        let last = number.checked_add(((HEADER + size).div_ceil(PAGE) - 1) as u64)?;
        self.bytes(last)?;
        let first = self.bytes(number)?;
        // SAFETY: all overflow pages, from the first to the last, are in the map and follow each other there. The slice
        // is derived from the start of the map, not from a single page. For what is in them see `page`.
        Some(unsafe { std::slice::from_raw_parts(first.add(HEADER), size) })
    }
}

/// The number of a branch's child page in which the key would be.
fn child(branch: &Page, seq: Seq) -> Option<u64> {
    let wanted = key_of(seq);
    let (mut low, mut len) = (0, nodes(branch, BRANCH)?);
    while len > 1 {
        let half = len / 2;
        // This compiles to a conditional move: a branch would be mispredicted half of the time.
        low = if key(branch, node(branch, low + half)?)? <= wanted { low + half } else { low };
        len -= half;
    }
    let at = branch.get(node(branch, low)?..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*at) & 0xffff_ffff_ffff)
}

/// The offset of the key's node in a leaf.
fn place(leaf: &Page, seq: Seq) -> Option<usize> {
    let wanted = key_of(seq);
    let (mut low, mut len) = (0, nodes(leaf, LEAF)?);
    while len > FEW {
        let half = len / 2;
        low = if key(leaf, node(leaf, low + half)?)? <= wanted { low + half } else { low };
        len -= half;
    }
    let mut found = None;
    for index in low..low + len {
        let place = node(leaf, index)?;
        found = if key(leaf, place)? == wanted { Some(place) } else { found };
    }
    found
}

fn fetch_node(leaf: &Page, index: usize) {
    if let Some(node) = node(leaf, index).and_then(|place| leaf.get(place..place + KEY)) {
        prefetch(node);
    }
}

/// The number of nodes in a page; `None` if its flags are not those of `sort`.
pub(super) fn nodes(page: &Page, sort: u16) -> Option<usize> {
    let lower = usize::from(u16_at(page, 12)?);
    let is_whole = u16_at(page, 10)? & (BRANCH | LEAF) == sort && lower <= PAGE;
    lower.checked_sub(HEADER).filter(|_| is_whole).map(|bytes| bytes / 2)
}

/// The offset of a node in its page.
pub(super) fn node(page: &Page, index: usize) -> Option<usize> {
    u16_at(page, HEADER + 2 * index).map(usize::from)
}

/// A node's key with its length in front, as one number. All keys have the same length, so these compare as keys do.
fn key(page: &Page, place: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*page.get(place + KEY - 2..)?.first_chunk()?))
}

fn key_of(seq: Seq) -> u64 {
    0x0600 << 48 | seq.0
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Pages of the map that the tests make: two meta pages, the root, two leaves, and two overflow pages.
    const ROOT_PAGE: u64 = 2;
    const LEAVES: [u64; 2] = [3, 4];
    const OVERFLOW: u64 = 5;
    const PAGES: u64 = 7;
    /// The size of a record that fills both overflow pages.
    const LARGE: usize = 2 * PAGE - HEADER;

    /// A node of the test's pages: its key, if it has one, the six bytes before the key, and the bytes after it.
    pub(in crate::store::read) fn node(before: u64, seq: Option<u64>, data: &[u8]) -> Vec<u8> {
        let key = seq.map_or_else(Vec::new, |seq| seq.to_be_bytes()[2..].to_vec());
        [&before.to_le_bytes()[..6], &(key.len() as u16).to_le_bytes(), &key, data].concat()
    }

    fn small(seq: u64, data: &[u8]) -> Vec<u8> {
        node(data.len() as u64, Some(seq), data)
    }

    fn large(seq: u64, number: u64, size: usize) -> Vec<u8> {
        node(size as u64 | u64::from(BIG) << 32, Some(seq), &number.to_le_bytes())
    }

    pub(in crate::store::read) fn page(flags: u16, nodes: &[Vec<u8>]) -> Page {
        let mut page = [0; PAGE];
        let mut upper = PAGE;
        page[10..12].copy_from_slice(&flags.to_le_bytes());
        page[12..14].copy_from_slice(&((HEADER + 2 * nodes.len()) as u16).to_le_bytes());
        for (index, node) in nodes.iter().enumerate() {
            upper -= node.len();
            page[upper..upper + node.len()].copy_from_slice(node);
            page[HEADER + 2 * index..][..2].copy_from_slice(&(upper as u16).to_le_bytes());
        }
        page
    }

    /// A table of the records 1, 2 and 10, the last of which is large.
    fn table() -> Vec<Page> {
        let root = page(BRANCH, &[node(LEAVES[0], None, &[]), node(LEAVES[1], Some(10), &[])]);
        let leaves = [page(LEAF, &[small(1, b"one"), small(2, b"two")]), page(LEAF, &[large(10, OVERFLOW, LARGE)])];
        let mut overflow = [[b'x'; PAGE]; 2];
        overflow[0][..HEADER].fill(0);
        [[[0; PAGE]; 2].as_slice(), &[root], &leaves, &overflow].concat()
    }

    pub(in crate::store::read) fn row(root: u64, depth: u16) -> [u8; TABLE_LEN] {
        let mut row = [0; TABLE_LEN];
        row[DEPTH..DEPTH + 2].copy_from_slice(&depth.to_le_bytes());
        row[ROOT..].copy_from_slice(&root.to_le_bytes());
        row
    }

    /// The lengths of the records 1, 2 and 10, as far as they are found, one by one and together.
    fn found(memory: &[Page], last_page: u64) -> [Option<usize>; 3] {
        // SAFETY: the memory outlives the result, which is dropped here, and nobody writes to it.
        let pages = unsafe { Pages::of_table(Map::of_memory(memory), &row(ROOT_PAGE, 2), last_page) };
        let pages = pages.expect("a root in the map");
        let seqs = [1, 2, 10].map(Seq);
        let mut records = [None; 3];
        pages.find_all(&seqs, &mut records);
        assert_eq!(seqs.map(|seq| pages.find(seq)), records);
        records.map(|record| record.map(<[u8]>::len))
    }

    #[test]
    fn a_page_number_outside_of_the_map_finds_nothing() {
        assert_eq!(found(&table(), PAGES - 1), [Some(3), Some(3), Some(LARGE)]);
        // The file of another process may be longer than our map.
        assert_eq!(found(&table(), u64::MAX), [Some(3), Some(3), Some(LARGE)]);
        assert_eq!(found(&table(), PAGES - 2), [Some(3), Some(3), None]);
        assert_eq!(found(&table(), LEAVES[0]), [Some(3), Some(3), None]);
        assert_eq!(found(&table(), ROOT_PAGE), [None; 3]);
        for wrong in [PAGES, PAGES + 1, 1 << 40, u64::MAX >> 16] {
            let mut damaged = table();
            damaged[ROOT_PAGE as usize] = page(BRANCH, &[node(LEAVES[0], None, &[]), node(wrong, Some(10), &[])]);
            assert_eq!(found(&damaged, PAGES - 1), [Some(3), Some(3), None], "child {wrong}");
        }
        for (number, size) in [(PAGES, 1), (PAGES - 1, LARGE), (u64::MAX, 1), (OVERFLOW, LARGE + 1), (0, 1 << 31)] {
            let mut damaged = table();
            damaged[LEAVES[1] as usize] = page(LEAF, &[large(10, number, size)]);
            assert_eq!(found(&damaged, PAGES - 1), [Some(3), Some(3), None], "{size} bytes from page {number}");
        }
    }

    #[test]
    fn a_root_outside_of_the_map_or_a_depth_without_a_tree_is_no_table() {
        let memory = table();
        let is_table = |root, depth| {
            // SAFETY: the memory outlives the result, and nobody writes to it.
            unsafe { Pages::of_table(Map::of_memory(&memory), &row(root, depth), PAGES - 1) }.is_some()
        };
        assert!(is_table(ROOT_PAGE, 2));
        for (root, depth) in [(PAGES, 2), (u64::MAX, 0), (ROOT_PAGE, 0), (ROOT_PAGE, MAX_DEPTH + 1)] {
            assert!(!is_table(root, depth), "root {root}, depth {depth}");
        }
    }

    /// Meant for Miri: whatever the pages hold, the look-ups read only the map.
    #[test]
    fn damaged_pages_find_a_record_in_the_map_or_nothing() {
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for case in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let mut memory = table();
            for _ in 0..=random(4) {
                let page = &mut memory[2 + random(3)];
                // Lengths, offsets and page numbers are at both ends of the page.
                let at = if random(2) == 0 { random(24) } else { PAGE - 1 - random(48) };
                page[at] = random(256) as u8;
            }
            for len in found(&memory, PAGES - 1).into_iter().flatten() {
                assert!(len <= memory.len() * PAGE, "case {case}");
            }
        }
    }
}
