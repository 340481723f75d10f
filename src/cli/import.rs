//! `weir import`: events from a file into the store.

use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use indicatif::{HumanCount, ProgressBar};

use super::global::Global;
use super::interrupt;
use super::output::{progress, say, stdout};
use crate::import::{self, End, Fate, Observer, Parts, Report, Verdict};
use crate::schnorr::Verifier;

/// Reasons that the summary lists.
const LISTED: usize = 10;

/// What needs a reason: it should not be in the file, or the operator's rules are against it.
const DEFECTS: [Fate; 4] = [Fate::Invalid, Fate::InvalidDeletion, Fate::Refused, Fate::NotKept];

/// Arguments of `weir import`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir import events.jsonl                    one event in JSON on each line
  weir import events.json.gz                  an array of events, compressed
  ssh other weir export | weir import         from another program
  weir import --show-refused events.jsonl 2> refused.txt

Reads events as JSON, on lines, in arrays or one behind the other, and relay messages with an event (EVENT, as \
clients and relays send it), plain or compressed with gzip or zstd. Works while the relay runs on the same --data: its subscribers get what arrives. Limits, dates and lists of \
the configuration are not applied; expired and ephemeral events are not stored, nor what the retention rules have \
removed or would remove for its age. A bad line is counted and passed \
over. Exits 1 when there is no event in the input, and when the input or the store failed: then it tells the line to \
go on from.")]
pub struct Arguments {
    /// The file with events as JSON; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Take signatures on trust: only for what this relay has exported itself
    #[arg(long)]
    no_verify: bool,
    /// Events per commit; the publishers of a running relay wait for one commit, so 1000 is kinder beside a busy one
    #[arg(long, value_name = "N", default_value_t = import::Options::default().batch_events as u32,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Name each line that is not stored, with the reason, on standard error
    #[arg(long)]
    show_refused: bool,
}

/// Imports the file and tells what became of its lines.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (input, total) = open(&arguments.file)?;
    let read = Arc::new(AtomicU64::new(0));
    let input = Counted { input, read: Arc::clone(&read) };
    let (config, store) = global.open_or_create()?;
    let parts = Parts {
        store,
        settings: config.settings(),
        verifier: Verifier::new(config.verify),
        options: import::Options {
            verify: !arguments.no_verify,
            batch_events: arguments.batch as usize,
            threads: config.pipeline.verify_threads,
            ..import::Options::default()
        },
        stop: interrupt::watch(),
    };
    let mut teller = Teller {
        bar: progress(total, true),
        read,
        show: arguments.show_refused,
        reasons: Vec::new(),
        started: Instant::now(),
    };
    let report = import::import(parts, input, &mut teller)?;
    teller.bar.finish_and_clear();
    let told = teller.summary(&report);
    let code = end(report, &arguments.file)?;
    told.map(|()| code)
}

/// The input, and its bytes if they are known.
fn open(file: &Path) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if file == Path::new("-") {
        if std::io::stdin().is_terminal() {
            say(format_args!("weir: reading events from this terminal; Ctrl-D ends them"));
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

/// Counts what is read of the file, compressed or not.
struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(out)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn end(report: Report, file: &Path) -> anyhow::Result<ExitCode> {
    let next_line = report.next_line;
    let go_on = || format!("nothing is imported from line {next_line} on; go on from there");
    let total: u64 = report.counts.iter().sum();
    match report.end {
        // An export that is piped in may hold nothing; who names a file means one with events.
        End::Complete if total == 0 && file == Path::new("-") => {
            say(format_args!("weir: there was nothing to read"));
            Ok(ExitCode::SUCCESS)
        }
        End::Complete if total == 0 => anyhow::bail!("there is nothing in {}", file.display()),
        End::Complete if total == report.count(Fate::Invalid) => anyhow::bail!(
            "there is no event in the input, which looks like {}; see weir import --help for what is read",
            report.looks_like
        ),
        End::Complete => Ok(ExitCode::SUCCESS),
        End::Foreign(foreign) => Err(foreign.into()),
        End::Interrupted => {
            say(format_args!("weir: interrupted; go on from line {next_line}"));
            Ok(interrupt::EXIT_CODE.into())
        }
        End::Full => anyhow::bail!(
            "the store is full: line {next_line} was not stored; make room or raise storage.max_bytes and \
             storage.map_bytes, then go on from there"
        ),
        End::Unreadable(error) => Err(error).context("cannot read on").with_context(go_on),
        End::Store(error) => Err(error).with_context(go_on),
    }
}

/// Tells how it goes on standard error, and keeps the first reasons for the summary.
struct Teller {
    bar: ProgressBar,
    /// Bytes of the input that were read.
    read: Arc<AtomicU64>,
    show: bool,
    reasons: Vec<Verdict>,
    started: Instant,
}

impl Observer for Teller {
    fn not_stored(&mut self, verdict: &Verdict) {
        let Verdict { line, fate, reason } = verdict;
        if self.show {
            self.bar.suspend(|| say(format_args!("line {line}: {}: {reason}", fate.as_str())));
        }
        if DEFECTS.contains(fate) && self.reasons.len() < LISTED {
            self.reasons.push(verdict.clone());
        }
    }

    fn progress(&mut self, so_far: &Report) {
        self.bar.set_message(format!("{} stored, ", HumanCount(so_far.count(Fate::Stored))));
        self.bar.set_position(self.read.load(Ordering::Relaxed));
    }
}

impl Teller {
    fn summary(&self, report: &Report) -> anyhow::Result<()> {
        let mut out = stdout();
        let (lines, seconds) = (report.counts.iter().sum::<u64>(), self.started.elapsed().as_secs_f64());
        writeln!(out, "{lines} events in {seconds:.1} s, {:.0} a second", lines as f64 / seconds.max(1e-3))?;
        for fate in Fate::ALL {
            writeln!(out, "  {}: {}", fate.as_str(), report.count(fate))?;
        }
        let defects: u64 = DEFECTS.iter().map(|fate| report.count(*fate)).sum();
        if !self.reasons.is_empty() {
            writeln!(out, "{}:", if defects > LISTED as u64 { "the first reasons" } else { "reasons" })?;
        }
        for Verdict { line, fate, reason } in &self.reasons {
            writeln!(out, "  line {line}: {}: {reason}", fate.as_str())?;
        }
        Ok(out.flush()?)
    }
}
