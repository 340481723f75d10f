//! The publish phase: EVENT to OK.
//!
//! It must never take an event twice unless the phase is about duplicates.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Context;
use super::asker::{OpenLoop, measure};
use super::meter::{add_latency, phase_report};
use super::prepare::Fresh;
use super::progress::Progress;
use super::publisher::{Frames, Publisher, Rules, Tally};
use crate::account::Account;
use crate::report::PhaseReport;
use crate::scenario::{Expect, Publish, Source};

/// Sends the whole corpus without measuring it.
pub async fn load(context: &Context) -> Result<PhaseReport> {
    let settings = Publish { name: "load".into(), expect: Expect::Any, ..Publish::default() };
    run(context, &settings, Fresh::default()).await
}

/// Runs the phase.
pub async fn run(context: &Context, settings: &Publish, fresh: Fresh) -> Result<PhaseReport> {
    let open_loop = settings.rate > 0.0;
    let account = Rc::new(Account::default());
    let tally = Rc::new(Tally::default());
    let progress = Progress::new(settings.connections);
    let (frames, count) = encode(context, settings, fresh);
    let timed = settings.duration_s > 0.0 && !open_loop;
    let rules = Rules {
        library: context.library.clone(),
        account: account.clone(),
        tally: tally.clone(),
        progress: progress.clone(),
        in_flight: if open_loop { 0 } else { settings.in_flight },
        expect: settings.expect,
        stored_from: u32::MAX,
        deadline: timed.then(|| Instant::now() + Duration::from_secs_f64(settings.duration_s)),
        cycle: timed && settings.expect != Expect::Stored,
    };
    let states = frames.into_iter().map(|frames| Publisher::new(rules.clone(), frames));
    let actors = context.open_all(states, &account, &progress).await;
    let open_loop = open_loop.then_some(OpenLoop { rate: settings.rate, count });
    let metered = measure(context, &actors, open_loop, &progress).await?;
    let mut report = phase_report(&settings.name, "event", tally.answers.answered.get(), metered, &account);
    add_latency(&mut report, "EVENT to OK", &tally.answers.latency.borrow());
    add_latency(&mut report, "generator lag", &tally.answers.lag.borrow());
    let duplicates = tally.duplicates.get() as f64;
    report.figures.insert("answered_duplicate_events".into(), duplicates);
    if let Some(growth) = report.relay.as_ref().and_then(|cost| cost.disk_growth_bytes) {
        let per_event = growth as f64 / report.units.max(1) as f64;
        report.figures.insert("disk_per_event_bytes".into(), per_event);
    }
    Ok(report)
}

/// Encodes the events of the phase, dealt out to its connections; returns how many there are.
fn encode(context: &Context, settings: &Publish, fresh: Fresh) -> (Vec<Frames>, usize) {
    let numbers = match settings.events {
        Source::Fresh => fresh.first..fresh.first + fresh.count,
        Source::Corpus => 0..context.corpus_len,
    };
    let wanted = match settings.count {
        0 if settings.rate > 0.0 && settings.duration_s > 0.0 => (settings.rate * settings.duration_s) as usize,
        0 => numbers.len(),
        count => count,
    };
    // Only duplicates may be sent again.
    let repeat = settings.expect != Expect::Stored && !numbers.is_empty();
    let count = if repeat { wanted } else { wanted.min(numbers.len()) };
    let mut frames: Vec<Frames> = (0..settings.connections).map(|_| Frames::default()).collect();
    for (turn, number) in numbers.cycle().take(count).enumerate() {
        frames[turn % settings.connections].push(&context.library, number);
    }
    (frames, count)
}
