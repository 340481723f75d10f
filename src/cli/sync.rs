//! `weir sync`: brings this relay and another one to the same events.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use prometheus_client::metrics::counter::Counter;

use super::arguments::time;
use super::global::Global;
use super::import::decisions;
use super::output::{say, stdout, watching};
use super::room::make_room;
use super::{interrupt, log};
use crate::import::{self, LineOutcome};
use crate::management::Journal;
use crate::nostr::bech32::parse_secret;
use crate::nostr::{EventId, Timestamp};
use crate::peer::{PeerUrl, tls};
use crate::policy::{Settings, Source};
use crate::replication::{Direction, Parts, Progress, Report, Scope, Side, SyncEnd, Watch, Window, sync};
use crate::schnorr::SigningKey;

/// The largest file that can hold a private key and nothing else.
const MAX_KEY_BYTES: u64 = 256;

/// Arguments of `weir sync`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir sync wss://relay.example.com                        fetch every event that is missing here
  weir sync --dir both --range 30d.. wss://relay.example.com
                                                           level the events of the last 30 days
  weir sync --filter '{\"kinds\":[0,3,10002]}' wss://relay.example.com
  weir sync --print-missing --dir both wss://relay.example.com > missing.txt

Compares the two relays by negentropy (NIP-77), and page by page where the other one does not speak it. Events that \
arrive are verified, must have been asked for, and pass the lists of [access] and the rules of [policy] if \
policy.sources has \"sync\", and the plugin if plugin.sources has it. Works while the relay runs on the same store, and \
its subscribers get the new events. Protected events (NIP-70) are not sent and not accepted. What either side refuses is \
remembered in the directory of the store, so that the next sync of two unchanged relays takes one round trip.

A sync that ended early has done no harm: run it again. Exits with 0 if everything was compared and transferred, or \
refused with a reason; with 1 if not; with 130 if it was interrupted.")]
pub struct Arguments {
    /// The other relay: wss://… or ws://…
    #[arg(value_name = "URL", value_parser = url)]
    url: PeerUrl,
    /// Which way events go: down to this relay, up to the other one, or both
    #[arg(long, value_name = "DIRECTION", default_value = "down", value_parser = direction)]
    dir: Direction,
    /// Compare only events that match this filter
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = Scope::parse)]
    filter: Scope,
    /// Compare only events created in this range, FROM..TO: unix seconds or ages such as 30d; either may be missing
    #[arg(long, value_name = "RANGE", value_parser = range, allow_hyphen_values = true)]
    range: Option<Window>,
    /// Transfer nothing; print "here ID" for each event that is missing here and "there ID" for the others
    #[arg(long)]
    print_missing: bool,
    /// A file with a private key (nsec1… or 64 hex digits) to prove to the relay if it asks (NIP-42)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file with further root certificates to trust, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Seconds that the relay may take for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Events per commit; publishers of a running relay wait for one commit, so use about 1000 if it is busy
    #[arg(long, value_name = "N", default_value_t = import::Options::default().batch_events as u32,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Forget what the last syncs with this relay remembered: ask again for what was refused
    #[arg(long)]
    forget: bool,
}

fn url(text: &str) -> Result<PeerUrl, String> {
    PeerUrl::parse(text).map_err(|error| error.to_string())
}

fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "down" => Ok(Direction::Down),
        "up" => Ok(Direction::Up),
        "both" => Ok(Direction::Both),
        _ => Err("expected down, up or both".into()),
    }
}

fn range(text: &str) -> Result<Window, String> {
    let (from, to) = text.split_once("..").ok_or("expected FROM..TO, such as 30d.. or 1700000000..1710000000")?;
    let end = |text: &str, open: Timestamp| if text.is_empty() { Ok(open) } else { time(text) };
    let window = Window { since: end(from, Window::ALL.since)?, until: end(to, Window::ALL.until)? };
    if window.is_empty() { Err("the range ends before it begins".into()) } else { Ok(window) }
}

/// Compares and transfers, and reports what became of it.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let tls = if arguments.url.is_secure() { Some(tls(arguments.ca.as_deref())?) } else { None };
    let key = arguments.key.as_deref().map(read_key).transpose()?;
    let (config, store) = global.open_or_create()?;
    let decisions = decisions(Journal::open(&config.management.directory(&config.storage.data))?);
    // What a plugin complains of.
    let judges = config.plugin.judges(Source::Sync);
    let _log = judges.then(|| log::start(&config.log, &Counter::default())).transpose()?;
    let scope = arguments.filter.clone();
    let parts = Parts {
        store: &store,
        rules: import::Rules::load(Settings { moderation: decisions(), ..config.settings() }, &store)?,
        decisions,
        verify: config.verify,
        import: import::Options {
            batch_events: arguments.batch as usize,
            threads: config.pipeline.verify_threads,
            ..import::Options::default()
        },
        url: arguments.url.clone(),
        tls,
        scope: arguments.range.into_iter().fold(scope, Scope::within),
        direction: arguments.dir,
        only_tells: arguments.print_missing,
        timeout: Duration::from_secs(arguments.timeout),
        key,
        max_records: config.negentropy.max_records,
        memory: config.storage.data.join("replication"),
        forget: arguments.forget,
        stop: interrupt::watch(),
    };
    let watcher = Watcher { bar: watching(), started: Instant::now() };
    let report = sync(parts, &watcher)?;
    watcher.bar.finish_and_clear();
    let printed = if arguments.print_missing { Ok(()) } else { watcher.summary(&report) };
    let code = end(report, &arguments.url)?;
    printed.map(|()| code)
}

