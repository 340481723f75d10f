//! Starting and ending the threads, and what they share.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::channel::{Sender, channel};
use super::clock::Clock;
use super::evict::evictor;
use super::fair_channel::FairChannel;
use super::health::{Health, OnFailure};
use super::heartbeat::Heartbeat;
use super::options::Options;
use super::queues::{Bounds, Depths};
use super::threads::{self, StartError};
use super::writable::Writable;
use crate::ledger::{self, Ledger};
use crate::metrics::{Metrics, Queue, StoreOperation};
use crate::nostr::Timestamp;
use crate::pipeline::commit::uncommitted::Uncommitted;
use crate::pipeline::commit::writer;
use crate::pipeline::cron;
use crate::pipeline::deliver::live;
use crate::pipeline::deliver::live::LiveHub;
use crate::pipeline::ingest::gate::Ingest;
use crate::pipeline::ingest::verify;
use crate::pipeline::ingest::verify::Intake;
use crate::pipeline::query::reader;
use crate::pipeline::query::reader::ReaderCommand;
use crate::pipeline::query::reconcile::{self, Sessions};
use crate::policy::{Retention, Settings};
use crate::retention::{self, Horizons};
use crate::schnorr::Verifier;
use crate::store::{Durability, Store};

/// What all threads share.
pub struct Shared {
    /// The events.
    pub store: Store,
    /// The reloadable settings; a message is handled under one load of them (INV-13).
    pub settings: ArcSwap<Settings>,
    /// From where on events are kept beside what is held.
    pub horizons: Horizons,
    /// What is acknowledged and not yet committed.
    pub uncommitted: Uncommitted<ReaderCommand>,
    /// The live index.
    pub live: LiveHub,
    /// The gate of Q1.
    pub ingest: Ingest,
    /// What clients make the relay hold.
    pub memory: Arc<Ledger>,
    /// The signature engines.
    pub verifier: Verifier,
    /// The metrics.
    pub metrics: Metrics,
    /// Signs of life.
    pub beat: Heartbeat,
    /// Whether the store does its work.
    pub health: Health,
    /// Bounds of the queues.
    pub bounds: Bounds,
    /// How queries run.
    pub options: Options,
    /// Q4.
    pub scans: FairChannel<ReaderCommand>,
    /// Negentropy sessions, counted.
    pub negentropy: Sessions,
    /// Whether the store has room for events.
    pub writable: Writable,
    /// The clocks.
    pub clock: Clock,
    depths: Depths,
}

impl Shared {
    /// Has the rules in force say what `found` says, unless a reload brought others than `rules` meanwhile.
    pub fn put_retention(&self, rules: &Retention, found: &Retention) {
        if rules != found {
            self.settings.rcu(|now| {
                if now.retention == *rules {
                    Arc::new(Settings { retention: found.clone(), ..Settings::clone(now) })
                } else {
                    Arc::clone(now)
                }
            });
        }
    }

    /// The time now. Pure code below is told it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Microseconds since the pipeline began, by a clock that never goes back.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    /// Entries that wait in each queue, and the most that it takes.
    #[must_use]
    pub fn queues(&self) -> [(Queue, usize, usize); 5] {
        let (depths, bounds) = (&self.depths, &self.bounds);
        [
            (Queue::Ingest, self.ingest.events(), bounds.ingest_events),
            (Queue::Verify, depths.verify.len(), bounds.ingest_events),
            (Queue::Write, depths.write.len(), bounds.write_batches),
            (Queue::Live, depths.live.len(), bounds.live_batches),
            (Queue::Scans, self.scans.len(), bounds.scans),
        ]
    }

    /// Whether there is room for events.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable.get()
    }

    /// Notes whether there is room, and says so when that changes.
    pub fn storage_writable(&self, writable: bool) {
        self.writable.set(writable);
    }
}

/// What the pipeline is made of.
pub struct Parts {
    /// The events.
    pub store: Store,
    /// The first settings.
    pub settings: Settings,
    /// The signature engines.
    pub verifier: Verifier,
    /// The metrics.
    pub metrics: Metrics,
    /// Bounds of the queues.
    pub bounds: Bounds,
    /// What clients may make the relay hold.
    pub memory: ledger::Options,
    /// How queries run.
    pub options: Options,
    /// Negentropy.
    pub negentropy: reconcile::Options,
}

