//! `weir serve`: opens the store, starts the pipeline and the server, and waits for signals.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::Common;
use crate::metrics::Metrics;
use crate::pipeline::{Bounds, OnPanic, Options, Parts, Pipeline};
use crate::policy::Settings;
use crate::schnorr::Verifier;
use crate::server::{self, Server};
use crate::store::{self, Store};

/// Arguments of `weir serve`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where clients connect; port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// Runs the relay until a signal or a defect ends it.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut options = server::Options::default();
    if let Some(listen) = arguments.listen {
        options.listen = listen;
    }
    let data = common.data.clone().unwrap_or_else(|| "weir-data".into());
    let store = Store::open(&data, store::Options::default())
        .with_context(|| format!("cannot open the store in {}", data.display()))?;
    let failed = Arc::new(AtomicBool::new(false));
    let on_panic = on_panic(&failed);
    let pipeline = Pipeline::start(
        Parts {
            store,
            settings: Settings::default(),
            verifier: Verifier::new(crate::schnorr::Options::default()),
            metrics: Metrics::new(),
            bounds: Bounds::default(),
            outbox_ceiling_bytes: options.outbox_total_bytes,
            options: Options::default(),
        },
        &on_panic,
    )?;
    let listener = server::listen(options.listen)?;
    let server = Server::start(options, Arc::clone(pipeline.shared()), &pipeline.ingest(), listener, None, &on_panic)?;
    tracing::info!("listening on {}", server.address);
    wait_for_signal()?;
    tracing::info!("stopping: clients are told, what was taken is committed");
    server.finish();
    pipeline.finish();
    Ok(if failed.load(Ordering::Acquire) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A thread that panicked ends the process in order: what was taken is committed where that is still possible.
fn on_panic(failed: &Arc<AtomicBool>) -> OnPanic {
    let failed = Arc::clone(failed);
    Arc::new(move |thread| {
        tracing::error!(thread, "a thread panicked; the relay stops");
        failed.store(true, Ordering::Release);
        // SAFETY: raising a signal has no preconditions; SIGTERM is handled by `wait_for_signal`.
        unsafe { libc::raise(libc::SIGTERM) };
    })
}

fn wait_for_signal() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
