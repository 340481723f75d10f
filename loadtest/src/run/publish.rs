//! The publish phase: EVENT to OK.
//!
//! It must never take an event twice unless the phase is about duplicates.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::asker::{self, AskOptions, OpenLoop, measure};
use super::context::Context;
use super::kill::KillTrigger;
use super::meter::{add_latency, phase_report};
use super::prepare::Fresh;
use super::progress::Progress;
use super::publisher::{Frames, Publisher, Rules};
use crate::account::Account;
use crate::report::PhaseReport;
use crate::scenario::phase::{Expect, Publish, Source};

/// Unanswered events per connection while the corpus is loaded: a relay that refuses large portions may accept smaller
/// ones.
const LOAD_IN_FLIGHT: [usize; 3] = [64, 8, 1];

/// Sends the whole corpus without measuring it. Events without an answer are sent again with fewer in flight.
///
/// # Errors
/// As [`run`].
pub async fn load(context: &Context) -> Result<PhaseReport> {
    let mut report = PhaseReport::default();
    for in_flight in LOAD_IN_FLIGHT {
        let settings = Publish { name: "load".into(), expect: Expect::Any, in_flight, ..Publish::default() };
        let left: Vec<u32> = (0..context.corpus_len).filter(|&number| context.holdings.is_unknown(number)).collect();
        if left.is_empty() || context.stop.is_set() {
            break;
        }
        let attempt = publish(context, &settings, &left, left.len()).await?;
        report = PhaseReport { units: report.units + attempt.units, ..attempt }.with_findings_of(report);
    }
    Ok(report)
}

/// Runs the phase.
///
/// # Errors
/// If the system gives no timer.
pub async fn run(context: &Context, settings: &Publish, fresh: Fresh) -> Result<PhaseReport> {
    let numbers: Vec<u32> = match settings.events {
        Source::Fresh => (fresh.first..fresh.first + fresh.count).collect(),
        Source::Corpus => (0..context.corpus_len).collect(),
    };
    let wanted = match settings.count {
        0 if settings.rate > 0.0 && settings.duration_s > 0.0 => (settings.rate * settings.duration_s) as usize,
        0 => numbers.len(),
        count => count,
    };
    // Only duplicates may be sent again.
    let repeat = settings.expect != Expect::Stored && !numbers.is_empty();
    let count = if repeat { wanted } else { wanted.min(numbers.len()) };
    publish(context, settings, &numbers, count).await
}

/// Publishes `count` events, from the start of `numbers` again when they end.
async fn publish(context: &Context, settings: &Publish, numbers: &[u32], count: usize) -> Result<PhaseReport> {
    let open_loop = settings.rate > 0.0;
    let timed = settings.duration_s > 0.0 && !open_loop;
    let account = Rc::new(Account::default());
    let progress = Progress::new(settings.connections);
    let rules =
        Rules { cycle: timed && settings.expect != Expect::Stored, ..Rules::new(context, &account, settings.expect) };
    let revival = context.revival.as_ref().filter(|_| settings.kill);
    let trigger: Option<Rc<KillTrigger>> = revival.map(|revival| Rc::new(revival.trigger(count as u64 / 2)));
    let terms = AskOptions {
        in_flight: if open_loop { context.max_in_flight } else { settings.in_flight.min(context.max_in_flight) },
        closed_loop: !open_loop,
        length: timed.then(|| Duration::from_secs_f64(settings.duration_s)),
        goal: (!rules.cycle).then_some(count as u64),
        trigger: trigger.clone(),
        ..AskOptions::new(context, &account, &rules.answers, &progress)
    };
    let numbers = numbers.iter().copied().cycle().take(count);
    let frames = Frames::deal(context, numbers, settings.connections).into_iter().enumerate();
    let publishers = frames.map(|(number, frames)| Publisher::new(rules.clone(), number, frames));
    let actors = asker::open(context, &terms, publishers).await;
    let open_loop = open_loop.then_some(OpenLoop { rate: settings.rate, count });
    let metered = measure(context, &actors, open_loop, &progress).await?;
    // A phase that was cut short did not get that far.
    trigger.iter().for_each(|trigger| trigger.fire());
    let mut report = phase_report(&settings.name, "event", terms.answers.answered.get(), metered, &account);
    add_latency(&mut report, "EVENT to OK", &terms.answers.latency.borrow());
    add_latency(&mut report, "generator lag", &terms.answers.lag.borrow());
    report.figures.insert("answered_duplicate_events".into(), rules.tally.duplicates.get() as f64);
    let superseded = rules.tally.superseded.get();
    if superseded > 0 {
        report.figures.insert("refused_superseded_events".into(), superseded as f64);
    }
    if let Some(growth) = report.relay.as_ref().and_then(|cost| cost.disk_growth_bytes) {
        let per_event = growth as f64 / report.units.max(1) as f64;
        report.figures.insert("disk_per_event_bytes".into(), per_event);
    }
    Ok(report)
}
