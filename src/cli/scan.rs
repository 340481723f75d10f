//! `weir scan`: runs a query, counts its results or explains it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use indicatif::ProgressBar;

use super::arguments::{Filters, filters};
use super::global::Global;
use super::output::say;
use super::{interrupt, output, stream};
use crate::store::{Query, Scan, Seq};

/// Arguments of `weir scan`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir scan '{\"kinds\":[1],\"limit\":10}'               print the newest ten notes
  weir scan --count '{\"#t\":[\"nostr\"]}'               count the events
  weir scan --explain '{\"authors\":[\"<hex>\"],\"kinds\":[1]}'   show index, rows and time

Events are printed newest first. Unlike a client, the operator sees every kind, and a filter without limit returns \
everything. Expired and vanished events are left out.")]
pub struct Arguments {
    /// A filter or an array of filters; - reads from standard input
    #[arg(value_name = "FILTER", value_parser = filters)]
    filters: Filters,
    /// Print the number of events instead of the events
    #[arg(long, conflicts_with = "explain")]
    count: bool,
    /// Print how the query is answered instead of the events
    #[arg(long)]
    explain: bool,
    /// Return at most this many events, over all filters
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Runs the query.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (_, store) = global.open()?;
    let filters = arguments.filters.0.clone();
    let mut scan = Scan::new(Query { filters, until_seq: Seq::MAX, limits: Some(stream::NO_LIMITS) });
    let (limit, bar, stop) = (arguments.limit.unwrap_or(u64::MAX), ProgressBar::hidden(), interrupt::watch());
    let mut out = output::stream();
    let started = Instant::now();
    if arguments.explain {
        for (number, plan) in (1..).zip(scan.explain(&store.read()?)?) {
            writeln!(out, "filter {number}: {plan}")?;
        }
    }
    let is_silent = arguments.count || arguments.explain;
    let lines: Option<&mut dyn Write> = if is_silent { None } else { Some(&mut out) };
    let ended = stream::run(&store, &mut scan, limit, lines, &bar, stop)?;
    if arguments.count {
        writeln!(out, "{}", ended.events)?;
    } else if arguments.explain {
        writeln!(out, "events: {}", ended.events)?;
        writeln!(out, "rows examined and ranges opened: {}", scan.spent())?;
        writeln!(out, "milliseconds: {:.3}", started.elapsed().as_secs_f64() * 1e3)?;
    }
    out.flush()?;
    if ended.is_interrupted {
        say(format_args!("weir: interrupted; the result is incomplete"));
        return Ok(interrupt::EXIT_CODE.into());
    }
    Ok(ExitCode::SUCCESS)
}
