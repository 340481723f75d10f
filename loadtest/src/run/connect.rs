//! The connect phase: many clients at once, then nothing but open connections.
//!
//! It must never keep a buffer per connection, or on a shared machine it would measure itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::context::Context;
use super::feeds::stranger;
use super::meter::{Meter, add_latency, phase_report};
use super::progress::Progress;
use super::subscriber::{Rules, Subscriber, Timeline};
use crate::account::{Account, Deliveries, Finding};
use crate::latency::Latency;
use crate::random::Random;
use crate::report::PhaseReport;
use crate::scenario::phase::Connect;
use crate::wire::link::Link;

/// The state shared by the tasks that open connections.
struct Opening<'a> {
    context: &'a Context,
    settings: &'a Connect,
    rules: Rules,
    random: RefCell<Random>,
    upgrade: RefCell<Latency>,
    ready: RefCell<Latency>,
    links: RefCell<Vec<Rc<Link>>>,
}

/// Runs the phase.
pub async fn run(context: &Context, settings: &Connect) -> Result<PhaseReport> {
    let account = Rc::new(Account::default());
    let nothing = (Deliveries::new(0, 0), Timeline::new(0, 0), Progress::new(0));
    let rules = Rules::new(context, &account, nothing.0, nothing.1, &nothing.2, &nothing.2);
    let opening = Opening {
        context,
        settings,
        rules,
        random: RefCell::new(Random::new(context.seed)),
        upgrade: RefCell::default(),
        ready: RefCell::default(),
        links: RefCell::default(),
    };
    let meter = Meter::start(&context.watched, &context.traffic);
    opening.open_all().await;
    let metered = meter.stop_now(&context.watched, &context.traffic);
    let opened = opening.links.borrow().len();
    context.say(&format!("{opened} connections are open"));
    let mut report = phase_report(&settings.name, "connection", opened as u64, metered, &account);
    add_latency(&mut report, "connect to upgrade", &opening.upgrade.borrow());
    add_latency(&mut report, "connect to EOSE", &opening.ready.borrow());
    let idle = Meter::start(&context.watched, &context.traffic);
    tokio::time::sleep(Duration::from_secs_f64(settings.hold_s)).await;
    let idle = idle.stop_now(&context.watched, &context.traffic);
    if let (Some(held), Some(cost)) = (idle.relay, &report.relay) {
        let growth = held.anon_after_kib as f64 - cost.anon_before_kib as f64;
        report.figures.insert("memory_per_idle_connection_kib".into(), growth / opened.max(1) as f64);
        report.figures.insert("idle_relay_cores".into(), held.cpu_s / idle.elapsed.as_secs_f64());
    }
    // Connections that were lost while they were idle count too.
    report.forget_findings();
    report.add_findings(&account);
    opening.links.borrow().iter().for_each(|link| link.close());
    Ok(report)
}

impl Opening<'_> {
    /// Opens everything with `opening` handshakes at a time.
    async fn open_all(&self) {
        let count = self.settings.connections;
        let workers = self.settings.opening.min(count);
        let left = std::cell::Cell::new(count);
        let worker = || async {
            while left.get() > 0 && !self.context.stop.is_set() {
                left.set(left.get() - 1);
                self.open_one().await;
            }
        };
        let mut futures: Vec<_> = (0..workers).map(|_| Box::pin(worker())).collect();
        // Drives all workers from this task; each poll touches every worker, so `opening` should stay in the hundreds.
        std::future::poll_fn(|context| {
            futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
            if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    async fn open_one(&self) {
        let began = Instant::now();
        let opened = Progress::new(1);
        let rules = Rules { opened: opened.clone(), ..self.rules.clone() };
        let account = rules.account.clone();
        let subscriptions = self.settings.subscriptions;
        let state = Rc::new(RefCell::new(Subscriber::new(rules, 0, subscriptions, 0, false)));
        let Some(link) = self.context.open_or_note(&state, &account).await else {
            return;
        };
        self.upgrade.borrow_mut().record(began.elapsed());
        for local in 0..subscriptions {
            let random = &mut *self.random.borrow_mut();
            let authors: Vec<String> = (0..self.settings.authors.max(1)).map(|_| stranger(random)).collect();
            let filter = format!("{{\"authors\":[\"{}\"],\"kinds\":[1],\"limit\":1}}", authors.join("\",\""));
            link.send_text(format!("[\"REQ\",\"s{local}\",{filter}]").as_bytes());
        }
        if subscriptions > 0 {
            opened.wait(self.context.stall).await;
            if !opened.is_done() {
                account.note(Finding::MissingEose, || "an idle subscription".into());
            }
        }
        self.ready.borrow_mut().record(began.elapsed());
        self.links.borrow_mut().push(link);
    }
}
