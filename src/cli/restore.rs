//! `weir restore`: a store from a backup.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::{BinaryBytes, HumanCount};

use super::global::Global;
use super::output::{progress_of, say, stdout};
use super::{interrupt, time};
use crate::backup::{self, BackupError, Manifest, Restored, Which};
use crate::nostr::Timestamp;
use crate::pipeline::now;

/// Arguments of `weir restore`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir restore /backups/relay --data new                     then: weir serve --data new
  weir restore /backups/relay --data new --as-of 2026-11-27  as it was at the end of that day (UTC)
  weir restore /backups/relay --config /etc/weir/weir.toml

An existing store is never touched. What was deleted stays deleted, even when somebody sends it again. --as-of brings
back what retention rules or weir delete removed later, but not what the authors themselves deleted later; weir backup
DIR --list shows the states. Killed half-way there is no store, and the next try starts over. The store is checked at
the end, as by weir check.")]
pub struct Arguments {
    /// The directory of the backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Restore the newest state that is not later: 2026-11-28 (its end), 2026-11-28T14:00, with Z or an offset, or
    /// seconds since 1970
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    as_of: Option<Timestamp>,
    /// Restore the state of this run
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    run: Option<u64>,
}

impl Arguments {
    fn which(&self) -> Which {
        let run = self.run.map(Which::Run);
        run.or(self.as_of.map(Which::AsOf)).unwrap_or_default()
    }
}

/// Restores the backup and checks the store.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    config.validate()?;
    let path = &config.storage.data;
    let stop = interrupt::watch();
    let manifest = Manifest::read(&arguments.dir)?.ok_or_else(|| BackupError::Absent(arguments.dir.clone()))?;
    let which = arguments.which();
    let state = which.of(&manifest)?;
    let bar = progress_of(state.events, "events");
    let mut tell = |read| bar.set_position(read);
    let restored = backup::restore(&arguments.dir, path, config.storage.options(), (which, now()), &mut tell, stop);
    bar.finish_and_clear();
    if let Err(BackupError::Interrupted) = restored {
        say(format_args!("weir: interrupted; there is no store in {}", path.display()));
        return Ok(interrupt::EXIT_CODE.into());
    }
    let Restored { stored, expired, superseded, tombstones } = restored.context("nothing is restored")?;
    let mut out = stdout();
    writeln!(out, "{} events and {tombstones} tombstones restored to {}", HumanCount(stored), path.display())?;
    writeln!(out, "the state is of run {}, {} UTC", state.run, time::display(Timestamp(state.created_at)))?;
    if expired + superseded > 0 {
        writeln!(out, "{expired} events are expired, {superseded} were removed meanwhile")?;
    }
    let (_, store) = global.open()?;
    let bar = progress_of(stored, "events checked");
    let report = store.check(|_, _| bar.inc(1))?;
    bar.finish_and_clear();
    anyhow::ensure!(report.is_clean(), "the store has {} problems: see weir check", report.problem_count);
    writeln!(out, "nothing is wrong")?;
    let (used, max) = (store.room()?.used_bytes, config.storage.max_bytes);
    if max > 0 && used > max {
        let (used, max) = (BinaryBytes(used), BinaryBytes(max));
        writeln!(
            out,
            "the events take {used}, more than storage.max_bytes, {max}: see weir retention --dry-run before the relay starts"
        )?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
