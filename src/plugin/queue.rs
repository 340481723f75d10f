//! Where a worker gets events, and where it brings them back: what the relay and `weir import` each have of their own.

use std::time::Duration;

use super::answer::Verdict;
use super::request::Origin;
use crate::nostr::EventView;

/// An event that is to be judged.
pub trait Candidate {
    /// The event.
    fn event(&self) -> EventView<'_>;

    /// Where it comes from.
    fn origin(&self) -> Origin<'_>;
}

/// Where a worker gets events, and where it brings them back.
pub trait Queue {
    /// What waits in it.
    type Candidate: Candidate;

    /// The next event to be judged, if one waits.
    fn next(&self) -> Option<Self::Candidate>;

    /// Takes an event back. Without a verdict the program failed.
    fn judged(&self, candidate: Self::Candidate, verdict: Option<Verdict>);

    /// How long the program took for one event, apart from what it did at the same time for others.
    fn spent(&self, candidate: &Self::Candidate, time: Duration);

    /// Passes on what was judged: called after each group of answers.
    fn flush(&self);
}
