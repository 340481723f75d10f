//! Whose turn it is on an io thread.
//!
//! A *tick* is one round of the thread's ready tasks; between two of them the runtime looks at its sockets. A
//! connection's *turn* is what it reads and handles in one poll, and ends after [`TURN`]. Once a tick has lasted
//! [`TICK`], connections that take more than their share of the thread wait in line for the next one, those that had
//! no turn yet first. So a light client waits for one tick and the longest single message, whatever others send.
//!
//! Nothing here reads a clock or does a connection's work.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How long a connection reads and handles messages before others get their turn. The message at hand is finished, so
/// a turn is longer by one message: 1 ms to inflate 1 MiB, more for the widest filters that are allowed.
pub const TURN: Duration = Duration::from_micros(500);

/// How long turns are begun in one tick. A look at the sockets costs 1 to 2 µs, so this spends 0.2 % on them.
const TICK: Duration = Duration::from_millis(1);

/// How long turns are begun in one tick for connections that take less than their share.
const LIGHT_TICK: Duration = Duration::from_millis(4);

/// A connection that takes more than one part in so many of its thread's time waits in line when there is one.
const SHARES: u32 = 16;

/// Time that a connection may take at once, after a pause, and still be light: four turns.
const CREDIT: Duration = Duration::from_millis(2);

/// Places called in one tick: as many tasks as tokio's `LocalSet` runs in one.
const CALLED: usize = 61;

/// Ticks that a place in line may be passed over because others used them up.
const MAX_PASSED_OVER: u8 = 8;

/// The line of one io thread. Each connection stands in it at most once, so its bound is their number.
#[derive(Debug)]
pub struct Turns {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    tick_began: Instant,
    line: VecDeque<Rc<Place>>,
    /// Called in this tick, which was used up before.
    unserved: Vec<Rc<Place>>,
    /// Had a turn in this tick, and want another.
    served: Vec<Rc<Place>>,
    /// The thread's root task, which begins the ticks.
    root: Option<Waker>,
    /// The root task will be polled although it waits for nothing.
    is_root_woken: bool,
}

/// One connection's place.
#[derive(Debug)]
pub struct Place {
    waker: RefCell<Option<Waker>>,
    stands_in_line: Cell<bool>,
    called: Cell<bool>,
    passed_over: Cell<u8>,
    /// When the time that it took would be made up for at its share.
    made_up_at: Cell<Instant>,
}

impl Place {
    /// A place of a connection that took nothing yet.
    #[must_use]
    pub fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            waker: RefCell::new(None),
            stands_in_line: Cell::new(false),
            called: Cell::new(false),
            passed_over: Cell::new(0),
            made_up_at: Cell::new(now),
        })
    }

    /// Counts what a poll took of the thread's time.
    pub fn spent(&self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        self.made_up_at.set(self.made_up_at.get().max(began) + took * SHARES);
    }

    fn is_light(&self, now: Instant) -> bool {
        self.made_up_at.get() <= now + CREDIT * SHARES
    }
}

impl Turns {
    /// A line that nobody stands in.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let inner = Inner {
            tick_began: now,
            line: VecDeque::new(),
            unserved: Vec::new(),
            served: Vec::new(),
            root: None,
            is_root_woken: false,
        };
        Self { inner: RefCell::new(inner) }
    }

    /// Begins a tick: for the root task of the thread, which is polled at the beginning of each.
    pub fn begin_tick(&self, now: Instant, root: &Waker) {
        let mut inner = self.inner.borrow_mut();
        inner.tick_began = now;
        inner.is_root_woken = false;
        if !inner.root.as_ref().is_some_and(|own| own.will_wake(root)) {
            inner.root = Some(root.clone());
        }
        let Inner { line, unserved, served, .. } = &mut *inner;
        unserved.drain(..).rev().for_each(|place| line.push_front(place));
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

    /// Whether the connection of `place` may have a turn now. If not, it stands in line and is woken for its turn.
    pub fn may_begin(&self, place: &Rc<Place>, now: Instant, cx: &Context<'_>) -> bool {
        if place.stands_in_line.get() {
            return false;
        }
        let mut inner = self.inner.borrow_mut();
        let is_called = place.called.take();
        let is_light = place.is_light(now);
        if !is_called && !is_light && !inner.is_idle() {
            inner.stand(place, cx, false);
            return false;
        }
        let tick = if is_light { LIGHT_TICK } else { TICK };
        if now.saturating_duration_since(inner.tick_began) < tick || place.passed_over.get() == MAX_PASSED_OVER {
            place.passed_over.set(0);
            return true;
        }
        place.passed_over.set(place.passed_over.get() + 1);
        inner.stand(place, cx, true);
        false
    }

    /// Puts a connection in line whose turn is over and that has more to do.
    pub fn line_up(&self, place: &Rc<Place>, cx: &Context<'_>) {
        self.inner.borrow_mut().stand(place, cx, false);
    }
}

impl Inner {
    /// Whether nobody waits for the next tick.
    fn is_idle(&self) -> bool {
        self.line.is_empty() && self.unserved.is_empty() && self.served.is_empty()
    }

    fn stand(&mut self, place: &Rc<Place>, cx: &Context<'_>, is_unserved: bool) {
        place.stands_in_line.set(true);
        *place.waker.borrow_mut() = Some(cx.waker().clone());
        let list = if is_unserved { &mut self.unserved } else { &mut self.served };
        list.push(Rc::clone(place));
        self.wake_root();
    }

    /// Waking the root costs a system call: once in a tick is enough.
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One io thread whose time is told, and who was woken.
    struct Thread {
        turns: Turns,
        now: Instant,
        root: Arc<Count>,
    }

    struct Connection {
        place: Rc<Place>,
        woken: Arc<Count>,
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
            self.root.0.load(Ordering::Relaxed)
        }
    }

    impl Connection {
        fn wakes(&self) -> usize {
            self.woken.0.load(Ordering::Relaxed)
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
