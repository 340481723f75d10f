//! What clients sent and were told, with the times, and what a store must hold because of that.
//!
//! Shares no code with the relay. An acknowledged event must be there, unless something that is there too, or that was
//! sent in time, removes it. What removes must have removed.

use std::collections::{BTreeMap, HashMap};

use crate::support::wire::{Key, Signed};

/// The retention rule of the storms: this many events of kind 7 are kept, the newest.
pub const REACTIONS: usize = 150;

/// What an event is to the others of its author.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Note,
    /// A version of what is held at this address.
    Version(u64),
    /// Of kind 7, so evicted when there are enough newer ones.
    Reaction,
    /// Expires at this unix time.
    Passing(u64),
    /// Deletes the event at this place in the list.
    Deletes(usize),
    /// Deletes the versions at this address so far.
    DeletesAddress(u64),
    /// Requests that all earlier events of the author vanish.
    Vanish,
}

/// An event that was sent.
#[derive(Debug)]
pub struct Entry {
    pub event: Signed,
    pub role: Role,
    pub created_at: u64,
    /// When sending began, in nanoseconds.
    pub sent: u64,
    /// When its answer had been read, whether it was accepted, and the reason.
    pub answer: Option<(u64, bool, String)>,
    /// It was gone after an earlier cut, so it must never be there again.
    pub is_gone: bool,
}

impl Entry {
    /// Whether its acceptance had been read by then.
    fn is_accepted(&self, by: u64) -> bool {
        matches!(self.answer, Some((at, true, _)) if at <= by)
    }

    /// Whether neither a retention rule nor the time up to `until` removes it.
    pub fn is_kept(&self, until: u64) -> bool {
        match self.role {
            Role::Reaction => false,
            Role::Passing(time) => time > until,
            _ => true,
        }
    }

    /// Whether it was refused for good: what could not be confirmed may be stored.
    fn is_refused(&self) -> bool {
        matches!(&self.answer, Some((_, false, reason)) if !reason.starts_with("error:"))
    }
}

/// The events of one key, whose dates ascend.
pub struct Author {
    pub name: String,
    pub key: Key,
    pub entries: Vec<Entry>,
}

impl Author {
    /// Notes that are deleted by what is held.
    pub fn deleted<'a>(&'a self, held: &'a HashMap<String, String>) -> impl Iterator<Item = &'a Signed> {
        let held = self.entries.iter().rev().filter(|entry| held.contains_key(&entry.event.id));
        held.filter_map(|entry| match entry.role {
            Role::Deletes(target) => Some(&self.entries[target].event),
            _ => None,
        })
    }
}

/// Events that the operator removed for good with `weir delete --refuse`.
pub struct Removal {
    pub ids: Vec<String>,
    pub begun: u64,
    pub done: Option<u64>,
}

/// Everything that was sent.
#[derive(Default)]
pub struct Ledger {
    pub authors: Vec<Author>,
    pub removals: Vec<Removal>,
}

/// What was found in a store, and what it is compared with.
pub struct Found<'a> {
    /// Whatever was acknowledged by then must be there.
    pub accepted_by: u64,
    /// Whatever was sent later cannot be there.
    pub sent_by: u64,
    /// The events that are held: id and text.
    pub held: &'a HashMap<String, String>,
    /// When reading them began and ended, in unix seconds.
    pub read: (u64, u64),
}

impl Ledger {
    /// What is wrong with what was found: nothing, if all is well.
    pub fn compare(&self, found: &Found<'_>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut dates: Vec<u64> =
            self.sent(found).filter(|one| one.role == Role::Reaction).map(|one| one.created_at).collect();
        dates.sort_unstable();
        let mut known = 0;
        for author in &self.authors {
            let view = View { entries: &author.entries, found };
            view.check_held(&mut wrong);
            view.check_missing(&mut wrong, |entry| {
                let newer = dates.len() - dates.partition_point(|date| *date < entry.created_at);
                match entry.role {
                    Role::Reaction => newer > REACTIONS,
                    _ => self.is_removed(entry, found),
                }
            });
            known += author.entries.iter().filter(|entry| found.held.contains_key(&entry.event.id)).count();
        }
        for removal in self.removals.iter().filter(|removal| removal.done.is_some_and(|done| done <= found.accepted_by))
        {
            let held = removal.ids.iter().filter(|id| found.held.contains_key(*id));
            wrong.extend(held.map(|id| format!("removed by the operator, and held: {id}")));
        }
        if known != found.held.len() {
            wrong.push(format!("{} events are held that nobody sent", found.held.len() - known));
        }
        wrong
    }

