//! The upper bound on memory that a configuration implies, for `weir config check`.
//!
//! It covers everything that clients can make the relay hold (INV-12) and the relay itself. The page cache of the data
//! file belongs to the kernel and is not counted. The kernel's buffers of sockets are printed apart from the sum.

use std::fmt::Write as _;

use indicatif::BinaryBytes;

use super::sections::Config;
use crate::pipeline::SUSPECTS;
use crate::pipeline::fair::MAX_REMEMBERED;
use crate::pipeline::ingest::plugin::COPY_BYTES;
use crate::pipeline::query::changes::{MOST_ANSWERS, MOST_BYTES};
use crate::plugin::worker::BUFFER_BYTES;
use crate::replication::{CLUSTER_BYTES, LINK_BYTES, TAKEN_AT_ONCE};

/// Memory of one open connection that no account counts: its task, session and outbox (4.1 KiB, measured with 4,000
/// idle connections) and up to 4 KiB of a partial message. Kernel buffers are not included.
const CONNECTION_BYTES: u64 = 10 << 10;

/// Memory of one socket whose request has not been answered: hyper's buffers (at most 16 KiB) and its task.
const HALF_OPEN_BYTES: u64 = 24 << 10;

/// An event on its way to disk is held three times: as a record, in a shared page of LMDB's transaction, and in the
/// frames for subscribers.
const COPIES_OF_AN_EVENT: u64 = 3;

/// What a byte of an event may take in JSON: a control character is written as `\u0001`.
const ESCAPED: u64 = 6;

/// Memory of one event in a negentropy session.
const NEGENTROPY_RECORD_BYTES: u64 = 41;

/// The program, its threads, their buffers, smaller tables, and memory freed in the last seconds that has not been
/// returned yet: up to 60 MiB under the attacks of `docs/reliability.md`.
const BASE_BYTES: u64 = 64 << 20;

/// The rate tables when full: 200,000 addresses and 200,000 keys at 100 bytes each.
const RATE_TABLES_BYTES: u64 = 2 * 200_000 * 100;

/// What each queue that serves addresses in their order remembers of those without a job.
const FAIR_QUEUE_BYTES: u64 = MAX_REMEMBERED as u64 * 100;

/// The queues that do so at all times: Q4, `verify` and `writer`.
const FAIR_QUEUES: u64 = 3;

/// New keys and their addresses, and offenders, when their tables are full.
const NEWCOMERS_BYTES: u64 = 2 * SUSPECTS as u64 * 64;
const OFFENDERS_BYTES: u64 = SUSPECTS as u64 * 96;

/// One use of memory and its bounds in bytes; 0 where there is no bound.
struct Line {
    what: &'static str,
    total: u64,
    address: u64,
    connection: u64,
}

/// The memory bounds that `config` implies, one line per use, and their sum.
///
/// Bounds per connection are those of a client that has not authenticated.
#[must_use]
pub fn memory_ceiling(config: &Config) -> String {
    let lines = lines(config);
    let sum = lines.iter().map(|line| line.total).sum();
    let mut text = format!("memory: at most {}, plus the page cache of the data file\n", BinaryBytes(sum));
    for Line { what, total, address, connection } in lines {
        let parts = [(address, "address"), (connection, "connection")].into_iter().filter(|(bytes, _)| *bytes > 0);
        let parts: Vec<String> = parts.map(|(bytes, of)| format!("{} per {of}", BinaryBytes(bytes))).collect();
        let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:>10}  {what}{parts}", BinaryBytes(total).to_string());
    }
    text += &kernel(config);
    text
}

/// The kernel's bound on the buffers of sockets. Each has two, and the kernel takes twice their size for its
/// bookkeeping.
fn kernel(config: &Config) -> String {
    let server = &config.server;
    if server.socket_buffer_bytes == 0 {
        return "socket buffers in the kernel: bounded by net.ipv4.tcp_rmem, tcp_wmem and tcp_mem alone".into();
    }
    let per_connection = 2 * 2 * server.socket_buffer_bytes as u64;
    let [total, per_address] = [server.max_connections, server.max_connections_per_address]
        .map(|connections| BinaryBytes(connections as u64 * per_connection));
    format!(
        "socket buffers in the kernel: at most {total} ({per_address} per address, {} per connection), within \
         net.ipv4.tcp_mem",
        BinaryBytes(per_connection)
    )
}

