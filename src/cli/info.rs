//! `weir info`: what the store holds, and the room it takes.

use std::io::Write as _;
use std::process::ExitCode;

use indicatif::{BinaryBytes, HumanCount};
use serde_json::json;

use super::Common;
use super::output::stdout;
use crate::config::Durability;
use crate::store::{FORMAT, TableUsage};

/// Arguments of `weir info`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  weir info
  weir info --json | jq .events")]
pub struct Arguments {
    /// Write one JSON object; all sizes in bytes
    #[arg(long)]
    json: bool,
}

/// Prints the sizes.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (config, store) = common.open()?;
    let (usage, disk_free) = (store.usage()?, store.disk_free_bytes()?);
    let last_seq = store.read()?.last_seq()?;
    let durability = match config.storage.durability {
        Durability::Full => "full",
        Durability::Relaxed => "relaxed",
    };
    let mut out = stdout();
    if arguments.json {
        let table = |table: &TableUsage| json!({"name": table.name, "entries": table.entries, "bytes": table.bytes});
        let object = json!({
            "data": store.path(), "format": FORMAT, "durability": durability,
            "events": usage.events(), "last_seq": last_seq.0,
            "used_bytes": usage.used_bytes, "free_bytes": usage.free_bytes, "file_bytes": usage.file_bytes,
            "map_bytes": usage.map_bytes, "max_bytes": config.storage.max_bytes, "disk_free_bytes": disk_free,
            "tables": usage.tables.iter().map(table).collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let max = config.storage.max_bytes;
    let max = if max == 0 { "none".into() } else { BinaryBytes(max).to_string() };
    writeln!(out, "data        {} (format {FORMAT}, durability {durability})", store.path().display())?;
    writeln!(out, "events      {} held of {} that arrived", HumanCount(usage.events()), HumanCount(last_seq.0))?;
    writeln!(out, "used        {} (limit {max})", BinaryBytes(usage.used_bytes))?;
    writeln!(out, "free pages  {}", BinaryBytes(usage.free_bytes))?;
    writeln!(out, "file        {} (at most {})", BinaryBytes(usage.file_bytes), BinaryBytes(usage.map_bytes))?;
    writeln!(out, "disk free   {}", BinaryBytes(disk_free))?;
    writeln!(out, "\n{:<16} {:>15} {:>12}", "table", "entries", "size")?;
    for TableUsage { name, entries, bytes } in &usage.tables {
        writeln!(out, "{name:<16} {:>15} {:>12}", HumanCount(*entries).to_string(), BinaryBytes(*bytes).to_string())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
