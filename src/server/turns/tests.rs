//! Whose turn it is, on a thread whose time is told.

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
    slots: Vec<Option<Rc<TurnState>>>,
}

impl Thread {
    fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(10);
        Self { turns: Turns::new(now), now, root: Arc::default(), ready: Arc::default(), slots: Vec::new() }
    }

    /// A connection that took so much a moment ago, and whose socket is ready now.
    fn connect(&mut self, took: Duration) -> usize {
        let (number, place) = (self.slots.len(), TurnState::new(self.now));
        place.share.spent(self.now.checked_sub(took).expect("it began ten seconds before"), self.now);
        self.slots.push(Some(place));
        self.wake(number);
        number
    }

    fn disconnect(&mut self, number: usize) {
        self.slots[number] = None;
    }

    fn wake(&self, number: usize) {
        self.ready.0.lock().expect("one thread").push_back(number);
    }

    fn tick(&self) {
        self.turns.begin_tick(self.now, &Waker::from(Arc::clone(&self.root)));
    }

    /// A poll that wants a turn of `took`: whether it got it.
    fn poll_once(&mut self, number: usize, took: Duration, has_more: bool) -> bool {
        let Some(place) = self.slots[number].clone() else { return false };
        let waker = Waker::from(Arc::new(Task { number, ready: Arc::clone(&self.ready) }));
        let (cx, began) = (Context::from_waker(&waker), self.now);
        let has_turn = self.turns.begin(&place, began, &cx).is_some();
        if has_turn {
            self.now += took;
        }
        if has_turn && has_more {
            place.line_up(&cx);
        }
        self.turns.end(&place, began, Duration::ZERO, self.now);
        has_turn
    }

    /// The same for a connection that has more to do.
    fn poll(&mut self, number: usize, took: Duration) -> bool {
        self.poll_once(number, took, true)
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
        self.place(number).share.is_used_up(self.now)
    }

    fn place(&self, number: usize) -> &Rc<TurnState> {
        self.slots[number].as_ref().expect("it is connected")
    }

    /// The connections of which `is` is true.
    fn those_that(&self, is: impl Fn(&TurnState) -> bool) -> Vec<usize> {
        let numbers = 0..self.slots.len();
        numbers.filter(|&number| self.slots[number].as_ref().is_some_and(|place| is(place))).collect()
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
fn nobody_has_a_turn_while_turns_are_paused_and_those_who_asked_have_theirs_afterwards() {
    let mut thread = Thread::new();
    let [early, called] = [(); 2].map(|()| thread.connect(LONG));
    assert_eq!(thread.round(LONG), [early]);
    thread.tick();
    thread.turns.pause();
    let late = thread.connect(Duration::ZERO);
    let roots = thread.root.get();
    assert_eq!([(); 3].map(|()| thread.round(TURN)), [[0; 0]; 3]);
    assert_eq!(thread.root.get(), roots, "no tick is asked for");
    thread.turns.resume();
    assert_eq!((thread.root.get(), thread.round(TURN)), (roots + 1, vec![late, called]));
}

#[test]
fn light_connections_have_turns_for_four_milliseconds_of_a_tick_and_the_rest_are_first_in_the_next() {
    let mut thread = Thread::new();
    let _ = [(); 6].map(|()| thread.connect(Duration::ZERO));
    thread.connect(LONG);
    assert_eq!(thread.round(Duration::from_millis(1)), [0, 1, 2, 3]);
    assert_eq!([(); 2].map(|()| thread.round(Duration::from_millis(1))), [vec![4, 5], vec![0]]);
}

#[test]
fn a_light_connection_stands_before_heavy_ones_that_have_waited_for_longer_than_is_remembered() {
    let mut thread = Thread::new();
    let heavy = [(); 3].map(|()| thread.connect(LONG));
    assert_eq!(thread.round(TURN)[0], heavy[0]);
    thread.now += MOST * PARTS * 2;
    thread.tick();
    assert_eq!(thread.next_ready(), Some(heavy[1]));
    // Somebody else uses the tick up by sending.
    thread.now += LIGHT_TICK;
    let light = thread.connect(Duration::ZERO);
    assert_eq!(thread.next_ready().map(|number| thread.poll(number, LIGHT_TURN)), Some(false), "the tick is over");
    thread.poll(heavy[1], TURN);
    assert_eq!(thread.round(LIGHT_TURN)[0], light);
}

#[test]
fn eight_light_ones_are_called_at_once_because_others_may_use_up_every_tick_by_sending() {
    let mut thread = Thread::new();
    thread.connect(LONG);
    thread.tick();
    thread.now += LIGHT_TICK;
    let light = [(); 10].map(|()| thread.connect(Duration::ZERO));
    while let Some(number) = thread.next_ready() {
        assert!(!thread.poll(number, LIGHT_TURN), "the tick is over");
    }
    thread.tick();
    assert_eq!(thread.those_that(TurnState::is_called), light[..8]);
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
fn a_connection_that_ends_in_line_is_called_no_more() {
    let mut thread = Thread::new();
    let _ = [(); 4].map(|()| thread.connect(LONG));
    assert_eq!(thread.round(LONG), [0]);
    (1..3).for_each(|number| thread.disconnect(number));
    assert_eq!([(); 3].map(|()| thread.round(LONG)), [[3], [0], [3]]);
}

type Ending = (&'static str, fn(&mut Thread, usize));

/// What can become of a connection whose turn has come. Each takes the rest of the tick, in which `number` was called.
const ENDINGS: [Ending; 6] = [
    ("it closed, was cancelled, panicked, or timed out: its task has dropped its place", Thread::disconnect),
    ("another place replaced it", |thread, number| thread.slots[number] = Some(TurnState::new(thread.now))),
    ("it is never polled again, although it lives", |_, _| ()),
    ("its task was woken by something else meanwhile", |thread, number| thread.wake(number)),
    ("it is held for its debt: its turn ends at once, and it wants no other", |thread, number| {
        thread.poll_once(number, Duration::ZERO, false);
    }),
    ("its turn took long", |thread, number| {
        thread.poll_once(number, LONG * 100, true);
    }),
];

#[test]
fn whatever_becomes_of_one_that_was_called_the_next_tick_calls_another() {
    for (ending, befalls) in ENDINGS {
        let mut thread = Thread::new();
        let _ = [(); 3].map(|()| thread.connect(LONG));
        assert_eq!(thread.round(LONG), [0]);
        thread.tick();
        assert_eq!(thread.next_ready(), Some(1), "it is called");
        befalls(&mut thread, 1);
        let roots = thread.root.get();
        thread.tick();
        assert!(thread.those_that(TurnState::is_called).contains(&2) && roots > 1, "{ending}");
    }
}

#[test]
fn among_connections_of_any_fate_every_tick_calls_one_that_lives() {
    let mut thread = Thread::new();
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut endings = [0; ENDINGS.len()];
    for _ in 0..20_000 {
        if random(4) == 0 {
            thread.connect(LONG / (1 + random(100) as u32));
        }
        let stood = thread.those_that(|place| place.stands_in_line.get());
        thread.tick();
        let called = thread.those_that(TurnState::is_called);
        assert!(stood.is_empty() || stood.iter().any(|number| called.contains(number)), "{stood:?}, {called:?}");
        while let Some(number) = thread.next_ready() {
            if called.contains(&number) && random(2) == 0 {
                let ending = random(ENDINGS.len());
                endings[ending] += 1;
                ENDINGS[ending].1(&mut thread, number);
            } else {
                thread.poll(number, LONG / (1 + random(1_000) as u32));
            }
        }
    }
    assert!(endings.iter().all(|times| *times > 100), "{endings:?}");
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
            has_served |= thread.poll_once(number, LIGHT_TURN, number == heavy) && number == heavy;
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
    thread.turns.end(thread.place(one), began, LONG.saturating_sub(LIGHT_TURN), thread.now);
    assert!(!thread.is_heavy(one) && thread.poll(other, LIGHT_TURN));
}

#[test]
fn a_share_of_the_thread_taken_slowly_is_light_and_a_second_after_anything_else_it_is_light_again() {
    let mut thread = Thread::new();
    let one = thread.connect(Duration::ZERO);
    for _ in 0..1_000 {
        thread.place(one).share.spent(thread.now, thread.now + LIGHT_TURN);
        thread.now += LIGHT_TURN * PARTS;
        assert!(!thread.is_heavy(one));
    }
    let long = Duration::from_secs(9);
    thread.place(one).share.spent(thread.now, thread.now + long);
    thread.now += long + (MOST.saturating_sub(CREDIT) * PARTS).saturating_sub(Duration::from_nanos(1));
    assert!(thread.is_heavy(one));
    thread.now += Duration::from_nanos(1);
    assert!(!thread.is_heavy(one));
}
