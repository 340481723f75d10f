//! `weir backup`: creates, verifies, lists and prunes backups.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{BinaryBytes, HumanCount};

use super::global::Global;
use super::output::{progress, progress_of, say, stdout};
use super::{interrupt, time};
use crate::backup::{self, AttachedFile, BackupError, Created, Manifest, Pruned, Verified};
use crate::management::copies;
use crate::nostr::Timestamp;
use crate::pipeline::ingest::signatures::Signatures;
use crate::pipeline::now;
use crate::policy::Age;
use crate::schnorr::Verifier;

/// The number of signatures that a verification checks, spread evenly.
const SAMPLE: u64 = 10_000;

/// Arguments of `weir backup`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir backup /backups/relay                         create a backup, or add new events to it
  weir backup /backups/relay --keep-removed 90d      keep removed events restorable for 90 days
  weir backup /backups/relay --list                  list the states that can be restored
  weir backup /backups/relay --verify                check hashes, ids, arrival numbers and some signatures
  weir backup /backups/relay --prune --keep-removed 7d
                                                     drop events removed more than a week ago, free their space
  weir restore /backups/relay --data new             restore it; --as-of DATE selects an earlier state

Works while the relay runs, and holds what admins decided too. Each run is remembered as a state that can be restored: the newest 24, the last of each
hour for a day, and the last of each day before that, as long as they are younger than --keep-removed. A run that is
killed leaves the backup unchanged. The directory holds private events and the store's secret, so only its owner may
read it. To start over, use another directory.")]
pub struct Arguments {
    /// The directory of the backup; created if missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How long removed events stay in the backup: a number with s, m, h, d, w or y; 0s drops them at once
    #[arg(long, value_name = "AGE", default_value = "30d", value_parser = keep_removed)]
    keep_removed: u64,
    /// Only verify the backup
    #[arg(long, conflicts_with_all = ["list", "prune"])]
    verify: bool,
    /// Only list the states that can be restored
    #[arg(long, conflicts_with = "prune")]
    list: bool,
    /// Only drop events removed longer ago than --keep-removed, and free their space
    #[arg(long)]
    prune: bool,
}

fn keep_removed(text: &str) -> Result<u64, String> {
    if text == "0s" { Ok(0) } else { Age::parse(text).map(|age| age.seconds).map_err(str::to_owned) }
}

/// Adds to the backup, verifies, lists or prunes it.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.verify {
        verify(global, arguments)
    } else if arguments.list {
        list(&arguments.dir)
    } else if arguments.prune {
        prune(arguments)
    } else {
        create(global, arguments)
    }
}

fn create(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = global.open()?;
    let decisions = config.management.directory(&config.storage.data);
    let mut beside = || match copies::take(&decisions) {
        Ok(files) => Ok(files.into_iter().map(|(name, bytes)| AttachedFile { name, bytes }).collect()),
        Err(error) => Err(BackupError::Beside(error.into())),
    };
    let stop = interrupt::watch();
    let bar = progress(None, false);
    let mut tell = |events| bar.set_position(events);
    let created = backup::create(&store, &arguments.dir, now(), arguments.keep_removed, &mut beside, &mut tell, stop);
    bar.finish_and_clear();
    if let Err(BackupError::Interrupted) = created {
        say(format_args!("weir: interrupted; the backup is unchanged"));
        return Ok(interrupt::EXIT_CODE.into());
    }
    let Created { added, events, bytes, run } = created?;
    let mut out = stdout();
    let (added, events, bytes) = (HumanCount(added), HumanCount(events), BinaryBytes(bytes));
    writeln!(out, "run {run}: {added} events added; the backup holds {events} events in {bytes}")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn list(dir: &Path) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::read(dir)?.ok_or_else(|| BackupError::Absent(dir.into()))?;
    let mut out = stdout();
    writeln!(out, "{:>6}  {:<19}  {:>15}", "run", "began (UTC)", "events")?;
    for state in &manifest.states {
        let (began, events) = (time::display(Timestamp(state.created_at)), HumanCount(state.events).to_string());
        writeln!(out, "{:>6}  {began:<19}  {events:>15}", state.run)?;
    }
    writeln!(out, "{} in total", BinaryBytes(manifest.bytes()))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn prune(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Pruned { before, after, states } = backup::prune(&arguments.dir, now(), arguments.keep_removed)?;
    let mut out = stdout();
    let freed = BinaryBytes(before.saturating_sub(after));
    writeln!(out, "{freed} freed, {} in use; {states} states can be restored", BinaryBytes(after))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn verify(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    let total = Manifest::read(&arguments.dir)?.map_or(0, |manifest| manifest.newest().events);
    let stride = total.div_ceil(SAMPLE).max(1);
    let bar = progress_of(total, "events");
    let mut signatures = Signatures::new(Verifier::new(config.verify))?;
    let mut visited = 0_u64;
    let verified = backup::verify(&arguments.dir, &mut |seq, event| {
        if visited.is_multiple_of(stride) {
            signatures.add(seq, event);
        }
        visited += 1;
        bar.set_position(visited);
    });
    bar.finish_and_clear();
    let Verified { events, removed, tombstones, bytes, states } = verified?;
    let wrong = signatures.finish().len();
    let mut out = stdout();
    let (held, bytes) = (HumanCount(events), BinaryBytes(bytes));
    writeln!(out, "{held} events, {removed} removed events, {tombstones} tombstones, {states} states, {bytes}")?;
    if wrong == 0 {
        writeln!(out, "no problems found")?;
    } else {
        writeln!(out, "{wrong} of {} signatures are wrong", events.div_ceil(stride))?;
    }
    out.flush()?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
