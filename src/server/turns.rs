//! Whose turn it is on an io thread.
//!
//! A *tick* is one round over the thread's ready tasks. Between two ticks the runtime checks its sockets. A
//! connection's *turn* is what it reads and handles in one poll, and ends after [`TURN`]. Connections that took more
//! than a little of the thread lately are heavy and stand in line, where whoever took least is called first, one after
//! the other, until the tick has lasted [`TICK`]. Light ones are served as they come, or stand before all heavy ones if
//! the tick has lasted [`LIGHT_TICK`]. So a light client waits for at most one tick and the longest single message,
//! whatever others send and however many they are.
//!
//! Nobody waits for a particular connection: each tick calls the next one, whatever became of those called before.
//!
//! Nothing here reads a clock or does a connection's work.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::share::Share;

/// How long a connection reads and handles messages before others get their turn. It finishes the message it is at,
/// which adds up to 1 ms to inflate 1 MiB, or a little more to parse the widest filters.
pub const TURN: Duration = Duration::from_micros(500);

/// The same for a light connection, so that a crowd of newcomers delays others by their first messages only.
const LIGHT_TURN: Duration = Duration::from_micros(125);

/// For how long turns begin in one tick. Checking the sockets costs 1 to 2 µs, so this spends 0.2 % on it.
const TICK: Duration = Duration::from_millis(1);

/// The same for light connections.
const LIGHT_TICK: Duration = Duration::from_millis(4);

/// A connection that takes more than 1/128 of its thread's time is heavy. Someone who publishes a note and asks for
/// ten takes 0.15 ms, so fifty of each in a second are light.
const PARTS: u32 = 128;

/// What a connection may take at once after a pause and still be light: four light turns.
const CREDIT: Duration = Duration::from_micros(500);

/// What a connection took beyond this is forgotten, so that nobody waits longer than a second for others that begin.
const MOST: Duration = Duration::from_millis(8);

/// How many light connections are called when a tick begins. One that is called is polled behind all tasks that are
/// ready, so one at a time would be one for each tick when those use it up by sending.
const CALLED_AT_ONCE: u32 = 8;

/// How many ticks in a row light connections may use up. In the next one, a heavy connection has a turn regardless.
const MAX_PASSED_OVER: u8 = 8;

/// The line of one io thread. Each connection is in it at most once. One that has ended leaves an empty entry until it
/// would be called, which is a second later at most: see [`MOST`].
#[derive(Debug)]
pub struct Turns {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    tick_began: Instant,
    light: Line,
    heavy: Line,
    /// How many ever stood in line.
    stood: u64,
    /// How many were called in this tick and have not begun their turns: the tasks that were ready before come first.
    called: u32,
    /// The thread's root task, which begins each tick.
    root: Option<Waker>,
    /// The root task has been woken for the next tick.
    is_root_woken: bool,
    /// A heavy connection had a turn in this tick.
    has_served: bool,
    /// How many ticks in a row no heavy connection had a turn while one stood in line.
    passed_over: u8,
    /// Nobody has a turn.
    is_paused: bool,
}

/// Who waits, by what they took and then by when they came. Whether one is light or heavy is decided when it comes:
/// what heavy ones took is paid off while they wait, so a crowd that waited for a second would stand before light ones.
type Line = BTreeMap<(Instant, u64), Weak<TurnState>>;

/// One connection's place. A connection that takes no more turns drops it.
#[derive(Debug)]
pub struct TurnState {
    waker: RefCell<Option<Waker>>,
    stands_in_line: Cell<bool>,
    called: Cell<bool>,
    /// It has its turn in this poll.
    has_turn: Cell<bool>,
    /// It has more to do after this poll.
    wants_more: Cell<bool>,
    share: Share,
}

impl TurnState {
    /// The place of a new connection.
    #[must_use]
    pub fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            waker: RefCell::new(None),
            stands_in_line: Cell::new(false),
            called: Cell::new(false),
            has_turn: Cell::new(false),
            wants_more: Cell::new(false),
            share: Share::new(PARTS, CREDIT, MOST, now),
        })
    }

    /// Whether the connection was called from the line and has not begun its turn.
    pub const fn is_called(&self) -> bool {
        self.called.get()
    }

    /// Lets a connection that has more to do stand in line from the end of this poll on.
    pub fn line_up(&self, cx: &Context<'_>) {
        self.wants_more.set(true);
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }
}

