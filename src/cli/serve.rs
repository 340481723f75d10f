//! `weir serve`: opens the store, starts the pipeline and the server, and waits for signals.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Common;
use crate::config::{Changes, Config, ConfigError, Log, LogFormat};
use crate::metrics::{Metrics, Reload, ReloadLabel};
use crate::pipeline::{OnPanic, Parts, Pipeline, Shared};
use crate::schnorr::Verifier;
use crate::server::{self, Server};
use crate::store::Store;

/// Arguments of `weir serve`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where clients connect; port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// Runs the relay until a signal or a defect ends it.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut config = configuration(common, arguments)?;
    start_log(&config.log)?;
    let data = &config.storage.data;
    let store = Store::open(data, config.storage.options())
        .with_context(|| format!("cannot open the store in {}", data.display()))?;
    let failed = Arc::new(AtomicBool::new(false));
    let on_panic = on_panic(&failed);
    let pipeline = Pipeline::start(
        Parts {
            store,
            settings: config.settings(),
            verifier: Verifier::new(crate::schnorr::Options::default()),
            metrics: Metrics::new(),
            bounds: config.queues.clone(),
            outbox_ceiling_bytes: config.server.outbox_total_bytes,
            options: config.pipeline.clone(),
        },
        &on_panic,
    )?;
    let listener = server::listen(config.server.listen)?;
    let monitor = config.metrics.listen.map(server::listen).transpose()?;
    let shared = Arc::clone(pipeline.shared());
    let server = Server::start(config.server.clone(), shared, &pipeline.ingest(), listener, monitor, &on_panic)?;
    tracing::info!("listening on {}", server.address);
    wait_for_end(|| reload(common, arguments, &mut config, pipeline.shared()))?;
    tracing::info!("stopping: clients are told, what was taken is committed");
    server.finish();
    pipeline.finish();
    Ok(if failed.load(Ordering::Acquire) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The configuration: defaults, then the file, then the command line.
fn configuration(common: &Common, arguments: &Arguments) -> Result<Config, ConfigError> {
    let mut config = common.config()?;
    if let Some(listen) = arguments.listen {
        config.server.listen = listen;
    }
    config.validate()?;
    Ok(config)
}

fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.level).context("log.level")?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// Reads the file again and publishes what holds without a restart. A bad file changes nothing.
fn reload(common: &Common, arguments: &Arguments, config: &mut Config, shared: &Shared) {
    let Some(file) = &common.config else {
        tracing::warn!("there is no configuration file to read again; none was given at the start");
        return;
    };
    let file = file.display();
    let result = match configuration(common, arguments) {
        Ok(new) => {
            let Changes { live, restart } = config.changes(&new);
            shared.settings.store(Arc::new(new.settings()));
            config.take_live(new);
            tracing::info!(changed = live.join(", "), "{file} was read again");
            if !restart.is_empty() {
                tracing::warn!(changed = restart.join(", "), "some keys of {file} hold after a restart only");
            }
            Reload::Applied
        }
        Err(error) => {
            tracing::error!("the configuration stays as it was:\n{error}");
            Reload::Failed
        }
    };
    shared.metrics.reloads.get_or_create(&ReloadLabel { result }).inc();
}

/// A thread that panicked ends the process in order: what was taken is committed where that is still possible.
fn on_panic(failed: &Arc<AtomicBool>) -> OnPanic {
    let failed = Arc::clone(failed);
    Arc::new(move |thread| {
        tracing::error!(thread, "a thread panicked; the relay stops");
        failed.store(true, Ordering::Release);
        // SAFETY: raising a signal has no preconditions; SIGTERM is handled by `wait_for_end`.
        unsafe { libc::raise(libc::SIGTERM) };
    })
}

/// Waits for SIGTERM or SIGINT; SIGHUP calls `reload`.
fn wait_for_end(mut reload: impl FnMut()) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hang_up.recv() => reload(),
            }
        }
    })
}
