//! `weir info`: what the store holds, who takes the room, and what comes next.

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::{BinaryBytes, HumanCount};
use serde_json::json;

use super::output::{progress_of, stdout};
use super::{Common, interrupt};
use crate::config::{Config, Durability};
use crate::nostr::bech32::npub;
use crate::nostr::{Kind, Pubkey, Timestamp};
use crate::pipeline::now;
use crate::pipeline::retention::brake::Removal;
use crate::pipeline::retention::{Mode, pass, resolve};
use crate::store::{FORMAT, KindUsage, Removed, Room, Seq, Store, StoreError, Survey, TableUsage, Usage};

/// Arguments of `weir info`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir info
  weir info --full              every event is looked at, and what the retention rules remove next
  weir info --json | jq .events

Without --full, authors and growth are estimated from 10,000 events spread evenly. Bytes of kinds and authors are \
those of records; index entries come on top. Growth is what was dated within the last 7 days, so an import of old \
events is not in it. Works while the relay runs.")]
pub struct Arguments {
    /// Look at every event, and count what the retention rules would remove now
    #[arg(long)]
    full: bool,
    /// Kinds and authors to list
    #[arg(long, value_name = "N", default_value = "10")]
    top: usize,
    /// Write one JSON object; all sizes in bytes
    #[arg(long)]
    json: bool,
}

/// Events that an estimate looks at.
const SAMPLE: u64 = 10_000;

/// Growth is measured over this many days.
const DAYS: u64 = 7;

/// Room for longer than this is not worth telling.
const MANY_DAYS: u64 = 3650;

/// With fewer recent events than this an estimate of the growth would be a guess.
const FEW: u64 = 30;

/// Everything that is told.
struct Facts {
    usage: Usage,
    room: Room,
    disk_free_bytes: u64,
    last_seq: Seq,
    /// The largest first.
    kinds: Vec<(Kind, KindUsage)>,
    survey: Survey,
    is_full: bool,
    /// What the relay would remove and does not before that is accepted.
    waiting: Option<Removal>,
    /// What the retention rules would remove now.
    next: Option<Removed>,
}

/// Prints the sizes.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = common.open()?;
    let facts = gather(&config, &store, arguments.full)?;
    let mut out = stdout();
    if arguments.json {
        write_json(&mut out, &config, &store, &facts, arguments.top)?;
    } else {
        write_store(&mut out, &config, &store, &facts)?;
        write_tables(&mut out, &facts, arguments.top)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn gather(config: &Config, store: &Store, is_full: bool) -> Result<Facts, StoreError> {
    let snapshot = store.read()?;
    let (last_seq, mut kinds) = (snapshot.last_seq()?, snapshot.kinds()?);
    drop(snapshot);
    kinds.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.bytes));
    let week_ago = Timestamp(now().0.saturating_sub(DAYS * 86_400));
    let bar = progress_of(last_seq.0, "arrivals");
    let survey = store.survey((!is_full).then_some(SAMPLE), week_ago, |seq| bar.set_position(seq.0))?;
    bar.finish_and_clear();
    let rules = resolve(config.storage.retention(), store)?;
    let next =
        if is_full { Some(pass(store, &rules, now(), Mode::Count, interrupt::watch(), |_| ())?.total()) } else { None };
    let waiting = Removal::waiting(store)?;
    let (usage, room, disk_free_bytes) = (store.usage()?, store.room()?, store.disk_space()?.free_bytes);
    Ok(Facts { usage, room, disk_free_bytes, last_seq, kinds, survey, is_full, next, waiting })
}

impl Facts {
    /// How many events stand for one that was looked at.
    fn scale(&self) -> f64 {
        if self.is_full { 1.0 } else { self.usage.events() as f64 / self.survey.seen.events.max(1) as f64 }
    }

    /// Bytes in use, indexes included, for each byte of a record.
    fn overhead(&self) -> f64 {
        let records: u64 = self.kinds.iter().map(|(_, usage)| usage.bytes).sum();
        self.usage.used_bytes as f64 / records.max(1) as f64
    }

    /// Events and bytes in use by which the store grows in a day, if enough is known.
    fn growth(&self) -> Option<(u64, u64)> {
        let recent = self.survey.recent;
        let scale = self.scale() / DAYS as f64;
        let is_known = self.scale() <= 1.0 || recent.events >= FEW;
        is_known
            .then(|| ((recent.events as f64 * scale) as u64, (recent.bytes as f64 * scale * self.overhead()) as u64))
    }
}

fn durability(config: &Config) -> &'static str {
    match config.storage.durability {
        Durability::Full => "full",
        Durability::Relaxed => "relaxed",
    }
}

