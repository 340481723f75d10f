//! The fan-out phase: EVENT to every subscriber that asked for it.
//!
//! It must never wait for a slow reader before the clock stops.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::asker::{self, AskOptions, Asker, pace, start_all};
use super::context::{Actor, Context};
use super::feeds::{self, Feeds, Layout, Plan};
use super::meter::{Meter, Metered, add_latency, phase_report};
use super::prepare::Fresh;
use super::progress::Progress;
use super::publisher::{Frames, Publisher, Rules};
use crate::account::{Account, Finding};
use crate::pace::Schedule;
use crate::process::Snapshot;
use crate::report::PhaseReport;
use crate::scenario::phase::{Expect, Fanout};

/// How long a slow reader may be silent before it counts as drained.
const DRAIN: Duration = Duration::from_secs(3);

/// Runs the phase.
///
/// # Errors
/// If the system gives no timer.
pub async fn run(context: &Context, settings: &Fanout, fresh: Fresh) -> Result<PhaseReport> {
    let most = context.limits.max_subscriptions.unwrap_or(usize::MAX);
    let settings = &Fanout { subscriptions: settings.subscriptions.min(most), ..settings.clone() };
    let account = Rc::new(Account::default());
    let progress = Progress::new(settings.publishers + settings.subscribers - settings.slow);
    let plan = plan(context, settings, fresh);
    let before = context.watched.snapshot().ok().flatten();
    let layout =
        Layout { connections: settings.subscribers, subscriptions: settings.subscriptions, slow: settings.slow };
    let feeds = feeds::open(context, plan, fresh, layout, &account, &progress).await;
    let rules = Rules { stored_from: 0, ..Rules::new(context, &account, Expect::Stored) };
    let publishers = open_publishers(context, settings, fresh, &rules, &progress).await;
    let subscribed = context.watched.snapshot().ok().flatten();
    feeds.begin();
    let meter = Meter::start(&context.watched, &context.traffic);
    progress.begin(meter.started());
    if settings.rate > 0.0 {
        start_all(&publishers, meter.started());
        let schedule = Schedule { start: meter.started(), rate: settings.rate };
        let note = |publisher: &Publisher, intended| {
            if let Some(upcoming) = publisher.upcoming() {
                feeds.timeline.sent(upcoming, intended);
            }
        };
        pace(context, &publishers, schedule, fresh.count as usize, note).await?;
    } else {
        (0..fresh.count).for_each(|number| feeds.timeline.sent(fresh.first + number, meter.started()));
        start_all(&publishers, meter.started());
    }
    progress.wait(context.stall).await;
    let metered = meter.stop(&progress, &context.watched, &context.traffic);
    publishers.iter().for_each(|actor| actor.state.borrow_mut().count_unanswered());
    if settings.slow > 0 {
        drain(&feeds).await;
    }
    let closed = feeds.count_missing(context, &account);
    judge_growth(settings, &metered, &account);
    let mut report = report(settings, &feeds, &rules, metered, &account, closed);
    add_subscription_cost(&mut report, settings, before.as_ref(), subscribed.as_ref());
    feeds.close();
    publishers.iter().for_each(|actor| actor.link.close());
    Ok(report)
}

/// Compares the growth of the relay's memory with the bound of the scenario.
fn judge_growth(settings: &Fanout, metered: &Metered, account: &Account) {
    let Some(cost) = metered.relay.as_ref().filter(|_| settings.max_growth_mib > 0.0) else { return };
    let growth_mib = (cost.anon_after_kib as f64 - cost.anon_before_kib as f64) / 1024.0;
    if growth_mib > settings.max_growth_mib {
        let bound = settings.max_growth_mib;
        account.note(Finding::MemoryOverBound, || format!("grew by {growth_mib:.0} MiB, the bound is {bound} MiB"));
    }
}

