//! The `read` threads, which run the jobs of Q4 in slices.
//!
//! A thread holds no transaction while it waits for a job.

use std::sync::Arc;
use std::time::Duration;

use super::job::{Job, Reading};
use super::meter::Meter;
use crate::pipeline::fair_channel::Turn;
use crate::store::Budget;

/// One `read` thread: a slice of one job after the other, until Q4 is closed and empty.
pub fn run(reading: &Arc<Reading>) {
    while let Some(turn) = reading.scans.pop(reading.options.slice_us, || reading.clock.now_us()) {
        run_slice(reading, turn);
    }
}

/// Runs a slice of a job, charges its client and its address, and puts it in line for the next one.
fn run_slice(reading: &Arc<Reading>, Turn { address, job, slice_us }: Turn<Box<dyn Job>>) {
    let budget = Budget { rows: reading.options.slice_rows, time: Duration::from_micros(slice_us) };
    let (client, meter) = (job.client().cloned(), Meter::start());
    let again = job.run(reading, budget);
    let (spent, now_us) = (meter.spent(), reading.clock.now_us());
    let spent_us = spent.as_micros() as u64;
    if let Some(client) = client {
        client.charge_time(&reading.settings.load(), spent, now_us);
    }
    reading.scans.correct(address, slice_us, spent_us, now_us);
    if let Some(mut again) = again {
        again.spend(spent_us);
        reading.submit(again);
    }
}
