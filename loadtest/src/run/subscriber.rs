//! One subscribing connection: live events, each expected on known subscriptions exactly once.
//!
//! It must never ask for anything after its subscriptions are open.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use super::asker::add;
use super::bodies::Bodies;
use super::context::Context;
use super::progress::Progress;
use crate::account::{Account, Deliveries, Delivery, Finding, Replay};
use crate::corpus::event::Verifier;
use crate::corpus::library::Library;
use crate::latency::Latency;
use crate::wire::link::{Handler, Link};
use crate::wire::message::{Message, event_id, parse};

/// When each event of the phase was due to be sent.
pub struct Timeline {
    first: u32,
    moments: RefCell<Vec<Option<Instant>>>,
}

impl Timeline {
    /// For `events` events from number `first` on.
    pub fn new(first: u32, events: usize) -> Rc<Self> {
        Rc::new(Self { first, moments: RefCell::new(vec![None; events]) })
    }

    /// The event of this number was due at `moment`.
    pub fn sent(&self, number: u32, moment: Instant) {
        if let Some(at) = self.position(number) {
            self.moments.borrow_mut()[at] = Some(moment);
        }
    }

    /// When the event at this position was due, if it was sent.
    pub fn moment(&self, position: usize) -> Option<Instant> {
        self.moments.borrow().get(position).copied().flatten()
    }

    /// The position in the phase of an event, if it belongs to it.
    pub fn position(&self, number: u32) -> Option<usize> {
        let at = number.checked_sub(self.first)? as usize;
        (at < self.moments.borrow().len()).then_some(at)
    }
}

/// The counters that all subscribers of a phase share.
#[derive(Default)]
pub struct Tally {
    /// Events delivered for the first time.
    pub delivered: Cell<u64>,
    /// Stored rows before EOSE.
    pub stored: Cell<u64>,
    /// Valid live events that this run did not publish.
    pub foreign: Cell<u64>,
    /// Subscriptions that saw their EOSE.
    pub open: Cell<u64>,
    /// From the moment an event was due to its delivery.
    pub latency: RefCell<Latency>,
    /// The same since the last sample.
    pub window: RefCell<Latency>,
}

/// How a subscriber works.
#[derive(Clone)]
pub struct Rules {
    /// The events.
    pub library: Rc<Library>,
    /// Compares events with the published ones.
    pub bodies: Rc<Bodies>,
    /// Verifies events from elsewhere.
    pub verifier: Rc<Verifier>,
    /// The relay holds only events of this run.
    pub exclusive: bool,
    /// Where findings go.
    pub account: Rc<Account>,
    /// Where counts go.
    pub tally: Rc<Tally>,
    /// The expected and the received deliveries.
    pub deliveries: Rc<RefCell<Deliveries>>,
    /// When events were due.
    pub timeline: Rc<Timeline>,
    /// The filter of each subscription as JSON; empty where nothing is expected on them.
    pub filters: Rc<Vec<String>>,
    /// Tells when the subscriptions are open.
    pub opened: Rc<Progress>,
    /// Tells when the deliveries are complete.
    pub progress: Rc<Progress>,
}

impl Rules {
    /// Subscribers that must receive `deliveries`, with new counters.
    pub fn new(
        context: &Context,
        account: &Rc<Account>,
        deliveries: Deliveries,
        timeline: Rc<Timeline>,
        opened: &Rc<Progress>,
        progress: &Rc<Progress>,
    ) -> Self {
        Self {
            library: context.library.clone(),
            bodies: context.bodies.clone(),
            verifier: context.verifier.clone(),
            exclusive: context.exclusive,
            account: account.clone(),
            tally: Rc::default(),
            deliveries: Rc::new(RefCell::new(deliveries)),
            timeline,
            filters: Rc::default(),
            opened: opened.clone(),
            progress: progress.clone(),
        }
    }
}

/// The state of one connection.
pub struct Subscriber {
    rules: Rules,
    /// Number of the first subscription in [`Deliveries`].
    base: usize,
    eose: Vec<bool>,
    remaining: u64,
    guess: u32,
    /// A client that stops reading: the relay may close it, and the phase does not wait for it.
    slow: bool,
    gone: bool,
    finished: bool,
}

impl Subscriber {
    /// A connection with `subscriptions` subscriptions that must receive `remaining` deliveries.
    pub fn new(rules: Rules, base: usize, subscriptions: usize, remaining: u64, slow: bool) -> Self {
        let guess = rules.timeline.first;
        let eose = vec![false; subscriptions];
        Self { rules, base, eose, remaining, guess, slow, gone: false, finished: false }
    }

