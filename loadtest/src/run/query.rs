//! The query phase: REQ to EOSE.
//!
//! It must never run against events that are being published; that is the mixed phase.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::asker::{self, AskOptions, OpenLoop, measure};
use super::context::Context;
use super::meter::{add_latency, phase_report};
use super::progress::Progress;
use super::querier::{Prepared, Querier, Rules, Tally};
use crate::account::Account;
use crate::query::filter::Oracle;
use crate::report::PhaseReport;
use crate::scenario::phase::Query;

/// Runs the phase.
///
/// # Errors
/// If the system gives no timer.
pub async fn run(context: &Context, settings: &Query, queries: Rc<Vec<Prepared>>) -> Result<PhaseReport> {
    let queries = held(context, queries);
    let account = Rc::new(Account::default());
    let progress = Progress::new(settings.connections);
    let open_loop = settings.rate > 0.0;
    let seconds = Some(settings.duration_s).filter(|&seconds| seconds > 0.0);
    let rules = Rules { exact: settings.exact, ..Rules::new(context, &account, queries.clone()) };
    if settings.count > 0 {
        rules.left.set(settings.count as u64);
    }
    let timed = seconds.map(|seconds| (settings.rate * seconds) as usize);
    let counted = Some(settings.count).filter(|&count| count > 0);
    let count = timed.filter(|_| open_loop).into_iter().chain(counted).min();
    let terms = AskOptions {
        goal: count.map(|count| count as u64),
        in_flight: settings.in_flight.min(context.limits.max_subscriptions.unwrap_or(usize::MAX)),
        closed_loop: !open_loop,
        length: seconds.map(Duration::from_secs_f64),
        ..AskOptions::new(context, &account, &rules.answers, &progress)
    };
    let queriers = (0..settings.connections).map(|number| Querier::new(rules.clone(), number));
    let actors = asker::open(context, &terms, queriers).await;
    let open_loop = open_loop.then_some(OpenLoop { rate: settings.rate, count: count.unwrap_or(0) });
    let metered = measure(context, &actors, open_loop, &progress).await?;
    let mut report = phase_report(&settings.name, "query", terms.answers.answered.get(), metered, &account);
    add_latency(&mut report, "REQ to EOSE", &terms.answers.latency.borrow());
    add_latency(&mut report, "generator lag", &terms.answers.lag.borrow());
    add_latency(&mut report, "wait for earlier answers", &terms.answers.backlog.borrow());
    add_figures(&mut report, &rules.tally, &queries);
    Ok(report)
}

/// The queries with the answers that the relay can give. If it did not confirm every event of the corpus, answers are
/// limited to those it did.
pub fn held(context: &Context, queries: Rc<Vec<Prepared>>) -> Rc<Vec<Prepared>> {
    let holdings = &context.holdings;
    if holdings.holds_all(context.corpus_len) {
        return queries;
    }
    let library = &context.library;
    let oracle = Oracle::new(library);
    let holds = |number: u32| number < context.corpus_len && holdings.holds(number);
    let answer = |query: &Prepared| query.expecting(oracle.answer_among(query.filter(), library, holds));
    Rc::new(queries.iter().map(answer).collect())
}

/// Rows per query as they came and as the corpus has them, bytes per query.
fn add_figures(report: &mut PhaseReport, tally: &Tally, queries: &[Prepared]) {
    let units = report.units.max(1) as f64;
    let expected: usize = queries.iter().map(Prepared::expected_rows).sum();
    let figures = [
        ("rows_per_query", tally.rows.get() as f64 / units),
        ("expected_rows_per_query", expected as f64 / queries.len().max(1) as f64),
        ("received_per_query_bytes", report.received_bytes as f64 / units),
        ("answers_with_foreign_events", tally.foreign.get() as f64),
    ];
    report.figures.extend(figures.map(|(name, value)| (name.to_string(), value)));
    if tally.closed.get() > 0 {
        report.figures.insert("answers_ended_by_closed".into(), tally.closed.get() as f64);
    }
}
