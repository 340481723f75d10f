//! The `read` threads, which run the jobs of Q4 in slices.
//!
//! A thread holds no transaction while it waits for a job.

use std::sync::Arc;
use std::time::Instant;

use super::job::Reading;
use crate::pipeline::fair::Progress;

/// One `read` thread: a slice of one job after the other, until Q4 is closed and empty.
pub fn run(reading: &Arc<Reading>) {
    let (budget, slice_us) = (reading.options.slice(), reading.options.slice_us);
    while let Some((address, job)) = reading.scans.pop(slice_us, || reading.clock.now_us()) {
        let (client, began) = (Arc::clone(job.client()), Instant::now());
        let again = job.run(reading, budget);
        let (spent, now_us) = (began.elapsed(), reading.clock.now_us());
        client.charge_time(&reading.settings.load(), spent, now_us);
        reading.scans.settle(address, slice_us, spent.as_micros() as u64, now_us);
        if let Some(again) = again {
            reading.submit(again, Progress::Begun);
        }
    }
}
