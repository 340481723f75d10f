//! Reads published events back and compares them: an OK is a promise, and this module checks it.
//!
//! It must never run while a phase is measured.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::asker::{self, AskOptions, measure};
use super::context::Context;
use super::holdings::EventState;
use super::progress::Progress;
use super::querier::{Prepared, Querier, Rules, Tally};
use crate::account::{Account, Finding, Grade};
use crate::query::filter::{Filter, order};
use crate::report::PhaseReport;

/// Ids per REQ.
const IDS: usize = 100;
/// Connections that read.
const CONNECTIONS: usize = 4;
/// REQs open at a time on each.
const IN_FLIGHT: usize = 2;
/// What did not come at first is asked for once more after this time: NIP-01 does not say that an event with an OK can
/// be read at once, and a relay may answer while its transaction is being written.
const LATER: Duration = Duration::from_secs(1);

/// Reads every event that the relay has confirmed since the last time, and adds lost and wrong ones to the report.
///
/// # Errors
/// If the system gives no timer.
pub async fn check(context: &Context, report: &mut PhaseReport) -> Result<()> {
    if !context.read_back {
        return Ok(());
    }
    let library = &context.library;
    let stored = context.holdings.take_unread().into_iter().filter(|&number| library.meta(number).stored);
    // A relay may show private messages to their recipients alone (NIP-04, NIP-17), and say nothing to others.
    let (private, open): (Vec<u32>, Vec<u32>) =
        stored.partition(|&number| matches!(library.meta(number).kind, 4 | 1059 | 1060));
    if open.is_empty() && private.is_empty() {
        return Ok(());
    }
    context.say(&format!("reading back {} events (not measured)", open.len() + private.len()));
    let (account, missing) = read(context, &open).await?;
    if !missing.is_empty() {
        account.forget(Finding::LostEvent);
        tokio::time::sleep(LATER).await;
        look_again(context, missing, report).await?;
    }
    report.add_findings(&account);
    report.figures.insert("read_back_events".into(), open.len() as f64);
    if !private.is_empty() {
        let hidden = read(context, &private).await?.0.counts(Grade::Fault);
        let missing: u64 =
            [Finding::LostEvent, Finding::RefusedRequest].iter().flat_map(|f| hidden.get(f.name())).sum();
        report.figures.insert("read_back_private_events".into(), private.len() as f64);
        report.figures.insert("private_events_or_requests_not_shown".into(), missing as f64);
    }
    Ok(())
}

/// Asks once more for events that did not come, and adds those that are lost to the report.
async fn look_again(context: &Context, mut missing: Vec<u32>, report: &mut PhaseReport) -> Result<()> {
    let replaced = if context.exclusive { Vec::new() } else { replaced(context, &missing).await? };
    if !replaced.is_empty() {
        replaced.iter().for_each(|&number| context.holdings.set(number, EventState::Refused));
        missing.retain(|number| !replaced.contains(number));
        report.figures.insert("replaced_elsewhere_events".into(), replaced.len() as f64);
    }
    let (second, lost) = read(context, &missing).await?;
    report.add_findings(&second);
    report.figures.insert("read_back_late_events".into(), (missing.len() - lost.len()) as f64);
    Ok(())
}

/// Those of which the relay shows a newer version that is not from this run: it had it before, and need not keep ours.
async fn replaced(context: &Context, missing: &[u32]) -> Result<Vec<u32>> {
    let library = &context.library;
    let versions = |&number: &u32| Some((number, Filter::versions(library, number)?));
    let asked: Vec<(u32, Filter)> = missing.iter().filter_map(versions).collect();
    let query = |(at, (number, filter)): (usize, &(u32, Filter))| {
        Prepared::new(at, "newer version", filter.clone(), vec![*number], context.codec)
    };
    let (_, tally) = ask(context, asked.iter().enumerate().map(query).collect()).await?;
    let newest = tally.elsewhere.take().into_iter().map(|(query, key)| (asked[query].0, key));
    Ok(newest.filter(|(number, key)| *key < order(library, *number)).map(|(number, _)| number).collect())
}

/// Asks for these events; returns what was wrong, and the events that did not come.
async fn read(context: &Context, numbers: &[u32]) -> Result<(Rc<Account>, Vec<u32>)> {
    let library = &context.library;
    let size = context.limits.max_limit.unwrap_or(IDS).clamp(1, IDS);
    let query = |(number, part): (usize, &[u32])| {
        let ids = part.iter().map(|&number| faster_hex::hex_string(library.id(number))).collect();
        let mut expected = part.to_vec();
        expected.sort_unstable_by_key(|&number| order(library, number));
        Prepared::new(number, "read back", Filter { ids, ..Filter::default() }, expected, context.codec)
    };
    let (account, tally) = ask(context, numbers.chunks(size).enumerate().map(query).collect()).await?;
    let lost = tally.lost.take();
    Ok((account, lost))
}

/// Asks each query once; returns what was wrong, and what was counted.
async fn ask(context: &Context, queries: Vec<Prepared>) -> Result<(Rc<Account>, Rc<Tally>)> {
    let account = Rc::new(Account::default());
    if queries.is_empty() {
        return Ok((account, Rc::default()));
    }
    let count = queries.len();
    let rules = Rules { missing: Finding::LostEvent, ..Rules::new(context, &account, Rc::new(queries)) };
    rules.left.set(count as u64);
    let connections = CONNECTIONS.min(count);
    let progress = Progress::new(connections);
    let terms = AskOptions {
        // Reading back continues when the user stops the run.
        stop: Rc::default(),
        in_flight: IN_FLIGHT.min(context.limits.max_subscriptions.unwrap_or(IN_FLIGHT)),
        ..AskOptions::new(context, &account, &rules.answers, &progress)
    };
    // All connections share one turn, so that each query is asked once.
    let turn = Rc::new(std::cell::Cell::new(0));
    let queriers = (0..connections).map(|number| Querier::in_turn(rules.clone(), number, turn.clone()));
    let actors = asker::open(context, &terms, queriers).await;
    measure(context, &actors, None, &progress).await?;
    Ok((account, rules.tally))
}
