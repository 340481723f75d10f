//! `weir compact`: returns the space of removed events to the file system.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use indicatif::BinaryBytes;

use super::global::Global;
use super::interrupt;
use super::output::{progress_of, say, stdout};
use super::room::want_of_room;
use crate::store::{Compacted, Compaction, Stage};

/// Arguments of `weir compact`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir compact                 compact the store, even while the relay runs on it
  weir compact --no-check      do not verify the copy before switching to it

Copies the store into a new file, applies the changes made meanwhile, and switches to the new file. A running relay
follows; its writes pause for a few milliseconds. The file system needs room for both files; when it has less free than
storage.min_free_disk_bytes, the command removes the copy and exits with 1. If it is interrupted or killed, the store
is unchanged. LMDB reuses free pages, so a store whose size is stable need not be compacted: use
this after a mass deletion.")]
pub struct Arguments {
    /// Do not check every record and index entry of the copy before switching to it
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
    loop {
        match compaction.step() {
            Ok(Stage::Ready) => break,
            Ok(Stage::Copying | Stage::CatchingUp) => {}
            Err(error) => {
                compaction.abort()?;
                bar.finish_and_clear();
                return Err(want_of_room(error)).context("the store is unchanged");
            }
        }
        bar.set_position(compaction.progress().0);
        if stop.load(Ordering::Relaxed) {
            compaction.abort()?;
            bar.finish_and_clear();
            say(format_args!("weir: interrupted; the store is unchanged"));
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
                "the copy has {} problems, so the store has them too: see weir check; nothing was changed",
                report.problem_count
            );
        }
    }
    let Compacted { before_bytes, after_bytes, pause } = compaction.finish()?;
    let (before, after) = (BinaryBytes(before_bytes), BinaryBytes(after_bytes));
    let mut out = stdout();
    writeln!(out, "compacted: {before} before, {after} now; writes paused for {:.1} ms", pause.as_secs_f64() * 1e3)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
