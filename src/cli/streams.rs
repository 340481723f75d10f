//! Streams inside `weir serve`, and what `weir router` has in common with them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::{Config, Replication};
use crate::import::{self, Rules};
use crate::peer::{PeerUrl, Tls, tls};
use crate::pipeline::{OnFailure, Serving};
use crate::policy::{PluginOptions, Source};
use crate::replication::{IntakeParts, Router, RouterParts, Stream};

/// Events per commit of what streams bring: publishers of the running relay wait for one commit.
const BATCH_EVENTS: usize = 1000;

/// How long an event of a stream waits for others to be committed with.
const MAX_DELAY: Duration = Duration::from_millis(100);

/// How streams are imported.
pub fn import_options(threads: usize) -> import::Options {
    import::Options { batch_events: BATCH_EVENTS, max_delay: MAX_DELAY, threads, ..import::Options::default() }
}

/// The streams of a valid section, with what they take for TLS.
///
/// # Errors
/// When certificates cannot be read.
pub fn streams(section: &Replication) -> anyhow::Result<Vec<Stream>> {
    let mut known: HashMap<Option<PathBuf>, Tls> = HashMap::new();
    let (mut streams, timeout) = (Vec::new(), Duration::from_secs(section.timeout_s));
    for options in &section.streams {
        let mut stream =
            options.stream(timeout).with_context(|| format!("the stream {} is not valid", options.name))?;
        if stream.urls.iter().any(PeerUrl::is_secure) {
            let made = match known.get(&stream.ca) {
                Some(tls) => tls.clone(),
                None => tls(stream.ca.as_deref()).with_context(|| format!("the stream {}", options.name))?,
            };
            known.insert(stream.ca.clone(), made.clone());
            stream.tls = Some(made);
        }
        streams.push(stream);
    }
    Ok(streams)
}

/// The streams of a running relay. There are no threads while there are none.
pub struct Streams {
    serving: Serving,
    on_failure: OnFailure,
    /// With the plugin that it was started with, which judges what streams bring.
    router: Option<(Router, PluginOptions)>,
}

impl Streams {
    /// No streams yet.
    pub fn new(serving: &Serving, on_failure: &OnFailure) -> Self {
        Self { serving: serving.clone(), on_failure: Arc::clone(on_failure), router: None }
    }

    /// Runs the streams of a configuration instead of the former ones; those that are the same go on, unless the
    /// plugin that judges them has changed.
    ///
    /// # Errors
    /// When they cannot be started; then the former ones go on.
    pub fn apply(&mut self, config: &Config) -> anyhow::Result<()> {
        let streams = streams(&config.replication)?;
        let judges = config.plugin.judges(Source::Sync);
        if self
            .router
            .as_ref()
            .is_some_and(|(_, plugin)| judges != plugin.judges(Source::Sync) || (judges && *plugin != config.plugin))
        {
            self.end();
        }
        if self.router.is_none() && !streams.is_empty() {
            self.router = Some((self.start(config)?, config.plugin.clone()));
        }
        if let Some((router, _)) = &self.router {
            router.apply(streams);
        }
        Ok(())
    }

    fn start(&self, config: &Config) -> anyhow::Result<Router> {
        let Serving { store, settings, horizons, metrics, .. } = &self.serving;
        let admins = Arc::clone(settings);
        Ok(Router::start(RouterParts {
            intake: IntakeParts {
                store: store.clone(),
                rules: Rules { settings: Arc::clone(settings), horizons: Arc::clone(horizons) },
                decisions: Arc::new(move || Arc::clone(&admins.load().moderation)),
                verify: config.verify,
                // The relay's own threads need the other cores.
                import: import_options(1),
                on_failure: Arc::clone(&self.on_failure),
            },
            max_records: config.negentropy.max_records,
            metrics: Arc::clone(metrics),
        })?)
    }

    fn end(&mut self) {
        if let Some((router, _)) = self.router.take() {
            router.finish();
        }
    }

    /// Stops them all. What has arrived is committed when this returns.
    pub fn finish(mut self) {
        self.end();
    }
}
