//! `weir retention`: shows what the retention rules would remove, or applies them once.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount, HumanDuration};
use serde_json::{Value, json};

use super::global::Global;
use super::output::{progress, say, stdout};
use super::{interrupt, time};
use crate::config::rule_text;
use crate::nostr::Timestamp;
use crate::pipeline::now;
use crate::policy::Retention;
use crate::retention::brake::{self, Removal};
use crate::retention::{Cause, Mode, Part, PassReport, Sample, pass, resolve, word};
use crate::store::{Note, Removed, Store, StoreError};

/// Arguments of `weir retention`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir retention --config weir.toml             show what each rule would remove and why, with sample events
  weir retention --config weir.toml --json | jq '.causes[] | {rule, cause, events}'
  weir retention --run --config weir.toml       apply the rules once, now
  weir retention --accept --config weir.toml    let the relay proceed with a large removal

A running relay applies the rules continuously and removes what a dry run shows. But if rules that are new at a start or
reload would remove more than storage.confirm_removal_percent of the store, the new rules wait until you run --accept;
meanwhile the former rules stay in force. --accept is valid for one day, for these rules and limits, and for about as
many events. Sizes are what storage.max_bytes counts. The space is reusable at once, but the file does not shrink.")]
pub struct Arguments {
    /// Only count (the default)
    #[arg(long, conflicts_with_all = ["run", "accept"])]
    dry_run: bool,
    /// Remove the events now
    #[arg(long, conflicts_with = "accept")]
    run: bool,
    /// Count, and allow a relay with this configuration to remove as much
    #[arg(long)]
    accept: bool,
    /// Print one JSON object, with sizes in bytes and times in unix seconds
    #[arg(long)]
    json: bool,
}

/// The events removed for one cause, and a sample of them.
type Row = (Cause, Part, Vec<Sample>);

/// Everything that is reported.
struct Facts<'a> {
    rules: &'a Retention,
    found: PassReport,
    mode: Mode,
    at: Timestamp,
    /// Before anything was removed.
    held_events: u64,
    used_bytes: u64,
    rows: Vec<Row>,
}

