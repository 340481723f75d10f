//! `weir retention`: what the retention rules would remove, or a pass of them now.

use std::io::Write as _;
use std::process::ExitCode;

use indicatif::BinaryBytes;

use super::output::{progress, say, stdout};
use super::{Common, interrupt};
use crate::config::rule_text;
use crate::pipeline::now;
use crate::pipeline::retention::brake::Removal;
use crate::pipeline::retention::{Cause, Found, Mode, pass, resolve};
use crate::policy::Retention;
use crate::store::{Note, Removed};

/// Arguments of `weir retention`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir retention --dry-run --config weir.toml   what each rule would remove, in events and bytes
  weir retention --run --config weir.toml       one pass now, also while the relay runs
  weir retention --accept --config weir.toml    let the relay remove what it waits to remove

A running relay applies the rules by itself, all the time, and removes what a dry run shows: but when it starts or reads
other rules that would remove more than storage.confirm_removal_percent of the store, it removes nothing before --accept.
An acceptance is for these rules and limits and about this many events, for a day. Bytes are those of records. The room
can be used again at once; the file gets no smaller.")]
pub struct Arguments {
    /// Only count
    #[arg(long, required_unless_present_any = ["run", "accept"], conflicts_with_all = ["run", "accept"])]
    dry_run: bool,
    /// Remove
    #[arg(long, conflicts_with = "accept")]
    run: bool,
    /// Count, and let a relay with this configuration remove as much
    #[arg(long)]
    accept: bool,
}

/// Applies the rules, or counts, and tells what each removes.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = common.open()?;
    let rules = resolve(config.storage.retention(), &store)?;
    let mode = if arguments.run { Mode::Remove } else { Mode::Count };
    let bar = progress(None, false);
    let tell = |found: Removed| bar.set_position(found.events);
    let found = pass(&store, &rules, now(), mode, interrupt::watch(), tell)?;
    bar.finish_and_clear();
    print(&rules, &found, mode)?;
    if found.is_partial {
        say(format_args!("weir: interrupted; there may be more"));
        return Ok(interrupt::EXIT_CODE.into());
    }
    if found.missing > 0 {
        let missing = BinaryBytes(found.missing);
        say(format_args!(
            "weir: {missing} more should go for room, but what is left is kept for ever: storage.max_bytes is too low"
        ));
    }
    if arguments.accept {
        let removal = Removal::new(&rules, &found.parts, now());
        store.writer().put_note(Note::Accepted, &removal.to_bytes())?;
        let mut out = stdout();
        writeln!(out, "accepted: a relay with these rules and limits removes them within the next day")?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(rules: &Retention, found: &Found, mode: Mode) -> anyhow::Result<()> {
    let mut out = stdout();
    if rules.is_empty() {
        writeln!(out, "there are no rules in storage.retention: everything is kept")?;
    }
    for (place, rule) in rules.rules().iter().enumerate() {
        writeln!(out, "rule {}: {}", place + 1, rule_text(rule))?;
        for (cause, removed) in found.parts.by_cause.iter().filter(|(cause, _)| cause.rule() == place) {
            writeln!(out, "  {}: {} events, {} bytes", reason(*cause), removed.events, removed.bytes)?;
        }
    }
    let total = found.total();
    let what = if mode == Mode::Count { "would be removed" } else { "removed" };
    writeln!(out, "{} events {what}, {} bytes of records", total.events, total.bytes)?;
    Ok(out.flush()?)
}

const fn reason(cause: Cause) -> &'static str {
    match cause {
        Cause::Age(_) => "older than max_age",
        Cause::PerAuthorAndKind(_) => "beyond max_per_author_and_kind",
        Cause::RuleEvents(_) => "beyond the rule's max_events",
        Cause::RuleBytes(_) => "beyond the rule's max_bytes",
        Cause::PerAuthor(_) => "beyond max_events_per_author",
        Cause::Total(_) => "for room, by storage.max_bytes",
    }
}