/// The running threads.
pub struct Pipeline {
    shared: Arc<Shared>,
    intake: Option<Intake>,
    stop_cron: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts every thread.
    ///
    /// # Errors
    /// When the store cannot be read or a thread cannot be started.
    pub fn start(parts: Parts, on_failure: &OnFailure) -> Result<Self, StartError> {
        let Parts { store, mut settings, verifier, metrics, bounds, memory, options, negentropy } = parts;
        store.open_log()?;
        settings.retention = retention::resolve(settings.retention, &store)?;
        let last_seq = store.read()?.last_seq()?;
        let write_half = store.writer();
        // Every event has passed the gate, so as many batches as events always fit: io never blocks here.
        let (ingest, q1) = channel(bounds.ingest_events);
        let (write, q2) = channel(bounds.write_batches);
        let (live_tx, q3) = channel(bounds.live_batches);
        let (stop_cron, cron_stopped) = channel::<()>(1);
        let depths = Depths { verify: ingest.depth(), write: write.depth(), live: live_tx.depth() };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let read_threads = if options.read_threads == 0 { cores.clamp(1, 8) } else { options.read_threads };
        let pool = threads::signature_pool(options.verify_threads, cores)?;
        let clock = Clock::start();
        let shared = Arc::new(Shared {
            horizons: Horizons::load(&settings.retention, &store)?,
            uncommitted: Uncommitted::new(write.downgrade(), bounds.scans),
            live: LiveHub::new(last_seq, random()?),
            ingest: Ingest::new(&bounds),
            memory: Ledger::new(memory),
            settings: ArcSwap::from_pointee(settings),
            beat: Heartbeat::default(),
            health: Health::new(&metrics, on_failure),
            writable: Writable::new(&metrics, clock),
            clock,
            store,
            verifier,
            metrics,
            scans: FairChannel::new(bounds.scans),
            bounds,
            options,
            negentropy: Sessions::new(negentropy),
            depths,
        });
        let spawn = |name: &'static str, work: Work| {
            let shared = Arc::clone(&shared);
            threads::spawn(name, on_failure, move || work(&shared))
        };
        let intake = Intake::new(ingest, write.clone(), live_tx.clone());
        let (write_for_cron, live_for_verify) = (write.clone(), live_tx.clone());
        let (write_for_retention, retention_stopped) = (write.clone(), cron_stopped.clone());
        let threads = vec![
            spawn("live", Box::new(move |shared| live::run(shared, &q3)))?,
            spawn("writer", Box::new(move |shared| writer::run(shared, write_half, &q2, &live_tx)))?,
            spawn("verify", Box::new(move |shared| verify::run(shared, pool.as_ref(), &q1, &write, &live_for_verify)))?,
            spawn("retention", Box::new(move |shared| evictor::run(shared, &write_for_retention, &retention_stopped)))?,
            spawn("cron", Box::new(move |shared| cron::run(shared, &write_for_cron, &cron_stopped)))?,
        ];
        let mut readers = Vec::new();
        for _ in 0..read_threads {
            let read = |shared: &Arc<Shared>| {
                threads::yield_to_others();
                reader::run(shared);
            };
            readers.push(spawn("read", Box::new(read))?);
        }
        Ok(Self { shared, intake: Some(intake), stop_cron: Some(stop_cron), threads, readers })
    }

    /// What the threads share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The way in.
    ///
    /// # Panics
    /// After [`Pipeline::finish`].
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.intake.clone().expect("the pipeline has not finished")
    }

    /// Ends the threads from the top, each once its queue is empty: what was taken is committed and answered.
    /// Every clone of [`Pipeline::intake`] must be gone.
    pub fn finish(mut self) {
        let started = Instant::now();
        self.intake = None;
        self.stop_cron = None;
        self.shared.scans.close();
        for thread in self.readers.drain(..).chain(self.threads.drain(..).rev()) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
        if self.shared.store.durability() == Durability::NoMetaSync
            && let Err(error) = self.shared.store.sync()
        {
            self.shared.health.failed(StoreOperation::Sync, &error);
        }
        tracing::info!(elapsed_ms = started.elapsed().as_millis() as u64, "the pipeline is empty");
    }
}

fn random() -> Result<[u64; 2], std::io::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let (low, high) = bytes.split_at(8);
    let number = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("half of 16 bytes"));
    Ok([number(low), number(high)])
}

/// What a thread does with the shared state until it ends.
type Work = Box<dyn FnOnce(&Arc<Shared>) + Send>;

#[cfg(test)]
mod tests;
