//! `weir delete`: removes the events that a query finds.

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

/// Events removed per commit: a running relay waits for at most a few hundredths of a second.
const STEP_EVENTS: usize = 512;

/// Arguments of `weir delete`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir delete --dry-run --filter '{\"kinds\":[1],\"authors\":[\"<hex>\"]}'
  weir delete --refuse --filter '{\"ids\":[\"<hex>\"]}'    and refuse the event from now on
  weir delete --older-than 90d                         events created more than 90 days ago
  weir delete --older-than 30d --filter '{\"kinds\":[7]}'

Removes the events that `weir scan` finds with the same filter, including its limit, and expired events as well. Works \
while the relay runs, in steps of 512 events. The space is reusable at once, but the file does not shrink.")]
pub struct Arguments {
    /// Remove events that match: a filter or an array of filters
    #[arg(long, value_name = "JSON", value_parser = filters, required_unless_present_any = ["older_than", "all"])]
    filter: Option<Filters>,
    /// Remove only events created longer ago than this, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<u64>,
    /// Only count the events
    #[arg(long)]
    dry_run: bool,
    /// Refuse the events from now on, as if their authors had deleted them
    #[arg(long, alias = "bar")]
    refuse: bool,
    /// Allow a filter without conditions, which removes everything
    #[arg(long)]
    all: bool,
}

/// Removes the events and reports how many there were.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let until = arguments.older_than.map(|age| Timestamp(now().0.saturating_sub(age)));
    let filters = arguments.filter.clone().unwrap_or_else(Filters::all).within(None, until);
    if filters.has_empty() && !arguments.all {
        say(format_args!("weir: a filter without conditions removes everything; add --all if you mean it"));
        return Ok(ExitCode::from(2));
    }
    let (_, store) = global.open()?;
    let back = if arguments.refuse { Return::Refused } else { Return::Allowed };
    let (removed, is_interrupted) = remove(&store, filters, (!arguments.dry_run).then_some(back))?;
    let mut out = stdout();
    let what = if arguments.dry_run { "would be removed" } else { "removed" };
    writeln!(out, "{} events {what}, {} bytes of records", removed.events, removed.bytes)?;
    out.flush()?;
    if is_interrupted {
        say(format_args!("weir: interrupted; there may be more events"));
        return Ok(interrupt::EXIT_CODE.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the events that the filters find, step by step; without `back` it only counts them. Returns true when
/// interrupted.
pub fn remove(store: &Store, filters: Filters, back: Option<Return>) -> Result<(Removed, bool), StoreError> {
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
