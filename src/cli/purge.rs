//! `weir purge`: removes what is stored of a key, an event or a kind.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::admin::{Admin, me};
use super::arguments::Filters;
use super::delete::remove;
use super::global::Global;
use super::interrupt;
use super::output::{progress, say, stdout};
use crate::management::Subject;
use crate::pipeline::now;
use crate::store::Return;

/// Arguments of `weir purge`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir purge npub1…              count the stored events of this key
  weir purge npub1… --yes        count and remove them
  weir ban npub1… && weir purge npub1… --yes

Removed events may be published again, unless they or their author are banned: see weir ban. A running relay removes \
them itself, in steps between its commits. An interrupted purge continues when it is run again. It is recorded in the \
audit, but cannot be undone.")]
pub struct Arguments {
    /// A key (npub1… or 64 hex digits), an event (note1… or event:<hex>) or a kind (kind:1984)
    subject: Subject,
    /// Remove the events, instead of only counting them
    #[arg(long)]
    yes: bool,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Counts the events, and removes them if that is wanted.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let subject = arguments.subject;
    let filters = Filters([subject.filter().with_context(|| format!("{subject} has no stored events"))?].into());
    let (_, store) = global.open()?;
    let (found, is_interrupted) = remove(&store, filters.clone(), None)?;
    if is_interrupted {
        return Ok(interrupt::EXIT_CODE.into());
    }
    let mut out = stdout();
    writeln!(out, "{} events of {subject} are stored, {} bytes of records", found.events, found.bytes)?;
    out.flush()?;
    if !arguments.yes {
        say(format_args!("weir: nothing was removed; add --yes to remove them"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut admin = Admin::find(global)?;
    let (removed, is_interrupted) = match &mut admin {
        Admin::Stopped(journal, _) => {
            journal.note_purge(subject, found.events, &arguments.reason, (&me(), now()))?;
            let (removed, is_interrupted) = remove(&store, filters, Some(Return::Allowed))?;
            (removed.events, is_interrupted)
        }
        Admin::Running(_) => {
            // The relay writes; this process must not keep its transactions from being freed.
            drop(store);
            let bar = progress(Some(found.events), false);
            let told = |now: &Value| bar.set_position(now.get("removed").and_then(Value::as_u64).unwrap_or_default());
            let params = json!([subject.to_string(), found.events, arguments.reason]);
            let result = admin.call_telling("purge", params, told)?;
            bar.finish_and_clear();
            (result.get("removed").and_then(Value::as_u64).unwrap_or_default(), false)
        }
    };
    writeln!(out, "{removed} events removed")?;
    out.flush()?;
    Ok(if is_interrupted { interrupt::EXIT_CODE.into() } else { ExitCode::SUCCESS })
}