/// Applies the rules or counts, and reports what each removes.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = global.open()?;
    let rules = resolve(config.storage.retention(), &store)?;
    let facts = gather(&store, &rules, if arguments.run { Mode::Remove } else { Mode::Count })?;
    let is_partial = facts.found.is_partial;
    let is_accepted = arguments.accept && !is_partial;
    if is_accepted {
        let removal = Removal::new(&rules, &facts.found.parts, facts.at);
        store.writer().put_note(Note::Accepted, &removal.to_bytes())?;
    }
    let mut out = stdout();
    if arguments.json {
        writeln!(out, "{}", facts.to_json(is_accepted))?;
    } else {
        facts.write(&mut out, is_accepted)?;
    }
    out.flush()?;
    if is_partial {
        say(format_args!("weir: interrupted; there may be more events"));
        return Ok(interrupt::EXIT_CODE.into());
    }
    if facts.found.missing > 0 {
        let missing = BinaryBytes(facts.found.missing);
        say(format_args!(
            "weir: {}: {missing} more should be freed, but all remaining events are kept forever; the limit is too low",
            rules.max_bytes_origin()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn gather<'a>(store: &Store, rules: &'a Retention, mode: Mode) -> Result<Facts<'a>, StoreError> {
    let (at, held_events, used_bytes) = (now(), brake::held_events(store)?, store.room()?.used_bytes);
    let bar = progress(None, false);
    let found = pass(store, rules, at, mode, interrupt::watch(), |found: Removed| bar.set_position(found.events))?;
    bar.finish_and_clear();
    let snapshot = store.read()?;
    let row = |(cause, part): (&Cause, &Part)| -> Result<Row, StoreError> {
        Ok((*cause, *part, found.samples.read(*cause, &snapshot)?))
    };
    let mut rows = found.parts.by_cause.iter().map(row).collect::<Result<Vec<Row>, StoreError>>()?;
    drop(snapshot);
    rows.sort_by_key(|(cause, ..)| (cause.rule(), *cause));
    Ok(Facts { rules, found, mode, at, held_events, used_bytes, rows })
}

impl Facts<'_> {
    fn write(&self, out: &mut impl Write, is_accepted: bool) -> io::Result<()> {
        if self.rules.is_empty() {
            writeln!(out, "storage.retention has no rules: everything is kept")?;
        }
        for (place, rule) in self.rules.rules().iter().enumerate() {
            writeln!(out, "rule {}: {}", place + 1, rule_text(rule))?;
        }
        if !self.rows.is_empty() {
            self.write_causes(out)?;
        }
        if self.rows.iter().any(|(.., samples)| !samples.is_empty()) {
            self.write_samples(out)?;
        }
        let what = if self.mode == Mode::Count { "would be removed" } else { "were removed" };
        let (events, held) = (HumanCount(self.found.total().events), HumanCount(self.held_events));
        let (bytes, used) = (BinaryBytes(self.found.parts.footprint()), BinaryBytes(self.used_bytes));
        writeln!(out, "\n{events} of {held} events {what}, {bytes} of {used}")?;
        if is_accepted {
            writeln!(out, "accepted: for one day, a relay with these rules and limits may remove them")?;
        }
        Ok(())
    }

    fn write_causes(&self, out: &mut impl Write) -> io::Result<()> {
        let (events, size, oldest) = ("events", "size", "oldest");
        writeln!(out, "\n{:<5} {:<20} {events:>13} {size:>12}  {oldest:<19}  newest", "rule", "cause")?;
        for (cause, part, _) in &self.rows {
            let (rule, word) = (cause.rule() + 1, word(*cause).as_str());
            let (events, size) = (HumanCount(part.events).to_string(), BinaryBytes(part.footprint).to_string());
            let (oldest, newest) = (time::display(part.oldest), time::display(part.newest));
            writeln!(out, "{rule:<5} {word:<20} {events:>13} {size:>12}  {oldest:<19}  {newest}")?;
        }
        Ok(())
    }

    fn write_samples(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n{:<5} {:<20} {:>5}  {:<64}  age", "rule", "cause", "kind", "some of them")?;
        for (cause, _, samples) in &self.rows {
            for Sample { id, kind, created_at, .. } in samples {
                let (rule, word, kind) = (cause.rule() + 1, word(*cause).as_str(), kind.0);
                let age = HumanDuration(Duration::from_secs(self.at.0.saturating_sub(created_at.0)));
                writeln!(out, "{rule:<5} {word:<20} {kind:>5}  {id}  {age}")?;
            }
        }
        Ok(())
    }

    fn to_json(&self, is_accepted: bool) -> Value {
        let sample = |sample: &Sample| {
            json!({"id": sample.id.to_string(), "pubkey": sample.author.to_string(), "kind": sample.kind.0,
                "created_at": sample.created_at.0, "age_s": self.at.0.saturating_sub(sample.created_at.0)})
        };
        let row = |(cause, part, samples): &Row| {
            json!({"rule": cause.rule() + 1, "cause": word(*cause).as_str(), "events": part.events,
                "bytes": part.bytes, "used_bytes": part.footprint, "oldest": part.oldest.0, "newest": part.newest.0,
                "samples": samples.iter().map(sample).collect::<Vec<_>>()})
        };
        let total = self.found.total();
        json!({
            "at": self.at.0, "removed": self.mode == Mode::Remove, "accepted": is_accepted,
            "is_partial": self.found.is_partial, "held_events": self.held_events, "held_used_bytes": self.used_bytes,
            "events": total.events, "bytes": total.bytes, "used_bytes": self.found.parts.footprint(),
            "missing_bytes": self.found.missing,
            "rules": self.rules.rules().iter().map(rule_text).collect::<Vec<_>>(),
            "causes": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}
