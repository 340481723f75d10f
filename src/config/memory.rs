//! How much memory a configuration lets the relay use, for `weir config check`.
//!
//! Only what clients can make it hold (INV-12). The page cache of the data file is the system's and not counted.

use super::Config;

/// What one open connection takes with nothing on its way, in bytes: its task, its session and its socket's
/// buffers in the kernel.
const CONNECTION_BYTES: u64 = 16 << 10;

/// What one event of a negentropy session takes.
const NEGENTROPY_RECORD_BYTES: u64 = 41;

/// One line that adds up the bounds of `config`, in the units an operator buys memory in.
#[must_use]
pub fn memory_ceiling(config: &Config) -> String {
    let (server, limits) = (&config.server, &config.limits);
    let queues = config.queues.ingest_bytes as u64;
    let outboxes = server.outbox_total_bytes;
    let connections = server.max_connections as u64 * CONNECTION_BYTES;
    let tier = &config.tiers.anonymous;
    let of_one_client = limits.max_message_length as u64 + tier.max_filter_bytes;
    format!(
        "memory: at most {} of events on their way to disk, {} waiting for clients, {} in negentropy sessions, \
         {} for {} idle connections; one anonymous client may make the relay hold {} more",
        size(queues),
        size(outboxes),
        size(config.negentropy.max_records_total as u64 * NEGENTROPY_RECORD_BYTES),
        size(connections),
        server.max_connections,
        size(of_one_client),
    )
}

/// Bytes in the largest unit of which there is at least one.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_adds_up_the_bounds() {
        let mut config = Config::default();
        config.server.max_connections = 1024;
        let expected = "memory: at most 64.0 MiB of events on their way to disk, 512.0 MiB waiting for clients, \
                        312.8 MiB in negentropy sessions, 16.0 MiB for 1024 idle connections; one anonymous client may make the relay hold 3.0 MiB more";
        assert_eq!(memory_ceiling(&config), expected);
    }
}
