//! `weir info`: the contents of the store, what takes the space, and how it will grow.

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::{BinaryBytes, HumanCount};
use serde_json::{Value, json};

use super::global::Global;
use super::interrupt;
use super::output::{progress, progress_of, stdout};
use crate::config::{Config, Durability, rule_text};
use crate::nostr::bech32::npub;
use crate::nostr::{Kind, Timestamp};
use crate::pipeline::now;
use crate::policy::Retention;
use crate::retention::brake::Removal;
use crate::retention::{Forecast, Hitter, Mode, RuleUsage, Survey, pass, resolve, survey};
use crate::store::{FORMAT, KindUsage, Removed, Room, Seq, Store, StoreError, TableUsage, Usage};

/// Arguments of `weir info`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir info --config weir.toml          break down by the rules of the file, and predict when space runs out
  weir info --full --config weir.toml   examine every event, and count what the retention rules remove next
  weir info --json | jq .events

Without --full, everything except the totals and the kinds is estimated from 10,000 events, spread evenly. Sizes are \
what storage.max_bytes counts: records and their index entries. Growth is derived from the events dated within the \
last 7 days, or within the period that a rule keeps. Works while the relay runs.")]
pub struct Arguments {
    /// Examine every event, and count what the retention rules would remove now
    #[arg(long)]
    full: bool,
    /// How many kinds, authors and recipients to list
    #[arg(long, value_name = "N", default_value = "10")]
    top: usize,
    /// Print one JSON object, with sizes in bytes
    #[arg(long)]
    json: bool,
}

/// The number of events that an estimate examines.
const SAMPLE: u64 = 10_000;

/// Everything that is reported.
struct Facts {
    at: Timestamp,
    rules: Retention,
    usage: Usage,
    room: Room,
    disk_free_bytes: u64,
    last_seq: Seq,
    /// Largest first.
    kinds: Vec<(Kind, KindUsage)>,
    survey: Survey,
    /// `None` when there is too little data.
    forecast: Option<Forecast>,
    /// The removal that the relay has put off until the operator accepts it.
    waiting: Option<Removal>,
    /// The events that the retention rules would remove now.
    next: Option<Removed>,
}

/// Prints the report.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = global.open()?;
    let facts = gather(&config, &store, arguments.full)?;
    let mut out = stdout();
    if arguments.json {
        writeln!(out, "{}", facts.to_json(&config, &store, arguments.top))?;
    } else {
        facts.write_store(&mut out, &config, &store)?;
        facts.write_forecast(&mut out)?;
        facts.write_tables(&mut out, arguments.top)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn gather(config: &Config, store: &Store, is_full: bool) -> Result<Facts, StoreError> {
    let snapshot = store.read()?;
    let (last_seq, mut kinds) = (snapshot.last_seq()?, snapshot.kinds()?);
    drop(snapshot);
    kinds.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.footprint));
    let (at, rules) = (now(), resolve(config.storage.retention(), store)?);
    let bar = progress_of(last_seq.0, "arrivals");
    let survey = survey(store, &rules, at, (!is_full).then_some(SAMPLE), |seq| bar.set_position(seq.0))?;
    bar.finish_and_clear();
    let bar = progress(None, false);
    let tell = |found: Removed| bar.set_position(found.events);
    let next =
        if is_full { Some(pass(store, &rules, at, Mode::Count, interrupt::watch(), tell)?.total()) } else { None };
    bar.finish_and_clear();
    let waiting = Removal::waiting(store)?;
    let (usage, room, disk_free_bytes) = (store.usage()?, store.room()?, store.disk_space()?.free_bytes);
    let is_known = !survey.is_estimate() || survey.shows_growth();
    let forecast = is_known.then(|| Forecast::new(&survey.rules, &rules, room, disk_free_bytes));
    Ok(Facts { at, rules, usage, room, disk_free_bytes, last_seq, kinds, survey, forecast, waiting, next })
}

const fn durability(config: &Config) -> &'static str {
    match config.storage.durability {
        Durability::Full => "full",
        Durability::Relaxed => "relaxed",
    }
}

/// A number of days in words; `None` is more than the forecast covers.
fn days(days: Option<u64>) -> String {
    days.map_or_else(|| "more than 10 years".into(), |days| format!("about {} days", HumanCount(days)))
}

