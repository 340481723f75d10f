//! `weir router`: streams of events between this store and other relays, from strfry's router file.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use tokio::signal::unix::{SignalKind, signal};

use super::config::read_strfry;
use super::global::Global;
use super::import::decisions;
use super::log;
use super::output::stdout;
use super::serve::on_failure;
use super::streams::{import_options, streams};
use super::sync::read_key;
use crate::config::strfry::{self, RouterFile};
use crate::import::Rules;
use crate::management::Journal;
use crate::metrics::Metrics;
use crate::plugin::FileVersion;
use crate::policy::Settings;
use crate::replication::{IntakeParts, Router, RouterParts};
use crate::schnorr::SigningKey;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often what the rules take from the store is read again: follow lists of the web of trust, for example.
const RULES: Duration = Duration::from_secs(3600);

/// Arguments of `weir router`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir router /etc/strfry-router.conf            run the streams of the file until Ctrl-C
  weir router --check /etc/strfry-router.conf    show what the file says, and run nothing

The file is that of strfry's router:

  connectionTimeout = 30
  streams {
    mirror {
      dir = \"down\"                          down, up or both
      urls = [ \"wss://relay.example.com\" ]
      filter = { \"kinds\": [0, 3] }
    }
  }

Each stream begins with what was created within --catch-up before its start, and goes on where it ended, so nothing \
that passed while it was away or killed is lost. Works while the relay runs on the same store; [[replication.streams]] in \
weir.toml runs the same streams inside weir serve. What arrives passes the lists of [access] and the rules of [policy] \
if policy.sources has \"sync\", and the plugin if plugin.sources has it. Protected events (NIP-70) are not sent and \
not accepted. The file is read again when it changes or on SIGHUP: streams that are the same go on.")]
pub struct Arguments {
    /// The file with the streams
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Show what the file says, and run nothing
    #[arg(long)]
    check: bool,
    /// How far before a stream was last level a comparison begins, such as 1h, 7d or 20000d
    #[arg(long, value_name = "AGE", default_value = "1d", value_parser = super::arguments::duration)]
    catch_up: u64,
    /// A file with a private key (nsec1… or 64 hex digits) to prove to relays that ask (NIP-42)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file with further root certificates to trust, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Runs the streams until a signal ends them.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let key = arguments.key.as_deref().map(read_key).transpose()?.map(Arc::new);
    let file = read(arguments, key.as_ref())?;
    if arguments.check {
        return show(&arguments.file, &file);
    }
    let (config, store) = global.open_or_create()?;
    let _log = log::start(&config.log, &Counter::default())?;
    let decisions = decisions(Journal::open(&config.management.directory(&config.storage.data))?);
    let rules = Rules::load(Settings { moderation: decisions(), ..config.settings() }, &store)?;
    let failed = Arc::new(AtomicBool::new(false));
    let router = Router::start(RouterParts {
        intake: IntakeParts {
            store: store.clone(),
            rules: rules.clone(),
            decisions,
            verify: config.verify,
            import: import_options(config.pipeline.verify_threads),
            on_failure: on_failure(&failed, "router"),
        },
        max_records: config.negentropy.max_records,
        metrics: Arc::new(Metrics::new()),
    })?;
    router.apply(streams(&file.replication)?);
    warn(&arguments.file, &file);
    tracing::info!(streams = file.replication.streams.len(), "running the streams of {}", arguments.file.display());
    let watched = watch(arguments, key.as_ref(), &router, || {
        let settings = Settings { moderation: rules.settings.load().moderation.clone(), ..global.config()?.settings() };
        Ok(rules.renew(settings, &store)?)
    });
    tracing::info!("stopping: committing what has arrived");
    router.finish();
    watched?;
    Ok(if failed.load(Ordering::Acquire) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads the file again when it changes, until a signal ends that.
fn watch(
    arguments: &Arguments,
    key: Option<&Arc<SigningKey>>,
    router: &Router,
    renew: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (mut hangup, mut look) = (signal(SignalKind::hangup())?, tokio::time::interval(LOOK));
        let (mut seen, mut renewed) = (FileVersion::at(&arguments.file), Instant::now());
        loop {
            let is_asked = tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => true,
                _ = look.tick() => false,
            };
            if is_asked || renewed.elapsed() >= RULES {
                renewed = Instant::now();
                if let Err(error) = renew() {
                    tracing::error!("the rules were not read again, the former ones stay in force: {error:#}");
                }
            }
            let now = FileVersion::at(&arguments.file);
            if !is_asked && (now == seen || now.is_none()) {
                continue;
            }
            seen = now;
            if now.is_some_and(FileVersion::is_empty) {
                // Editors may empty a file before they write it.
                tracing::error!("the former streams go on: {} is empty", arguments.file.display());
                continue;
            }
            match read(arguments, key).and_then(|file| Ok((streams(&file.replication)?, file))) {
                Ok((streams, file)) => {
                    warn(&arguments.file, &file);
                    router.apply(streams);
                    tracing::info!(streams = file.replication.streams.len(), "the streams were read again");
                }
                Err(error) => tracing::error!("the former streams go on: {error:#}"),
            }
        }
    })
}

/// Reads the file, and adds what the command line says.
fn read(arguments: &Arguments, key: Option<&Arc<SigningKey>>) -> anyhow::Result<RouterFile> {
    let name = arguments.file.display();
    let mut file = strfry::router(&read_strfry(&arguments.file)?).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{name}:{error}")).collect();
        anyhow::anyhow!(lines.join("\n"))
    })?;
    for stream in &mut file.replication.streams {
        stream.catch_up_s = arguments.catch_up;
        stream.key_file.signer = key.cloned();
        stream.ca_file = arguments.ca.clone().unwrap_or_default();
    }
    Ok(file)
}

fn warn(name: &Path, file: &RouterFile) {
    file.warnings.iter().for_each(|warning| tracing::warn!("{}:{warning}", name.display()));
}

/// Prints what the file says.
fn show(name: &Path, file: &RouterFile) -> anyhow::Result<ExitCode> {
    let mut out = stdout();
    for warning in &file.warnings {
        writeln!(out, "warning: {}:{warning}", name.display())?;
    }
    for stream in &file.replication.streams {
        let filter = serde_json::to_string(&stream.filter).context("a filter")?;
        for url in &stream.urls {
            writeln!(out, "{}: {} {url} {filter}", stream.name, stream.dir.as_str())?;
        }
    }
    let timeout_s = file.replication.timeout_s;
    writeln!(out, "a relay has {timeout_s} s for an answer\nthe streams are valid")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
