//! `weir retention`: what the retention rules would remove, or a pass of them now.

use std::io::Write as _;
use std::process::ExitCode;

use super::output::{progress, say, stdout};
use super::{Common, interrupt};
use crate::config::rule_text;
use crate::pipeline::now;
use crate::pipeline::retention::{Cause, Found, Mode, pass};
use crate::policy::Retention;
use crate::store::Removed;

/// Arguments of `weir retention`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir retention --dry-run --config weir.toml   what each rule would remove, in events and bytes
  weir retention --run --config weir.toml       one pass now, also while the relay runs

A running relay applies the rules by itself, all the time. Bytes are those of records; what goes for max_bytes is an
estimate in a dry run. The room can be used again at once; the file gets no smaller.")]
pub struct Arguments {
    /// Only count
    #[arg(long, required_unless_present = "run", conflicts_with = "run")]
    dry_run: bool,
    /// Remove
    #[arg(long)]
    run: bool,
}

/// Applies the rules, or counts, and tells what each removes.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = common.open()?;
    let rules = config.storage.retention();
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
    Ok(ExitCode::SUCCESS)
}

fn print(rules: &Retention, found: &Found, mode: Mode) -> anyhow::Result<()> {
    let mut out = stdout();
    if rules.is_empty() {
        writeln!(out, "there are no rules in storage.retention: everything is kept")?;
    }
    for (place, rule) in rules.rules().iter().enumerate() {
        writeln!(out, "rule {}: {}", place + 1, rule_text(rule))?;
        for (cause, removed) in found.by_cause.iter().filter(|(cause, _)| cause.rule() == place) {
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
        Cause::RuleBytes(_) => "beyond the rule's max_bytes",
        Cause::PerAuthor(_) => "beyond max_events_per_author",
        Cause::Total(_) => "for room, by storage.max_bytes",
    }
}