/// The subscriptions of the phase.
fn plan(context: &Context, settings: &Fanout, fresh: Fresh) -> Plan {
    let subscriptions = settings.subscribers * settings.subscriptions;
    let matches = settings.matches_per_event;
    match settings.authors {
        0 => feeds::match_all(&context.library, fresh, subscriptions),
        authors => feeds::follow(&context.library, fresh, subscriptions, authors, matches, context.seed),
    }
}

async fn open_publishers(
    context: &Context,
    settings: &Fanout,
    fresh: Fresh,
    rules: &Rules,
    progress: &Rc<Progress>,
) -> Vec<Actor<Asker<Publisher>>> {
    let closed_loop = settings.rate == 0.0;
    let terms = AskOptions { closed_loop, ..AskOptions::new(context, &rules.account, &rules.answers, progress) };
    let numbers = fresh.first..fresh.first + fresh.count;
    let frames = Frames::deal(context, numbers, settings.publishers).into_iter().enumerate();
    asker::open(context, &terms, frames.map(|(number, frames)| Publisher::new(rules.clone(), number, frames))).await
}

/// Lets the slow readers read until nothing more arrives.
async fn drain(feeds: &Feeds) {
    feeds.actors.iter().for_each(|actor| actor.link.pause(false));
    let mut seen = (feeds.tally.delivered.get(), Instant::now());
    while seen.1.elapsed() < DRAIN {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let delivered = feeds.tally.delivered.get();
        if delivered != seen.0 {
            seen = (delivered, Instant::now());
        }
    }
}

fn report(
    settings: &Fanout,
    feeds: &Feeds,
    rules: &Rules,
    metered: Metered,
    account: &Rc<Account>,
    closed: usize,
) -> PhaseReport {
    let (delivered, events) = (feeds.tally.delivered.get(), rules.answers.answered.get());
    let (unit, units) = if settings.authors > 0 { ("event", events) } else { ("delivery", delivered) };
    let mut report = phase_report(&settings.name, unit, units, metered, account);
    add_latency(&mut report, "EVENT to delivery", &feeds.tally.latency.borrow());
    add_latency(&mut report, "EVENT to OK", &rules.answers.latency.borrow());
    add_latency(&mut report, "generator lag", &rules.answers.lag.borrow());
    add_figures(&mut report, settings, delivered, events, closed);
    let foreign = feeds.tally.foreign.get();
    if foreign > 0 {
        report.figures.insert("foreign_deliveries".into(), foreign as f64);
    }
    report
}

fn add_figures(report: &mut PhaseReport, settings: &Fanout, delivered: u64, events: u64, closed: usize) {
    let mut figure = |name: &str, value: f64| report.figures.insert(name.to_string(), value);
    figure("events", events as f64);
    figure("deliveries", delivered as f64);
    figure("deliveries_per_event", delivered as f64 / events.max(1) as f64);
    if settings.slow > 0 {
        figure("slow_readers_closed", closed as f64);
    }
    if let Some(cost) = &report.relay {
        let growth = cost.anon_after_kib as f64 - cost.anon_before_kib as f64;
        report.figures.insert("memory_growth_mib".into(), growth / 1024.0);
    }
}

/// Adds the cost of the open subscriptions, from before the first connection until all were open.
fn add_subscription_cost(
    report: &mut PhaseReport,
    settings: &Fanout,
    before: Option<&Snapshot>,
    subscribed: Option<&Snapshot>,
) {
    let (Some(before), Some(subscribed)) = (before, subscribed) else {
        return;
    };
    let cost = subscribed.since(before);
    let growth_kib = cost.anon_after_kib as f64 - cost.anon_before_kib as f64;
    let subscriptions = (settings.subscribers * settings.subscriptions) as f64;
    let mut figure = |name: &str, value: f64| report.figures.insert(name.to_string(), value);
    figure("subscriptions_memory_mib", growth_kib / 1024.0);
    figure("subscribe_cpu_us_per_subscription", cost.cpu_s * 1e6 / subscriptions);
    if settings.authors > 0 {
        figure("memory_per_filter_item_bytes", growth_kib * 1024.0 / (subscriptions * settings.authors as f64));
    }
}