    /// What was found after a cut, as the state from which the next storm begins.
    pub fn settled(&self, held: &HashMap<String, String>, accepted_by: u64) -> Self {
        let settle = |entry: &Entry| {
            let is_held = held.contains_key(&entry.event.id);
            let answer = match &entry.answer {
                _ if is_held => Some((0, true, String::new())),
                Some((_, true, reason)) if entry.is_accepted(accepted_by) => Some((0, true, reason.clone())),
                Some((_, false, reason)) => Some((0, false, reason.clone())),
                _ => None,
            };
            let (event, role, created_at) = (entry.event.clone(), entry.role, entry.created_at);
            Entry { event, role, created_at, sent: 0, answer, is_gone: !is_held }
        };
        let author = |author: &Author| Author {
            key: Key::named(&author.name),
            name: author.name.clone(),
            entries: author.entries.iter().map(settle).collect(),
        };
        // What the operator did not see removed is gone, or must stay from now on.
        Self { authors: self.authors.iter().map(author).collect(), removals: Vec::new() }
    }

    /// Whether anything had been acknowledged by then.
    pub fn promises_any(&self, by: u64) -> bool {
        self.authors.iter().flat_map(|author| &author.entries).any(|entry| entry.is_accepted(by))
    }

    fn sent<'a>(&'a self, found: &Found<'_>) -> impl Iterator<Item = &'a Entry> {
        let by = found.sent_by;
        self.authors.iter().flat_map(|author| &author.entries).filter(move |entry| entry.sent <= by)
    }

    fn is_removed(&self, entry: &Entry, found: &Found<'_>) -> bool {
        self.removals.iter().any(|removal| removal.begun <= found.sent_by && removal.ids.contains(&entry.event.id))
    }
}

/// The events of one author in a view.
struct View<'a> {
    entries: &'a [Entry],
    found: &'a Found<'a>,
}

impl View<'_> {
    fn is_held(&self, entry: &Entry) -> bool {
        self.found.held.contains_key(&entry.event.id)
    }

    /// Whether an event that removes others has done so for certain.
    fn is_in_force(&self, entry: &Entry) -> bool {
        self.is_held(entry) || entry.is_accepted(self.found.accepted_by)
    }

    /// The last place whose event is in force and has one of these roles.
    fn last(&self, is: impl Fn(Role) -> bool) -> Option<usize> {
        self.entries.iter().rposition(|entry| is(entry.role) && self.is_in_force(entry))
    }

    /// Everything that is held may be held.
    fn check_held(&self, wrong: &mut Vec<String>) {
        let vanished = self.last(|role| role == Role::Vanish).unwrap_or(0);
        let mut versions: BTreeMap<u64, usize> = BTreeMap::new();
        for (place, entry) in self.entries.iter().enumerate().filter(|(_, entry)| self.is_held(entry)) {
            let mut say = |what: &str| wrong.push(format!("{what}, and held: {entry:?}"));
            if entry.sent > self.found.sent_by {
                say("not sent yet");
            }
            if self.found.held[&entry.event.id] != entry.event.text {
                say("changed");
            }
            if entry.is_gone {
                say("gone before");
            }
            if entry.is_refused() {
                say("refused");
            }
            if place < vanished && entry.role != Role::Vanish {
                say("vanished");
            }
            match entry.role {
                Role::Passing(until) if until < self.found.read.0 => say("expired"),
                Role::Version(address) => {
                    if versions.insert(address, place).is_some() {
                        say("another version is held");
                    }
                    if self.last(|role| role == Role::DeletesAddress(address)).is_some_and(|deletion| place < deletion)
                    {
                        say("deleted by its address");
                    }
                }
                _ => {}
            }
        }
        for entry in self.entries.iter().filter(|entry| self.is_in_force(entry)) {
            if let Role::Deletes(target) = entry.role
                && self.is_held(&self.entries[target])
            {
                wrong.push(format!("deleted, and held: {:?} by {entry:?}", self.entries[target]));
            }
        }
    }

    /// Everything that was acknowledged is held, or is removed by what is held, or is excused.
    fn check_missing(&self, wrong: &mut Vec<String>, is_excused: impl Fn(&Entry) -> bool) {
        let last_held = |is: &dyn Fn(Role) -> bool| {
            self.entries.iter().rposition(|entry| is(entry.role) && self.is_held(entry)).map_or(0, |place| place + 1)
        };
        let vanished = last_held(&|role| role == Role::Vanish);
        for (place, entry) in self.entries.iter().enumerate() {
            if !entry.is_accepted(self.found.accepted_by)
                || self.is_held(entry)
                || place + 1 < vanished
                || entry.is_gone
            {
                continue;
            }
            let is_right = match entry.role {
                Role::Note => last_held(&|role| role == Role::Deletes(place)) > 0,
                Role::Version(address) => {
                    let later = |role| role == Role::Version(address) || role == Role::DeletesAddress(address);
                    last_held(&later) > place + 1
                }
                Role::Passing(until) => until <= self.found.read.1,
                Role::Reaction | Role::Deletes(_) | Role::DeletesAddress(_) | Role::Vanish => false,
            };
            if !is_right && !is_excused(entry) {
                wrong.push(format!("acknowledged, and gone: {entry:?}"));
            }
        }
    }
}
