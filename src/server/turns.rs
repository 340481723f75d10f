//! Whose turn it is on an io thread.
//!
//! A *tick* is one round over the thread's ready tasks. Between two ticks the runtime checks its sockets. A
//! connection's *turn* is what it reads and handles in one poll, and ends after [`TURN`]. Connections that took more
//! than a little of the thread lately stand in line, where whoever took least is called first, one after the other,
//! until the tick has lasted [`TICK`]. The others are served as they come. So a light client waits for at most one tick
//! and the longest single message, whatever others send and however many they are.
//!
//! Nothing here reads a clock or does a connection's work.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;
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

/// How many ticks in a row light connections may use up. In the next one, a heavy connection has a turn regardless.
const MAX_PASSED_OVER: u8 = 8;

/// The line of one io thread. Each connection is in it at most once, so their number is its bound.
#[derive(Debug)]
pub struct Turns {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    tick_began: Instant,
    /// Who waits, by what they took and then by when they came.
    line: BTreeMap<(Instant, u64), Rc<Place>>,
    /// How many ever stood in line.
    stood: u64,
    /// Who was called last and has not been polled since: the tasks that were ready before come first.
    awaited: Option<Rc<Place>>,
    /// The thread's root task, which begins each tick.
    root: Option<Waker>,
    /// The root task has been woken for the next tick.
    is_root_woken: bool,
    /// A heavy connection had a turn in this tick.
    has_served: bool,
    /// How many ticks in a row no heavy connection had a turn while one stood in line.
    passed_over: u8,
}

/// One connection's place.
#[derive(Debug)]
pub struct Place {
    waker: RefCell<Option<Waker>>,
    stands_in_line: Cell<bool>,
    called: Cell<bool>,
    /// It has its turn in this poll.
    has_turn: Cell<bool>,
    /// It has more to do after this poll.
    wants_more: Cell<bool>,
    /// It takes no more turns.
    has_left: Cell<bool>,
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
            has_turn: Cell::new(false),
            wants_more: Cell::new(false),
            has_left: Cell::new(false),
            share: Share::new(PARTS, CREDIT, MOST, now),
        })
    }

    /// Whether the connection was called from the line and has not begun its turn.
    pub const fn is_called(&self) -> bool {
        self.called.get()
    }

    /// Says that the connection takes no more turns: it is closing, and nobody waits for it.
    pub fn leave(&self) {
        self.has_left.set(true);
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
            line: BTreeMap::new(),
            stood: 0,
            awaited: None,
            root: None,
            is_root_woken: false,
            has_served: false,
            passed_over: 0,
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
        let heavy_stands = inner.line.last_key_value().is_some_and(|(_, place)| place.share.is_used_up(now));
        inner.passed_over = if has_served || !heavy_stands { 0 } else { inner.passed_over.saturating_add(1) };
        inner.awaited.take_if(|place| is_gone(place));
        inner.call_next(now);
        if !inner.line.is_empty() {
            inner.wake_root();
        }
        inner.awaited.is_some()
    }

    /// How long a turn the connection of `place` may have now. If none, it stands in line and is woken for its turn.
    pub fn begin(&self, place: &Rc<Place>, now: Instant, cx: &Context<'_>) -> Option<Duration> {
        if place.stands_in_line.get() {
            return None;
        }
        let mut inner = self.inner.borrow_mut();
        let is_called = place.called.take();
        if is_called {
            inner.awaited = None;
        }
        let is_heavy = place.share.is_used_up(now);
        let is_behind_others = is_heavy && (inner.awaited.is_some() || !inner.line.is_empty());
        if !is_called && (is_behind_others || inner.is_over(is_heavy, now)) {
            *place.waker.borrow_mut() = Some(cx.waker().clone());
            inner.stand(place);
            return None;
        }
        inner.has_served |= is_heavy;
        place.has_turn.set(true);
        Some(if is_heavy { TURN } else { LIGHT_TURN })
    }

    /// Ends a poll that began at `began`: counts the thread's time that it took, without what the thread `waited` for a
    /// processor, and calls the next one in line if this one had a turn and there is time left in the tick.
    pub fn end(&self, place: &Rc<Place>, began: Instant, waited: Duration, now: Instant) {
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
            inner.stand(place);
        }
    }
}

impl Inner {
    /// Whether it is too late for another turn in this tick.
    fn is_over(&self, is_heavy: bool, now: Instant) -> bool {
        now.saturating_duration_since(self.tick_began) >= if is_heavy { TICK } else { LIGHT_TICK }
    }

