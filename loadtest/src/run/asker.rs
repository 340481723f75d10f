//! A connection that asks and is answered, in a closed or an open loop.
//!
//! It must never ask before the phase's clock starts, whatever the relay sends first, and never know what it asks.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::context::{Actor, Context};
use super::kill::KillTrigger;
use super::meter::{Meter, Metered};
use super::progress::{Progress, Stop};
use super::ticker::{Goal, Ticker};
use crate::account::{Account, Finding, Replay};
use crate::latency::Latency;
use crate::pace::{Pacer, Schedule};
use crate::wire::link::{Handler, Link};
use crate::wire::message::{Message, parse};

/// The questions of a connection and the handling of their answers.
pub trait Work: 'static {
    /// The connection's name in messages.
    const NAME: &'static str;
    /// The finding for an unanswered question on a connection that stayed open.
    const UNANSWERED: Finding;

    /// Questions that are sent and not answered.
    fn unanswered(&self) -> usize;

    /// Appends the next question to `out`; false if there is none left.
    fn ask(&mut self, intended: Instant, out: &mut Vec<u8>) -> bool;

    /// Takes a message; frames to send in response are appended to `out`.
    fn take(&mut self, message: Message<'_>, at: Instant, out: &mut Vec<u8>) -> MessageRole;

    /// Forgets all unanswered questions and returns them; call it when the phase or the connection ends.
    fn abandon(&mut self) -> Vec<Unanswered>;
}

/// A question without an answer.
pub struct Unanswered {
    /// What it was, in words.
    pub text: String,
    /// The number of its connection within its kind, and the message that was sent.
    pub replay: Replay,
}

/// The role of a message in the work of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRole {
    /// An answer or a part of one.
    Answer,
    /// A message that answers no question.
    Aside,
    /// A message that does not belong on a connection of this kind.
    Unexpected,
}

/// The counters that all such connections of a phase share.
#[derive(Default)]
pub struct Answers {
    /// Answers that came.
    pub answered: Cell<u64>,
    /// From the intended send to the answer.
    pub latency: RefCell<Latency>,
    /// The same since the last sample.
    pub window: RefCell<Latency>,
    /// Open loop: how late the generator was for a question.
    pub lag: RefCell<Latency>,
    /// Open loop: how long a question then waited because too many before it were unanswered.
    pub backlog: RefCell<Latency>,
}

impl Answers {
    /// Counts one answer.
    pub fn add(&self, latency: Duration) {
        self.latency.borrow_mut().record(latency);
        self.window.borrow_mut().record(latency);
        add(&self.answered, 1);
    }
}

/// How the connections of a phase ask.
#[derive(Clone)]
pub struct AskOptions {
    /// Where findings go.
    pub account: Rc<Account>,
    /// Where answers are counted.
    pub answers: Rc<Answers>,
    /// Tells when the phase is over.
    pub progress: Rc<Progress>,
    /// Whether the user stopped the run.
    pub stop: Rc<Stop>,
    /// Most questions that are unanswered at a time.
    pub in_flight: usize,
    /// Ask the next question as soon as one is answered; otherwise when it is due.
    pub closed_loop: bool,
    /// Closed loop: how long to ask.
    pub length: Option<Duration>,
    /// How many answers the phase ends with, if that is known.
    pub goal: Option<u64>,
    /// Kills the relay in the middle.
    pub trigger: Option<Rc<KillTrigger>>,
}

impl AskOptions {
    /// A closed loop without limits but the run's own, with the answers counted in `answers`.
    pub fn new(context: &Context, account: &Rc<Account>, answers: &Rc<Answers>, progress: &Rc<Progress>) -> Self {
        Self {
            account: account.clone(),
            answers: answers.clone(),
            progress: progress.clone(),
            stop: context.stop.clone(),
            in_flight: context.max_in_flight,
            closed_loop: true,
            length: None,
            goal: None,
            trigger: None,
        }
    }
}

/// Where a connection is in its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The clock has not started: nothing is asked.
    Waiting,
    Asking,
    /// Nothing more is asked.
    Ended,
    /// The connection is gone.
    Lost,
}

