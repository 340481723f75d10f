//! Finds keys of an index in LMDB's pages, several at a time.
//!
//! A look-up waits for memory at each level of the tree and some times within a leaf, whose keys are spread over the
//! page. Here the searches go step by step together, and each fetches what its next step compares, so their waits
//! overlap. As in [`crate::store::read::pages`], it trusts nothing that it reads. It finds the first key at or after
//! the one that is looked for, where that is in the same leaf; what it does not find, the caller asks LMDB.

use crate::store::file::map::HEADER;
use crate::store::file::prefetch::prefetch;
use crate::store::read::pages::{BATCH, BRANCH, KEY, LEAF, Page, Pages, node, nodes, u16_at};

/// Where the first key at or after the one that was looked for lies in a leaf.
#[derive(Clone, Copy)]
pub(in crate::store) struct LeafEntries<'t> {
    leaf: &'t Page,
    place: usize,
    /// Keys from there to the end of the leaf, at least one.
    len: usize,
}

impl<'t> LeafEntries<'t> {
    /// The key and those after it in the same leaf.
    pub fn keys(self) -> impl Iterator<Item = &'t [u8]> {
        (self.place..self.place + self.len).map_while(move |index| key(self.leaf, index))
    }
}

impl Pages {
    /// Looks for keys in an index, at most [`BATCH`] at a time; `found` is as long as `wanted`.
    pub fn seek_all<'t>(&'t self, wanted: &[&[u8]], found: &mut [Option<LeafEntries<'t>>]) {
        debug_assert!(wanted.len() <= BATCH && wanted.len() == found.len());
        let wanted = &wanted[..wanted.len().min(BATCH)];
        let mut numbers = [self.root(); BATCH];
        for level in 1..=self.depth() {
            let pages = numbers.map(|number| self.page(number));
            let sort = if level == self.depth() { LEAF } else { BRANCH };
            let places = places(pages, wanted, sort);
            for (at, place) in places.into_iter().enumerate().take(wanted.len()) {
                if sort == LEAF {
                    found[at] = found_at(pages[at], place);
                    continue;
                }
                // The levels below find nothing on a page with this number.
                numbers[at] = child(pages[at], place).unwrap_or(u64::MAX);
                if let Some(page) = self.page(numbers[at]) {
                    prefetch(&page[..2 * HEADER]);
                }
            }
        }
    }
}

/// In each page, the number of nodes that precede the key: in a leaf those with a smaller key, in a branch those with
/// the same key, too. `None` for a page that is not understood.
fn places(pages: [Option<&Page>; BATCH], wanted: &[&[u8]], sort: u16) -> [Option<usize>; BATCH] {
    // The first node of a branch has no key: it precedes all keys.
    let first = usize::from(sort == BRANCH);
    let mut ranges = pages.map(|page| Some((first, nodes(page?, sort).filter(|len| *len >= first)?)));
    loop {
        let mut is_done = true;
        for ((range, page), wanted) in ranges.iter_mut().zip(pages).zip(wanted) {
            let (Some((low, high)), Some(page)) = (*range, page) else { continue };
            if low == high {
                continue;
            }
            is_done = false;
            let middle = usize::midpoint(low, high);
            *range = key(page, middle)
                .map(|key| if precedes(key, wanted, sort) { (middle + 1, high) } else { (low, middle) });
            if let Some((low, high)) = *range
                && let Some(place) = node(page, usize::midpoint(low, high))
                && let Some(next) = page.get(place..place + KEY)
            {
                prefetch(next);
            }
        }
        if is_done {
            return ranges.map(|range| range.map(|(low, _)| low));
        }
    }
}

fn precedes(key: &[u8], wanted: &[u8], sort: u16) -> bool {
    if sort == BRANCH { key <= wanted } else { key < wanted }
}

/// The number of the child page after so many nodes that precede the key.
fn child(branch: Option<&Page>, place: Option<usize>) -> Option<u64> {
    let branch = branch?;
    let at = branch.get(node(branch, place?.checked_sub(1)?)?..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*at) & 0xffff_ffff_ffff)
}

/// `None` if the key would be on the next page.
fn found_at(leaf: Option<&Page>, place: Option<usize>) -> Option<LeafEntries<'_>> {
    let (leaf, place) = (leaf?, place?);
    let len = nodes(leaf, LEAF)?.checked_sub(place).filter(|len| *len > 0)?;
    Some(LeafEntries { leaf, place, len })
}

/// The key of a node.
fn key(page: &Page, index: usize) -> Option<&[u8]> {
    let place = node(page, index)?;
    let len = usize::from(u16_at(page, place + KEY - 2)?);
    page.get(place + KEY..)?.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::map::{Map, PAGE};
    use crate::store::read::pages::tests::{node, page, row};

    const ROOT_PAGE: u64 = 2;
    const PAGES: u64 = 5;

    fn entry(key: &str) -> Vec<u8> {
        node_with(0, key)
    }

    fn node_with(before: u64, key: &str) -> Vec<u8> {
        let head = node(before, None, &[]);
        [&head[..6], &(key.len() as u16).to_le_bytes(), key.as_bytes()].concat()
    }

    /// An index of the keys `b`, `d`, `f` on one leaf and `h`, `j` on the next.
    fn index() -> Vec<Page> {
        let root = page(BRANCH, &[node(3, None, &[]), node_with(4, "h")]);
        let leaves = [page(LEAF, &["b", "d", "f"].map(entry)), page(LEAF, &["h", "j"].map(entry))];
        [[[0; PAGE]; 2].as_slice(), &[root], &leaves].concat()
    }

    /// The keys from each wanted one on to the end of its leaf.
    fn found(memory: &[Page], wanted: &[&str]) -> Vec<String> {
        // SAFETY: the memory outlives the result, which is dropped here, and nobody writes to it.
        let pages = unsafe { Pages::of_table(Map::of_memory(memory), &row(ROOT_PAGE, 2), PAGES - 1) };
        let pages = pages.expect("a root in the map");
        let wanted: Vec<&[u8]> = wanted.iter().map(|key| key.as_bytes()).collect();
        let mut found = vec![None; wanted.len()];
        pages.seek_all(&wanted, &mut found);
        let text = |found: Option<LeafEntries<'_>>| {
            let keys = found.map(|found| found.keys().collect::<Vec<_>>().concat());
            String::from_utf8_lossy(&keys.unwrap_or_default()).into_owned()
        };
        found.into_iter().map(text).collect()
    }

    #[test]
    fn keys_are_found_together_as_they_are_alone() {
        let cases =
            [("a", "bdf"), ("b", "bdf"), ("c", "df"), ("f", "f"), ("g", ""), ("h", "hj"), ("h0", "j"), ("z", "")];
        let (wanted, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
        assert_eq!(found(&index(), &wanted), expected);
        let alone: Vec<_> = wanted.iter().flat_map(|key| found(&index(), &[key])).collect();
        assert_eq!(alone, expected);
    }

    #[test]
    fn damaged_pages_find_a_key_in_the_map_or_nothing() {
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let mut memory = index();
            for _ in 0..=random(4) {
                let page = &mut memory[2 + random(3)];
                // Lengths, offsets and page numbers are at both ends of the page.
                let at = if random(2) == 0 { random(24) } else { PAGE - 1 - random(48) };
                page[at] = random(256) as u8;
            }
            let _ = found(&memory, &["a", "b", "e", "g", "h", "i", "j", "z"]);
        }
    }
}