/// What is remembered of addresses and keys that come and go.
fn tables(config: &Config) -> u64 {
    let (policy, plugin) = (&config.policy, &config.plugin);
    let workers = if plugin.command.is_empty() { 0 } else { plugin.workers as u64 };
    let newcomers = if policy.newcomers.period_s > 0 { NEWCOMERS_BYTES } else { 0 };
    let offenders = if policy.offenders.offences > 0 { OFFENDERS_BYTES } else { 0 };
    RATE_TABLES_BYTES + (FAIR_QUEUES + workers) * FAIR_QUEUE_BYTES + newcomers + offenders
}

fn lines(config: &Config) -> Vec<Line> {
    let (server, memory, negentropy) = (&config.server, &config.memory, &config.negentropy);
    let message = config.limits.max_message_length as u64;
    let doors = if server.trusted_proxies.is_empty() { 1 } else { 2 };
    let of_events = |events: u64| events * COPIES_OF_AN_EVENT;
    let of_records = |records: usize| records as u64 * NEGENTROPY_RECORD_BYTES;
    let line = |what, total, address, connection| Line { what, total, address, connection };
    let own_filters = config.tiers.anonymous.max_filter_bytes;
    let mut lines = vec![
        line("filters", memory.filters.total_bytes, memory.filters.per_address_bytes, own_filters),
        line(
            "partial messages",
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
            "outgoing data",
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
        line("tables of addresses and keys", tables(config), 0, 0),
        line("times of authors' newest events", config.storage.newest_times_bytes, 0, 0),
        line("the relay itself", BASE_BYTES, 0, 0),
    ];
    let (plugin, tiers) = (&config.plugin, &config.tiers);
    let largest = [&tiers.anonymous, &tiers.authenticated, &tiers.listed].map(|tier| tier.max_event_bytes);
    let largest = largest.into_iter().max().unwrap_or_default() as u64 * ESCAPED;
    if config.changes.on_metrics_address || !config.changes.token_file.path.is_empty() {
        // A vector has up to twice the room that it needs.
        let answer = 2 * (MOST_BYTES as u64 + largest);
        lines.push(line("answers of the feed of changes", MOST_ANSWERS as u64 * answer, 0, 0));
    }
    let links: usize = config.replication.streams.iter().map(|stream| stream.urls.len()).sum();
    if links > 0 {
        lines.push(line("streams to other relays, while they compare", links as u64 * LINK_BYTES, 0, 0));
    }
    if config.cluster.is_on() {
        lines.push(line("the other nodes of the cluster", CLUSTER_BYTES + TAKEN_AT_ONCE as u64 * 2 * largest, 0, 0));
    }
    if !plugin.command.is_empty() {
        let copies = if plugin.dry_run { COPY_BYTES as u64 } else { 0 };
        lines.push(line("the plugin's pipes", plugin.workers as u64 * (BUFFER_BYTES + largest) + copies, 0, 0));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_add_up_the_bounds() {
        let mut config = Config::default();
        config.server.max_connections = 1024;
        let expected = "memory: at most 1.84 GiB, plus the page cache of the data file
  512.00 MiB  filters (64.00 MiB per address, 2.00 MiB per connection)
  128.00 MiB  partial messages (16.00 MiB per address, 1.00 MiB per connection)
  192.00 MiB  events on their way to disk (48.00 MiB per address)
  512.00 MiB  outgoing data (128.00 MiB per address, 8.00 MiB per connection)
  312.81 MiB  negentropy sessions (78.20 MiB per address, 78.20 MiB per connection)
   10.00 MiB  connections (2.50 MiB per address, 10.00 KiB per connection)
   96.00 MiB  sockets without a request
   42.83 MiB  tables of addresses and keys
   16.00 MiB  times of authors' newest events
   64.00 MiB  the relay itself
socket buffers in the kernel: at most 1.00 GiB (256.00 MiB per address, 1.00 MiB per connection), within net.ipv4.tcp_mem";
        assert_eq!(memory_ceiling(&config), expected);
        config.plugin.command = "/etc/weir/policy".into();
        (config.plugin.workers, config.plugin.dry_run) = (2, true);
        assert!(memory_ceiling(&config).contains("\n   28.50 MiB  the plugin's pipes\n"));
        let stream =
            "[[replication.streams]]\nname = \"a\"\ndir = \"up\"\nurls = [\"relay.example\", \"relay.example.net\"]";
        config.replication = Config::parse("weir.toml", stream).expect("a stream").replication;
        assert!(memory_ceiling(&config).contains("\n  224.00 MiB  streams to other relays, while they compare\n"));
        config.changes.on_metrics_address = true;
        assert!(memory_ceiling(&config).contains("  answers of the feed of changes\n"));
        (config.policy.newcomers.period_s, config.policy.offenders.offences) = (3_600, 3);
        assert!(memory_ceiling(&config).contains("\n   67.32 MiB  tables of addresses and keys\n"), "with their own");
    }
}
