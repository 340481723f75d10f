//! `weir upgrade`: makes a store of an earlier version one of this version.

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
  weir upgrade                 then start the relay again
  weir backup /backups/relay   before it, with the version that wrote the store

The relay must be stopped. Works in place, without room for a second copy. Stopped or killed half-way, no version
opens the store until weir upgrade has gone on to the end.")]
pub struct Arguments {}

/// Upgrades the store, if it is of an earlier format.
pub fn run(global: &Global, _: &Arguments) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    config.validate()?;
    let data = &config.storage.data;
    anyhow::ensure!(Store::exists(data), "there is no store in {}; --data names another directory", data.display());
    let mut out = stdout();
    let Some(mut upgrade) = Upgrade::find(data, &config.storage.options())? else {
        writeln!(out, "the store has format {FORMAT} already")?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    };
    let (from, stop) = (upgrade.from(), interrupt::watch());
    let bar = progress_of(upgrade.progress().1, "events");
    while upgrade.step()? {
        bar.set_position(upgrade.progress().0);
        if stop.load(Ordering::Relaxed) {
            bar.finish_and_clear();
            say(format_args!("weir: interrupted; weir upgrade goes on from here"));
            return Ok(interrupt::EXIT_CODE.into());
        }
    }
    bar.finish_and_clear();
    writeln!(out, "upgraded from format {from} to {FORMAT}")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