impl Turns {
    /// An empty line.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let inner = Inner {
            tick_began: now,
            light: Line::new(),
            heavy: Line::new(),
            stood: 0,
            called: 0,
            root: None,
            is_root_woken: false,
            has_served: false,
            passed_over: 0,
            is_paused: false,
        };
        Self { inner: RefCell::new(inner) }
    }

    /// Begins a tick. The root task of the thread, which is polled first in each, calls this. Returns whether somebody
    /// waits for a turn.
    pub fn begin_tick(&self, now: Instant, root: &Waker) -> bool {
        let mut inner = self.inner.borrow_mut();
        inner.tick_began = now;
        inner.is_root_woken = false;
        if !inner.root.as_ref().is_some_and(|own| own.will_wake(root)) {
            inner.root = Some(root.clone());
        }
        let has_served = std::mem::take(&mut inner.has_served);
        let heavy_stands = inner.heavy.last_key_value().is_some_and(|(key, _)| *key > lightest_heavy(now));
        inner.passed_over = if has_served || !heavy_stands { 0 } else { inner.passed_over.saturating_add(1) };
        inner.called = 0;
        inner.call_next(now);
        if inner.stands_somebody() {
            inner.wake_root();
        }
        inner.called > 0
    }

    /// Whether the tick has lasted so long that what needs no turn should be short.
    #[must_use]
    pub fn is_tick_over(&self, now: Instant) -> bool {
        self.inner.borrow().is_over(true, now)
    }

    /// How long a turn the connection of `place` may have now. If none, it stands in line and is woken for its turn.
    pub fn begin(&self, place: &Rc<TurnState>, now: Instant, cx: &Context<'_>) -> Option<Duration> {
        if place.stands_in_line.get() {
            return None;
        }
        let mut inner = self.inner.borrow_mut();
        let is_called = place.called.take();
        if is_called {
            inner.called = inner.called.saturating_sub(1);
        }
        let is_heavy = place.share.is_used_up(now);
        let is_behind_others = is_heavy && (inner.called > 0 || inner.stands_somebody());
        if inner.is_paused || (!is_called && (is_behind_others || inner.is_over(is_heavy, now))) {
            *place.waker.borrow_mut() = Some(cx.waker().clone());
            inner.stand(place, is_heavy);
            return None;
        }
        inner.has_served |= is_heavy;
        place.has_turn.set(true);
        Some(if is_heavy { TURN } else { LIGHT_TURN })
    }

    /// Gives nobody a turn until [`Turns::resume`]: whoever wants one is queued.
    pub fn pause(&self) {
        self.inner.borrow_mut().is_paused = true;
    }

    /// Goes on, with those that were queued meanwhile.
    pub fn resume(&self) {
        let mut inner = self.inner.borrow_mut();
        if std::mem::take(&mut inner.is_paused) {
            // The root task may have been woken for a tick that called nobody.
            inner.is_root_woken = false;
            inner.wake_root();
        }
    }

    /// Ends a poll that began at `began`: counts the thread's time that it took, without what the thread `waited` for a
    /// processor, and calls the next one in line if this one had a turn and there is time left in the tick.
    pub fn end(&self, place: &Rc<TurnState>, began: Instant, waited: Duration, now: Instant) {
        place.share.spent(began + waited, now);
        let (had_turn, wants_more) = (place.has_turn.take(), place.wants_more.take());
        if !had_turn && !wants_more && waited.is_zero() {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        inner.tick_began += waited;
        if had_turn && !inner.is_over(true, now) {
            inner.call_next(now);
        }
        // Last: it does not follow itself before the thread has looked at its sockets.
        if wants_more && !place.stands_in_line.get() {
            inner.stand(place, place.share.is_used_up(now));
        }
    }
}

impl Inner {
    /// Whether it is too late for another turn in this tick.
    fn is_over(&self, is_heavy: bool, now: Instant) -> bool {
        now.saturating_duration_since(self.tick_began) >= if is_heavy { TICK } else { LIGHT_TICK }
    }

    fn stands_somebody(&self) -> bool {
        !self.light.is_empty() || !self.heavy.is_empty()
    }

    /// Calls some light ones, or else the heavy one that took least, unless somebody has been called already. If the
    /// heavy ones were passed over for too long, one that is still heavy is called first. Whoever was called has a turn
    /// even if it is polled late.
    fn call_next(&mut self, now: Instant) {
        if self.called > 0 || self.is_paused {
            return;
        }
        if !self.has_served && self.passed_over >= MAX_PASSED_OVER {
            let mut still_heavy = self.heavy.split_off(&lightest_heavy(now));
            self.called += call(&mut still_heavy);
            self.heavy.append(&mut still_heavy);
        }
        if self.called == 0 {
            self.called = (0..CALLED_AT_ONCE).map(|_| call(&mut self.light)).sum();
        }
        if self.called == 0 {
            self.called += call(&mut self.heavy);
        }
    }

    fn stand(&mut self, place: &Rc<TurnState>, is_heavy: bool) {
        place.stands_in_line.set(true);
        self.stood += 1;
        let line = if is_heavy { &mut self.heavy } else { &mut self.light };
        line.insert((place.share.paid_off_at(), self.stood), Rc::downgrade(place));
        self.wake_root();
    }

    /// Waking the root task costs a system call, so it is done once per tick.
    fn wake_root(&mut self) {
        if !self.is_paused
            && !std::mem::replace(&mut self.is_root_woken, true)
            && let Some(root) = &self.root
        {
            root.wake_by_ref();
        }
    }
}

/// Heavy connections that are heavy still stand behind this.
fn lightest_heavy(now: Instant) -> (Instant, u64) {
    (now + CREDIT * PARTS, u64::MAX)
}

/// Calls the first of a line that has not ended. Returns how many were called: one, or none if nobody is left.
fn call(line: &mut Line) -> u32 {
    let Some(place) = std::iter::from_fn(|| line.pop_first()).find_map(|(_, place)| place.upgrade()) else { return 0 };
    place.stands_in_line.set(false);
    place.called.set(true);
    if let Some(waker) = place.waker.take() {
        waker.wake();
    }
    1
}

#[cfg(test)]
mod tests;
