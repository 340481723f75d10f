//! Compares the events that a relay sends with those that were published.
//!
//! It must never skip one: a single wrong body in a million rows is a fault.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use crate::account::{Account, Finding, Replay};
use crate::corpus::event::Event;
use crate::corpus::library::Library;

/// Remembers the form in which a relay writes each event, so that each form is parsed once and not for each row.
pub struct Bodies {
    library: Rc<Library>,
    hasher: RandomState,
    /// Hash of the last good form of an event that differs from the published one.
    forms: RefCell<HashMap<u32, u64>>,
}

impl Bodies {
    /// Compares with the events of this library.
    pub fn new(library: Rc<Library>) -> Rc<Self> {
        Rc::new(Self { library, hasher: RandomState::new(), forms: RefCell::default() })
    }

    /// Reports an event that differs from the one published under its number. Equal bytes are right; a relay may write
    /// the same event differently, so other bytes are compared field by field.
    pub fn check(&self, number: u32, event: &[u8], account: &Account) {
        let published = self.library.json(number);
        if event == published {
            return;
        }
        let form = self.hasher.hash_one(event);
        if self.forms.borrow().get(&number) == Some(&form) {
            return;
        }
        if Event::parse(event).ok() == Event::parse(published).ok() {
            self.forms.borrow_mut().insert(number, form);
        } else {
            let id = || faster_hex::hex_string(self.library.id(number));
            account.keep_replay(Finding::CorruptEvent, || Replay {
                frames: vec![
                    format!("[\"EVENT\",{}]", String::from_utf8_lossy(published)),
                    format!("[\"REQ\",\"replay\",{{\"ids\":[\"{}\"]}}]", id()),
                ],
                answer: String::from_utf8_lossy(event).into_owned(),
                ..Replay::default()
            });
            account.note(Finding::CorruptEvent, || String::from_utf8_lossy(event).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Grade;

    #[test]
    fn every_row_in_another_form_is_compared() {
        let mut library = Library::default();
        crate::corpus::generate(&crate::corpus::Options::social(1, 1), |line| library.add(line).map(|_| ()))
            .expect("events");
        let published = String::from_utf8(library.json(0).to_vec()).expect("text");
        let spaced = published.replacen("\"pubkey\":", "\"pubkey\": ", 1);
        let wrong = spaced.replacen("\"kind\":", "\"kind\":1", 1);
        let bodies = Bodies::new(Rc::new(library));
        let account = Account::default();
        for _ in 0..500 {
            bodies.check(0, spaced.as_bytes(), &account);
        }
        bodies.check(0, published.as_bytes(), &account);
        assert_eq!(account.counts(Grade::Fault), [].into());
        bodies.check(0, wrong.as_bytes(), &account);
        bodies.check(0, b"{}", &account);
        assert_eq!(account.counts(Grade::Fault), [("corrupt_event".to_string(), 2)].into());
    }
}