/// A question that is due, and when the generator noticed it.
struct DueQuestion {
    intended: Instant,
    noticed: Instant,
}

/// The state of a connection that asks.
pub struct Asker<W> {
    terms: AskOptions,
    /// The questions.
    pub work: W,
    stage: Stage,
    deadline: Option<Instant>,
    due: VecDeque<DueQuestion>,
    out: Vec<u8>,
    finished: bool,
}

impl<W: Work> Asker<W> {
    /// A connection that waits for [`Self::start`].
    pub fn new(terms: AskOptions, work: W) -> Self {
        let (due, out) = (VecDeque::new(), Vec::new());
        Self { terms, work, stage: Stage::Waiting, deadline: None, due, out, finished: false }
    }

    /// The clock has started: asks as much as it may.
    pub fn start(&mut self, link: &Link, now: Instant) {
        if self.stage == Stage::Waiting {
            self.stage = Stage::Asking;
            self.deadline = self.terms.length.map(|length| now + length);
            self.fill(link, now);
        }
    }

    /// Open loop: asks what was due at `intended`, at once unless too much is unanswered.
    pub fn send_due(&mut self, link: &Link, intended: Instant) {
        if self.stage != Stage::Asking {
            return;
        }
        let noticed = Instant::now();
        self.terms.answers.lag.borrow_mut().record(noticed.saturating_duration_since(intended));
        self.due.push_back(DueQuestion { intended, noticed });
        self.fill(link, noticed);
    }

    /// Open loop: nothing more will be due.
    pub fn end(&mut self) {
        if self.stage == Stage::Asking {
            self.stage = Stage::Ended;
        }
        self.check_finished();
    }

    /// Counts the unanswered questions; call it when the phase is over.
    pub fn count_unanswered(&mut self) {
        let unanswered = self.work.abandon();
        let unsent = std::mem::take(&mut self.due).len();
        self.terms.account.note_many(W::UNANSWERED, unsent as u64, || format!("{unsent} could not be sent in time"));
        for Unanswered { text, replay } in unanswered {
            self.terms.account.keep_replay(W::UNANSWERED, || replay);
            self.terms.account.note(W::UNANSWERED, || text);
        }
    }

    fn fill(&mut self, link: &Link, now: Instant) {
        if self.terms.closed_loop {
            self.fill_closed(now);
        } else {
            self.fill_open(now);
        }
        if !self.out.is_empty() {
            link.send(&self.out);
            self.out.clear();
        }
        self.check_finished();
    }

    fn fill_closed(&mut self, now: Instant) {
        if self.terms.stop.is_set() || self.deadline.is_some_and(|deadline| now >= deadline) {
            self.end();
        }
        while self.stage == Stage::Asking && self.work.unanswered() < self.terms.in_flight {
            if !self.work.ask(now, &mut self.out) {
                self.stage = Stage::Ended;
            }
        }
    }

    fn fill_open(&mut self, now: Instant) {
        while self.stage != Stage::Lost
            && self.work.unanswered() < self.terms.in_flight
            && let Some(DueQuestion { intended, noticed }) = self.due.pop_front()
        {
            self.terms.answers.backlog.borrow_mut().record(now.saturating_duration_since(noticed));
            self.work.ask(intended, &mut self.out);
        }
    }

    fn check_finished(&mut self) {
        let is_over = match self.stage {
            Stage::Waiting | Stage::Asking => false,
            Stage::Ended => self.due.is_empty() && self.work.unanswered() == 0,
            Stage::Lost => true,
        };
        if is_over && !std::mem::replace(&mut self.finished, true) {
            self.terms.progress.finish();
        }
    }
}

impl<W: Work> Handler for Asker<W> {
    fn message(&mut self, _link: &Link, text: &[u8], at: Instant) {
        match parse(text) {
            Ok(Message::Notice(text)) => self.terms.account.notice(&text),
            Ok(Message::Other) => {}
            Ok(message) => match self.work.take(message, at, &mut self.out) {
                MessageRole::Answer => {
                    self.terms.progress.touch(at);
                    self.terms.trigger.iter().for_each(|trigger| trigger.answered());
                }
                MessageRole::Aside => {}
                MessageRole::Unexpected => self.terms.account.malformed(&format!("on a {}", W::NAME), text),
            },
            Err(reason) => self.terms.account.malformed(reason, text),
        }
    }