fn write_store(out: &mut impl Write, config: &Config, store: &Store, facts: &Facts) -> io::Result<()> {
    let Facts { usage, room, disk_free_bytes, last_seq, .. } = facts;
    let max = config.storage.max_bytes;
    let max = if max == 0 { "none".into() } else { BinaryBytes(max).to_string() };
    let durability = durability(config);
    writeln!(out, "data        {} (format {FORMAT}, durability {durability})", store.path().display())?;
    writeln!(out, "events      {} held of {} that arrived", HumanCount(usage.events()), HumanCount(last_seq.0))?;
    writeln!(out, "used        {} (limit {max})", BinaryBytes(usage.used_bytes))?;
    writeln!(out, "free pages  {}", BinaryBytes(usage.free_bytes))?;
    writeln!(out, "file        {} (at most {})", BinaryBytes(usage.file_bytes), BinaryBytes(usage.map_bytes))?;
    writeln!(out, "disk free   {}", BinaryBytes(*disk_free_bytes))?;
    match facts.growth() {
        Some((events, bytes)) => {
            let about = if facts.scale() > 1.0 { "about " } else { "" };
            let (events, each) = (HumanCount(events), BinaryBytes(bytes));
            writeln!(out, "growth      {about}{events} events and {each} a day, by the dates of the last {DAYS} days")?;
            let end = room.full_bytes().min(usage.used_bytes + usage.free_bytes + disk_free_bytes);
            let days = end.saturating_sub(usage.used_bytes).checked_div(bytes);
            if let Some(days) = days.filter(|days| *days <= MANY_DAYS) {
                writeln!(out, "room for    about {} days at that rate", HumanCount(days))?;
            }
        }
        None => writeln!(out, "growth      too little is dated within the last {DAYS} days to tell; try --full")?,
    }
    if let Some(Removal { events, bytes, .. }) = facts.waiting {
        let (events, bytes) = (HumanCount(events), BinaryBytes(bytes));
        writeln!(out, "retention   the relay waits to remove {events} events, {bytes}: see weir retention --accept")?;
    }
    match facts.next {
        Some(next) if config.storage.retention().is_empty() && next == Removed::default() => {
            writeln!(out, "retention   no rules: everything is kept")
        }
        Some(Removed { events, bytes }) => {
            let (events, bytes) = (HumanCount(events), BinaryBytes(bytes));
            writeln!(out, "retention   removes {events} events next, {bytes} of records")
        }
        None => Ok(()),
    }
}

fn write_tables(out: &mut impl Write, facts: &Facts, top: usize) -> io::Result<()> {
    let tables =
        facts.usage.tables.iter().map(|TableUsage { name, entries, bytes }| ((*name).into(), *entries, *bytes));
    write_table(out, ["table", "entries", "size"], 16, tables)?;
    let kinds = facts.kinds.iter().take(top).map(|(kind, usage)| (kind.to_string(), usage.events, usage.bytes));
    write_table(out, ["kind", "events", "records"], 16, kinds)?;
    let heads =
        if facts.scale() > 1.0 { ["author", "events, about", "records"] } else { ["author", "events", "records"] };
    write_table(out, heads, 64, authors(facts, top).map(|(author, events, bytes)| (npub(&author), events, bytes)))
}

/// The largest authors with their events and bytes, estimated if not all were looked at.
fn authors(facts: &Facts, top: usize) -> impl Iterator<Item = (Pubkey, u64, u64)> {
    let scale = facts.scale();
    let estimate = move |seen: u64| (seen as f64 * scale).round() as u64;
    let largest = facts.survey.largest_authors(top).into_iter();
    largest.map(move |(author, amount)| (author, estimate(amount.events), estimate(amount.bytes)))
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

fn write_json(out: &mut impl Write, config: &Config, store: &Store, facts: &Facts, top: usize) -> io::Result<()> {
    let Facts { usage, room, disk_free_bytes, last_seq, .. } = facts;
    let table = |table: &TableUsage| json!({"name": table.name, "entries": table.entries, "bytes": table.bytes});
    let kind =
        |(kind, usage): &(Kind, KindUsage)| json!({"kind": kind.0, "events": usage.events, "bytes": usage.bytes});
    let author = |(author, events, bytes): (Pubkey, u64, u64)| json!({"pubkey": author.to_string(), "events": events, "bytes": bytes});
    let growth = facts.growth().map(|(events, bytes)| json!({"events": events, "bytes": bytes}));
    let next = facts.next.map(|next| json!({"events": next.events, "bytes": next.bytes}));
    let waiting = facts.waiting.map(|waiting| json!({"events": waiting.events, "bytes": waiting.bytes}));
    let object = json!({
        "data": store.path(), "format": FORMAT, "durability": durability(config),
        "events": usage.events(), "last_seq": last_seq.0,
        "used_bytes": usage.used_bytes, "free_bytes": usage.free_bytes, "file_bytes": usage.file_bytes,
        "map_bytes": usage.map_bytes, "max_bytes": config.storage.max_bytes, "full_bytes": room.full_bytes(),
        "disk_free_bytes": disk_free_bytes, "growth_per_day": growth, "retention_removes_next": next,
        "retention_waits_to_remove": waiting,
        "tables": usage.tables.iter().map(table).collect::<Vec<_>>(),
        "kinds": facts.kinds.iter().map(kind).collect::<Vec<_>>(),
        "authors": authors(facts, top).map(author).collect::<Vec<_>>(),
        "authors_looked_at": facts.survey.seen.events,
    });
    writeln!(out, "{object}")
}