impl Facts {
    fn write_store(&self, out: &mut impl Write, config: &Config, store: &Store) -> io::Result<()> {
        let Self { usage, disk_free_bytes, last_seq, .. } = self;
        let size = |bytes: u64| if bytes == 0 { "none".into() } else { BinaryBytes(bytes).to_string() };
        let (max, min_free) = (size(config.storage.max_bytes), size(config.storage.min_free_disk_bytes));
        let durability = durability(config);
        writeln!(out, "data        {} (format {FORMAT}, durability {durability})", store.path().display())?;
        writeln!(out, "events      {} stored of {} that arrived", HumanCount(usage.events()), HumanCount(last_seq.0))?;
        writeln!(out, "used        {} (limit {max})", BinaryBytes(usage.used_bytes))?;
        writeln!(out, "free pages  {}", BinaryBytes(usage.free_bytes))?;
        writeln!(out, "file        {} (at most {})", BinaryBytes(usage.file_bytes), BinaryBytes(usage.map_bytes))?;
        writeln!(out, "disk free   {} (keep free: {min_free})", BinaryBytes(*disk_free_bytes))
    }

    fn write_forecast(&self, out: &mut impl Write) -> io::Result<()> {
        match self.forecast {
            Some(Forecast { daily, limit, room_days, full_days, .. }) => {
                let about = if self.survey.is_estimate() { "about " } else { "" };
                let [added, removed] = [daily.added, daily.removed]
                    .map(|[events, bytes]| (HumanCount(events.max(0.0) as u64), BinaryBytes(bytes.max(0.0) as u64)));
                writeln!(out, "added       {about}{} events and {} per day", added.0, added.1)?;
                writeln!(out, "removed     {about}{} events and {} per day, by the rules", removed.0, removed.1)?;
                let key = limit.key();
                if self.rules.is_empty() {
                    writeln!(out, "room for    {}; then the relay refuses events, because of {key}", days(room_days))?;
                } else {
                    writeln!(out, "room for    {}; then the rules evict events, because of {key}", days(room_days))?;
                    writeln!(out, "full in     {}, by events that no rule may remove to make space", days(full_days))?;
                }
            }
            None => {
                writeln!(out, "added       too few events are dated within the last 7 days for a forecast; try --full")?
            }
        }
        if let Some(Removal { events, bytes, .. }) = self.waiting {
            let (events, bytes) = (HumanCount(events), BinaryBytes(bytes));
            writeln!(
                out,
                "retention   the relay will remove {events} events, {bytes}, once accepted: see weir retention --accept"
            )?;
        }
        match self.next {
            Some(next) if self.rules.is_empty() && next == Removed::default() => {
                writeln!(out, "retention   no rules: everything is kept")
            }
            Some(Removed { events, bytes }) => {
                let (events, bytes) = (HumanCount(events), BinaryBytes(bytes));
                writeln!(out, "retention   removes {events} events next, {bytes} of records")
            }
            None => Ok(()),
        }
    }

    fn write_tables(&self, out: &mut impl Write, top: usize) -> io::Result<()> {
        let tables =
            self.usage.tables.iter().map(|TableUsage { name, entries, bytes }| ((*name).into(), *entries, *bytes));
        write_table(out, ["table", "entries", "size"], 16, tables)?;
        let about = if self.survey.is_estimate() { "events, about" } else { "events" };
        if !self.rules.is_empty() {
            self.write_rules(out, about)?;
        }
        let kinds = self.kinds.iter().take(top).map(|(kind, usage)| (kind.to_string(), usage.events, usage.footprint));
        write_table(out, ["kind", "events", "size"], 16, kinds)?;
        let row = |Hitter { key, amount, .. }: Hitter| (npub(&key), amount.events, amount.footprint);
        let authors = self.survey.largest_authors(top).into_iter().map(row);
        write_table(out, ["author", about, "size"], 64, authors)?;
        let recipients = self.survey.largest_recipients(top);
        if recipients.is_empty() {
            return Ok(());
        }
        write_table(out, ["recipient of gift wraps", about, "size"], 64, recipients.into_iter().map(row))
    }

