//! What a process has been asked and has not answered yet: how many events at a time, which answer belongs to which,
//! and which will not come.
//!
//! Pure: it reads no clock, pipe or process. It holds at most as many events as may be in flight.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::answer::{Answer, AnsweredEvent, Verdict};
use crate::nostr::EventId;
use crate::nostr::json::Parser;

/// Lines that are no answers between two answers, after which a process is given up.
pub const MAX_RUBBISH: u32 = 256;

/// An event that a process is asked about, once or twice: when it dies over several, each is asked about alone.
pub struct Question<C> {
    /// The event.
    pub candidate: C,
    /// Whether a process has died over it.
    pub again: bool,
}

struct InFlight<C> {
    id: EventId,
    asked: Question<C>,
    at: Instant,
}

/// What a line of a process means.
pub enum ProcessLine<C> {
    /// A verdict, or `None` for an action that does not exist.
    Judged {
        /// The event.
        candidate: C,
        /// The verdict.
        verdict: Option<Verdict>,
        /// When the process was asked.
        asked_at: Instant,
        /// Since it was asked, or since its last answer if that was later: the time that this event took of its own.
        spent: Duration,
    },
    /// It answers nothing, for this reason.
    Rubbish(&'static str),
}

/// The questions to one process that have no answer yet, at most `plugin.in_flight`. One for each life of a process.
pub struct Conversation<C> {
    /// The most events in flight.
    limit: usize,
    parser: Parser,
    in_flight: VecDeque<InFlight<C>>,
    /// Whether its answers name events. Until then it is asked about one at a time.
    names_events: bool,
    answered_at: Option<Instant>,
    rubbish: u32,
    /// Answers that came while it was asked about others.
    side_by_side: u32,
}

impl<C> Conversation<C> {
    /// With a process that has been asked nothing yet.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            parser: Parser::default(),
            in_flight: VecDeque::new(),
            names_events: false,
            answered_at: None,
            rubbish: 0,
            side_by_side: 0,
        }
    }

    /// Whether the process owes no answer.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Events in flight.
    pub fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether it has answered anything yet.
    pub const fn has_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// Answers that came while it was asked about others.
    pub const fn side_by_side(&self) -> u32 {
        self.side_by_side
    }

    /// Whether it has printed too much that is no answer.
    pub const fn is_rubbish(&self) -> bool {
        self.rubbish > MAX_RUBBISH
    }

    /// Whether it may be asked about another event now. One that a process died over is alone.
    pub fn may_ask(&self, again: bool) -> bool {
        let limit = if self.names_events { self.limit } else { 1 };
        let is_alone = again || self.in_flight.front().is_some_and(|first| first.asked.again);
        self.in_flight.len() < if is_alone { 1 } else { limit }
    }

    /// Notes that it was asked.
    pub fn ask(&mut self, id: EventId, asked: Question<C>, now: Instant) {
        self.in_flight.push_back(InFlight { id, asked, at: now });
    }

    /// Takes a line that it printed.
    pub fn hear(&mut self, line: &[u8], now: Instant) -> ProcessLine<C> {
        let place = match Answer::parse(&mut self.parser, line) {
            None => Err("it is not an answer"),
            Some(answer) => self.place(answer.about).map(|place| (place, answer.verdict)),
        };
        let found = place.map(|(place, verdict)| (self.in_flight.remove(place), verdict));
        let (InFlight { asked, at, .. }, verdict) = match found {
            Ok((Some(found), verdict)) => (found, verdict),
            Ok((None, _)) => return self.rubbish("it answers nothing"),
            Err(why) => return self.rubbish(why),
        };
        let since = self.answered_at.map_or(at, |answered| answered.max(at));
        if !self.in_flight.is_empty() {
            self.side_by_side = self.side_by_side.saturating_add(1);
        }
        self.answered_at = Some(now);
        self.rubbish = 0;
        ProcessLine::Judged {
            candidate: asked.candidate,
            verdict,
            asked_at: at,
            spent: now.saturating_duration_since(since),
        }
    }

    /// Which event in flight an answer is about.
    fn place(&mut self, about: AnsweredEvent) -> Result<usize, &'static str> {
        match about {
            AnsweredEvent::Id(id) => {
                let place = self.in_flight.iter().position(|one| one.id == id);
                self.names_events |= place.is_some();
                place.ok_or("it is about an event that was not asked about, or is answered already")
            }
            AnsweredEvent::Nothing if self.in_flight.len() == 1 => {
                self.names_events = false;
                Ok(0)
            }
            AnsweredEvent::Nothing => Err("it names no event, and there are several"),
        }
    }

    fn rubbish(&mut self, why: &'static str) -> ProcessLine<C> {
        self.rubbish += 1;
        ProcessLine::Rubbish(why)
    }

    /// When the process has been silent for too long, if it owes an answer.
    pub fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let first = self.in_flight.front()?;
        Some(self.answered_at.map_or(first.at, |answered| answered.max(first.at)) + timeout)
    }

    /// Takes out an event that will not be answered, after an answer to one that was asked about at
    /// `answered_asked_at`.
    ///
    /// A process that takes its events in turn may have a long line, so the age of a request alone says nothing. But
    /// when it was asked about another event a whole `timeout` later and has answered that one, it has skipped this.
    pub fn take_skipped(&mut self, answered_asked_at: Instant, timeout: Duration) -> Option<C> {
        let first = self.in_flight.front()?;
        if first.at + timeout > answered_asked_at {
            return None;
        }
        self.in_flight.pop_front().map(|first| first.asked.candidate)
    }

    /// Takes out everything that is in flight, in the order in which it was asked.
    pub fn take_all(&mut self) -> impl Iterator<Item = Question<C>> {
        std::mem::take(&mut self.in_flight).into_iter().map(|one| one.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn id(number: u8) -> EventId {
        EventId([number; 32])
    }

    fn accept(number: u8) -> String {
        format!(r#"{{"id":"{}","action":"accept"}}"#, format!("{number:02x}").repeat(32))
    }

    struct Scene {
        conversation: Conversation<u8>,
        now: Instant,
    }

    impl Scene {
        fn new(limit: usize) -> Self {
            Self { conversation: Conversation::new(limit), now: Instant::now() }
        }

        fn ask(&mut self, number: u8, again: bool) {
            assert!(self.conversation.may_ask(again));
            self.conversation.ask(id(number), Question { candidate: number, again }, self.now);
        }

        /// The event that the line judges, or why it is rubbish.
        fn hear(&mut self, line: &str) -> Result<u8, &'static str> {
            match self.conversation.hear(line.as_bytes(), self.now) {
                ProcessLine::Judged { candidate, .. } => Ok(candidate),
                ProcessLine::Rubbish(why) => Err(why),
            }
        }

        fn seconds(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn a_process_is_asked_about_several_events_once_it_has_named_one() {
        let mut scene = Scene::new(3);
        scene.ask(1, false);
        assert!(!scene.conversation.may_ask(false));
        assert_eq!(scene.hear(&accept(1)), Ok(1));
        (2..5).for_each(|number| scene.ask(number, false));
        assert!(!scene.conversation.may_ask(false));
        assert_eq!([4, 2, 3].map(|number| scene.hear(&accept(number))), [Ok(4), Ok(2), Ok(3)]);
        assert_eq!((scene.conversation.is_empty(), scene.conversation.side_by_side()), (true, 2));
    }

    #[test]
    fn a_process_that_names_no_event_is_asked_about_one_at_a_time() {
        let mut scene = Scene::new(9);
        for number in 1..4 {
            scene.ask(number, false);
            assert!(!scene.conversation.may_ask(false));
            assert_eq!(scene.hear(r#"{"action":"accept"}"#), Ok(number));
        }
        scene.ask(4, false);
        assert_eq!(scene.hear(&accept(4)), Ok(4));
        (5..7).for_each(|number| scene.ask(number, false));
        assert_eq!(scene.hear(r#"{"action":"accept"}"#), Err("it names no event, and there are several"));
    }

    #[test]
    fn unknown_ids_second_answers_and_other_lines_are_rubbish_and_too_many_end_it() {
        let unknown = "it is about an event that was not asked about, or is answered already";
        let mut scene = Scene::new(9);
        scene.ask(1, false);
        assert_eq!(scene.hear(&accept(7)), Err(unknown));
        assert_eq!(scene.hear("starting up"), Err("it is not an answer"));
        assert_eq!(scene.hear(&accept(1)), Ok(1));
        assert_eq!(scene.hear(&accept(1)), Err(unknown));
        for _ in 1..MAX_RUBBISH {
            assert_eq!(scene.hear("{}"), Err("it is not an answer"));
        }
        assert!(!scene.conversation.is_rubbish());
        assert_eq!(scene.hear("{}"), Err("it is not an answer"));
        assert!(scene.conversation.is_rubbish());
    }

    #[test]
    fn an_event_that_a_process_died_over_is_asked_about_alone() {
        let mut scene = Scene::new(9);
        scene.ask(1, false);
        assert_eq!(scene.hear(&accept(1)), Ok(1));
        scene.ask(2, false);
        assert!(!scene.conversation.may_ask(true) && scene.conversation.may_ask(false));
        assert_eq!(scene.hear(&accept(2)), Ok(2));
        scene.ask(3, true);
        assert!(!scene.conversation.may_ask(true) && !scene.conversation.may_ask(false));
    }

    #[test]
    fn two_events_with_one_id_are_answered_in_turn() {
        let mut scene = Scene::new(9);
        scene.ask(1, false);
        assert_eq!(scene.hear(&accept(1)), Ok(1));
        for candidate in [7, 8] {
            scene.conversation.ask(id(1), Question { candidate, again: false }, scene.now);
        }
        assert_eq!([scene.hear(&accept(1)), scene.hear(&accept(1))], [Ok(7), Ok(8)]);
    }

    #[test]
    fn a_process_that_owes_answers_has_the_timeout_for_each_and_not_for_all() {
        let mut scene = Scene::new(9);
        assert_eq!(scene.conversation.deadline(TIMEOUT), None);
        scene.ask(1, false);
        assert_eq!(scene.conversation.deadline(TIMEOUT), Some(scene.now + TIMEOUT));
        assert_eq!(scene.hear(&accept(1)), Ok(1));
        assert_eq!(scene.conversation.deadline(TIMEOUT), None);
        (2..4).for_each(|number| scene.ask(number, false));
        scene.seconds(9);
        assert_eq!(scene.hear(&accept(2)), Ok(2));
        assert_eq!(scene.conversation.deadline(TIMEOUT), Some(scene.now + TIMEOUT));
    }

    #[test]
    fn an_event_is_skipped_once_one_is_answered_that_was_asked_about_a_timeout_later() {
        let mut scene = Scene::new(9);
        scene.ask(1, false);
        assert_eq!(scene.hear(&accept(1)), Ok(1));
        let began = scene.now;
        for number in 2..5 {
            scene.ask(number, false);
            scene.seconds(5);
        }
        let skipped = |scene: &mut Scene, asked_s: u64| {
            scene.conversation.take_skipped(began + Duration::from_secs(asked_s), TIMEOUT)
        };
        assert_eq!(scene.hear(&accept(3)), Ok(3));
        assert_eq!(skipped(&mut scene, 5), None);
        assert_eq!(scene.hear(&accept(4)), Ok(4));
        assert_eq!([skipped(&mut scene, 10), skipped(&mut scene, 10)], [Some(2), None]);
    }
}
