//! `weir serve`: opens the store, starts the pipeline and the server, and stops them in order.
//!
//! A process that replaces another one opens everything that may fail first, and writes nothing until the other one has
//! stopped writing.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Signal, getpid, kill_process};
use sd_notify::NotifyState;

use super::global::Global;
use super::handover::{Predecessor, Sockets};
use super::signals::{RelayEnd, Signals};
use super::streams::Streams;
use super::{descriptors, log, systemd};
use crate::config::Config;
use crate::management::Journal;
use crate::metrics::Metrics;
use crate::pipeline::{OnFailure, Parts, Pipeline, Serving, now};
use crate::replication::{Cluster, ClusterParts};
use crate::schnorr::Verifier;
use crate::server::{DashboardContext, Server, management};
use crate::store::Store;

/// How long clients get to disconnect after the store has failed: the sooner a new process serves them, the better.
const LOST_DRAIN: Duration = Duration::from_millis(500);

/// Arguments of `weir serve`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir serve                                  listen on 127.0.0.1:7777, with events in ./weir-data
  weir serve --listen 127.0.0.1:0             choose a free port; the log line 'listening on …' shows it
  weir serve --config /etc/weir/weir.toml     use a configuration file

Signals:
  SIGHUP    reload the configuration; a file with mistakes changes nothing
  SIGUSR2   run the program again, which may be a newer one, and hand the listening sockets over to it
  SIGTERM   shut down cleanly: commit and answer accepted events, then close all connections with 1012")]
pub struct Arguments {
    /// The address to listen on; port 0 lets the system choose one
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// Runs the relay until a signal or a failure ends it.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let load = || {
        let mut config = global.config()?;
        if let Some(listen) = arguments.listen {
            config.server.listen = listen;
        }
        config.validate()?;
        anyhow::Ok(config)
    };
    let config = load()?;
    let signals = Signals::catch()?;
    let metrics = Metrics::new().with_strfry_names(config.metrics.strfry_names);
    let _log = log::start(&config.log, &metrics.log_lines_lost)?;
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let (mut predecessor, inherited) = Predecessor::find()?;
    let sockets = Sockets::open(&config, inherited)?;
    let mut options = config.server.clone();
    descriptors::raise_limit(&mut options);
    let failed = Arc::new(AtomicBool::new(false));
    let on_failure = on_failure(&failed, "relay");
    let journal = Journal::open(&config.management.directory(&config.storage.data))?;
    let mut parts = parts(&config, metrics)?;
    parts.settings.moderation = Arc::new(journal.moderation().clone());
    if let Some(predecessor) = &mut predecessor {
        predecessor.take_over()?;
    }
    config.management.link(&config.storage.data)?;
    let mut pipeline = Pipeline::start(parts, &on_failure)?;
    let listeners = (sockets.clients.try_clone()?, sockets.metrics.as_ref().map(TcpListener::try_clone).transpose()?);
    if let Some(monitor) = &listeners.1 {
        tracing::info!("metrics on http://{}/metrics", monitor.local_addr()?);
    }
    let serving = pipeline.serving().clone();
    let dashboard =
        config.dashboard.is_on().then(|| DashboardContext::new(config.dashboard.clone())).transpose()?.map(Arc::new);
    let mut management = management::start((journal, dashboard.clone()), serving.clone(), &on_failure)?;
    if predecessor.is_none() {
        management.listen();
    }
    let links = (management.link(), &on_failure);
    let choices = (options, config.changes.clone(), dashboard);
    let server = Server::start(choices, serving.clone(), &pipeline.intake(), listeners, links)?;
    server.show_configuration(config.shown());
    tracing::info!("listening on {}", server.address);
    serving.metrics.start_time_seconds.set(now().0 as i64);
    if let Some(predecessor) = predecessor {
        predecessor.serve();
        // Until here the former process might have served on, and needed its own.
        management.listen();
    }
    systemd::notify(&[NotifyState::Ready]);
    let drain_timeout = Duration::from_secs(config.server.drain_timeout_s);
    let mut streams = start_streams(&config, &serving, &on_failure);
    let cluster = start_cluster(&config, &serving, &on_failure)?;
    let end = signals.wait(config, load, &pipeline, &server, &sockets, (&mut streams, cluster.as_ref()));
    // Other relays may be slow to say goodbye.
    let streams = std::thread::Builder::new().name("streams".into()).spawn(move || streams.finish());
    match end {
        RelayEnd::Replaced => {
            pipeline.stop_upkeep();
            server.leave(drain_timeout);
        }
        RelayEnd::Stopped => {
            tracing::info!("stopping: committing accepted events and closing connections");
            systemd::notify(&[NotifyState::Stopping]);
            // Without a store, clients cannot get any of the answers that they wait for.
            server.finish(if serving.health.is_lost() { LOST_DRAIN } else { drain_timeout });
        }
    }
    cluster.into_iter().for_each(Cluster::finish);
    management.finish();
    // A panic was reported when it happened; without a thread they end with the process.
    let _ = streams.map(std::thread::JoinHandle::join);
    pipeline.finish();
    Ok(if failed.load(Ordering::Acquire) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Starts the streams. A relay serves without them.
fn start_streams(config: &Config, serving: &Serving, on_failure: &OnFailure) -> Streams {
    let mut streams = Streams::new(serving, on_failure);
    if let Err(error) = streams.apply(config) {
        tracing::error!("streams do not run: {error:#}");
    }
    streams
}

/// Joins the other nodes of the cluster, if there is one.
fn start_cluster(config: &Config, serving: &Serving, on_failure: &OnFailure) -> anyhow::Result<Option<Cluster>> {
    if !config.cluster.is_on() {
        return Ok(None);
    }
    let parts = ClusterParts {
        options: config.cluster.clone(),
        serving: serving.clone(),
        journal: Journal::open(&config.management.directory(&config.storage.data))?,
        verify: config.verify,
        on_failure: OnFailure::clone(on_failure),
    };
    Ok(Some(Cluster::start(parts).context("the cluster cannot be started")?))
}

fn parts(config: &Config, metrics: Metrics) -> anyhow::Result<Parts> {
    let data = &config.storage.data;
    let store = Store::open(data, config.storage.serving_options())
        .with_context(|| format!("cannot open the store in {}", data.display()))?;
    Ok(Parts {
        store,
        settings: config.settings(),
        verifier: Verifier::new(config.verify),
        metrics,
        bounds: config.queues.clone(),
        memory: config.memory,
        options: config.pipeline.clone(),
        negentropy: config.negentropy.clone(),
    })
}

/// The handler of failures: it stops the process in order, so that accepted events are committed if still possible.
pub fn on_failure(failed: &Arc<AtomicBool>, what: &'static str) -> OnFailure {
    let failed = Arc::clone(failed);
    Arc::new(move |why: &str| {
        tracing::error!("{why}; the {what} stops");
        failed.store(true, Ordering::Release);
        // SIGTERM stops it in order. A process may always signal itself.
        let _ = kill_process(getpid(), Signal::TERM);
    })
}