    fn batch_end(&mut self, link: &Link, _at: Instant) {
        if self.stage != Stage::Waiting {
            // Not the time of the read: checking what was read is this tool's work, and no part of the next latency.
            self.fill(link, Instant::now());
        }
    }

    fn closed(&mut self, reason: &str, asked: bool) {
        if asked {
            return;
        }
        let unanswered = self.work.abandon().len();
        self.due.clear();
        self.stage = Stage::Lost;
        // The connection of a relay that this tool killed is nobody's fault.
        if !self.terms.trigger.as_ref().is_some_and(|trigger| trigger.has_fired()) {
            let text = || format!("a {}, with {unanswered} unanswered: {reason}", W::NAME);
            self.terms.account.note(Finding::LostConnection, text);
        }
        self.check_finished();
    }
}

/// Opens one connection for each work; one that fails is a fault, and nobody waits for it.
pub async fn open<W: Work>(
    context: &Context,
    terms: &AskOptions,
    works: impl Iterator<Item = W>,
) -> Vec<Actor<Asker<W>>> {
    let states = works.map(|work| Asker::new(terms.clone(), work));
    context.open_all(states, &terms.account, &terms.progress).await
}

/// A number of questions at a fixed rate.
pub struct OpenLoop {
    /// Per second.
    pub rate: f64,
    /// Messages in all.
    pub count: usize,
}

/// Runs a phase over its open connections, to the end of the answers, and closes them.
///
/// # Errors
/// If the system gives no timer.
pub async fn measure<W: Work>(
    context: &Context,
    actors: &[Actor<Asker<W>>],
    open_loop: Option<OpenLoop>,
    progress: &Progress,
) -> Result<Metered> {
    let meter = Meter::start(&context.watched, &context.traffic);
    progress.begin(meter.started());
    start_all(actors, meter.started());
    let ticker = actors.first().and_then(|actor| {
        let AskOptions { goal, length, answers, .. } = actor.state.borrow().terms.clone();
        Ticker::start(context, Goal { answers: goal, length }, move || answers.answered.get())
    });
    if let Some(OpenLoop { rate, count }) = open_loop {
        let schedule = Schedule { start: meter.started(), rate };
        pace(context, actors, schedule, count, |_, _| ()).await?;
    }
    progress.wait(context.stall).await;
    drop(ticker);
    let metered = meter.stop(progress, &context.watched, &context.traffic);
    for actor in actors {
        actor.state.borrow_mut().count_unanswered();
        actor.link.close();
    }
    Ok(metered)
}

/// Lets every connection ask from now on.
pub fn start_all<W: Work>(actors: &[Actor<Asker<W>>], now: Instant) {
    actors.iter().for_each(|actor| actor.state.borrow_mut().start(&actor.link, now));
}

/// Lets the connections ask in turn, `count` times on schedule; `before` is called before each question with the time
/// at which it was due.
///
/// # Errors
/// If the system gives no timer.
pub async fn pace<W: Work>(
    context: &Context,
    actors: &[Actor<Asker<W>>],
    schedule: Schedule,
    count: usize,
    mut before: impl FnMut(&W, Instant),
) -> Result<()> {
    let pacer = Pacer::new()?;
    for number in 0..count {
        let all_lost = actors.iter().all(|actor| actor.state.borrow().stage == Stage::Lost);
        if all_lost || context.stop.is_set() {
            break;
        }
        let intended = schedule.moment(number as u64);
        pacer.until(intended).await;
        let Actor { link, state } = &actors[number % actors.len()];
        if state.borrow().stage == Stage::Asking {
            before(&state.borrow().work, intended);
            state.borrow_mut().send_due(link, intended);
        }
        if number % 8 == 7 {
            tokio::task::yield_now().await;
        }
    }
    actors.iter().for_each(|actor| actor.state.borrow_mut().end());
    Ok(())
}

/// Adds to a counter.
pub fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}
