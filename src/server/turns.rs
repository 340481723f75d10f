//! Whose turn it is on an io thread.
//!
//! A *tick* is one round over the thread's ready tasks. Between two ticks the runtime checks its sockets. A
//! connection's *turn* is what it reads and handles in one poll, and ends after [`TURN`]. Once a tick has lasted
//! [`TICK`], connections that take more than their share of the thread queue for the next one, behind light connections
//! that missed their turn too. So a light client waits for at most one tick and the longest single message, whatever
//! others send and however many they are.
//!
//! Nothing here reads a clock or does a connection's work.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::share::Share;

/// How long a connection reads and handles messages before others get their turn. It finishes the message it is at,
/// which adds up to 1 ms to inflate 1 MiB, or a little more to parse the widest filters.
pub const TURN: Duration = Duration::from_micros(500);

/// For how long turns begin in one tick. Checking the sockets costs 1 to 2 µs, so this spends 0.2 % on it.
const TICK: Duration = Duration::from_millis(1);

/// The same for connections that take less than their share.
const LIGHT_TICK: Duration = Duration::from_millis(4);

/// A connection that takes more than 1/16 of its thread's time is heavy: it queues when others do.
const SHARES: u32 = 16;

/// What a connection may take at once after a pause and still be light: four turns.
const CREDIT: Duration = Duration::from_millis(2);

/// Connections called in one tick: as many as tokio's `LocalSet` polls in one round.
const CALLED: usize = 61;

/// How many ticks in a row light connections may use up. In the next one, the first heavy connection has a turn
/// regardless.
const MAX_PASSED_OVER: u8 = 8;

/// The queue of one io thread. Each connection is in it at most once, so their number is its bound.
#[derive(Debug)]
pub struct Turns {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    tick_began: Instant,
    line: VecDeque<Rc<Place>>,
    /// Light ones that came after this tick was used up.
    unserved_light: Vec<Rc<Place>>,
    /// Heavy ones that were called in this tick after it was used up.
    unserved: Vec<Rc<Place>>,
    /// Those that had a turn in this tick and want another.
    served: Vec<Rc<Place>>,
    /// The thread's root task, which begins each tick.
    root: Option<Waker>,
    /// The root task has been woken for the next tick.
    is_root_woken: bool,
    /// A heavy connection had a turn in this tick.
    has_served: bool,
    /// How many ticks in a row no called heavy connection had a turn.
    passed_over: u8,
    /// Nobody has a turn.
    is_paused: bool,
}

/// One connection's place.
#[derive(Debug)]
pub struct Place {
    waker: RefCell<Option<Waker>>,
    stands_in_line: Cell<bool>,
    called: Cell<bool>,
    share: Share,
}

impl Place {
    /// The place of a new connection.
    #[must_use]
    pub fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            waker: RefCell::new(None),
            stands_in_line: Cell::new(false),
            called: Cell::new(false),
            share: Share::new(SHARES, CREDIT, now),
        })
    }

    /// Counts the thread's time that a poll took.
    pub fn spent(&self, began: Instant, now: Instant) {
        self.share.spent(began, now);
    }

    fn is_light(&self, now: Instant) -> bool {
        !self.share.is_used_up(now)
    }
}

