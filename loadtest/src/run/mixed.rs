//! The mixed phase: copies and new events, queries and live feeds at the same time, each at its own fixed rate.
//!
//! It must never slow down because the relay does: messages are sent when they are due, and the wait counts as latency.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::asker::{self, Answers, AskOptions, Asker, start_all};
use super::context::{Actor, Context};
use super::feeds::{self, Feeds, Layout};
use super::meter::{Meter, add_latency, phase_report};
use super::prepare::{Fresh, Material};
use super::progress::Progress;
use super::publisher::{self, Frames, Publisher};
use super::querier::{self, MIXED_IN_FLIGHT, Querier};
use super::query::held;
use super::subscriber;
use crate::account::Account;
use crate::latency::Latency;
use crate::pace::{Pacer, Schedule};
use crate::process::Watched;
use crate::random::Random;
use crate::report::{PhaseReport, Sample};
use crate::scenario::phase::{Expect, Mixed};

/// The connections of a mixed phase.
struct MixedConnections {
    publishers: Vec<Actor<Asker<Publisher>>>,
    queriers: Vec<Actor<Asker<Querier>>>,
    feeds: Feeds,
    publish: publisher::Rules,
    query: querier::Rules,
}

/// Runs the phase.
///
/// # Errors
/// If the system gives no timer.
pub async fn run(context: &Context, settings: &Mixed, material: Material) -> Result<PhaseReport> {
    let account = Rc::new(Account::default());
    let progress = Progress::new(settings.publishers + settings.queriers + settings.followers);
    let fresh = material.fresh;
    let mut connections = gather(context, settings, material, &account, &progress).await;
    connections.feeds.begin();
    let meter = Meter::start(&context.watched, &context.traffic);
    progress.begin(meter.started());
    start_all(&connections.publishers, meter.started());
    start_all(&connections.queriers, meter.started());
    let samples = Rc::new(RefCell::new(Vec::new()));
    let sampler = tokio::task::spawn_local(sample(
        context.watched.clone(),
        Duration::from_secs_f64(settings.sample_s.max(0.1)),
        meter.started(),
        Tallies::of(&connections),
        samples.clone(),
        context.progress,
    ));
    let sent = pace(context, settings, &connections, fresh, meter.started()).await?;
    connections.feeds.truncate(sent as usize);
    connections.publishers.iter().for_each(|actor| actor.state.borrow_mut().end());
    connections.queriers.iter().for_each(|actor| actor.state.borrow_mut().end());
    progress.wait(context.stall).await;
    sampler.abort();
    let metered = meter.stop(&progress, &context.watched, &context.traffic);
    connections.publishers.iter().for_each(|actor| actor.state.borrow_mut().count_unanswered());
    connections.queriers.iter().for_each(|actor| actor.state.borrow_mut().count_unanswered());
    connections.feeds.count_missing(context, &account);
    let units = connections.publish.answers.answered.get() + connections.query.answers.answered.get();
    let mut report = phase_report(&settings.name, "operation", units, metered, &account);
    add_results(&mut report, &connections);
    report.samples = samples.take();
    connections.feeds.close();
    connections.publishers.iter().for_each(|actor| actor.link.close());
    connections.queriers.iter().for_each(|actor| actor.link.close());
    Ok(report)
}

async fn gather(
    context: &Context,
    settings: &Mixed,
    material: Material,
    account: &Rc<Account>,
    progress: &Rc<Progress>,
) -> MixedConnections {
    let (library, fresh) = (&context.library, material.fresh);
    let plan =
        feeds::follow(library, fresh, settings.followers, settings.authors, settings.matches_per_event, context.seed);
    let layout = Layout { connections: settings.followers, subscriptions: 1, slow: 0 };
    let feeds = feeds::open(context, plan, fresh, layout, account, progress).await;
    let publish =
        publisher::Rules { stored_from: fresh.first, ..publisher::Rules::new(context, account, Expect::Duplicate) };
    let queries = held(context, material.queries);
    let query = querier::Rules { live: true, ..querier::Rules::new(context, account, queries) };
    let terms = AskOptions { closed_loop: false, ..AskOptions::new(context, account, &publish.answers, progress) };
    let works = (0..settings.publishers).map(|number| Publisher::new(publish.clone(), number, Frames::default()));
    let publishers = asker::open(context, &terms, works).await;
    let in_flight = MIXED_IN_FLIGHT.min(context.limits.max_subscriptions.unwrap_or(usize::MAX));
    let terms = AskOptions { answers: query.answers.clone(), in_flight, ..terms };
    let works = (0..settings.queriers).map(|number| Querier::new(query.clone(), number));
    let queriers = asker::open(context, &terms, works).await;
    MixedConnections { publishers, queriers, feeds, publish, query }
}

/// The events that are sent again. One that was never answered may not be stored: sent now, it would be a new event
/// that no answer and no feed of the phase expects.
fn copies(context: &Context) -> Vec<u32> {
    let all = 0..context.corpus_len;
    let answered: Vec<u32> = all.clone().filter(|&number| !context.holdings.is_unknown(number)).collect();
    if answered.is_empty() { all.collect() } else { answered }
}

