//! `weir delete`: removes what a query finds.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use super::arguments::{Filters, duration, filters};
use super::global::Global;
use super::interrupt;
use super::output::{progress, say, stdout};
use super::stream::{NO_LIMITS, Slices as _};
use crate::nostr::{EventView, Timestamp};
use crate::pipeline::now;
use crate::store::{Flow, Query, Removed, Return, Scan, Seq, Step, Store, StoreError};

/// Events removed in one commit: a few hundredths of a second that a running relay waits at the most.
const STEP_EVENTS: usize = 512;

/// Arguments of `weir delete`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir delete --dry-run --filter '{\"kinds\":[1],\"authors\":[\"<hex>\"]}'
  weir delete --bar --filter '{\"ids\":[\"<hex>\"]}'       and refuse it from now on
  weir delete --older-than 90d                         what was created more than 90 days ago
  weir delete --older-than 30d --filter '{\"kinds\":[7]}'

Removes what `weir scan` with the same filter finds, a filter's limit included, and expired events too. Works \
while the relay runs, in steps of 512 events. The room can be used again at once; the file gets no smaller.")]
pub struct Arguments {
    /// What to remove: a filter, or an array of them
    #[arg(long, value_name = "JSON", value_parser = filters, required_unless_present_any = ["older_than", "all"])]
    filter: Option<Filters>,
    /// Only what was created so long ago, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<u64>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// Refuse the events from now on, as if their authors had deleted them
    #[arg(long)]
    bar: bool,
    /// Allow a filter without any condition, which removes everything
    #[arg(long)]
    all: bool,
}

/// Removes the events and tells how many there were.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let until = arguments.older_than.map(|age| Timestamp(now().0.saturating_sub(age)));
    let filters = arguments.filter.clone().unwrap_or_else(Filters::all).within(None, until);
    if filters.has_empty() && !arguments.all {
        say(format_args!("weir: a filter without a condition removes everything; say --all if that is meant"));
        return Ok(ExitCode::from(2));
    }
    let (_, store) = global.open()?;
    let back = if arguments.bar { Return::Barred } else { Return::Allowed };
    let (removed, is_interrupted) = remove(&store, filters, (!arguments.dry_run).then_some(back))?;
    let mut out = stdout();
    let what = if arguments.dry_run { "would be removed" } else { "removed" };
    writeln!(out, "{} events {what}, {} bytes of records", removed.events, removed.bytes)?;
    out.flush()?;
    if is_interrupted {
        say(format_args!("weir: interrupted; there may be more"));
        return Ok(interrupt::EXIT_CODE.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes what the filters find, step by step; without `back` it is only counted. True when interrupted.
fn remove(store: &Store, filters: Filters, back: Option<Return>) -> Result<(Removed, bool), StoreError> {
    let mut scan = Scan::new(Query { filters: filters.0, until_seq: Seq::MAX, limits: Some(NO_LIMITS) });
    let (bar, stop) = (progress(None, false), interrupt::watch());
    let mut writer = store.writer();
    let mut total = Removed::default();
    let mut step = Step::Paused;
    while step == Step::Paused && !stop.load(Ordering::Relaxed) {
        let (mut seqs, mut found) = (Vec::new(), Removed::default());
        let mut visitor = |seq: Seq, event: EventView<'_>| {
            seqs.push(seq);
            found.events += 1;
            found.bytes += event.record().len() as u64;
            if seqs.len() < STEP_EVENTS { Flow::Continue } else { Flow::Pause }
        };
        step = scan.slice(&store.read()?, &mut visitor)?;
        if let Some(back) = back
            && !seqs.is_empty()
        {
            found = writer.remove(&seqs, back)?;
        }
        total.events += found.events;
        total.bytes += found.bytes;
        bar.set_position(total.events);
    }
    bar.finish_and_clear();
    Ok((total, step == Step::Paused))
}