    /// Calls whoever took least of those in line, or of the heavy ones if those were passed over for too long. Only one
    /// is called at a time, and has a turn even if it is polled late.
    fn call_next(&mut self, now: Instant) {
        if self.awaited.is_some() {
            return;
        }
        let place = loop {
            let next = if !self.has_served && self.passed_over >= MAX_PASSED_OVER {
                self.line.range((Excluded((now + CREDIT * PARTS, u64::MAX)), Unbounded)).next()
            } else {
                self.line.first_key_value()
            };
            let Some(place) = next.map(|(key, _)| *key).and_then(|key| self.line.remove(&key)) else { return };
            if !is_gone(&place) {
                break place;
            }
        };
        place.stands_in_line.set(false);
        place.called.set(true);
        if let Some(waker) = place.waker.take() {
            waker.wake();
        }
        self.awaited = Some(place);
    }

    fn stand(&mut self, place: &Rc<Place>) {
        place.stands_in_line.set(true);
        self.stood += 1;
        self.line.insert((place.share.paid_off_at(), self.stood), Rc::clone(place));
        self.wake_root();
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

/// Whether a connection takes no more turns: it has left, or nobody else holds its place.
fn is_gone(place: &Rc<Place>) -> bool {
    place.has_left.get() || Rc::strong_count(place) == 1
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;
    use crate::ws::testing::Wakes;

    /// The tasks that are ready, in order. Waking one puts it there.
    #[derive(Default)]
    struct Ready(Mutex<VecDeque<usize>>);

    struct Task {
        number: usize,
        ready: Arc<Ready>,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.ready.0.lock().expect("one thread").push_back(self.number);
        }
    }

    /// One io thread whose time is told, and its connections by number.
    struct Thread {
        turns: Turns,
        now: Instant,
        root: Arc<Wakes>,
        ready: Arc<Ready>,
        places: Vec<Rc<Place>>,
    }

    impl Thread {
        fn new() -> Self {
            let now = Instant::now() + Duration::from_secs(10);
            Self { turns: Turns::new(now), now, root: Arc::default(), ready: Arc::default(), places: Vec::new() }
        }

        /// A connection that took so much a moment ago, and whose socket is ready now.
        fn connect(&mut self, took: Duration) -> usize {
            let (number, place) = (self.places.len(), Place::new(self.now));
            place.share.spent(self.now.checked_sub(took).expect("it began ten seconds before"), self.now);
            self.places.push(place);
            self.ready.0.lock().expect("one thread").push_back(number);
            number
        }

        fn tick(&self) {
            self.turns.begin_tick(self.now, &Waker::from(Arc::clone(&self.root)));
        }

        /// A poll that wants a turn of `took` and has more to do: whether it got it.
        fn poll(&mut self, number: usize, took: Duration) -> bool {
            let waker = Waker::from(Arc::new(Task { number, ready: Arc::clone(&self.ready) }));
            let (cx, place, began) = (Context::from_waker(&waker), Rc::clone(&self.places[number]), self.now);
            let has_turn = self.turns.begin(&place, began, &cx).is_some();
            if has_turn {
                self.now += took;
                place.line_up(&cx);
            }
            self.turns.end(&place, began, Duration::ZERO, self.now);
            has_turn
        }

        /// A tick in which each turn takes so long: whose they were, in order.
        fn round(&mut self, took: Duration) -> Vec<usize> {
            self.tick();
            let mut served = Vec::new();
            while let Some(number) = self.next_ready() {
                served.extend(self.poll(number, took).then_some(number));
            }
            served
        }

        fn next_ready(&self) -> Option<usize> {
            self.ready.0.lock().expect("one thread").pop_front()
        }

        fn is_heavy(&self, number: usize) -> bool {
            self.places[number].share.is_used_up(self.now)
        }
    }

    const LONG: Duration = Duration::from_millis(7);

    #[test]
    fn whoever_took_least_has_the_first_turn_and_others_follow_while_the_tick_lasts() {
        let mut thread = Thread::new();
        let _ = [3, 1, 2].map(|took_ms| thread.connect(Duration::from_millis(took_ms)));
        assert_eq!(thread.round(TURN), [0], "nobody stood in line when it came; the others are behind it");
        let rounds = [(); 4].map(|()| thread.round(TURN));
        assert_eq!(rounds, [[1, 2], [1, 2], [1, 2], [1, 0]], "until they took as much as it did");
        assert_eq!(thread.root.get(), 5, "each next tick is asked for once");
    }

    #[test]
    fn heavy_ones_that_took_more_than_is_remembered_have_turns_in_a_circle() {
        let mut thread = Thread::new();
        let _ = [(); 3].map(|()| thread.connect(LONG));
        let order: Vec<usize> = (0..7).flat_map(|_| thread.round(LONG)).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_light_connection_is_served_in_the_tick_in_which_heavy_ones_stand_in_line() {
        let mut thread = Thread::new();
        let heavy = [(); 3].map(|()| thread.connect(LONG));
        let light = thread.connect(Duration::ZERO);
        assert_eq!(thread.round(TURN), [heavy[0], light]);
    }

    #[test]
    fn a_heavy_connection_alone_is_served_in_every_tick() {
        let mut thread = Thread::new();
        thread.connect(LONG);
        for ticks in 1..50 {
            assert_eq!((thread.round(TURN), thread.root.get()), (vec![0], ticks));
        }
    }

    #[test]
    fn light_connections_have_turns_for_four_milliseconds_of_a_tick_and_the_rest_are_first_in_the_next() {
        let mut thread = Thread::new();
        let _ = [(); 6].map(|()| thread.connect(Duration::ZERO));
        thread.connect(LONG);
        assert_eq!(thread.round(Duration::from_millis(1)), [0, 1, 2, 3]);
        assert_eq!([(); 2].map(|()| thread.round(Duration::from_millis(1))), [[4], [5]]);
    }

    #[test]
    fn a_newcomer_waits_for_the_first_turns_of_a_crowd_at_most_and_for_none_of_their_second() {
        let mut thread = Thread::new();
        let all = [(); 101].map(|()| thread.connect(Duration::ZERO));
        let mut order = thread.round(LIGHT_TURN);
        assert_eq!(order[..32], all[..32], "they used the tick up");
        assert_eq!(order[32..], [0], "it was called before");
        while order.len() <= all.len() {
            order.extend(thread.round(LIGHT_TURN));
        }
        assert_eq!(order[33..=101], all[32..], "each has its first turn before any other has its second");
        let late = thread.connect(Duration::ZERO);
        assert_eq!(thread.round(LIGHT_TURN)[0], late, "who comes later waits for none of their second turns");
    }

    #[test]
    fn one_who_was_called_has_its_turn_however_many_were_ready_before_it() {
        let mut thread = Thread::new();
        let heavy = thread.connect(LONG);
        assert_eq!(thread.round(TURN), [heavy]);
        thread.tick();
        let called = thread.next_ready();
        // Ticks of light ones that use them up go by before the runtime gets to it.
        for _ in 0..3 {
            thread.tick();
            thread.now += LIGHT_TICK;
        }
        assert_eq!(called.map(|number| thread.poll(number, TURN)), Some(true));
    }

    #[test]
    fn a_connection_that_ends_in_line_or_when_its_turn_has_come_holds_nobody_up() {
        let ends: [fn(&mut Rc<Place>); 2] = [|place| place.leave(), |place| *place = Place::new(Instant::now())];
        for end in ends {
            let mut thread = Thread::new();
            let _ = [(); 3].map(|()| thread.connect(LONG));
            assert_eq!(thread.round(LONG), [0]);
            thread.tick();
            assert_eq!(thread.next_ready(), Some(1), "it is called");
            end(&mut thread.places[1]);
            end(&mut thread.places[2]);
            assert_eq!(thread.round(LONG), [0]);
        }
    }

    #[test]
    fn one_in_line_is_not_passed_over_for_ever_however_many_are_light() {
        let mut thread = Thread::new();
        let heavy = thread.connect(LONG);
        let served = (1..=30).filter(|_| {
            thread.tick();
            thread.now += LIGHT_TICK;
            // A newcomer finds the tick used up, and is called before a heavy one in the next.
            thread.connect(Duration::ZERO);
            let mut has_served = false;
            while let Some(number) = thread.next_ready() {
                has_served |= thread.poll(number, LIGHT_TURN) && number == heavy;
            }
            has_served
        });
        assert_eq!(served.collect::<Vec<_>>(), [9, 18, 27]);
    }

    #[test]
    fn however_many_heavy_ones_are_in_line_a_message_that_uses_the_tick_up_is_the_last_in_it() {
        let mut thread = Thread::new();
        let _ = [(); 40].map(|()| thread.connect(LONG));
        (0..400).for_each(|tick| assert_eq!(thread.round(LONG), [tick % 40]));
    }

    #[test]
    fn what_the_thread_waited_counts_for_nobody_and_is_not_part_of_the_tick() {
        let mut thread = Thread::new();
        let (one, other) = (thread.connect(Duration::ZERO), thread.connect(Duration::ZERO));
        thread.tick();
        let began = thread.now;
        thread.now += LONG;
        thread.turns.end(&thread.places[one], began, LONG.saturating_sub(LIGHT_TURN), thread.now);
        assert!(!thread.is_heavy(one) && thread.poll(other, LIGHT_TURN));
    }

    #[test]
    fn a_share_of_the_thread_taken_slowly_is_light_and_a_second_after_anything_else_it_is_light_again() {
        let mut thread = Thread::new();
        let one = thread.connect(Duration::ZERO);
        for _ in 0..1_000 {
            thread.places[one].share.spent(thread.now, thread.now + LIGHT_TURN);
            thread.now += LIGHT_TURN * PARTS;
            assert!(!thread.is_heavy(one));
        }
        let long = Duration::from_secs(9);
        thread.places[one].share.spent(thread.now, thread.now + long);
        thread.now += long + (MOST.saturating_sub(CREDIT) * PARTS).saturating_sub(Duration::from_nanos(1));
        assert!(thread.is_heavy(one));
        thread.now += Duration::from_nanos(1);
        assert!(!thread.is_heavy(one));
    }
}