/// Sends messages when they are due until the time is over; returns how many new events were sent.
async fn pace(
    context: &Context,
    settings: &Mixed,
    connections: &MixedConnections,
    fresh: Fresh,
    start: Instant,
) -> Result<u32> {
    let pacer = Pacer::new()?;
    let mut random = Random::new(context.seed ^ 0x313D);
    let copies = copies(context);
    let events = Schedule { start, rate: settings.events_per_s };
    let queries = Schedule { start, rate: settings.queries_per_s };
    let end = start + Duration::from_secs_f64(settings.duration_s);
    let (mut event, mut query, mut new) = (0u64, 0u64, 0u32);
    loop {
        let (event_at, query_at) = (events.moment(event), queries.moment(query));
        let intended = event_at.min(query_at);
        if intended >= end
            || context.stop.is_set()
            || connections.publishers.is_empty()
            || connections.queriers.is_empty()
        {
            return Ok(new);
        }
        pacer.until(intended).await;
        if event_at <= query_at {
            let actor = &connections.publishers[event as usize % connections.publishers.len()];
            let copy = random.chance(settings.duplicate_permille) || new == fresh.count;
            let number = if copy { copies[random.below(copies.len())] } else { fresh.first + new };
            if !copy {
                connections.feeds.timeline.sent(number, intended);
                new += 1;
            }
            let mut state = actor.state.borrow_mut();
            state.work.choose(number);
            state.send_due(&actor.link, intended);
            event += 1;
        } else {
            let actor = &connections.queriers[query as usize % connections.queriers.len()];
            actor.state.borrow_mut().send_due(&actor.link, intended);
            query += 1;
        }
        if (event + query) % 32 == 31 {
            tokio::task::yield_now().await;
        }
    }
}

/// The counters a sampler reads.
struct Tallies {
    events: Rc<Answers>,
    queries: Rc<Answers>,
    deliveries: Rc<subscriber::Tally>,
}

impl Tallies {
    fn of(connections: &MixedConnections) -> Self {
        Self {
            events: connections.publish.answers.clone(),
            queries: connections.query.answers.clone(),
            deliveries: connections.feeds.tally.clone(),
        }
    }
}

async fn sample(
    watched: Watched,
    every: Duration,
    start: Instant,
    tallies: Tallies,
    samples: Rc<RefCell<Vec<Sample>>>,
    say: bool,
) {
    let window = |latency: &RefCell<Latency>| {
        let p99 = latency.borrow().summary().map(|summary| summary.p99_us);
        latency.borrow_mut().clear();
        p99
    };
    let mut last = (Instant::now(), watched.snapshot().ok().flatten());
    loop {
        tokio::time::sleep(every).await;
        // The phase reports a process that is gone; a sample just lacks its figures.
        let now = watched.snapshot().ok().flatten();
        let cost = now.as_ref().zip(last.1.as_ref()).map(|(now, before)| now.since(before));
        let sample = Sample {
            at_s: start.elapsed().as_secs_f64(),
            anon_kib: cost.as_ref().map(|cost| cost.anon_after_kib),
            disk_bytes: cost.as_ref().and_then(|cost| cost.disk_bytes),
            relay_cores: cost.as_ref().map(|cost| cost.cpu_s / last.0.elapsed().as_secs_f64()),
            events: tallies.events.answered.get(),
            queries: tallies.queries.answered.get(),
            deliveries: tallies.deliveries.delivered.get(),
            ok_p99_us: window(&tallies.events.window),
            eose_p99_us: window(&tallies.queries.window),
            delivery_p99_us: window(&tallies.deliveries.window),
        };
        if say {
            eprintln!("{}", crate::report::table::sample_line(&sample));
        }
        samples.borrow_mut().push(sample);
        last = (Instant::now(), now);
    }
}

fn add_results(report: &mut PhaseReport, connections: &MixedConnections) {
    add_latency(report, "EVENT to OK", &connections.publish.answers.latency.borrow());
    add_latency(report, "REQ to EOSE", &connections.query.answers.latency.borrow());
    add_latency(report, "EVENT to delivery", &connections.feeds.tally.latency.borrow());
    add_latency(report, "generator lag", &connections.publish.answers.lag.borrow());
    add_latency(report, "wait for earlier answers", &connections.query.answers.backlog.borrow());
    let figures = [
        ("events", connections.publish.answers.answered.get() as f64),
        ("answered_duplicate_events", connections.publish.tally.duplicates.get() as f64),
        ("queries", connections.query.answers.answered.get() as f64),
        ("rows", connections.query.tally.rows.get() as f64),
        ("deliveries", connections.feeds.tally.delivered.get() as f64),
        ("answers_with_foreign_events", connections.query.tally.foreign.get() as f64),
    ];
    report.figures.extend(figures.map(|(name, value)| (name.to_string(), value)));
    if let Some(cost) = &report.relay {
        let growth = cost.anon_after_kib as f64 - cost.anon_before_kib as f64;
        report.figures.insert("memory_growth_mib".into(), growth / 1024.0);
    }
}
