//! Starting and ending the threads: which there are, what each is given, and how the queues tie them together.
//!
//! Nothing below imports this.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::channel::{Sender, channel};
use super::clock::Clock;
use super::commit::uncommitted::Uncommitted;
use super::commit::writer;
use super::commit::writing::Writing;
use super::cron::{self, Upkeep};
use super::deliver::live::{self, Delivering, LiveHub};
use super::evict::evicting::Evicting;
use super::evict::evictor;
use super::evict::removals::Removals;
use super::fair_channel::FairChannel;
use super::health::{Health, OnFailure};
use super::heartbeat::Heartbeat;
use super::ingest::gate::Gate;
use super::ingest::nodes::NodeEvents;
use super::ingest::own_events::OwnEvents;
use super::ingest::plugin::sender::PluginSender;
use super::ingest::plugin::{self, Judging};
use super::ingest::verify::{self, Intake, VerifiedOutputs, Verifying};
use super::options::Options;
use super::query::job::{Job, Reading};
use super::query::readers;
use super::query::sessions::{self, Sessions};
use super::query::slow::SlowQueries;
use super::queues::{Bounds, Depths, LiveCommand, WriteCommand};
use super::serving::Serving;
use super::threads::{self, StartError};
use super::trust::{self, Trusting};
use super::writable::Writable;
use crate::ledger::{self, Ledger};
use crate::metrics::{Metrics, StoreOperation};
use crate::policy::{Newcomers, Offenders, Settings};
use crate::retention::{self, Horizons};
use crate::schnorr::Verifier;
use crate::store::{Durability, Store};
use crate::sync::thread::JoinHandle;

