//! `weir upgrade`: upgrades a store that an earlier version wrote.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use super::global::Global;
use super::interrupt;
use super::output::{progress_of, say, stdout};
use crate::store::{FORMAT, Store, Upgrade};

/// Arguments of `weir upgrade`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir backup /backups/relay   first create a backup, with the version that wrote the store
  weir upgrade                 then upgrade the store, and start the relay again

Stop the relay first. The upgrade works in place and needs no space for a second copy. If it is interrupted or killed,
no version opens the store until weir upgrade has completed.")]
pub struct Arguments {}

/// Upgrades the store if it has an earlier format.
pub fn run(global: &Global, _: &Arguments) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    config.validate()?;
    let data = &config.storage.data;
    anyhow::ensure!(Store::exists(data), "there is no store in {}; use --data for another directory", data.display());
    let mut out = stdout();
    let Some(mut upgrade) = Upgrade::find(data, &config.storage.options())? else {
        writeln!(out, "the store already has format {FORMAT}")?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    };
    let (from, stop) = (upgrade.from(), interrupt::watch());
    let bar = progress_of(upgrade.progress().1, "events");
    while upgrade.step()? {
        bar.set_position(upgrade.progress().0);
        if stop.load(Ordering::Relaxed) {
            bar.finish_and_clear();
            say(format_args!("weir: interrupted; run weir upgrade again to continue"));
            return Ok(interrupt::EXIT_CODE.into());
        }
    }
    bar.finish_and_clear();
    writeln!(out, "upgraded from format {from} to {FORMAT}")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
