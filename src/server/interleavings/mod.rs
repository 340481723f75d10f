//! Threads in every order: what is locked, waited for and counted without a lock, run under a scheduler that decides at
//! each such step which thread goes on (shuttle).
//!
//! The code under test is the relay's own, down to the store; only sockets and clocks are made up. A thread that waits
//! for ever fails the test, since nothing here ever times out. What the explorer cannot see is which reorderings of
//! memory a CPU allows: to it, every atomic access is sequentially consistent.
//!
//! ```text
//! cargo test --lib --features interleavings interleavings::
//! ```
//!
//! `WEIR_INTERLEAVINGS` multiplies the number of schedules. A run that fails prints its schedule, and
//! `WEIR_SCHEDULE=… cargo test …` with the name of the test runs that one again.

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

mod channels;
mod handover;
mod outboxes;
mod relay;
mod stopping;

/// A fault may need this many changes of thread at just the wrong step to show.
const DEPTH: usize = 3;

/// Bytes of each thread's stack: LMDB and the JSON parser run on it.
const STACK_BYTES: usize = 1 << 20;

/// Steps of a run that goes round in circles.
const MOST_STEPS: usize = 200_000;

/// Runs `body` under many schedules: half of them purely random, half of them with few changes of thread at random
/// steps (PCT).
pub(crate) fn explore(schedules: usize, body: impl Fn() + Send + Sync + 'static) {
    if let Ok(schedule) = std::env::var("WEIR_SCHEDULE") {
        run(ReplayScheduler::new_from_encoded(&schedule), body);
        return;
    }
    let times = std::env::var("WEIR_INTERLEAVINGS").ok().map_or(1, |times| times.parse().expect("a number"));
    let (half, body) = ((schedules * times).div_ceil(2), std::sync::Arc::new(body));
    for scheduler in [&random as &dyn Fn(usize) -> Box<dyn Scheduler + Send>, &few_changes] {
        let body = std::sync::Arc::clone(&body);
        run(scheduler(half), move || body());
    }
}

fn random(schedules: usize) -> Box<dyn Scheduler + Send> {
    Box::new(RandomScheduler::new(schedules))
}

fn few_changes(schedules: usize) -> Box<dyn Scheduler + Send> {
    Box::new(PctScheduler::new(DEPTH, schedules))
}

fn run(scheduler: impl Scheduler + 'static, body: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    // That its atomics are sequentially consistent.
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    Runner::new(scheduler, config).run(body);
}
