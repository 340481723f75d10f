//! Starting and ending the threads: which there are, what each is given, and how the queues tie them together.
//!
//! Nothing below imports this.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::channel::{Sender, channel};
use super::clock::Clock;
use super::commit::uncommitted::Uncommitted;
use super::commit::writer::{self, Writing};
use super::cron::{self, Upkeep};
use super::deliver::live::{self, Delivering, LiveHub};
use super::evict::evicting::Evicting;
use super::evict::evictor;
use super::fair::Progress;
use super::fair_channel::FairChannel;
use super::health::{Health, OnFailure};
use super::heartbeat::Heartbeat;
use super::ingest::gate::Gate;
use super::ingest::verify::{self, Intake, Verifying};
use super::options::Options;
use super::query::job::Reading;
use super::query::readers;
use super::query::sessions::{self, Sessions};
use super::queues::{Bounds, Depths};
use super::serving::Serving;
use super::threads::{self, StartError};
use super::writable::Writable;
use crate::ledger::{self, Ledger};
use crate::metrics::{Metrics, StoreOperation};
use crate::policy::Settings;
use crate::retention::{self, Horizons};
use crate::schnorr::Verifier;
use crate::store::{Durability, Store};

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
    pub negentropy: sessions::Options,
}

/// The running threads.
pub struct Pipeline {
    serving: Serving,
    heartbeat: Arc<Heartbeat>,
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
        // Every event has passed the gate, so as many batches as events always fit: io never blocks here.
        let (ingest, q1) = channel(bounds.ingest_events);
        let (write, q2) = channel(bounds.write_batches);
        let (live, q3) = channel(bounds.live_batches);
        let (stop_cron, cron_stopped) = channel::<()>(1);
        let depths = Depths { verify: ingest.depth(), write: write.depth(), live: live.depth() };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let read_threads = if options.read_threads == 0 { cores.clamp(1, 8) } else { options.read_threads };
        let pool = threads::signature_pool(options.verify_threads, cores)?;

        let (metrics, verifier, clock) = (Arc::new(metrics), Arc::new(verifier), Clock::start());
        let horizons = Arc::new(Horizons::load(&settings.retention, &store)?);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let (memory, gate) = (Ledger::new(memory), Arc::new(Gate::new(&bounds)));
        let (health, heartbeat) = (Arc::new(Health::new(&metrics, on_failure)), Arc::new(Heartbeat::default()));
        let writable = Arc::new(Writable::new(&metrics, clock));
        let uncommitted = Arc::new(Uncommitted::new(write.downgrade(), bounds.scans));
        let hub = Arc::new(LiveHub::new(last_seq, random()?));
        let commit_interval = Duration::from_millis(options.commit_interval_ms);
        let reading = Arc::new(Reading {
            store: store.clone(),
            settings: Arc::clone(&settings),
            options,
            scans: FairChannel::new(bounds.scans),
            sessions: Sessions::new(negentropy),
            uncommitted: Arc::clone(&uncommitted),
            live: Arc::clone(&hub),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            clock,
        });
        let resume = {
            let reading = Arc::clone(&reading);
            Box::new(move |job| reading.submit(job, Progress::Begun))
        };
        let writing = Writing {
            store: store.clone(),
            commit_interval,
            horizons: Arc::clone(&horizons),
            uncommitted,
            resume,
            gate: Arc::clone(&gate),
            writable: Arc::clone(&writable),
            heartbeat: Arc::clone(&heartbeat),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            clock,
        };
        let delivering = Delivering {
            store: store.clone(),
            live: hub,
            settings: Arc::clone(&settings),
            gate: Arc::clone(&gate),
            outboxes: Arc::clone(&memory.outboxes),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            clock,
        };
        let verifying = Verifying {
            verifier: Arc::clone(&verifier),
            gate: Arc::clone(&gate),
            settings: Arc::clone(&settings),
            metrics: Arc::clone(&metrics),
            clock,
        };
        let evicting = Evicting {
            store: store.clone(),
            settings: Arc::clone(&settings),
            horizons: Arc::clone(&horizons),
            writable: Arc::clone(&writable),
            heartbeat: Arc::clone(&heartbeat),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            clock,
        };
        let upkeep = Upkeep { store: store.clone(), health: Arc::clone(&health), metrics: Arc::clone(&metrics) };

        let intake = Intake::new(verifying.clone(), ingest, write.clone(), live.clone());
        let (write_for_cron, live_for_verify) = (write.clone(), live.clone());
        let (write_for_retention, retention_stopped) = (write.clone(), cron_stopped.clone());
        let write_half = store.writer();
        let spawn = |name: &'static str, work: Box<dyn FnOnce() + Send>| threads::spawn(name, on_failure, work);
        let threads = vec![
            spawn("live", Box::new(move || live::run(&delivering, &q3)))?,
            spawn("writer", Box::new(move || writer::run(&writing, write_half, &q2, &live)))?,
            spawn("verify", Box::new(move || verify::run(&verifying, pool.as_ref(), &q1, &write, &live_for_verify)))?,
            spawn("retention", Box::new(move || evictor::run(&evicting, &write_for_retention, &retention_stopped)))?,
            spawn("cron", Box::new(move || cron::run(&upkeep, &write_for_cron, &cron_stopped)))?,
        ];
        let mut readers = Vec::new();
        for _ in 0..read_threads {
            let reading = Arc::clone(&reading);
            let read = move || {
                threads::yield_to_others();
                readers::run(&reading);
            };
            readers.push(spawn("read", Box::new(read))?);
        }
        let serving = Serving {
            settings,
            metrics,
            clock,
            memory,
            store,
            horizons,
            health,
            writable,
            gate,
            verifier,
            reading,
            bounds,
            depths,
        };
        Ok(Self { serving, heartbeat, intake: Some(intake), stop_cron: Some(stop_cron), threads, readers })
    }

    /// What a server needs.
    #[must_use]
    pub const fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Signs of life of its threads.
    #[must_use]
    pub const fn heartbeat(&self) -> &Arc<Heartbeat> {
        &self.heartbeat
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
        self.serving.reading.scans.close();
        for thread in self.readers.drain(..).chain(self.threads.drain(..).rev()) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
        if self.serving.store.durability() == Durability::NoMetaSync
            && let Err(error) = self.serving.store.sync()
        {
            self.serving.health.failed(StoreOperation::Sync, &error);
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

#[cfg(test)]
mod tests;
