//! `weir export`: writes stored events to a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::HumanCount;

use super::arguments::{Filters, filters, time};
use super::global::Global;
use super::interrupt;
use super::output::{self, progress, say};
use super::stream::{self, Ended};
use crate::nostr::Timestamp;
use crate::store::{OldestFirst, Query, Scan, Seq, sync_names};

/// Arguments of `weir export`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir export > events.jsonl                          all events, oldest first
  weir export --since 30d notes.jsonl                 events of the last 30 days
  weir export --filter '{\"kinds\":[0,3,10002]}' | zstd > profiles.jsonl.zst

Works while the relay runs. Every event that is stored throughout is exported; events that arrive meanwhile may be \
missing. Expired events, and those awaiting removal after a vanish request, are left out.")]
pub struct Arguments {
    /// The file to write; - means standard output
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Export only events that match: a filter or an array of filters
    #[arg(long, value_name = "JSON", value_parser = filters)]
    filter: Option<Filters>,
    /// Export only events created at this time or later: unix seconds, or an age such as 30d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Export only events created at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Export the newest events first
    #[arg(long)]
    reverse: bool,
}

/// Writes the requested events.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (_, store) = global.open()?;
    let is_all = arguments.filter.is_none() && arguments.since.is_none() && arguments.until.is_none();
    let filters = arguments.filter.clone().unwrap_or_else(Filters::all).within(arguments.since, arguments.until).0;
    let total = if is_all { Some(store.usage()?.events()) } else { None };
    let (bar, stop) = (progress(total, false), interrupt::watch());
    let write = |out: &mut dyn Write| -> anyhow::Result<Ended> {
        if arguments.reverse {
            let mut scan = Scan::new(Query { filters, until_seq: Seq::MAX, limits: None });
            stream::run(&store, &mut scan, u64::MAX, Some(out), &bar, stop)
        } else {
            stream::run(&store, &mut OldestFirst::new(filters), u64::MAX, Some(out), &bar, stop)
        }
    };
    let ended = if arguments.file == Path::new("-") {
        let mut out = output::stream();
        let ended = write(&mut out)?;
        out.flush()?;
        ended
    } else {
        let context = || format!("cannot write {}", arguments.file.display());
        let mut file = File::create(&arguments.file).with_context(context)?;
        let ended = write(&mut file).with_context(context)?;
        // Pipes and terminals cannot be synced; a file must be, with its name, or a power failure may lose it.
        if file.metadata()?.is_file() {
            file.sync_all().with_context(context)?;
            sync_names(arguments.file.parent().unwrap_or(Path::new("/"))).with_context(context)?;
        }
        ended
    };
    bar.finish_and_clear();
    say(format_args!("{} events exported", HumanCount(ended.events)));
    if ended.is_interrupted {
        say(format_args!("weir: interrupted; the export is incomplete"));
        return Ok(interrupt::EXIT_CODE.into());
    }
    Ok(ExitCode::SUCCESS)
}
