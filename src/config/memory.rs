//! How much memory a configuration lets the relay use, for `weir config check`.
//!
//! Everything that clients can make it hold (INV-12), and what it takes by itself. The page cache of the data file is the
//! system's and not counted.

use std::fmt::Write as _;

use indicatif::BinaryBytes;

use super::sections::Config;

/// What one open connection takes besides what the accounts count: its task, its session and its outbox (4.1 KiB,
/// measured with 4,000 idle ones), and up to 4 KiB of a message that is not complete. The kernel's buffers come on top.
const CONNECTION_BYTES: u64 = 10 << 10;

/// What one socket takes whose request is not answered yet: hyper's buffers (16 KiB at most) and its task.
const HALF_OPEN_BYTES: u64 = 24 << 10;

/// An event on its way to disk is held as a record, in a page of LMDB's transaction that it shares, and in what is told
/// to subscribers.
const COPIES_OF_AN_EVENT: u64 = 3;

/// What one event of a negentropy session takes.
const NEGENTROPY_RECORD_BYTES: u64 = 41;

/// The program, its threads, their buffers, tables of fixed size, and what was freed in the last seconds and is not given
/// back yet: up to 60 MiB in the attacks of `docs/reliability.md`.
const BASE_BYTES: u64 = 64 << 20;

/// What the tables of rates take when they are full: 200,000 addresses and as many keys of 100 bytes.
const RATE_TABLES_BYTES: u64 = 2 * 200_000 * 100;

/// One kind of memory, and its bounds in bytes; 0 for a bound that there is not.
struct Line {
    what: &'static str,
    total: u64,
    address: u64,
    connection: u64,
}

/// The bounds of `config` on memory, a line for each kind, and their sum, in the units an operator buys memory in.
///
/// The bounds by connection are those of a client that has not proven a key.
#[must_use]
pub fn memory_ceiling(config: &Config) -> String {
    let lines = lines(config);
    let sum = lines.iter().map(|line| line.total).sum();
    let mut text = format!("memory: at most {}, and the cached part of the data file\n", BinaryBytes(sum));
    for Line { what, total, address, connection } in lines {
        let parts = [(address, "address"), (connection, "connection")].into_iter().filter(|(bytes, _)| *bytes > 0);
        let parts: Vec<String> = parts.map(|(bytes, of)| format!("{} of one {of}", BinaryBytes(bytes))).collect();
        let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:>10}  {what}{parts}", BinaryBytes(total).to_string());
    }
    text.pop();
    text
}

fn lines(config: &Config) -> Vec<Line> {
    let (server, memory, negentropy) = (&config.server, &config.memory, &config.negentropy);
    let message = config.limits.max_message_length as u64;
    let doors = if server.trusted_proxies.is_empty() { 1 } else { 2 };
    let of_events = |events: u64| events * COPIES_OF_AN_EVENT;
    let of_records = |records: usize| records as u64 * NEGENTROPY_RECORD_BYTES;
    let line = |what, total, address, connection| Line { what, total, address, connection };
    let own_filters = config.tiers.anonymous.max_filter_bytes;
    vec![
        line("filters", memory.filters.total_bytes, memory.filters.per_address_bytes, own_filters),
        line(
            "incomplete messages",
            memory.partial_messages.total_bytes,
            memory.partial_messages.per_address_bytes,
            message,
        ),
        line(
            "events on their way to disk",
            of_events(memory.waiting_events.total_bytes),
            of_events(memory.waiting_events.per_address_bytes),
            0,
        ),
        line(
            "waiting to be sent",
            memory.outboxes.total_bytes,
            memory.outboxes.per_address_bytes,
            server.outbox_bytes as u64,
        ),
        line(
            "negentropy sessions",
            of_records(negentropy.max_records_total),
            of_records(negentropy.max_records_per_address),
            of_records(negentropy.max_records_per_address),
        ),
        line(
            "connections",
            server.max_connections as u64 * CONNECTION_BYTES,
            server.max_connections_per_address as u64 * CONNECTION_BYTES,
            CONNECTION_BYTES,
        ),
        line("sockets without a request", server.max_half_open as u64 * HALF_OPEN_BYTES * doors, 0, 0),
        line("rates of addresses and keys", RATE_TABLES_BYTES, 0, 0),
        line("the relay itself", BASE_BYTES, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_add_up_the_bounds() {
        let mut config = Config::default();
        config.server.max_connections = 1024;
        let expected = "memory: at most 1.82 GiB, and the cached part of the data file
  512.00 MiB  filters (64.00 MiB of one address, 2.00 MiB of one connection)
  128.00 MiB  incomplete messages (16.00 MiB of one address, 1.00 MiB of one connection)
  192.00 MiB  events on their way to disk (48.00 MiB of one address)
  512.00 MiB  waiting to be sent (128.00 MiB of one address, 8.00 MiB of one connection)
  312.81 MiB  negentropy sessions (78.20 MiB of one address, 78.20 MiB of one connection)
   10.00 MiB  connections (2.50 MiB of one address, 10.00 KiB of one connection)
   96.00 MiB  sockets without a request
   38.15 MiB  rates of addresses and keys
   64.00 MiB  the relay itself";
        assert_eq!(memory_ceiling(&config), expected);
    }
}