/// Reads the file of a private key, which nobody but its owner may be able to read.
pub fn read_key(file: &Path) -> anyhow::Result<SigningKey> {
    let context = || format!("cannot read the key in {}", file.display());
    let metadata = std::fs::metadata(file).with_context(context)?;
    anyhow::ensure!(
        metadata.mode() & 0o077 == 0,
        "others may read the key in {name}: run chmod 600 {name}",
        name = file.display()
    );
    anyhow::ensure!(metadata.len() <= MAX_KEY_BYTES, "{} holds more than a key", file.display());
    let text = std::fs::read_to_string(file).with_context(context)?;
    parse_secret(text.trim()).with_context(|| {
        format!("{} holds no private key: expected nsec1… or 64 lower-case hexadecimal digits", file.display())
    })
}

fn end(report: Report, url: &PeerUrl) -> anyhow::Result<ExitCode> {
    match report.end {
        SyncEnd::Complete => Ok(ExitCode::SUCCESS),
        SyncEnd::Interrupted => {
            say(format_args!("weir: interrupted; run it again to go on"));
            Ok(interrupt::EXIT_CODE.into())
        }
        SyncEnd::Failed(error) => Err(error).with_context(|| format!("the sync with {url} did not end; run it again")),
        SyncEnd::Full(limit) => anyhow::bail!("the store is full: {}, then run it again", make_room(limit)),
        SyncEnd::Store(error) => Err(error).context("the sync did not end; run it again"),
    }
}

/// Shows progress on standard error, and what is missing on standard output.
struct Watcher {
    bar: ProgressBar,
    started: Instant,
}

impl Watch for Watcher {
    fn progress(&self, so_far: &Progress) {
        let mut text = format!("{} of {} down", HumanCount(so_far.received), HumanCount(so_far.missing_here));
        if so_far.answered > 0 {
            text += &format!(", {} of {} up", HumanCount(so_far.answered), HumanCount(so_far.missing_there));
        }
        self.bar.set_position(so_far.received + so_far.answered);
        self.bar.set_message(text);
    }

    fn missing(&self, side: Side, id: &EventId) {
        let side = match side {
            Side::Here => "here",
            Side::There => "there",
        };
        let mut out = stdout();
        // A reader that has gone away wants no more of it.
        let _ = writeln!(out, "{side} {id}").and_then(|()| out.flush());
    }

    fn warn(&self, text: &str) {
        self.bar.suspend(|| say(format_args!("weir: {text}")));
    }
}

impl Watcher {
    fn summary(&self, report: &Report) -> anyhow::Result<()> {
        let mut out = stdout();
        let seconds = self.started.elapsed().as_secs_f64();
        let arrived: u64 = report.arrived.iter().sum();
        writeln!(
            out,
            "{arrived} events down and {} up in {seconds:.1} s, {:.0} per second",
            report.sent,
            (arrived + report.sent) as f64 / seconds.max(1e-3)
        )?;
        writeln!(out, "  missing here: {}", report.missing_here)?;
        for outcome in LineOutcome::ALL {
            writeln!(out, "    {}: {}", outcome.as_str(), report.count(outcome))?;
        }
        writeln!(out, "    not delivered: {}", report.undelivered)?;
        writeln!(out, "  missing there: {}", report.missing_there)?;
        writeln!(out, "    sent: {}", report.sent)?;
        writeln!(out, "    there already: {}", report.sent_in_vain)?;
        writeln!(out, "    refused there: {}", report.refused_there)?;
        writeln!(out, "    protected: {}", report.protected)?;
        let (received, sent) = (HumanBytes(report.traffic.received), HumanBytes(report.traffic.sent));
        writeln!(out, "  round trips to compare: {}", report.rounds)?;
        writeln!(out, "  received {received}, sent {sent}")?;
        if report.overfull > 0 {
            let seconds = report.overfull;
            writeln!(out, "  {seconds} seconds have more events than the relay returns at once; some may be missing")?;
        }
        if !report.reasons.is_empty() {
            writeln!(out, "the first reasons:")?;
        }
        for reason in &report.reasons {
            writeln!(out, "  {reason}")?;
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends_of_which_either_may_be_missing() {
        let read = |text| range(text).map(|window| (window.since.0, window.until.0));
        assert_eq!(read("5..9"), Ok((5, 9)));
        assert_eq!(read("5.."), Ok((5, Timestamp::MAX.0)));
        assert_eq!(read("..9"), Ok((0, 9)));
        assert_eq!(read(".."), Ok((0, Timestamp::MAX.0)));
        assert_eq!(read("9..5"), Err("the range ends before it begins".into()));
        assert!(read("5").is_err() && read("yesterday..").is_err());
    }
}
