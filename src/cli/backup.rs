//! `weir backup`: the events into a directory that can be taken elsewhere, and whether they are still good there.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{BinaryBytes, HumanCount};

use super::output::{progress, progress_of, stdout};
use super::{Common, interrupt};
use crate::backup::{self, BackupError, Created, Manifest, Verified};
use crate::pipeline::now;
use crate::pipeline::signatures::Signatures;
use crate::schnorr::Verifier;

/// Signatures that a verification checks, spread evenly.
const SAMPLE: u64 = 10_000;

/// Arguments of `weir backup`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir backup /backups/relay              also while the relay runs; again, and only what is new is added
  weir backup /backups/relay --verify     read it all and compare: hashes, ids, numbers, some signatures
  weir restore /backups/relay --data new  a store from it

The directory is good at any time, also when a run is killed: it is then what it was before. It holds the store's
secret and everybody's events, so only its owner may read it. To start anew, use another directory.")]
pub struct Arguments {
    /// The directory; made if it is absent
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Only check what is there
    #[arg(long)]
    verify: bool,
}

/// Adds to the backup, or verifies it.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.verify {
        return verify(common, arguments);
    }
    let (_, store) = common.open()?;
    let stop = interrupt::watch();
    let bar = progress(None, false);
    let created = backup::create(&store, &arguments.dir, now(), &mut |events| bar.set_position(events), stop);
    bar.finish_and_clear();
    if let Err(BackupError::Interrupted) = created {
        eprintln!("weir: interrupted; the backup is as it was");
        return Ok(interrupt::EXIT_CODE.into());
    }
    let Created { added, events, bytes, runs } = created?;
    let mut out = stdout();
    let (added, events, bytes) = (HumanCount(added), HumanCount(events), BinaryBytes(bytes));
    writeln!(out, "{added} events added; the backup holds {events} in {bytes}, from {runs} runs")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn verify(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = common.config()?;
    let total = Manifest::read(&arguments.dir)?.map_or(0, |manifest| manifest.events);
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
    let Verified { events, gone, tombstones, bytes } = verified?;
    let wrong = signatures.finish().len();
    let mut out = stdout();
    let (held, bytes) = (HumanCount(events), BinaryBytes(bytes));
    writeln!(out, "{held} events, {gone} records of events that are gone, {tombstones} tombstones, {bytes}")?;
    if wrong == 0 {
        writeln!(out, "nothing is wrong")?;
    } else {
        writeln!(out, "{wrong} signatures of {} are wrong", events.div_ceil(stride))?;
    }
    out.flush()?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
