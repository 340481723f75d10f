//! `weir restore`: creates a store from a backup.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::{BinaryBytes, HumanCount};

use super::global::Global;
use super::output::{progress_of, say, stdout};
use super::room::want_of_room;
use super::{interrupt, time};
use crate::backup::{self, BackupError, Manifest, Restored, StateChoice};
use crate::config::Config;
use crate::management::copies::{self, Put};
use crate::nostr::Timestamp;
use crate::pipeline::now;
use crate::store::Store;

/// Arguments of `weir restore`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir restore /backups/relay --data new                     restore the newest state; then: weir serve --data new
  weir restore /backups/relay --data new --as-of 2026-11-27  the state at the end of that day (UTC)
  weir restore /backups/relay --config /etc/weir/weir.toml

An existing store is never touched. Deleted events stay deleted, even if somebody sends them again. An earlier state
(--as-of) includes events that retention rules or weir delete removed since, but not events that their authors deleted
since; weir backup DIR --list shows the states. A restore that is killed leaves no store, and the next one starts over.
Nor does one that would leave less free on the disk than storage.min_free_disk_bytes; it exits with 1.
At the end the store is checked, as by weir check.")]
pub struct Arguments {
    /// The directory of the backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Restore the newest state up to this time: 2026-11-28 (the end of that day), 2026-11-28T14:00, optionally with Z
    /// or an offset, or unix seconds
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    as_of: Option<Timestamp>,
    /// Restore the state of this run
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    run: Option<u64>,
}

impl Arguments {
    fn which(&self) -> StateChoice {
        let run = self.run.map(StateChoice::Run);
        run.or(self.as_of.map(StateChoice::AsOf)).unwrap_or_default()
    }
}

/// Puts what admins had decided beside the store, before there is one: a restore that is killed leaves no store without
/// its bans. Returns what to tell.
fn restore_decisions(config: &Config, arguments: &Arguments, which: StateChoice) -> anyhow::Result<Option<String>> {
    let files: Vec<_> =
        backup::attached(&arguments.dir, which)?.into_iter().map(|file| (file.name, file.bytes)).collect();
    if files.is_empty() || Store::exists(&config.storage.data) {
        return Ok(None);
    }
    let dir = config.management.directory(&config.storage.data);
    let put = copies::put(&dir, &files).context("the decisions of admins cannot be restored; nothing was restored")?;
    Ok(Some(match put {
        Put::Done => format!("the decisions of admins are restored to {}", dir.display()),
        Put::Kept => format!("{} has other decisions of admins, which stay", dir.display()),
    }))
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
    let decisions = restore_decisions(&config, arguments, which)?;
    let bar = progress_of(state.events, "events");
    let mut tell = |read| bar.set_position(read);
    let restored = backup::restore(&arguments.dir, path, config.storage.options(), (which, now()), &mut tell, stop);
    bar.finish_and_clear();
    if let Err(BackupError::Interrupted) = restored {
        say(format_args!("weir: interrupted; there is no store in {}", path.display()));
        return Ok(interrupt::EXIT_CODE.into());
    }
    let restored = restored.map_err(want_of_room).context("nothing was restored")?;
    let Restored { stored, expired, superseded, tombstones } = restored;
    let mut out = stdout();
    writeln!(out, "{} events and {tombstones} tombstones restored to {}", HumanCount(stored), path.display())?;
    writeln!(out, "the state is that of run {}, {} UTC", state.run, time::display(Timestamp(state.created_at)))?;
    if let Some(told) = decisions {
        writeln!(out, "{told}")?;
    }
    if expired + superseded > 0 {
        writeln!(out, "{expired} events have expired, {superseded} were removed meanwhile")?;
    }
    let (_, store) = global.open()?;
    let bar = progress_of(stored, "events checked");
    let report = store.check(|_, _| bar.inc(1))?;
    bar.finish_and_clear();
    anyhow::ensure!(report.is_clean(), "the store has {} problems: see weir check", report.problem_count);
    writeln!(out, "no problems found")?;
    let (used, max) = (store.room()?.used_bytes, config.storage.max_bytes);
    if max > 0 && used > max {
        let (used, max) = (BinaryBytes(used), BinaryBytes(max));
        writeln!(
            out,
            "the events take {used}, which exceeds storage.max_bytes, {max}: see weir retention --dry-run before you start the relay"
        )?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
