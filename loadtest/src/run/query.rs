//! The query phase: REQ to EOSE.
//!
//! It must never run against events that are being published; that is the mixed phase.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Context;
use super::asker::{OpenLoop, measure};
use super::meter::{add_latency, phase_report};
use super::progress::Progress;
use super::querier::{Prepared, Querier, Rules, Tally};
use crate::account::Account;
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
    let timed = seconds.map(|seconds| (settings.rate * seconds.as_secs_f64()) as usize);
    let counted = Some(settings.count).filter(|&count| count > 0);
    let count = timed.into_iter().chain(counted).min().unwrap_or(0);
    let open_loop = open_loop.then_some(OpenLoop { rate: settings.rate, count });
    let metered = measure(context, &actors, open_loop, &progress).await?;
    let mut report = phase_report(&settings.name, "query", tally.answers.answered.get(), metered, &account);
    add_latency(&mut report, "REQ to EOSE", &tally.answers.latency.borrow());
    add_latency(&mut report, "generator lag", &tally.answers.lag.borrow());
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
