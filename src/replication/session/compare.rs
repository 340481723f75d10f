//! Finding what differs: one window after the other by negentropy, or page by page where the relay does not speak it.

use std::time::Instant;

use super::Session;
use crate::nostr::{Event, EventId, hex};
use crate::pipeline::now;
use crate::replication::comparison::{Comparison, ComparisonError};
use crate::replication::download::Abuse;
use crate::replication::error::SyncError;
use crate::replication::open_window::{OpenComparison, OpenPages};
use crate::replication::pages::{Covered, PAGE_EVENTS, Pages};
use crate::replication::refusal::Refusal;
use crate::replication::remembered::{LocalAbsence, RemoteAbsence};
use crate::replication::report::Side;
use crate::replication::window::Window;

/// Windows that wait to be compared. Halving adds one at each of at most 48 steps, and a part that is too big another.
const MAX_WINDOWS: usize = 1_000;

impl Session<'_> {
    /// Sends the next message of the comparison, or begins with the next window.
    pub(super) fn go_on_comparing(&mut self) -> Result<(), SyncError> {
        if let Some(comparing) = &mut self.comparing {
            if let Some(message) = comparing.next.take() {
                let text = format!("[\"NEG-MSG\",\"{}\",\"{}\"]", comparing.name, hex::encode(&message));
                comparing.since = Instant::now();
                self.connection.send(text)?;
            }
            return Ok(());
        }
        if let Some(reading) = &self.reading {
            return if reading.is_waiting() { Ok(()) } else { self.ask_for_page() };
        }
        let Some(window) = self.windows.pop() else { return Ok(()) };
        if self.speaks_negentropy {
            return self.open(window);
        }
        self.report.by_pages = true;
        self.reading = Some(OpenPages { name: None, pages: Pages::new(window), since: Instant::now() });
        self.ask_for_page()
    }

    /// Opens a negentropy session.
    fn open(&mut self, window: Window) -> Result<(), SyncError> {
        let held = self.held(window)?;
        let was_equal = self.task.remembered().was_equal && !self.task.only_tells;
        self.windows.extend(held.rest);
        let (comparison, message) = Comparison::open(held.records, was_equal);
        let name = self.name('n');
        self.connection.send(self.task.scope.neg_open(&name, held.window, &hex::encode(&message)))?;
        let since = Instant::now();
        self.comparing = Some(OpenComparison { name, window: held.window, comparison, next: None, since });
        // Looking took its time.
        self.progress_at = Instant::now();
        Ok(())
    }

    /// The relay answered a message of a comparison.
    pub(super) fn compared(&mut self, name: &str, message: &[u8]) -> Result<(), SyncError> {
        let Some(comparing) = self.comparing.as_mut().filter(|it| it.name == name && it.is_waiting()) else {
            return self.unasked();
        };
        let answer = match comparing.comparison.answer(message) {
            Ok(answer) => answer,
            Err(ComparisonError::TooMany) => return self.halve(),
            Err(ComparisonError::Malformed(_)) if comparing.is_unanswered() => {
                return self.not_compared(name, "its first negentropy message is malformed");
            }
            Err(error) => return Err(SyncError::Comparison(error)),
        };
        comparing.next = answer.next;
        let is_over = comparing.next.is_none();
        self.report.rounds += 1;
        self.advance();
        if is_over {
            self.end_comparison()?;
        }
        self.missing_there(answer.have);
        self.missing_here(&answer.need)
    }

    fn end_comparison(&mut self) -> Result<Option<Window>, SyncError> {
        let Some(comparing) = self.comparing.take() else { return Ok(None) };
        self.connection.send(format!("[\"NEG-CLOSE\",\"{}\"]", comparing.name))?;
        Ok(Some(comparing.window))
    }

    /// The relay refused a comparison or gave it up.
    pub(super) fn not_compared(&mut self, name: &str, reason: &str) -> Result<(), SyncError> {
        if self.comparing.as_ref().is_none_or(|comparing| comparing.name != name) {
            return Ok(());
        }
        match Refusal::of(reason) {
            Refusal::TooMany => self.halve(),
            refusal => {
                let window = self.end_comparison()?;
                self.windows.extend(window);
                if refusal == Refusal::Other {
                    let text = format!("the relay does not reconcile ({reason}); it is read page by page");
                    self.task.watch.warn(&text);
                    self.speaks_negentropy = false;
                    return Ok(());
                }
                self.try_again(reason)
            }
        }
    }

    /// The window is too big: compares its halves instead. A second that is too big is read page by page.
    fn halve(&mut self) -> Result<(), SyncError> {
        let Some(window) = self.end_comparison()? else { return Ok(()) };
        self.advance();
        match window.halves(now()) {
            Some((newer, older)) if self.windows.len() < MAX_WINDOWS => self.windows.extend([older, newer]),
            _ => {
                self.report.by_pages = true;
                self.reading = Some(OpenPages { name: None, pages: Pages::new(window), since: Instant::now() });
            }
        }
        Ok(())
    }

    fn ask_for_page(&mut self) -> Result<(), SyncError> {
        let name = self.name('p');
        let Some(reading) = &mut self.reading else { return Ok(()) };
        let text = self.task.scope.page(&name, reading.pages.range(), PAGE_EVENTS);
        (reading.name, reading.since) = (Some(name), Instant::now());
        Ok(self.connection.send(text)?)
    }

    /// An event of the page that is being read. Returns whether it belongs there.
    pub(super) fn page_event(&mut self, name: &str, text: &str) -> Result<bool, SyncError> {
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.name.as_deref() == Some(name)) else {
            return Ok(false);
        };
        let event = self.parser.parse(text.as_bytes(), |root| {
            let event = Event::from_value(root.as_array()?.nth(2)?).ok()?;
            Some((event.view().created_at(), event.view().id(), self.task.scope.filter().matches(event.view())))
        });
        // What is no event stops nothing: the import counts it.
        let Some((created_at, id, true)) = event.ok().flatten() else { return Ok(true) };
        let belongs = reading.pages.event(created_at, id).ok_or(Abuse::Flood)?;
        self.downloads.received += u64::from(belongs);
        if belongs && self.task.direction.is_down() && !self.task.only_tells {
            self.asked.add(&[id]).ok_or(Abuse::Flood)?;
        }
        Ok(belongs)
    }

    /// A page ended. Returns whether one was being read by this name.
    pub(super) fn end_page(&mut self, name: &str) -> Result<bool, SyncError> {
        let Some(mut reading) = self.reading.take_if(|reading| reading.name.as_deref() == Some(name)) else {
            return Ok(false);
        };
        self.report.rounds += 1;
        self.advance();
        let turned = reading.pages.turn();
        if let Some(covered) = turned.covered
            && (self.task.direction.is_up() || self.task.only_tells)
        {
            self.covered(covered)?;
        }
        if turned.is_done {
            self.report.overfull += reading.pages.overfull;
        } else {
            reading.name = None;
            self.reading = Some(reading);
        }
        Ok(true)
    }

    /// The page that was being read is to be asked for again. Returns whether there was one.
    pub(super) fn page_refused(&mut self, name: &str) -> bool {
        let reading = self.reading.as_mut().filter(|reading| reading.name.as_deref() == Some(name));
        reading.map(|reading| reading.name = None).is_some()
    }

    /// Compares a range that was read in full.
    fn covered(&mut self, covered: Covered) -> Result<(), SyncError> {
        let mut rest = Some(covered.window);
        while let Some(window) = rest {
            let held = self.held(window)?;
            let ids = held.records.ids_of_all().filter(|id| !covered.ids.contains(id)).collect();
            self.missing_there(ids);
            rest = held.rest;
        }
        if self.task.only_tells {
            self.missing_here(&covered.ids.into_iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// The other relay lacks these events.
    fn missing_there(&mut self, ids: Vec<EventId>) {
        let (mut to_send, noted_at) = (Vec::new(), now());
        let mut remembered = self.task.remembered();
        for id in ids {
            if self.task.only_tells {
                self.task.watch.missing(Side::There, &id);
            } else if remembered.is_refused(&id) {
                // It was there once, and counted as held here.
                remembered.forget(&id);
                continue;
            } else if self.task.direction.is_up() {
                remembered.forget(&id);
                to_send.push(id);
            } else {
                remembered.keep(id, RemoteAbsence::NotSent, noted_at);
            }
            self.report.missing_there += 1;
        }
        drop(remembered);
        self.uploads.add(to_send);
    }

    /// The other relay has these events, and our records lack them.
    fn missing_here(&mut self, ids: &[EventId]) -> Result<(), SyncError> {
        let held = self.task.look().holds(ids)?;
        let (mut to_fetch, noted_at) = (Vec::new(), now());
        let mut remembered = self.task.remembered();
        for (id, held) in ids.iter().zip(held) {
            if self.task.only_tells {
                if held.is_none() {
                    self.report.missing_here += 1;
                    self.task.watch.missing(Side::Here, id);
                }
                continue;
            }
            match held {
                // It is shown there after all, or is not to be shown any more.
                Some(held) => {
                    remembered.forget(id);
                    let reason = if held.is_expired { Some(LocalAbsence::Expired) } else { None };
                    if let Some(reason) = reason.or(held.is_hidden.then_some(LocalAbsence::Vanished)) {
                        remembered.refuse(*id, held.created_at, reason, noted_at);
                    }
                }
                None if remembered.is_refused(id) => {}
                None => {
                    self.report.missing_here += 1;
                    to_fetch.push(*id);
                }
            }
        }
        drop(remembered);
        if self.task.direction.is_down() && !self.task.only_tells {
            let fresh = self.asked.add(&to_fetch).ok_or(Abuse::Invented)?;
            self.downloads.add(fresh);
        }
        Ok(())
    }
}