impl Turns {
    /// An empty queue.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let inner = Inner {
            tick_began: now,
            line: VecDeque::new(),
            unserved_light: Vec::new(),
            unserved: Vec::new(),
            served: Vec::new(),
            root: None,
            is_root_woken: false,
            has_served: false,
            passed_over: 0,
            is_paused: false,
        };
        Self { inner: RefCell::new(inner) }
    }

    /// Begins a tick. The root task of the thread, which is polled first in each, calls this.
    pub fn begin_tick(&self, now: Instant, root: &Waker) {
        let mut inner = self.inner.borrow_mut();
        inner.tick_began = now;
        inner.is_root_woken = false;
        if !inner.root.as_ref().is_some_and(|own| own.will_wake(root)) {
            inner.root = Some(root.clone());
        }
        if inner.is_paused {
            return;
        }
        let has_served = std::mem::take(&mut inner.has_served);
        inner.passed_over =
            if has_served || inner.unserved.is_empty() { 0 } else { inner.passed_over.saturating_add(1) };
        let Inner { line, unserved_light, unserved, served, .. } = &mut *inner;
        unserved.drain(..).rev().for_each(|place| line.push_front(place));
        unserved_light.drain(..).rev().for_each(|place| line.push_front(place));
        line.extend(served.drain(..));
        let count = line.len().min(CALLED);
        for place in line.drain(..count) {
            place.stands_in_line.set(false);
            place.called.set(true);
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
        if !inner.line.is_empty() {
            inner.wake_root();
        }
    }

    /// Whether the connection of `place` may have a turn now. If not, it is queued and woken for its turn.
    pub fn may_begin(&self, place: &Rc<Place>, now: Instant, cx: &Context<'_>) -> bool {
        if place.stands_in_line.get() {
            return false;
        }
        let mut inner = self.inner.borrow_mut();
        let is_called = place.called.take();
        if inner.is_paused {
            inner.stand(place, cx, List::Served);
            return false;
        }
        let is_light = place.is_light(now);
        if !is_called && !is_light && !inner.is_idle() {
            inner.stand(place, cx, List::Served);
            return false;
        }
        let tick = if is_light { LIGHT_TICK } else { TICK };
        let is_starved = !is_light && !inner.has_served && inner.passed_over >= MAX_PASSED_OVER;
        if now.saturating_duration_since(inner.tick_began) >= tick && !is_starved {
            inner.stand(place, cx, if is_light { List::UnservedLight } else { List::Unserved });
            return false;
        }
        inner.has_served |= !is_light;
        true
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

    /// Queues a connection that has more to do after its turn.
    pub fn line_up(&self, place: &Rc<Place>, cx: &Context<'_>) {
        self.inner.borrow_mut().stand(place, cx, List::Served);
    }
}

/// Where a connection waits until the next tick begins.
#[derive(Clone, Copy)]
enum List {
    UnservedLight,
    Unserved,
    Served,
}

impl Inner {
    /// Whether nothing is queued.
    fn is_idle(&self) -> bool {
        [&self.unserved_light, &self.unserved, &self.served].iter().all(|list| list.is_empty()) && self.line.is_empty()
    }

    fn stand(&mut self, place: &Rc<Place>, cx: &Context<'_>, list: List) {
        place.stands_in_line.set(true);
        *place.waker.borrow_mut() = Some(cx.waker().clone());
        let list = match list {
            List::UnservedLight => &mut self.unserved_light,
            List::Unserved => &mut self.unserved,
            List::Served => &mut self.served,
        };
        list.push(Rc::clone(place));
        if !self.is_paused {
            self.wake_root();
        }
    }

    /// Waking the root task costs a system call, so it is done once per tick.
    fn wake_root(&mut self) {
        if !std::mem::replace(&mut self.is_root_woken, true)
            && let Some(root) = &self.root
        {
            root.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ws::testing::Wakes;

    /// One io thread whose time is told, and who was woken.
    struct Thread {
        turns: Turns,
        now: Instant,
        root: Arc<Wakes>,
    }

    struct Connection {
        place: Rc<Place>,
        woken: Arc<Wakes>,
    }

    impl Thread {
        fn new() -> Self {
            let now = Instant::now();
            Self { turns: Turns::new(now), now, root: Arc::default() }
        }

        fn connection(&self) -> Connection {
            Connection { place: Place::new(self.now), woken: Arc::default() }
        }

        fn tick(&self) {
            self.turns.begin_tick(self.now, &Waker::from(Arc::clone(&self.root)));
        }

        /// A poll that wants a turn of `took` and has more to do: whether it got it.
        fn poll(&mut self, connection: &Connection, took: Duration) -> bool {
            let waker = Waker::from(Arc::clone(&connection.woken));
            let cx = Context::from_waker(&waker);
            let began = self.now;
            if !self.turns.may_begin(&connection.place, began, &cx) {
                return false;
            }
            self.now += took;
            connection.place.spent(began, self.now);
            self.turns.line_up(&connection.place, &cx);
            true
        }

        fn roots(&self) -> usize {
            self.root.get()
        }
    }

    impl Connection {
        fn wakes(&self) -> usize {
            self.woken.get()
        }
    }

    const LONG: Duration = Duration::from_millis(7);

    #[test]
    fn a_used_up_tick_is_left_to_light_connections_and_those_without_a_turn_are_first_in_the_next() {
        let mut thread = Thread::new();
        let heavy = [(); 3].map(|()| thread.connection());
        // Each has shown by one long message that it is heavy.
        for one in &heavy {
            one.place.spent(thread.now, thread.now + LONG);
        }
        thread.tick();
        assert_eq!([0, 1, 2].map(|n| thread.poll(&heavy[n], LONG)), [true, false, false]);
        let mut order = Vec::new();
        for _ in 0..5 {
            let before = heavy.each_ref().map(Connection::wakes);
            thread.tick();
            // Whoever was called is polled in the order of the line: those without a turn first.
            let called: Vec<_> = (0..3).filter(|&n| heavy[n].wakes() > before[n]).collect();
            assert_eq!(called, [0, 1, 2], "everybody in line is called");
            let last = order.last().map_or(0, |&last: &usize| last);
            let turn = [1, 2, 0].map(|step| (last + step) % 3).into_iter().filter(|&n| thread.poll(&heavy[n], LONG));
            order.extend(turn.collect::<Vec<_>>());
        }
        assert_eq!(order, [1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_light_connection_is_served_in_the_tick_in_which_heavy_ones_line_up() {
        let mut thread = Thread::new();
        let (heavy, light) = (thread.connection(), thread.connection());
        heavy.place.spent(thread.now, thread.now + LONG);
        thread.tick();
        assert!(thread.poll(&heavy, Duration::from_millis(2)));
        assert!(!thread.poll(&heavy, LONG), "it stands in line");
        assert!(thread.poll(&light, Duration::from_micros(20)));
        assert_eq!(thread.roots(), 1, "the next tick is asked for once");
    }

    #[test]
    fn nobody_has_a_turn_while_turns_are_paused_and_those_who_asked_have_theirs_afterwards() {
        let mut thread = Thread::new();
        let [early, late] = [(); 2].map(|()| thread.connection());
        thread.tick();
        assert!(thread.poll(&early, TURN));
        thread.turns.pause();
        assert_eq!([&early, &late].map(|one| thread.poll(one, TURN)), [false, false]);
        let roots = thread.roots();
        thread.tick();
        assert_eq!(([&early, &late].map(Connection::wakes), thread.roots()), ([0, 0], roots), "no tick is asked for");
        thread.turns.resume();
        assert_eq!(thread.roots(), roots + 1);
        thread.tick();
        assert_eq!([&early, &late].map(|one| (one.wakes(), thread.poll(one, TURN))), [(1, true); 2]);
    }

    #[test]
    fn a_heavy_connection_alone_is_served_in_every_tick() {
        let mut thread = Thread::new();
        let heavy = thread.connection();
        for turns in 1..50 {
            thread.tick();
            assert!(thread.poll(&heavy, TURN));
            assert_eq!(thread.roots(), turns);
        }
    }

    #[test]
    fn light_connections_have_turns_for_four_milliseconds_of_a_tick_and_the_rest_are_first_in_the_next() {
        let mut thread = Thread::new();
        let light = [(); 6].map(|()| thread.connection());
        thread.tick();
        let scan = Duration::from_millis(1);
        assert_eq!(light.each_ref().map(|one| thread.poll(one, scan)), [true, true, true, true, false, false]);
        thread.tick();
        assert_eq!([4, 5].map(|n| (light[n].wakes(), thread.poll(&light[n], scan))), [(1, true); 2]);
    }

    #[test]
    fn one_in_line_is_not_passed_over_for_ever_however_many_are_light() {
        let mut thread = Thread::new();
        let heavy = thread.connection();
        heavy.place.spent(thread.now, thread.now + Duration::from_secs(9));
        let served = (0..20).map(|_| {
            thread.tick();
            thread.now += LIGHT_TICK;
            thread.poll(&heavy, TURN)
        });
        let served: Vec<bool> = served.collect();
        assert_eq!(served.iter().filter(|served| **served).count(), 2, "{served:?}");
    }

    #[test]
    fn however_many_heavy_ones_are_in_line_a_tick_that_is_used_up_serves_no_more_of_them() {
        let mut thread = Thread::new();
        let heavy: Vec<Connection> = (0..40).map(|_| thread.connection()).collect();
        heavy.iter().for_each(|one| one.place.spent(thread.now, thread.now + Duration::from_secs(9)));
        for _ in 0..400 {
            thread.tick();
            let served = heavy.iter().map(|one| thread.poll(one, LONG)).filter(|served| *served).count();
            assert_eq!(served, 1, "a message used the tick up");
        }
        // A light one that came when a tick was used up is the first in the next.
        let light = thread.connection();
        thread.tick();
        thread.now += LIGHT_TICK;
        assert!(!thread.poll(&light, TURN));
        thread.tick();
        assert_eq!((light.wakes(), thread.poll(&light, TURN)), (1, true));
    }

    #[test]
    fn a_share_of_the_thread_taken_slowly_is_light() {
        let mut thread = Thread::new();
        let one = thread.connection();
        for _ in 0..1_000 {
            one.place.spent(thread.now, thread.now + TURN);
            thread.now += TURN * SHARES;
            assert!(one.place.is_light(thread.now));
        }
    }
}
