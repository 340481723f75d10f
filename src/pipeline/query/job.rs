//! What the readers work on: jobs that wait in Q4, and what running one takes.
//!
//! It does not know what a job does; each kind of job has its own file.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::sessions::Sessions;
use super::slow::SlowQueries;
use crate::metrics::Metrics;
use crate::nostr::{Prefix, Reason};
use crate::pipeline::client::ClientHandle;
use crate::pipeline::clock::Clock;
use crate::pipeline::commit::uncommitted::Uncommitted;
use crate::pipeline::deliver::live::LiveHub;
use crate::pipeline::fair_channel::FairChannel;
use crate::pipeline::health::Health;
use crate::pipeline::options::Options;
use crate::policy::Settings;
use crate::store::{Budget, Store};

/// A query that is answered in slices. Between slices it holds keys and counters, never a transaction (INV-9).
pub trait Job: Send {
    /// The network address whose share of Q4 it takes.
    fn address(&self) -> IpAddr;

    /// The connection that is charged, if it came over one.
    fn client(&self) -> Option<&Arc<ClientHandle>>;

    /// Microseconds that were spent on it so far.
    fn spent_us(&self) -> u64;

    /// Counts what a slice took.
    fn spend(&mut self, us: u64);

    /// Runs a slice. The job comes back when it is to go back to Q4; otherwise it is over or parked.
    fn run(self: Box<Self>, reading: &Arc<Reading>, budget: Budget) -> Option<Box<dyn Job>>;

    /// Whether nobody waits for its answer any more. Its next slice ends it.
    fn is_over(&self) -> bool;

    /// Drops the query, counts the refusal and tells whoever asked why.
    fn refuse(self: Box<Self>, reading: &Reading, reason: Reason);
}

/// What reading stored events for clients takes.
pub struct Reading {
    /// The store.
    pub store: Store,
    /// The settings in force.
    pub settings: Arc<ArcSwap<Settings>>,
    /// How queries are run.
    pub options: Options,
    /// Q4.
    pub scans: FairChannel<Box<dyn Job>>,
    /// Negentropy sessions, counted.
    pub sessions: Sessions,
    /// What is acknowledged and not yet committed, and the queries that wait for that.
    pub uncommitted: Arc<Uncommitted<Box<dyn Job>>>,
    /// Queries that took long.
    pub slow: SlowQueries,
    /// The live index, in which a subscription is registered once its stored events are sent.
    pub live: Arc<LiveHub>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where failures are noted.
    pub health: Arc<Health>,
    /// The clocks.
    pub clock: Clock,
}

impl Reading {
    /// Puts a job into Q4; never blocks, and never runs it here. If Q4 is full, the newest query of the greediest
    /// address is refused.
    pub fn submit(&self, job: Box<dyn Job>) {
        let (address, spent_us) = (job.address(), job.spent_us());
        if let Some(refused) = self.scans.push(address, job, spent_us, self.clock.now_us()) {
            self.refuse(refused);
        }
    }

    /// Refuses a job, since too many wait.
    pub fn refuse(&self, job: Box<dyn Job>) {
        job.refuse(self, too_many_queries());
    }
}

/// Why a query is refused while too many wait.
#[must_use]
pub fn too_many_queries() -> Reason {
    Reason::new(Prefix::RateLimited, "too many queries are waiting; try again later")
}
