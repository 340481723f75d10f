//! One filter of a query: chooses an index, perhaps scans another one first, and opens range after range.
//!
//! It keeps its progress as numbers and keys; the cursors belong to the slice.

use crate::nostr::{Filter, Kind, KindClass, Timestamp};
use crate::store::file::newest::Bound;
use crate::store::format::error::StoreError;
use crate::store::scan::choose::{Choice, Chosen, Weight};
use crate::store::scan::plan::{Key, Kinds, Plan, Prefix, Ranges, Source};
use crate::store::scan::position::{Head, Position};
use crate::store::scan::quota::{QueryLimits, Quota};
use crate::store::scan::rows::{FEW_RANGES, Rows, Window};
use crate::store::scan::walk::Walk;

/// One filter's part of a query.
pub(in crate::store) struct Part {
    source: Source,
    /// The index that the source is intersected with.
    intersected: Option<Source>,
    /// The choice of an index, until it is made.
    choice: Option<Box<Choice>>,
    weight: Option<Weight>,
    walk: Option<Walk>,
    gap: Gap,
    /// The next range to open: an item, and its next kind (by position in the filter's list, or by number).
    item: u32,
    kind: u32,
    pub window: Window,
    pub quota: Quota,
}

/// Two keys of the index between which there is no key that concerns the query.
///
/// Ranges are opened in nearly ascending order. When a seek finds a row beyond its range, the ranges in between are
/// therefore empty. A gap lasts for one slice.
struct Gap {
    /// The first key of the gap.
    from: Key,
    /// The next existing key, which ends the gap, or [`Key::END`].
    to: Key,
}

impl Gap {
    const NONE: Self = Self { from: Key::END, to: Key::START };

    /// Whether the first key at or after `key` is [`Gap::to`].
    fn holds(&self, key: &Key) -> bool {
        self.from.as_bytes() <= key.as_bytes() && key.as_bytes() <= self.to.as_bytes()
    }
}

/// Ranges whose bounds are looked at to decide whether a walk is worth trying.
const SAMPLE: u32 = 32;

/// Bounds are fetched from memory for the author so many places ahead.
const FETCHED: u32 = 8;

/// What became of a range that was to be opened.
pub(in crate::store) enum Opened {
    /// The table of newest events knew enough: nothing was read. The range has this head, or no row in the window.
    Known(Option<Head>),
    /// It was looked up in the index; it has this head, or no row in the window.
    Read(Option<Head>),
}

impl Part {
    pub fn new(filter: &Filter, limits: Option<QueryLimits>) -> Self {
        let quota = Quota::new(filter.limit, limits);
        let window = Window {
            from: filter.until.map_or(Position::FIRST, Position::first_at),
            since: filter.since.unwrap_or_default(),
        };
        let choice = if quota.is_empty() { Choice::of(Source::Nothing) } else { Choice::new(filter) };
        let only = choice.only();
        let mut part = Self {
            source: only.unwrap_or(Source::Nothing),
            intersected: None,
            choice: only.is_none().then(|| Box::new(choice)),
            weight: None,
            walk: None,
            gap: Gap::NONE,
            item: 0,
            kind: 0,
            window,
            quota,
        };
        part.consider_walk(filter);
        part
    }

