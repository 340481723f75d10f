//! `weir import`: adds events from a file to the store.

use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Context as _;
use indicatif::{HumanCount, ProgressBar};
use prometheus_client::metrics::counter::Counter;

use super::global::Global;
use super::interrupt;
use super::log;
use super::output::{progress, say, stdout};
use super::room::make_room;
use crate::import::{self, Decisions, ImportEnd, LineOutcome, Observer, Parts, Report, Rules, Verdict};
use crate::management::Journal;
use crate::policy::{Settings, Source};
use crate::schnorr::Verifier;

/// The maximum number of reasons that the summary lists.
const LISTED: usize = 10;

/// The outcomes for which the summary gives a reason: the event should not be in the file, or a rule is against it.
const DEFECTS: [LineOutcome; 4] =
    [LineOutcome::Invalid, LineOutcome::InvalidDeletion, LineOutcome::Refused, LineOutcome::NotKept];

/// Arguments of `weir import`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir import events.jsonl                    one event per line, as JSON
  weir import events.json.gz                  a compressed array of events
  ssh other weir export | weir import         events from another program
  weir import --show-refused events.jsonl 2> refused.txt

Reads events as JSON, one per line, in arrays or simply concatenated, and EVENT messages as clients and relays send \
them; plain or compressed with gzip or zstd. Works while the relay runs on the same store, and its subscribers get \
the new events. The configured limits and date checks do not apply; the lists of [access] and the \
rules of [policy] do if policy.sources has \"import\", and a plugin judges the events if plugin.sources has it. \
Expired and ephemeral events are not stored, nor are events that the retention rules have removed or would remove for \
their age. Bad lines are counted and skipped. Exits with 1 if the input holds no event, or if reading or storing fails, \
or if storage.max_bytes, storage.map_bytes or storage.min_free_disk_bytes leave no room; it then names the line to resume \
from.")]
pub struct Arguments {
    /// The file with the events; - means standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Do not verify signatures; use this only for events that this relay has exported itself
    #[arg(long)]
    no_verify: bool,
    /// Events per commit; publishers of a running relay wait for one commit, so use about 1000 if it is busy
    #[arg(long, value_name = "N", default_value_t = import::Options::default().batch_events as u32,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Report each line that is not stored on standard error, with the reason
    #[arg(long)]
    show_refused: bool,
}

/// Imports the file and reports the outcome of its lines.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (input, total) = open(&arguments.file)?;
    let read = Arc::new(AtomicU64::new(0));
    let input = CountingReader { input, read: Arc::clone(&read) };
    let (config, store) = global.open_or_create()?;
    let decisions = decisions(Journal::open(&config.management.directory(&config.storage.data))?);
    // What a plugin complains of.
    let judges = config.plugin.judges(Source::Import);
    let _log = judges.then(|| log::start(&config.log, &Counter::default())).transpose()?;
    let settings = Settings { moderation: decisions(), ..config.settings() };
    let parts = Parts {
        rules: Rules::load(settings, &store)?,
        store,
        decisions,
        source: Source::Import,
        verifier: Verifier::new(config.verify),
        options: import::Options {
            verify: !arguments.no_verify,
            batch_events: arguments.batch as usize,
            threads: config.pipeline.verify_threads,
            ..import::Options::default()
        },
        stop: interrupt::watch(),
    };
    let mut reporter = Reporter {
        bar: progress(total, true),
        read,
        show: arguments.show_refused,
        reasons: Vec::new(),
        started: Instant::now(),
    };
    let report = import::import(parts, input, &mut reporter)?;
    reporter.bar.finish_and_clear();
    let printed = reporter.summary(&report);
    let code = end(report, &arguments.file)?;
    printed.map(|()| code)
}

/// What admins decided by now, in whatever process.
pub fn decisions(journal: Journal) -> Decisions {
    let journal = Mutex::new(journal);
    Arc::new(move || {
        let mut journal = journal.lock().expect("nothing panics while it reads the journal");
        if let Err(error) = journal.refresh() {
            say(format_args!("weir: the decisions could not be read again, the former ones stay in force: {error}"));
        }
        Arc::new(journal.moderation().clone())
    })
}

