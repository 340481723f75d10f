//! Gauges that are computed only when somebody asks.
//!
//! This runs on an io thread between two clients, so it reads only counters, one page of each table, and what the
//! system reports without touching the disk.

use rustix::time::{ClockId, clock_gettime};

use crate::metrics::{Metrics, QueueLabel, TableLabel};
use crate::pipeline::Serving;

/// Sets them all, in less than 0.1 ms.
pub fn collect(pipeline: &Serving) {
    let metrics = &pipeline.metrics;
    let (subscriptions, items) = pipeline.reading.live.size();
    metrics.subscriptions.set(subscriptions as i64);
    metrics.filter_items.set(items as i64);
    metrics.filter_bytes.set(pipeline.memory.filters.used_bytes() as i64);
    metrics.outbox_bytes.set(pipeline.memory.outboxes.used_bytes() as i64);
    metrics.ingest_bytes.set(pipeline.memory.waiting_events.used_bytes() as i64);
    metrics.verify_mismatches.set(pipeline.verifier.mismatches() as i64);
    let (sessions, records) = pipeline.reading.sessions.size();
    metrics.negentropy_sessions.set(sessions as i64);
    metrics.negentropy_records.set(records as i64);
    for (queue, len, bound) in pipeline.queues() {
        metrics.queue_len.get_or_create(&QueueLabel { queue }).set(len as i64);
        metrics.queue_bound.get_or_create(&QueueLabel { queue }).set(bound as i64);
    }
    collect_store(pipeline);
    collect_process(metrics);
}

fn collect_store(pipeline: &Serving) {
    let metrics = &pipeline.metrics;
    match pipeline.store.usage() {
        Ok(usage) => {
            metrics.store_used_bytes.set(usage.used_bytes as i64);
            metrics.store_free_bytes.set(usage.free_bytes as i64);
            metrics.store_file_bytes.set(usage.file_bytes as i64);
            metrics.store_map_bytes.set(usage.map_bytes as i64);
            metrics.store_reader_slots.set(usage.reader_slots.into());
            for table in usage.tables {
                let label = TableLabel { table: table.name };
                metrics.store_bytes.get_or_create(&label).set(table.bytes as i64);
                metrics.store_entries.get_or_create(&label).set(table.entries as i64);
            }
        }
        Err(error) => tracing::warn!(%error, "the store could not be measured"),
    }
    let newest = pipeline.store.newest_counts();
    metrics.newest_hits.set(newest.hits as i64);
    metrics.newest_misses.set(newest.misses as i64);
    metrics.newest_resets.set(newest.resets as i64);
    match pipeline.store.room() {
        Ok(room) => {
            metrics.store_full_bytes.set(room.full_bytes() as i64);
        }
        Err(error) => tracing::warn!(%error, "the store's room could not be measured"),
    }
    match pipeline.store.disk_space() {
        Ok(space) => {
            metrics.disk_free_bytes.set(space.free_bytes as i64);
        }
        Err(error) => tracing::warn!(%error, "the file system could not be measured"),
    }
}

fn collect_process(metrics: &Metrics) {
    // The gauge stays at zero where the system does not report this.
    if let Some((resident, private)) = memory_bytes() {
        metrics.resident_bytes.set(resident);
        metrics.private_bytes.set(private);
    }
    let passed = cpu_seconds() - metrics.cpu_seconds.get();
    metrics.cpu_seconds.inc_by(passed.max(0.0));
}

/// The resident memory of the process, and how much of it is not file-backed, in bytes (proc_pid_statm(5)).
fn memory_bytes() -> Option<(i64, i64)> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split_ascii_whitespace().map(str::parse::<i64>);
    let (_, resident, of_files) = (pages.next()?.ok()?, pages.next()?.ok()?, pages.next()?.ok()?);
    let page_bytes = rustix::param::page_size() as i64;
    Some((resident * page_bytes, (resident - of_files) * page_bytes))
}

/// CPU time of all threads so far, user and system (clock_gettime(2)).
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_in_memory_and_has_run() {
        let (resident, private) = memory_bytes().expect("the system tells");
        assert!(resident >= private && private > 0, "{resident} {private}");
        assert!(cpu_seconds() > 0.0);
    }
}
