//! The query phase: REQ to EOSE.
//!
//! It must never run against events that are being published; that is the mixed phase.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::meter::{Meter, add_latency, phase_report};
use super::progress::Progress;
use super::querier::{Prepared, Querier, Rules, Tally};
use super::{Actor, Context};
use crate::account::Account;
use crate::pace::{Pacer, Schedule};
use crate::report::PhaseReport;
use crate::scenario::Query;

/// Runs the phase.
pub async fn run(context: &Context, settings: &Query, queries: Rc<Vec<Prepared>>) -> Result<PhaseReport> {
    let account = Rc::new(Account::default());
    let tally = Rc::new(Tally::default());
    let progress = Progress::new(settings.connections);
    let open_loop = settings.rate > 0.0;
    let seconds = Some(settings.duration_s).filter(|&seconds| seconds > 0.0).map(Duration::from_secs_f64);
    let rules = Rules {
        library: context.library.clone(),
        account: account.clone(),
        tally: tally.clone(),
        progress: progress.clone(),
        queries: queries.clone(),
        in_flight: settings.in_flight,
        closed_loop: !open_loop,
        left: Rc::new(Cell::new(if settings.count > 0 { settings.count as u64 } else { u64::MAX })),
        deadline: seconds.map(|seconds| Instant::now() + seconds),
        exact: settings.exact,
        live: false,
        live_from: context.corpus_len,
    };
    let states = (0..settings.connections).map(|number| Querier::new(rules.clone(), number));
    let actors = context.open_all(states, &account, &progress).await;
    let meter = Meter::start(&context.watched, &context.traffic)?;
    if open_loop {
        let timed = seconds.map(|seconds| (settings.rate * seconds.as_secs_f64()) as usize);
        let counted = Some(settings.count).filter(|&count| count > 0);
        let count = timed.into_iter().chain(counted).min().unwrap_or(0);
        let schedule = Schedule { start: meter.started(), rate: settings.rate };
        pace(&actors, schedule, count).await?;
    } else {
        actors.iter().for_each(|actor| actor.state.borrow_mut().start(&actor.link, Instant::now()));
    }
    progress.wait(context.stall).await;
    let metered = meter.stop(&context.watched, &context.traffic)?;
    for actor in &actors {
        actor.state.borrow_mut().settle();
        actor.link.close();
    }
    let mut report = phase_report(&settings.name, "query", tally.answered.get(), metered, &account);
    add_latency(&mut report, "REQ to EOSE", &tally.latency.borrow());
    add_latency(&mut report, "generator lag", &tally.lag.borrow());
    add_figures(&mut report, &tally, &queries);
    Ok(report)
}

/// Rows per query as they came and as the corpus has them, bytes per query.
fn add_figures(report: &mut PhaseReport, tally: &Tally, queries: &[Prepared]) {
    let units = report.units.max(1) as f64;
    let expected: usize = queries.iter().map(Prepared::expected_rows).sum();
    let figures = [
        ("rows_per_query", tally.rows.get() as f64 / units),
        ("expected_rows_per_query", expected as f64 / queries.len().max(1) as f64),
        ("received_per_query_bytes", report.received_bytes as f64 / units),
        ("answers_with_foreign_events", tally.inexact.get() as f64),
    ];
    report.figures.extend(figures.map(|(name, value)| (name.to_string(), value)));
}

async fn pace(actors: &[Actor<Querier>], schedule: Schedule, queries: usize) -> Result<()> {
    let pacer = Pacer::new()?;
    for number in 0..queries {
        if actors.is_empty() {
            break;
        }
        let intended = schedule.moment(number as u64);
        pacer.until(intended).await;
        let actor = &actors[number % actors.len()];
        actor.state.borrow_mut().send_due(&actor.link, intended);
        if number % 32 == 31 {
            tokio::task::yield_now().await;
        }
    }
    actors.iter().for_each(|actor| actor.state.borrow_mut().end());
    Ok(())
}