/// Opens the input; also returns its size in bytes if it is known.
fn open(file: &Path) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if file == Path::new("-") {
        if std::io::stdin().is_terminal() {
            say(format_args!("weir: reading events from the terminal; end them with Ctrl-D"));
        }
        return Ok((Box::new(std::io::stdin()), None));
    }
    let open = || -> std::io::Result<_> {
        let input = File::open(file)?;
        let metadata = input.metadata()?;
        Ok((input, metadata.is_file().then_some(metadata.len())))
    };
    let (input, total) = open().with_context(|| format!("cannot read {}", file.display()))?;
    Ok((Box::new(input), total))
}

/// Counts the bytes read from the input, before decompression.
struct CountingReader<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(out)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn end(report: Report, file: &Path) -> anyhow::Result<ExitCode> {
    let next_line = report.next_line;
    let go_on = || format!("nothing from line {next_line} on was imported; resume from there");
    let total: u64 = report.counts.iter().sum();
    match report.end {
        // Piped input may be empty, but a file that the user names should hold events.
        ImportEnd::Complete if total == 0 && file == Path::new("-") => {
            say(format_args!("weir: the input is empty"));
            Ok(ExitCode::SUCCESS)
        }
        ImportEnd::Complete if total == 0 => anyhow::bail!("{} is empty", file.display()),
        ImportEnd::Complete if total == report.count(LineOutcome::Invalid) => anyhow::bail!(
            "the input contains no event and looks like {}; see weir import --help for the supported formats",
            report.looks_like
        ),
        ImportEnd::Complete => Ok(ExitCode::SUCCESS),
        ImportEnd::Unsupported(unsupported) => Err(unsupported.into()),
        ImportEnd::Interrupted => {
            say(format_args!("weir: interrupted; resume from line {next_line}"));
            Ok(interrupt::EXIT_CODE.into())
        }
        ImportEnd::Full(limit) => anyhow::bail!(
            "the store is full: line {next_line} was not stored; {}, then resume from there",
            make_room(limit)
        ),
        ImportEnd::Unreadable(error) => Err(error).context("cannot read the input").with_context(go_on),
        ImportEnd::Store(error) => Err(error).with_context(go_on),
    }
}

/// Reports progress on standard error and keeps the first reasons for the summary.
struct Reporter {
    bar: ProgressBar,
    /// Bytes of the input read so far.
    read: Arc<AtomicU64>,
    show: bool,
    reasons: Vec<Verdict>,
    started: Instant,
}

impl Observer for Reporter {
    fn not_stored(&mut self, verdict: &Verdict) {
        let Verdict { line, outcome, reason, .. } = verdict;
        if self.show {
            self.bar.suspend(|| say(format_args!("line {line}: {}: {reason}", outcome.as_str())));
        }
        if DEFECTS.contains(outcome) && self.reasons.len() < LISTED {
            self.reasons.push(verdict.clone());
        }
    }

    fn progress(&mut self, so_far: &Report) {
        self.bar.set_message(format!("{} stored, ", HumanCount(so_far.count(LineOutcome::Stored))));
        self.bar.set_position(self.read.load(Ordering::Relaxed));
    }
}

impl Reporter {
    fn summary(&self, report: &Report) -> anyhow::Result<()> {
        let mut out = stdout();
        let (lines, seconds) = (report.counts.iter().sum::<u64>(), self.started.elapsed().as_secs_f64());
        writeln!(out, "{lines} events in {seconds:.1} s, {:.0} per second", lines as f64 / seconds.max(1e-3))?;
        // What is in a file was asked for.
        for outcome in LineOutcome::ALL.into_iter().filter(|outcome| *outcome != LineOutcome::Unwanted) {
            writeln!(out, "  {}: {}", outcome.as_str(), report.count(outcome))?;
        }
        let defects: u64 = DEFECTS.iter().map(|outcome| report.count(*outcome)).sum();
        if !self.reasons.is_empty() {
            writeln!(out, "{}:", if defects > LISTED as u64 { "the first reasons" } else { "reasons" })?;
        }
        for Verdict { line, outcome, reason, .. } in &self.reasons {
            writeln!(out, "  line {line}: {}: {reason}", outcome.as_str())?;
        }
        Ok(out.flush()?)
    }
}