/// What a pipeline is started with.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The first settings.
    pub settings: Settings,
    /// The signature engines.
    pub verifier: Verifier,
    /// The metrics.
    pub metrics: Metrics,
    /// Bounds of the queues.
    pub bounds: Bounds,
    /// How much memory clients may make the relay hold.
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
        parts.store.open_log()?;
        let (bounds, options) = (&parts.bounds, &parts.options);
        // Q1 has room for as many batches as the gate lets in events: io never blocks on it.
        let (ingest, q1) = channel(bounds.ingest_events);
        let (write, q2) = channel(bounds.write_batches);
        let (live, q3) = channel(bounds.live_batches);
        let (stop_cron, cron_stopped) = channel::<()>(1);
        let depths = Depths { verify: ingest.depth(), write: write.depth(), live: live.depth() };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let read_threads = if options.read_threads == 0 { cores.clamp(1, 8) } else { options.read_threads };
        let pool = threads::signature_pool(options.verify_threads, cores)?;
        let serving = serving(parts, on_failure, (&write, &live), depths)?;
        let heartbeat = Arc::clone(&serving.heartbeat);

        let (verifying, writing) = (verifying(&serving), writing(&serving, &heartbeat));
        let (delivering, evicting) = (delivering(&serving), evicting(&serving, &heartbeat));
        let upkeep = upkeep(&serving);
        let (judging, shared) = (judging(&serving), Arc::clone(&serving.plugin));
        // Room for as many batches as there can be events, as in Q1.
        let (judge, judged) = channel(serving.bounds.ingest_events);
        let plugin = PluginSender::new(judge, Arc::clone(&shared));
        let onward = VerifiedOutputs { plugin, write: write.clone(), live: live.clone() };
        let intake = Intake::new(verifying.clone(), ingest, onward.clone());
        let (write_for_cron, write_for_plugin, live_for_plugin) = (write.clone(), write.clone(), live.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let judge = move || plugin::run(&runtime, judging, shared, &judged, write_for_plugin, live_for_plugin);
        // There all threads are one, which this one would put to sleep in its runtime. Without a program it judges
        // nothing.
        #[cfg(all(test, feature = "interleavings"))]
        let judge = move || drop(judge);
        let (write_for_retention, retention_stopped) = (write.clone(), cron_stopped.clone());
        let (trusting, trust_stopped) = (trusting(&serving), cron_stopped.clone());
        let write_half = serving.store.writer();
        let spawn = |name: &'static str, work: Box<dyn FnOnce() + Send>| threads::spawn(name, on_failure, work);
        let threads = vec![
            spawn("live", Box::new(move || live::run(&delivering, &q3)))?,
            spawn("writer", Box::new(move || writer::run(&writing, write_half, &q2, &live)))?,
            spawn("plugin", Box::new(judge))?,
            spawn("verify", Box::new(move || verify::run(&verifying, pool.as_ref(), &q1, &onward)))?,
            spawn("retention", Box::new(move || evictor::run(&evicting, &write_for_retention, &retention_stopped)))?,
            spawn("trust", Box::new(move || trust::run(&trusting, &trust_stopped)))?,
            spawn("cron", Box::new(move || cron::run(&upkeep, &write_for_cron, &cron_stopped)))?,
        ];
        let mut readers = Vec::new();
        for _ in 0..read_threads {
            let reading = Arc::clone(&serving.reading);
            let read = move || {
                threads::yield_to_others();
                readers::run(&reading);
            };
            readers.push(spawn("read", Box::new(read))?);
        }
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

    /// Ends what changes the store by itself: evictions and upkeep. Then only clients change it.
    pub fn stop_upkeep(&mut self) {
        self.stop_cron = None;
    }

    /// Ends the threads in the order of the queues, each once its queue is empty: what was taken is committed and
    /// answered. Every clone of [`Pipeline::intake`] must have been dropped.
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

/// New keys, and clients whose events were refused, that are remembered, at about 80 bytes each.
pub const SUSPECTS: usize = 100_000;

/// What the parts of all threads are taken from.
fn serving(
    parts: Parts,
    on_failure: &OnFailure,
    (write, live): (&Sender<WriteCommand>, &Sender<LiveCommand>),
    depths: Depths,
) -> Result<Serving, StartError> {
    let Parts { store, mut settings, verifier, metrics, bounds, memory, options, negentropy } = parts;
    settings.retention = retention::resolve(settings.retention, &store)?;
    settings.trusted = crate::trust::trusted(&store, &settings.policy.trust)?;
    let horizons = Arc::new(Horizons::load(&settings.retention, &store)?);
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    let (metrics, clock) = (Arc::new(metrics), Clock::start());
    let health = Arc::new(Health::new(&metrics, on_failure));
    let reading = Reading {
        live: Arc::new(LiveHub::new(store.read()?.last_seq()?, random()?, live.downgrade())),
        slow: SlowQueries::new(options.slow_query_ms),
        store: store.clone(),
        settings: Arc::clone(&settings),
        options,
        scans: FairChannel::new(bounds.scans),
        sessions: Sessions::new(negentropy),
        uncommitted: Arc::new(Uncommitted::new(write.downgrade(), bounds.scans)),
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        clock,
    };
    let (gate, memory) = (Arc::new(Gate::new(&bounds)), Ledger::new(memory));
    Ok(Serving {
        registry: Arc::default(),
        own_events: OwnEvents::new(write.downgrade(), Arc::clone(&gate), Arc::clone(&memory)),
        node_events: NodeEvents::new((write.downgrade(), live.downgrade()), Arc::clone(&gate), Arc::clone(&memory)),
        outward: Arc::default(),
        welcome: Arc::default(),
        memory,
        heartbeat: Arc::default(),
        writable: Arc::new(Writable::new(&metrics, clock)),
        gate,
        newcomers: Arc::new(Newcomers::new(SUSPECTS)),
        offenders: Arc::new(Offenders::new(SUSPECTS)),
        plugin: Arc::default(),
        removals: Removals::new(write.downgrade()),
        verifier: Arc::new(verifier),
        reading: Arc::new(reading),
        settings,
        metrics,
        clock,
        store,
        horizons,
        health,
        bounds,
        depths,
    })
}

fn verifying(of: &Serving) -> Verifying {
    Verifying {
        verifier: Arc::clone(&of.verifier),
        gate: Arc::clone(&of.gate),
        settings: Arc::clone(&of.settings),
        store: of.store.clone(),
        newcomers: Arc::clone(&of.newcomers),
        offenders: Arc::clone(&of.offenders),
        metrics: Arc::clone(&of.metrics),
        health: Arc::clone(&of.health),
        clock: of.clock,
    }
}

fn trusting(of: &Serving) -> Trusting {
    Trusting {
        store: of.store.clone(),
        settings: Arc::clone(&of.settings),
        health: Arc::clone(&of.health),
        metrics: Arc::clone(&of.metrics),
    }
}

fn judging(of: &Serving) -> Judging {
    Judging {
        settings: Arc::clone(&of.settings),
        gate: Arc::clone(&of.gate),
        metrics: Arc::clone(&of.metrics),
        clock: of.clock,
    }
}

fn writing(of: &Serving, heartbeat: &Arc<Heartbeat>) -> Writing<Box<dyn Job>> {
    let reading = Arc::clone(&of.reading);
    Writing {
        store: of.store.clone(),
        commit_interval: Duration::from_millis(reading.options.commit_interval_ms),
        horizons: Arc::clone(&of.horizons),
        uncommitted: Arc::clone(&reading.uncommitted),
        resume: Box::new(move |job| reading.submit(job)),
        is_over: |job| job.is_over(),
        settings: Arc::clone(&of.settings),
        gate: Arc::clone(&of.gate),
        writable: Arc::clone(&of.writable),
        heartbeat: Arc::clone(heartbeat),
        metrics: Arc::clone(&of.metrics),
        health: Arc::clone(&of.health),
        clock: of.clock,
    }
}

fn delivering(of: &Serving) -> Delivering {
    Delivering {
        store: of.store.clone(),
        live: Arc::clone(&of.reading.live),
        settings: Arc::clone(&of.settings),
        gate: Arc::clone(&of.gate),
        outboxes: Arc::clone(&of.memory.outboxes),
        outward: Arc::clone(&of.outward),
        metrics: Arc::clone(&of.metrics),
        health: Arc::clone(&of.health),
        clock: of.clock,
    }
}

pub(super) fn evicting(of: &Serving, heartbeat: &Arc<Heartbeat>) -> Evicting {
    Evicting {
        store: of.store.clone(),
        settings: Arc::clone(&of.settings),
        horizons: Arc::clone(&of.horizons),
        writable: Arc::clone(&of.writable),
        heartbeat: Arc::clone(heartbeat),
        metrics: Arc::clone(&of.metrics),
        health: Arc::clone(&of.health),
        clock: of.clock,
    }
}

fn upkeep(of: &Serving) -> Upkeep {
    Upkeep { store: of.store.clone(), health: Arc::clone(&of.health), metrics: Arc::clone(&of.metrics) }
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
