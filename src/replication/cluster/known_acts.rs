//! The acts of admins as this node knows them: what its audit holds, and which act about each subject is the latest.
//!
//! It waits for the disk, and knows nothing of NATS.

use std::collections::HashMap;

use crate::management::{AuditEntry, Change, Decision, Journal, JournalError, Origin, Subject};

/// Which of two acts about a subject holds: the later one. Within a second that of the node with the greater name, and
/// of one node the last.
type Age = (u64, Origin);

/// The audit, and the latest act about each subject.
pub struct Acts {
    node: String,
    journal: Journal,
    /// Up to which act of the audit `latest` knows.
    known: u64,
    latest: HashMap<Subject, Age>,
}

impl Acts {
    /// Of the node with this name.
    #[must_use]
    pub fn new(node: &str, journal: Journal) -> Self {
        Self { node: node.into(), journal, known: 0, latest: HashMap::new() }
    }

    fn origin(&self, act: &AuditEntry) -> Origin {
        act.origin.clone().unwrap_or_else(|| Origin { node: self.node.clone(), number: act.number })
    }

    /// Reads what was recorded since the last time, and returns it, the oldest first.
    fn read(&mut self) -> Result<Vec<AuditEntry>, JournalError> {
        self.journal.refresh()?;
        let last = self.journal.state().last();
        if last <= self.known {
            return Ok(Vec::new());
        }
        let count = usize::try_from(last - self.known).unwrap_or(usize::MAX);
        let mut acts = self.journal.audit(count, 0)?;
        acts.retain(|act| act.number > self.known);
        acts.reverse();
        if self.known == 0 {
            // What was decided before the audit begins that is kept.
            let first = acts.first().map_or(u64::MAX, |act| act.number);
            let mut earlier: Vec<AuditEntry> = self.earlier(first);
            earlier.append(&mut acts);
            acts = earlier;
        }
        for act in &acts {
            self.note(act);
        }
        self.known = last;
        Ok(acts)
    }

    /// Acts that come to the decisions which were made before act `first`.
    fn earlier(&self, first: u64) -> Vec<AuditEntry> {
        let decisions = self.journal.state().iter().filter(|(_, decision)| decision.number < first);
        let act = |(subject, decision): (&Subject, &Decision)| AuditEntry {
            number: decision.number,
            at: decision.at,
            by: decision.by.clone(),
            method: "earlier".into(),
            subject: *subject,
            reason: String::new(),
            change: Some(Change { before: None, after: Some(decision.clone()) }),
            undoes: None,
            events: None,
            auth: None,
            origin: None,
        };
        let mut acts: Vec<AuditEntry> = decisions.map(act).collect();
        acts.sort_unstable_by_key(|act| act.number);
        acts
    }

    fn note(&mut self, act: &AuditEntry) {
        if act.change.is_none() {
            return;
        }
        let age = (act.at, self.origin(act));
        let latest = self.latest.entry(act.subject).or_insert_with(|| age.clone());
        if *latest < age {
            *latest = age;
        }
    }

    /// The acts to publish after act `published`, the oldest first: those of this node, and of others too if it starts
    /// over.
    ///
    /// # Errors
    /// When the audit cannot be read.
    pub fn unpublished(&mut self, published: u64) -> Result<(Vec<AuditEntry>, u64), JournalError> {
        let begins = published == 0;
        if begins {
            self.known = 0;
        } else if published < self.known {
            self.known = published;
        }
        let mut acts = self.read()?;
        acts.retain(|act| act.change.is_some() && (begins || act.origin.is_none()));
        for act in &mut acts {
            act.origin = Some(self.origin(act));
        }
        Ok((acts, self.known))
    }

    /// Records an act of another node, unless a later one is known. Returns whether it did.
    ///
    /// # Errors
    /// When it cannot be read or recorded.
    pub fn adopt(&mut self, act: &AuditEntry) -> Result<bool, JournalError> {
        let Some(origin) = act.origin.clone().filter(|origin| origin.node != self.node) else { return Ok(false) };
        loop {
            self.read()?;
            if self.latest.get(&act.subject).is_some_and(|latest| *latest >= (act.at, origin.clone())) {
                return Ok(false);
            }
            // Another process may just have decided.
            if self.journal.adopt(act, origin.clone(), self.known)? {
                self.read()?;
                return Ok(true);
            }
        }
    }
}
