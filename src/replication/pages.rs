//! Reads a window of a relay that does not speak NIP-77: page after page, from the newest event to the oldest.
//!
//! Pure. The next page begins with the second in which the last one ended, since that second may have more events than
//! the page had room for. Only a second with more events than the relay ever returns at once cannot be read in full;
//! such seconds are counted.

use std::collections::HashSet;

use super::window::Window;
use crate::nostr::{EventId, Timestamp};

/// Events asked for at a time. Most relays allow as many, and the others return fewer.
pub const PAGE_EVENTS: usize = 500;

/// A relay that sends this many events in one page counts as flooding. Some ignore the limit.
const MAX_PAGE_EVENTS: usize = 50_000;

/// A part of the window that was read in full.
#[derive(PartialEq, Eq, Debug)]
pub struct Covered {
    /// The part.
    pub window: Window,
    /// The ids that the relay has there.
    pub ids: HashSet<EventId>,
}

/// What a page brought.
#[derive(PartialEq, Eq, Debug)]
pub struct PageResult {
    /// What is read in full by now.
    pub covered: Option<Covered>,
    /// Whether the window is done.
    pub is_done: bool,
}

/// The pages of one window.
#[derive(Debug)]
pub struct Pages {
    window: Window,
    /// The next page ends with this second.
    until: Timestamp,
    /// Events of the second `until` that are known.
    last: HashSet<EventId>,
    /// The page that is being read.
    page: Vec<(Timestamp, EventId)>,
    /// The length of the page before, and of the longest page that more events followed: the relay may cut there.
    before: usize,
    cut: usize,
    /// Seconds of which not all events may have come.
    pub overfull: u64,
}

impl Pages {
    /// Begins with the newest page.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self { window, until: window.until, last: HashSet::new(), page: Vec::new(), before: 0, cut: 0, overfull: 0 }
    }

    /// The range to ask for.
    #[must_use]
    pub const fn range(&self) -> Window {
        Window { since: self.window.since, until: self.until }
    }

    /// An event of the page came. Returns whether it belongs there, or `None` when there are too many.
    pub fn event(&mut self, created_at: Timestamp, id: EventId) -> Option<bool> {
        if !self.range().contains(created_at) {
            return Some(false);
        }
        self.page.push((created_at, id));
        (self.page.len() <= MAX_PAGE_EVENTS).then_some(true)
    }

    /// The page is to be read again from its beginning.
    pub fn restart(&mut self) {
        self.page.clear();
    }

    /// The page ended.
    #[must_use]
    pub fn turn(&mut self) -> PageResult {
        let page = std::mem::take(&mut self.page);
        let mut ids: HashSet<EventId> = page.iter().map(|(_, id)| *id).collect();
        let is_new = ids.iter().any(|id| !self.last.contains(id));
        ids.extend(self.last.drain());
        let before = std::mem::replace(&mut self.before, page.len());
        let Some(oldest) = page.iter().map(|(created_at, _)| *created_at).min().filter(|_| is_new) else {
            return self.step(ids, page.len());
        };
        self.cut = self.cut.max(before);
        // Of the oldest second there may be more.
        self.last = page.iter().filter(|(created_at, _)| *created_at == oldest).map(|(_, id)| *id).collect();
        if oldest == self.until {
            self.last.extend(ids);
            return PageResult { covered: None, is_done: false };
        }
        let window = Window { since: Timestamp(oldest.0 + 1), until: self.until };
        let ids = ids.into_iter().filter(|id| !self.last.contains(id)).collect();
        self.until = oldest;
        PageResult { covered: Some(Covered { window, ids }), is_done: false }
    }

    /// A page of `len` events brought nothing new. If it was not empty, the relay may have stopped within its second,
    /// so the next page is below it.
    fn step(&mut self, ids: HashSet<EventId>, len: usize) -> PageResult {
        let is_done = len == 0 || self.until == self.window.since;
        let is_cut = len >= PAGE_EVENTS || (self.cut > 0 && len >= self.cut);
        self.overfull += u64::from(is_cut);
        let since = if is_done { self.window.since } else { self.until };
        let window = Window { since, until: self.until };
        if !is_done {
            self.until = Timestamp(self.until.0 - 1);
        }
        PageResult { covered: Some(Covered { window, ids }), is_done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> EventId {
        EventId(std::array::from_fn(|at| n.to_be_bytes()[at % 2]))
    }

    /// A relay with these events, which returns the newest `limit` of a range.
    fn read(times: &[u64], limit: usize, window: Window) -> (Pages, HashSet<EventId>, Vec<Window>) {
        let mut events: Vec<_> = (0..).zip(times).map(|(n, time)| (Timestamp(*time), id(n))).collect();
        events.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let (mut pages, mut found, mut covered) = (Pages::new(window), HashSet::new(), Vec::new());
        for _ in 0..1_000 {
            let range = pages.range();
            for (created_at, id) in events.iter().filter(|(time, _)| range.contains(*time)).take(limit) {
                assert_eq!(pages.event(*created_at, *id), Some(true));
            }
            let turned = pages.turn();
            if let Some(part) = turned.covered {
                let own = events.iter().filter(|(time, _)| part.window.contains(*time));
                if pages.overfull == 0 {
                    assert_eq!(part.ids, own.map(|(_, id)| *id).collect(), "{:?}", part.window);
                }
                covered.push(part.window);
                found.extend(part.ids);
            }
            if turned.is_done {
                return (pages, found, covered);
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn every_event_is_found_and_every_second_covered_once_whatever_the_ties() {
        let window = Window { since: Timestamp(10), until: Timestamp(1_000) };
        for (count, spread, limit) in [(0, 1, 5), (1, 1, 1), (100, 90, 7), (100, 20, 9), (300, 100, 300), (50, 1, 60)] {
            let times: Vec<u64> = (0..count).map(|n| 10 + n * 7 % spread).collect();
            let (pages, found, covered) = read(&times, limit, window);
            assert_eq!((found.len(), pages.overfull), (times.len(), 0), "{count} events in {spread} s by {limit}");
            let mut until = window.until.0;
            for part in &covered {
                assert_eq!(part.until.0, until, "{covered:?}");
                until = part.since.0 - 1;
            }
            assert_eq!(until, window.since.0 - 1);
        }
    }

    #[test]
    fn a_second_with_more_events_than_a_page_is_counted_and_the_rest_is_read() {
        let times = [5, 9, 9, 9, 9, 9, 9, 12, 13];
        let (pages, found, _) = read(&times, 3, Window::ALL);
        assert_eq!((found.len(), pages.overfull), (6, 1));
    }

    #[test]
    fn events_outside_of_the_range_are_not_taken() {
        let mut pages = Pages::new(Window { since: Timestamp(10), until: Timestamp(20) });
        assert_eq!([9, 21].map(|time| pages.event(Timestamp(time), id(1))), [Some(false); 2]);
        let end = (0..).map(|n| pages.event(Timestamp(15), id(n as u16))).position(|taken| taken.is_none());
        assert_eq!(end, Some(MAX_PAGE_EVENTS));
    }
}
