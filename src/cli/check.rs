//! `weir check`: looks for damage in the store and repairs indexes.

use std::io::Write as _;
use std::process::ExitCode;

use super::global::Global;
use super::output::{progress, stdout};
use crate::pipeline::ingest::signatures::Signatures;
use crate::schnorr::Verifier;
use crate::store::{Problem, Repaired, Store};

/// Arguments of `weir check`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir check                                  check records, ids, indexes, tombstones and some signatures
  weir check --signatures all                 check every signature, too
  weir check --repair                         repair the indexes from the records, then check

Changes nothing without --repair. Works while the relay runs: it checks the store as it was at the start. Exits with 1 \
if there are problems.")]
pub struct Arguments {
    /// The number of signatures to check, spread evenly: all, none or a number
    #[arg(long, value_name = "all|N|none", default_value = "10000", value_parser = sample)]
    signatures: u64,
    /// First repair the store: add missing index entries, remove stray ones, and drop damaged records
    #[arg(long)]
    repair: bool,
}

/// Rows repaired per commit; a running relay waits for at most one commit.
const REPAIR_ROWS: usize = 1000;

fn sample(text: &str) -> Result<u64, String> {
    match text {
        "all" => Ok(u64::MAX),
        "none" => Ok(0),
        number => number.parse().map_err(|_| "expected all, none or a number".into()),
    }
}

/// The maximum number of wrong signatures that are listed; the rest are only counted.
const LISTED: usize = 100;

/// Checks the store and lists the problems.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = global.open()?;
    if arguments.repair {
        repair(&store)?;
    }
    let events = store.usage()?.events();
    // Signatures are checked of every event whose position is a multiple of this.
    let stride = events.div_ceil(arguments.signatures.max(1)).max(1);
    let bar = progress(Some(events), false);
    let mut signatures = Signatures::new(Verifier::new(config.verify))?;
    let (mut visited, mut sampled) = (0_u64, 0_u64);
    let report = store.check(|seq, event| {
        if arguments.signatures > 0 && visited.is_multiple_of(stride) {
            signatures.add(seq, event);
            sampled += 1;
        }
        visited += 1;
        bar.set_position(visited);
    })?;
    let wrong = signatures.finish();
    bar.finish_and_clear();
    let mut out = stdout();
    for Problem { seq, what } in &report.problems {
        writeln!(out, "event {seq}: {what}")?;
    }
    let snapshot = store.read()?;
    for &seq in wrong.iter().take(LISTED) {
        let id = snapshot.get(seq)?.map_or_else(|| "removed meanwhile".to_owned(), |event| event.id().to_string());
        writeln!(out, "event {seq}: the signature is wrong ({id})")?;
    }
    drop(snapshot);
    let waiting = report.awaiting_purge;
    writeln!(out, "{} events, {sampled} signatures, {waiting} events awaiting removal", report.events)?;
    let problems = report.problem_count + wrong.len() as u64;
    if problems == 0 {
        writeln!(out, "no problems found")?;
    } else {
        let listed = report.problems.len() + wrong.len().min(LISTED);
        writeln!(out, "{problems} problems, {listed} of them listed")?;
    }
    out.flush()?;
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Repairs the indexes and reports the changes.
fn repair(store: &Store) -> anyhow::Result<()> {
    let bar = progress(Some(store.usage()?.events()), false);
    let done = store.writer().repair(REPAIR_ROWS, |so_far| bar.set_position(so_far.events))?;
    bar.finish_and_clear();
    let Repaired { added, removed, dropped, .. } = done;
    let mut out = stdout();
    writeln!(out, "repaired: {added} entries added, {removed} removed, {dropped} records dropped")?;
    Ok(out.flush()?)
}
