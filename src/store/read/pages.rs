//! From arrival numbers to records by LMDB's pages, several at a time.
//!
//! A look-up by LMDB waits for memory two or three times in turn, at the header of a leaf and at its keys, and compares
//! keys by calls: a quarter of what a page of 50 notes cost. Here the waits of several look-ups overlap, and a key is
//! one number. It only reads, believes no length that it reads, and never says that a record is not there: what
//! it does not find or does not understand is for LMDB to find (`store::lookup`).
//!
//! LMDB's format, data version 1, little-endian, with pages of 4,096 bytes:
//!
//! | page    | bytes | node    | bytes                                                 |
//! |---------|------:|---------|------------------------------------------------------:|
//! | number  |     8 | size    | 4, of the data; in a branch, with flags: page number  |
//! | pad     |     2 | flags   | 2, 1: the data is the number of its first own page    |
//! | flags   |     2 | key len | 2                                                     |
//! | lower   |     2 | key     | 6 here; in a branch, the first has none               |
//! | upper   |     2 | data    | …                                                     |
//! | nodes   | 2 each|         |                                                       |

use crate::store::format::keys::Seq;

/// Look-ups that go down the tree side by side.
pub(in crate::store) const BATCH: usize = 8;

const PAGE: usize = 4096;
const HEADER: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 8;
/// LMDB's magic and data version, behind the header of the first page.
const MAGIC: [u8; 8] = [0xde, 0xc0, 0xef, 0xbe, 1, 0, 0, 0];
/// Where the first page has the size of pages.
const PAGE_SIZE: usize = 40;
/// A table's row in the table of tables: its depth and its root are at these places of 48 bytes.
const TABLE_LEN: usize = 48;
const DEPTH: usize = 6;
const ROOT: usize = 40;
/// Deeper trees are LMDB's.
const MAX_DEPTH: u16 = 8;
/// The data is on pages of its own.
const BIG: u16 = 1;
const KEY: usize = 8;
const DATA: usize = KEY + 6;
/// Leaves of so few records are searched from end to end: those loads do not wait for each other.
const FEW: usize = 8;

type Page = [u8; PAGE];

/// The event table as one transaction sees it.
pub(in crate::store) struct Pages {
    base: *const u8,
    pages: u64,
    root: u64,
    depth: u16,
}

impl Pages {
    /// Understands a table's row in the unnamed table; `None` when it is not what the module describes.
    ///
    /// # Safety
    /// `row` must have been read from LMDB's map by a read transaction that lives as long as the result, and
    /// `last_page` must be a page of that file.
    pub unsafe fn of_table(row: &[u8], last_page: usize) -> Option<Self> {
        let root = u64::from_le_bytes(*row.get(ROOT..TABLE_LEN)?.first_chunk()?);
        let depth = u16_at(row, DEPTH)?;
        let own = row.as_ptr().wrapping_sub(row.as_ptr().addr() % PAGE);
        // SAFETY: pages are aligned and mapped whole, so the start of the page that `row` lies in can be read.
        let header = unsafe { &*own.cast::<[u8; HEADER]>() };
        let number = u64::from_le_bytes(*header.first_chunk()?);
        let is_leaf = u16_at(header, 10)? == LEAF && number <= last_page as u64;
        let base = own.wrapping_sub((number as usize).checked_mul(PAGE).filter(|_| is_leaf)?);
        let pages = Self { base, pages: last_page as u64 + 1, root, depth };
        let first = pages.page(0)?;
        let is_known = u16_at(first, 10)? == META
            && first[HEADER..HEADER + MAGIC.len()] == MAGIC
            && first[PAGE_SIZE..PAGE_SIZE + 4] == (PAGE as u32).to_le_bytes();
        (is_known && (1..=MAX_DEPTH).contains(&depth)).then_some(pages)
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
                // A page that does not exist is found by none of the levels below.
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

    fn page(&self, number: u64) -> Option<&Page> {
        let at = (number < self.pages).then_some(number as usize * PAGE)?;
        // SAFETY: the page is in the file and so in the map. Pages that a transaction can see are not written while it
        // lives (LMDB copies on write); of others nothing is believed.
        Some(unsafe { &*self.base.wrapping_add(at).cast::<Page>() })
    }

    /// The data of the node at `place`.
    fn data<'t>(&'t self, leaf: &'t Page, place: usize) -> Option<&'t [u8]> {
        let size = u32::from_le_bytes(*leaf.get(place..)?.first_chunk()?) as usize;
        let data = leaf.get(place + DATA..)?;
        if u16_at(leaf, place + 4)? & BIG == 0 {
            return data.get(..size);
        }
        let number = u64::from_le_bytes(*data.first_chunk()?);
        let last = number.checked_add(((HEADER + size - 1) / PAGE) as u64)?;
        self.page(last)?;
        let first = self.page(number)?;
        // SAFETY: all pages up to the last byte were seen to be in the file, and they follow each other in the map.
        Some(unsafe { std::slice::from_raw_parts(first.as_ptr().wrapping_add(HEADER), size) })
    }
}

/// The page below a branch that has the key, if any has.
fn child(branch: &Page, seq: Seq) -> Option<u64> {
    let wanted = key_of(seq);
    let (mut low, mut len) = (0, nodes(branch, BRANCH)?);
    while len > 1 {
        let half = len / 2;
        // A move, not a branch that would be foretold wrongly every second time.
        low = if key(branch, node(branch, low + half)?)? <= wanted { low + half } else { low };
        len -= half;
    }
    let at = branch.get(node(branch, low)?..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*at) & 0xffff_ffff_ffff)
}

/// Where the node of the key is in a leaf.
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

/// How many nodes a page of this sort has.
fn nodes(page: &Page, sort: u16) -> Option<usize> {
    let lower = usize::from(u16_at(page, 12)?);
    let is_whole = u16_at(page, 10)? & (BRANCH | LEAF) == sort && lower <= PAGE;
    lower.checked_sub(HEADER).filter(|_| is_whole).map(|bytes| bytes / 2)
}

/// Where a node is in its page.
fn node(page: &Page, index: usize) -> Option<usize> {
    u16_at(page, HEADER + 2 * index).map(usize::from)
}

/// The length of a node's key and the key, as one number: the length, which comes first, is the same for all.
fn key(page: &Page, place: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*page.get(place + KEY - 2..)?.first_chunk()?))
}

fn key_of(seq: Seq) -> u64 {
    0x0600 << 48 | seq.0
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

const CACHE_LINE: usize = 64;

/// Tells the CPU that these bytes are needed soon.
pub(in crate::store) fn prefetch(bytes: &[u8]) {
    for line in bytes.chunks(CACHE_LINE) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of every x86-64.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}