    /// The ranges that are merged.
    pub fn ranges<'f>(&self, filter: &'f Filter) -> Ranges<'f> {
        Ranges { filter, source: self.source }
    }

    /// The ranges of the other index, one of which must also have each row.
    pub fn intersected<'f>(&self, filter: &'f Filter) -> Option<Ranges<'f>> {
        self.intersected.map(|source| Ranges { filter, source })
    }

    /// Whether every range is open.
    pub fn is_open(&self, filter: &Filter) -> bool {
        self.item >= self.ranges(filter).items()
    }

    /// How the filter is answered, as far as that is chosen.
    pub fn plan(&self, filter: &Filter) -> Plan {
        let source = self.walk.as_ref().map_or(self.source, Walk::fallback);
        Plan {
            source: self.choice.is_none().then_some(source),
            walked_first: self.walk.as_ref().map(|_| self.source),
            intersected: self.intersected,
            ranges: Ranges { filter, source }.len(),
            cost: self.weight.and_then(|weight| weight.exact),
        }
    }

    /// Takes one step toward choosing the index; true once it is chosen.
    pub fn choose(&mut self, filter: &Filter, rows: &Rows<'_>) -> Result<bool, StoreError> {
        let Some(choice) = &mut self.choice else { return Ok(true) };
        let Some(chosen) = choice.step(filter, rows, self.window)? else { return Ok(false) };
        let Chosen { source, intersected, weight } = chosen;
        (self.source, self.intersected, self.weight, self.choice) = (source, intersected, Some(weight), None);
        if weight.exact.is_none() && intersected.is_none() {
            self.consider_walk(filter);
        }
        Ok(true)
    }

    fn consider_walk(&mut self, filter: &Filter) {
        if let Some((source, walk)) = Walk::instead_of(self.ranges(filter), self.quota.left(), self.window.since) {
            (self.source, self.walk) = (source, Some(walk));
        }
    }

    /// Tells the walk about a row; true when the walk is given up and the ranges must be opened.
    pub fn gives_way_after(&mut self, position: Position, is_match: bool) -> bool {
        let left = self.quota.left();
        let Some(walk) = &mut self.walk else { return false };
        if !walk.gives_way_after(position, is_match, left) {
            return false;
        }
        self.source = walk.fallback();
        self.window.from = position.next();
        (self.walk, self.gap, self.item, self.kind) = (None, Gap::NONE, 0, 0);
        true
    }

    /// Forgets what an earlier slice found out about the index.
    pub fn begin_slice(&mut self) {
        self.gap = Gap::NONE;
    }

    /// Opens the next range, or finds out that it may stay closed for now.
    pub fn open_next(&mut self, number: u16, filter: &Filter, rows: &mut Rows<'_>) -> Result<Opened, StoreError> {
        self.judge_walk(filter, rows);
        let (ranges, item) = (self.ranges(filter), self.item);
        if item >= ranges.items() {
            return Ok(Opened::Known(None));
        }
        let (kind, found) = match ranges.kinds() {
            Kinds::None => {
                self.item += 1;
                match ranges.ids() {
                    Some(ids) => (0, rows.find_id(number, ids, item)?),
                    None => (0, self.first(ranges, ranges.start(item, rows.secret()), rows)?),
                }
            }
            Kinds::Listed(kinds) => {
                let (kind, is_next_author) = (kinds[self.kind as usize], self.kind == 0);
                self.kind += 1;
                if self.kind as usize == kinds.len() {
                    (self.item, self.kind) = (item + 1, 0);
                }
                if kind.is_ephemeral() {
                    return Ok(Opened::Known(None));
                }
                let prefix = ranges.prefix(item, kind.0, rows.secret());
                let has_bounds = ranges.source == Source::Authors && ranges.len() > FEW_RANGES && rows.has_bounds();
                let head = |(position, slot)| Head { position, filter: number, kind: kind.0, item, slot };
                if has_bounds && is_next_author && item + FETCHED < ranges.items() {
                    rows.fetch_bounds(ranges.start(item + FETCHED, rows.secret()));
                }
                match if has_bounds { rows.bound(prefix) } else { None } {
                    Some(bound) if !self.is_newer(bound) => {
                        return Ok(Opened::Known(self.closed(bound).map(head)));
                    }
                    Some(bound) if self.closed(bound).is_none() => return Ok(Opened::Known(None)),
                    None if has_bounds => (kind.0, self.first_and_newest(ranges, prefix, kind, rows)?),
                    _ => (kind.0, self.first_of(ranges, prefix, kind, rows)?),
                }
            }
            Kinds::All => match self.next_kind(ranges, rows)? {
                Some((kind, position)) => (kind, position.map(|position| (position, Head::NO_SLOT))),
                None => return Ok(Opened::Read(None)),
            },
        };
        Ok(Opened::Read(found.map(|(position, slot)| Head { position, filter: number, kind, item, slot })))
    }

    /// Gives up a walk before its first row if nearly all ranges that it would spare may stay closed anyway.
    fn judge_walk(&mut self, filter: &Filter, rows: &mut Rows<'_>) {
        let is_first = (self.item, self.kind) == (0, 0);
        let Some(walk) = self.walk.as_ref().filter(|_| is_first && rows.has_bounds()) else {
            return;
        };
        let ranges = Ranges { filter, source: walk.fallback() };
        let (Source::Authors, Kinds::Listed(kinds)) = (ranges.source, ranges.kinds()) else { return };
        let stride = (ranges.items() / SAMPLE).max(1);
        let items = (0..ranges.items()).step_by(stride as usize);
        let sample = items.zip(kinds.iter().cycle().filter(|kind| !kind.is_ephemeral()));
        let (mut asked, mut known) = (0, 0);
        for (item, kind) in sample {
            asked += 1;
            let bound = rows.bound(ranges.prefix(item, kind.0, rows.secret()));
            known += u32::from(bound.is_some_and(|bound| !self.is_newer(bound)));
        }
        if known * 8 >= asked * 7 {
            (self.source, self.walk) = (ranges.source, None);
        }
    }

    /// Whether the bound is newer than the window, so that it tells nothing about the first row there.
    fn is_newer(&self, bound: Bound) -> bool {
        matches!(bound, Bound::At(newest) if newest > self.window.from.created_at())
    }

    /// The head of a range that stays closed until the answer has come down to its bound; `None` when it has no row in
    /// the window.
    fn closed(&self, bound: Bound) -> Option<(Position, u32)> {
        match bound {
            Bound::At(newest) if newest >= self.window.since => {
                Some((Position::first_at(newest.min(self.window.from.created_at())), Head::CLOSED))
            }
            Bound::Nothing | Bound::At(_) => None,
        }
    }

    /// Opens ranges that stayed closed, at most as many as are looked up together. A head without a row left in the
    /// window becomes `None`.
    pub fn open_closed(
        &self,
        heads: &[Head],
        filter: &Filter,
        rows: &mut Rows<'_>,
        opened: &mut [Option<Head>],
    ) -> Result<(), StoreError> {
        let ranges = self.ranges(filter);
        rows.open_together(heads, ranges, self.window, opened)?;
        for (head, opened) in heads.iter().zip(opened) {
            let (bound, found) = (head.position.created_at(), opened.map(|head| head.position.created_at()));
            let is_seen = found.is_some() || self.window.since == Timestamp(0);
            if found != Some(bound) && is_seen && self.window.from <= head.position {
                let prefix = ranges.prefix(head.item, head.kind, rows.secret());
                // The bound may have been raised since an earlier slice of this scan asked for it.
                if rows.bound(prefix) == Some(Bound::At(bound)) {
                    rows.learn(prefix, found);
                }
            }
        }
        Ok(())
    }

    /// The first row of a range in the window, or the position of a closed head, after the newest row was looked up and
    /// entered into the table.
    fn first_and_newest(
        &mut self,
        ranges: Ranges<'_>,
        prefix: Prefix,
        kind: Kind,
        rows: &mut Rows<'_>,
    ) -> Result<Option<(Position, u32)>, StoreError> {
        let Window { from, since } = self.window;
        if from == Position::FIRST && since == Timestamp(0) {
            let found = self.first_of(ranges, prefix, kind, rows)?;
            rows.learn(prefix, found.map(|(position, _)| position.created_at()));
            return Ok(found);
        }
        let found = self.seek(ranges, &prefix.key(Position::FIRST), rows)?;
        let newest = found.and_then(|key| prefix.row(key.as_bytes()));
        rows.learn(prefix, newest.map(Position::created_at));
        Ok(match newest {
            Some(newest) if newest >= from => self.window.admits(newest).then_some((newest, Head::NO_SLOT)),
            Some(_) => self.first_of(ranges, prefix, kind, rows)?,
            None => None,
        })
    }

    /// The first row of a kind's range, and its slot.
    fn first_of(
        &mut self,
        ranges: Ranges<'_>,
        prefix: Prefix,
        kind: Kind,
        rows: &mut Rows<'_>,
    ) -> Result<Option<(Position, u32)>, StoreError> {
        if ranges.source == Source::Authors && kind.class() == KindClass::Replaceable {
            self.single(ranges, prefix, rows)
        } else {
            self.first(ranges, prefix, rows)
        }
    }

    /// The first row of a range, and its slot.
    fn first(
        &mut self,
        ranges: Ranges<'_>,
        prefix: Prefix,
        rows: &mut Rows<'_>,
    ) -> Result<Option<(Position, u32)>, StoreError> {
        if ranges.len() <= FEW_RANGES {
            return rows.first_kept(ranges.index(), prefix, self.window);
        }
        let found = self.seek(ranges, &prefix.key(self.window.from), rows)?;
        Ok(self.row(prefix, found).map(|position| (position, Head::NO_SLOT)))
    }

    /// The first row of a range that hardly ever has a second one, such as an author's profile. Finding out now that
    /// there is no second row is cheaper than another seek later.
    fn single(
        &mut self,
        ranges: Ranges<'_>,
        prefix: Prefix,
        rows: &mut Rows<'_>,
    ) -> Result<Option<(Position, u32)>, StoreError> {
        let key = prefix.key(self.window.from);
        if self.gap.holds(&key) && self.row(prefix, Some(self.gap.to)).is_none() {
            return Ok(None);
        }
        let [first, second] = rows.seek_two(ranges.index(), key.as_bytes())?;
        let position = self.row(prefix, first);
        let (from, to) = position.map_or((key, first), |position| (prefix.key(position.next()), second));
        self.gap = Gap { from, to: to.unwrap_or(Key::END) };
        let is_last = self.row(prefix, second).is_none();
        Ok(position.map(|position| (position, if is_last { Head::LAST } else { Head::NO_SLOT })))
    }

    /// The row of a found key, if it is in the range and the window.
    fn row(&self, prefix: Prefix, found: Option<Key>) -> Option<Position> {
        prefix.row(found?.as_bytes()).filter(|position| self.window.admits(*position))
    }

    /// The item's next kind, and its first row if it has one in the window; moves to the next item when no more kinds
    /// are left.
    fn next_kind(
        &mut self,
        ranges: Ranges<'_>,
        rows: &mut Rows<'_>,
    ) -> Result<Option<(u16, Option<Position>)>, StoreError> {
        let start = ranges.start(self.item, rows.secret());
        let found = match u16::try_from(self.kind) {
            Ok(from) => self.seek(ranges, &start.and_kind(from).key(self.window.from), rows)?,
            Err(_) => None,
        };
        let Some((kind, found)) = found.and_then(|found| Some((start.kind_of(found.as_bytes())?, found))) else {
            (self.item, self.kind) = (self.item + 1, 0);
            return Ok(None);
        };
        self.kind = u32::from(kind) + 1;
        let prefix = start.and_kind(kind);
        let is_newer = prefix.row(found.as_bytes()).is_some_and(|position| position < self.window.from);
        let first = if is_newer { self.seek(ranges, &prefix.key(self.window.from), rows)? } else { Some(found) };
        Ok(Some((kind, self.row(prefix, first))))
    }

    /// The first key at or after `key`, from the results of earlier seeks if possible.
    fn seek(&mut self, ranges: Ranges<'_>, key: &Key, rows: &Rows<'_>) -> Result<Option<Key>, StoreError> {
        if !self.gap.holds(key) {
            let found = rows.seek(ranges.index(), key.as_bytes())?;
            self.gap = Gap { from: *key, to: found.unwrap_or(Key::END) };
        }
        Ok(Some(self.gap.to).filter(|found| *found != Key::END))
    }
}
