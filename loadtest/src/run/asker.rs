//! What publishing and querying connections have in common: each asks, is answered, and is driven in a closed or an
//! open loop.
//!
//! It must never know what is asked.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::meter::{Meter, Metered};
use super::progress::Progress;
use super::{Actor, Context};
use crate::latency::Latency;
use crate::pace::{Pacer, Schedule};
use crate::wire::link::{Handler, Link};

/// The state of a connection that asks.
pub trait Asker: Handler + 'static {
    /// Closed loop: asks as much as it may.
    fn start(&mut self, link: &Link, now: Instant);

    /// Open loop: asks what was due at `intended`.
    fn send_due(&mut self, link: &Link, intended: Instant);

    /// Open loop: nothing more will be due.
    fn end(&mut self);

    /// Counts what is still unanswered as missing; call it when the phase is over.
    fn settle(&mut self);
}

/// What all such connections of a phase count together.
#[derive(Default)]
pub struct Answers {
    /// Answers that came.
    pub answered: Cell<u64>,
    /// From the intended send to the answer.
    pub latency: RefCell<Latency>,
    /// The same since the last sample.
    pub window: RefCell<Latency>,
    /// How late the generator itself was.
    pub lag: RefCell<Latency>,
}

impl Answers {
    /// Counts one answer.
    pub fn add(&self, latency: Duration) {
        self.latency.borrow_mut().record(latency);
        self.window.borrow_mut().record(latency);
        add(&self.answered, 1);
    }
}

/// Whether a connection's part in its phase is over, told once.
#[derive(Default)]
pub struct Finish(bool);

impl Finish {
    /// It is, whether or not it was before.
    pub fn tell(&mut self, progress: &Progress) {
        if !std::mem::replace(&mut self.0, true) {
            progress.finish();
        }
    }
}

/// Asks so often at a fixed rate.
pub struct OpenLoop {
    /// Per second.
    pub rate: f64,
    /// Messages in all.
    pub count: usize,
}

/// Runs a phase over its open connections, to the end of the answers, and closes them.
pub async fn measure<A: Asker>(
    context: &Context,
    actors: &[Actor<A>],
    open_loop: Option<OpenLoop>,
    progress: &Progress,
) -> Result<Metered> {
    let meter = Meter::start(&context.watched, &context.traffic)?;
    match open_loop {
        Some(OpenLoop { rate, count }) => {
            let schedule = Schedule { start: meter.started(), rate };
            pace(actors, schedule, count, |_, _| ()).await?;
        }
        None => actors.iter().for_each(|actor| actor.state.borrow_mut().start(&actor.link, Instant::now())),
    }
    progress.wait(context.stall).await;
    let metered = meter.stop(&context.watched, &context.traffic)?;
    for actor in actors {
        actor.state.borrow_mut().settle();
        actor.link.close();
    }
    Ok(metered)
}

/// Lets the connections ask in turn, `count` times as the schedule says; `before` is told of each and when it was due.
pub async fn pace<A: Asker>(
    actors: &[Actor<A>],
    schedule: Schedule,
    count: usize,
    mut before: impl FnMut(&A, Instant),
) -> Result<()> {
    let pacer = Pacer::new()?;
    for number in 0..count {
        if actors.is_empty() {
            break;
        }
        let intended = schedule.moment(number as u64);
        pacer.until(intended).await;
        let actor = &actors[number % actors.len()];
        before(&actor.state.borrow(), intended);
        actor.state.borrow_mut().send_due(&actor.link, intended);
        if number % 8 == 7 {
            tokio::task::yield_now().await;
        }
    }
    actors.iter().for_each(|actor| actor.state.borrow_mut().end());
    Ok(())
}

/// Adds to a counter.
pub fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}
