//! `weir compact`: gives the space of removed events back to the file system.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use indicatif::BinaryBytes;

use super::global::Global;
use super::interrupt;
use super::output::{progress_of, say, stdout};
use crate::store::{Compacted, Compaction, Stage};

/// Arguments of `weir compact`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir compact                 also while the relay runs on the same --data
  weir compact --no-check      without reading the copy back before it is used

Copies the store into a new file, catches up with what changed meanwhile, and moves the store there; a running
relay follows, and its writes wait for some milliseconds. Needs room for the copy beside the old file. Stopped or
killed at any time it leaves the store as it was. LMDB uses free pages again, so a store from which as much is
removed as comes in needs none of this: it is for after a mass deletion.")]
pub struct Arguments {
    /// Do not check every record and index entry of the copy before it becomes the store
    #[arg(long)]
    no_check: bool,
}

/// Compacts the store.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (_, store) = global.open()?;
    let stop = interrupt::watch();
    let mut compaction = Compaction::begin(&store)?;
    let (_, rows) = compaction.progress();
    let bar = progress_of(rows, "rows");
    while compaction.step()? != Stage::Ready {
        bar.set_position(compaction.progress().0);
        if stop.load(Ordering::Relaxed) {
            compaction.abort()?;
            bar.finish_and_clear();
            say(format_args!("weir: interrupted; the store is as it was"));
            return Ok(interrupt::EXIT_CODE.into());
        }
    }
    bar.finish_and_clear();
    if !arguments.no_check {
        let bar = progress_of(store.usage()?.events(), "events checked");
        let report = compaction.check(|| bar.inc(1))?;
        bar.finish_and_clear();
        if !report.is_clean() {
            compaction.abort()?;
            anyhow::bail!(
                "the copy has {} problems, and so has the store: see weir check; nothing was changed",
                report.problem_count
            );
        }
    }
    let Compacted { before_bytes, after_bytes, pause } = compaction.finish()?;
    let (before, after) = (BinaryBytes(before_bytes), BinaryBytes(after_bytes));
    let mut out = stdout();
    writeln!(out, "compacted: {before} before, {after} now; writes waited {:.1} ms", pause.as_secs_f64() * 1e3)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
