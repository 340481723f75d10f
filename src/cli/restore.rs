//! `weir restore`: a store from a backup.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::HumanCount;

use super::output::{progress_of, stdout};
use super::{Common, interrupt};
use crate::backup::{self, BackupError, Manifest, Restored};
use crate::pipeline::now;

/// Arguments of `weir restore`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir restore /backups/relay --data new     then: weir serve --data new
  weir restore /backups/relay --config /etc/weir/weir.toml

Where a store is, nothing is done. What was deleted stays deleted, also when somebody sends it again. Killed half-way
there is no store, and the next try begins anew. The store is checked at the end, as by weir check.")]
pub struct Arguments {
    /// The directory of the backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Restores the backup and checks the store.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = common.config()?;
    config.validate()?;
    let path = &config.storage.data;
    let stop = interrupt::watch();
    let bar = progress_of(Manifest::read(&arguments.dir)?.map_or(0, |manifest| manifest.events), "events");
    let mut tell = |read, _| bar.set_position(read);
    let restored = backup::restore(&arguments.dir, path, config.storage.options(), now(), &mut tell, stop);
    bar.finish_and_clear();
    if let Err(BackupError::Interrupted) = restored {
        eprintln!("weir: interrupted; there is no store in {}", path.display());
        return Ok(interrupt::EXIT_CODE.into());
    }
    let Restored { stored, expired, superseded, tombstones } = restored.context("nothing is restored")?;
    let mut out = stdout();
    writeln!(out, "{} events and {tombstones} tombstones restored to {}", HumanCount(stored), path.display())?;
    if expired + superseded > 0 {
        writeln!(out, "{expired} events are expired, {superseded} were removed while the backup was made")?;
    }
    let (_, store) = common.open()?;
    let bar = progress_of(stored, "events checked");
    let report = store.check(|_, _| bar.inc(1))?;
    bar.finish_and_clear();
    anyhow::ensure!(report.is_clean(), "the store has {} problems: see weir check", report.problem_count);
    writeln!(out, "nothing is wrong")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
