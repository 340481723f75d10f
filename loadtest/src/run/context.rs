//! The state that all phases share, and how they open their connections.
//!
//! It must never depend on a phase.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::bodies::Bodies;
use super::holdings::Holdings;
use super::kill::Revival;
use super::progress::{Progress, Stop};
use crate::account::{Account, Finding};
use crate::corpus::event::Verifier;
use crate::corpus::library::Library;
use crate::limits::Limits;
use crate::process::Watched;
use crate::wire::codec::Codec;
use crate::wire::connect::{Target, connect};
use crate::wire::link::{Handler, Link, Traffic};

/// The state that all phases share.
pub struct Context {
    /// Where the relay is.
    pub target: Target,
    /// The form of messages on all connections.
    pub codec: Codec,
    /// The limits that it states.
    pub limits: Rc<Limits>,
    /// Every event of the run.
    pub library: Rc<Library>,
    /// Most unanswered events of a connection.
    pub max_in_flight: usize,
    /// Events of the corpus; the later ones were signed for this run.
    pub corpus_len: u32,
    /// The relay's answers about each event.
    pub holdings: Rc<Holdings>,
    /// Compares its events with the published ones.
    pub bodies: Rc<Bodies>,
    /// Verifies events from elsewhere.
    pub verifier: Rc<Verifier>,
    /// Its processes.
    pub watched: Watched,
    /// Bytes over all connections.
    pub traffic: Rc<Traffic>,
    /// Seed of the run.
    pub seed: u64,
    /// Give up waiting this long after the last answer.
    pub stall: Duration,
    /// The relay holds only events of this run.
    pub exclusive: bool,
    /// Read everything back after it was published.
    pub read_back: bool,
    /// How to kill the relay and start it again, if that is to be done.
    pub revival: Option<Revival>,
    /// Print the progress on stderr.
    pub progress: bool,
    /// Set when the user stops the run.
    pub stop: Rc<Stop>,
    /// Number of the next connection, which chooses its source address.
    pub connection: Cell<usize>,
}

/// A connection and its state.
pub struct Actor<H> {
    /// The writing side.
    pub link: Rc<Link>,
    /// The handler of its messages.
    pub state: Rc<RefCell<H>>,
}

impl Context {
    /// Prints progress for the user.
    pub fn say(&self, text: &str) {
        if self.progress {
            eprintln!("{text}");
        }
    }

    /// Opens a connection and gives it a reader task.
    ///
    /// # Errors
    /// If the relay refuses it.
    pub async fn open<H: Handler + 'static>(
        &self,
        handler: Rc<RefCell<H>>,
        receive_buffer: Option<u32>,
    ) -> Result<Rc<Link>> {
        let number = self.connection.get();
        self.connection.set(number + 1);
        let upgraded = connect(&self.target, number, receive_buffer).await?;
        let (link, reader) = Link::new(upgraded, self.traffic.clone());
        tokio::task::spawn_local(reader.run(handler));
        Ok(link)
    }

    /// Opens one connection per state; one that fails is a fault, and nobody waits for it.
    pub async fn open_all<H: Handler + 'static>(
        &self,
        states: impl Iterator<Item = H>,
        account: &Account,
        progress: &Progress,
    ) -> Vec<Actor<H>> {
        let mut actors = Vec::new();
        for state in states {
            let state = Rc::new(RefCell::new(state));
            match self.open_or_note(&state, account).await {
                Some(link) => actors.push(Actor { link, state }),
                None => progress.finish(),
            }
        }
        actors
    }

    /// Opens a connection; a failure is counted as a fault.
    pub async fn open_or_note<H: Handler + 'static>(
        &self,
        handler: &Rc<RefCell<H>>,
        account: &Account,
    ) -> Option<Rc<Link>> {
        match self.open(handler.clone(), None).await {
            Ok(link) => Some(link),
            Err(error) => {
                account.note(Finding::FailedConnection, || format!("{error:#}"));
                None
            }
        }
    }
}