    /// What it takes to see a fault of subscription `sub` again: the REQ, then the events that follow it.
    pub fn replay<'e>(&self, sub: usize, events: impl Iterator<Item = &'e [u8]>) -> Replay {
        let filters = &self.rules.filters;
        let req = filters.get(sub).map(|filter| format!("[\"REQ\",\"s{}\",{filter}]", sub - self.base));
        let events = events.map(|event| format!("[\"EVENT\",{}]", String::from_utf8_lossy(event)));
        Replay {
            connection: self.base / self.eose.len().max(1),
            frames: req.into_iter().chain(events).collect(),
            ..Replay::default()
        }
    }

    /// Counts this connection as finished if it has everything; call it once when publishing starts.
    pub fn begin(&mut self) {
        self.check_finished();
    }

    /// Fewer events were published than planned.
    pub fn expect_less(&mut self, remaining: u64) {
        self.remaining = remaining;
        self.check_finished();
    }

    /// Whether the relay closed this connection.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether it stopped reading.
    pub fn is_slow(&self) -> bool {
        self.slow
    }

    /// Numbers of its subscriptions in [`Deliveries`].
    pub fn subscriptions(&self) -> std::ops::Range<usize> {
        self.base..self.base + self.eose.len()
    }

    fn check_finished(&mut self) {
        if self.remaining == 0 && !self.finished {
            self.finished = true;
            if !self.slow {
                self.rules.progress.finish();
            }
        }
    }

    fn local(&self, sub: &str) -> Option<usize> {
        let local: usize = sub.strip_prefix('s')?.parse().ok()?;
        (local < self.eose.len()).then_some(local)
    }

    fn event(&mut self, sub: &str, event: &[u8], at: Instant) {
        let rules = &self.rules;
        let Some(local) = self.local(sub) else {
            return rules.account.note(Finding::WrongDelivery, || format!("on {sub}, which was never opened"));
        };
        let Some(id) = event_id(event) else {
            return rules.account.malformed("an event without id", event);
        };
        let library = &rules.library;
        let guess = (self.guess as usize) < library.len() && *library.id(self.guess) == id;
        let number = if guess { Some(self.guess) } else { library.find(&id) };
        let position = number.and_then(|number| rules.timeline.position(number));
        let (Some(number), Some(position)) = (number, position) else {
            return self.other(sub, local, number, event);
        };
        self.guess = number + 1;
        rules.bodies.check(number, event, &rules.account);
        match rules.deliveries.borrow_mut().receive(self.base + local, position) {
            Delivery::First => {
                let due = rules.timeline.moment(position).unwrap_or(at);
                let latency = at.saturating_duration_since(due);
                if !self.slow {
                    rules.tally.latency.borrow_mut().record(latency);
                    rules.tally.window.borrow_mut().record(latency);
                }
                add(&rules.tally.delivered, 1);
                self.remaining = self.remaining.saturating_sub(1);
            }
            Delivery::Repeated => self.note(Finding::DuplicateDelivery, local, number, "came twice"),
            Delivery::Wrong => self.note(Finding::WrongDelivery, local, number, "does not match the filter"),
        }
    }

    /// Notes a delivery that should not have been.
    fn note(&self, finding: Finding, local: usize, number: u32, why: &str) {
        let Rules { account, library, .. } = &self.rules;
        let id = || faster_hex::hex_string(library.id(number));
        account.keep_replay(finding, || Replay {
            extra: vec![id()],
            ..self.replay(self.base + local, std::iter::once(library.json(number)))
        });
        account.note(finding, || format!("{} on s{local} {why}", id()));
    }

    /// Handles an event that is not of this phase: a stored row, a corpus event that should not be delivered live, or a
    /// foreign event.
    fn other(&self, sub: &str, local: usize, number: Option<u32>, event: &[u8]) {
        let rules = &self.rules;
        let outcome = match number {
            Some(number) => {
                rules.bodies.check(number, event, &rules.account);
                Ok(())
            }
            None => rules.verifier.check(event).map(|_| ()),
        };
        if let Err(error) = outcome {
            let text = || format!("on {sub}: {error:#}: {}", String::from_utf8_lossy(event));
            return rules.account.note(Finding::ForgedEvent, text);
        }
        if number.is_none() && rules.exclusive {
            rules.account.note(Finding::ForeignEvent, || format!("on {sub}: {}", String::from_utf8_lossy(event)));
        }
        match (self.eose[local], number) {
            (false, _) => add(&rules.tally.stored, 1),
            (true, None) => add(&rules.tally.foreign, 1),
            (true, Some(number)) => {
                self.note(Finding::WrongDelivery, local, number, "was not published in this phase");
            }
        }
    }

    fn eose(&mut self, sub: &str) {
        let Some(local) = self.local(sub).filter(|&local| !self.eose[local]) else {
            return self.rules.account.note(Finding::StrayEose, || format!("on {sub}"));
        };
        self.eose[local] = true;
        add(&self.rules.tally.open, 1);
        if self.eose.iter().all(|&seen| seen) {
            self.rules.opened.finish();
        }
    }
}

impl Handler for Subscriber {
    fn message(&mut self, _link: &Link, text: &[u8], at: Instant) {
        let account = self.rules.account.clone();
        match parse(text) {
            Ok(Message::Event { sub, event }) => self.event(&sub, &event, at),
            Ok(Message::Eose { sub }) => self.eose(&sub),
            Ok(Message::Closed { sub, text }) => account.note(Finding::RefusedRequest, || format!("{sub}: {text}")),
            Ok(Message::Notice(text)) => return account.notice(&text),
            Ok(Message::Other) => return,
            Ok(Message::Ok { .. }) => return account.malformed("on a subscriber", text),
            Err(reason) => return account.malformed(reason, text),
        }
        self.rules.progress.touch(at);
        self.rules.opened.touch(at);
    }

    fn batch_end(&mut self, _link: &Link, _at: Instant) {
        self.check_finished();
    }

    fn closed(&mut self, reason: &str, asked: bool) {
        if asked {
            return;
        }
        self.gone = true;
        if !self.slow {
            self.rules.account.note(Finding::LostConnection, || format!("a subscriber: {reason}"));
        }
        if !self.finished && !self.slow {
            self.finished = true;
            self.rules.progress.finish();
        }
    }
}