    /// The space taken by the events of each rule.
    fn write_rules(&self, out: &mut impl Write, about: &str) -> io::Result<()> {
        writeln!(out, "\n{:<16} {about:>15} {:>12}  keeps", "rule", "size")?;
        for (place, RuleUsage { held, .. }) in self.survey.rules.iter().enumerate() {
            let rule = self.rules.rules().get(place);
            let name = rule.map_or_else(|| "none".into(), |_| (place + 1).to_string());
            let text = rule.map_or_else(|| "events that no rule selects".into(), rule_text);
            let (events, size) = (HumanCount(held.events).to_string(), BinaryBytes(held.footprint).to_string());
            writeln!(out, "{name:<16} {events:>15} {size:>12}  {text}")?;
        }
        Ok(())
    }

    fn to_json(&self, config: &Config, store: &Store, top: usize) -> Value {
        let Self { usage, room, disk_free_bytes, last_seq, .. } = self;
        let table = |table: &TableUsage| json!({"name": table.name, "entries": table.entries, "bytes": table.bytes});
        let kind = |(kind, usage): &(Kind, KindUsage)| json!({"kind": kind.0, "events": usage.events, "bytes": usage.bytes, "used_bytes": usage.footprint});
        let rule = |(place, RuleUsage { held, .. }): (usize, &RuleUsage)| {
            let rule = self.rules.rules().get(place);
            json!({"rule": rule.map(|_| place + 1), "text": rule.map(rule_text), "events": held.events,
                "bytes": held.bytes, "used_bytes": held.footprint})
        };
        let hitter = |Hitter { key, amount, missed }: Hitter| {
            json!({"pubkey": key.to_string(), "events": amount.events, "bytes": amount.bytes,
                "used_bytes": amount.footprint, "missed_bytes": missed})
        };
        let next = self.next.map(|next| json!({"events": next.events, "bytes": next.bytes}));
        let waiting = self.waiting.map(|waiting| json!({"events": waiting.events, "used_bytes": waiting.bytes}));
        let daily =
            |[events, bytes]: [f64; 2]| json!({"events": events.round() as i64, "used_bytes": bytes.round() as i64});
        let growth = self.forecast.map(|Forecast { daily: one, .. }| {
            let net = [one.added[0] - one.removed[0], one.added[1] - one.removed[1]];
            json!({"added": daily(one.added), "removed": daily(one.removed), "net": daily(net)})
        });
        let forecast = self.forecast.map(|Forecast { limit, limit_bytes, room_days, full_days, .. }| {
            json!({"limit": limit.key(), "limit_used_bytes": limit_bytes, "room_days": room_days, "full_days": full_days})
        });
        json!({
            "at": self.at.0, "data": store.path(), "format": FORMAT, "durability": durability(config),
            "events": usage.events(), "last_seq": last_seq.0,
            "used_bytes": usage.used_bytes, "free_bytes": usage.free_bytes, "file_bytes": usage.file_bytes,
            "map_bytes": usage.map_bytes, "max_bytes": config.storage.max_bytes, "full_bytes": room.full_bytes(),
            "disk_free_bytes": disk_free_bytes, "min_free_disk_bytes": config.storage.min_free_disk_bytes,
            "growth_per_day": growth, "forecast": forecast, "retention_removes_next": next,
            "retention_waits_to_remove": waiting,
            "tables": usage.tables.iter().map(table).collect::<Vec<_>>(),
            "rules": self.survey.rules.iter().enumerate().map(rule).collect::<Vec<_>>(),
            "kinds": self.kinds.iter().map(kind).collect::<Vec<_>>(),
            "authors": self.survey.largest_authors(top).into_iter().map(hitter).collect::<Vec<_>>(),
            "gift_wrap_recipients": self.survey.largest_recipients(top).into_iter().map(hitter).collect::<Vec<_>>(),
            "is_estimate": self.survey.is_estimate(), "looked_at": self.survey.seen.events,
        })
    }
}

fn write_table(
    out: &mut impl Write,
    heads: [&str; 3],
    width: usize,
    rows: impl Iterator<Item = (String, u64, u64)>,
) -> io::Result<()> {
    let [name, count, size] = heads;
    writeln!(out, "\n{name:<width$} {count:>15} {size:>12}")?;
    for (name, count, bytes) in rows {
        let (count, size) = (HumanCount(count).to_string(), BinaryBytes(bytes).to_string());
        writeln!(out, "{name:<width$} {count:>15} {size:>12}")?;
    }
    Ok(())
}
