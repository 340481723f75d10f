//! What becomes of the other threads when one of them dies.

use super::super::queues::Submission;
use super::super::testing::{TIMEOUT, ends, start};
use super::*;
use crate::metrics::{EvictionCause, EvictionLabel};
use crate::nostr::Timestamp;
use crate::nostr::testing::{author, signed, trusted};
use crate::pipeline::client::ClientHandle;
use crate::policy::{Decision, RateLimiter, RateTable, Retention, RetentionLimits, Rule};
use crate::store;
use crate::ws::{Budget, OutboxOptions, Writer};

mod full;

fn client(settings: &Settings) -> Arc<ClientHandle> {
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    let (outbox, _writer) = Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(1 << 20)), None);
    let rates = RateLimiter::new(settings, address, RateTable::new(1).get(address, 0));
    let memory = Ledger::new(ledger::Options::default()).address(address);
    Arc::new(ClientHandle::new(outbox, false, rates, (address, address), memory))
}

#[test]
fn a_writer_that_panics_while_evictions_are_pending_ends_every_thread() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = store::Options { map_bytes: 1 << 30, durability: Durability::None, ..store::Options::default() };
    let store = Store::open(dir.path(), options).expect("a new store");
    for batch in 0..20 {
        let events: Vec<_> =
            (0..1000).map(|n| trusted(author(n), 1, batch * 1000 + n, &[], &"x".repeat(1000))).collect();
        store.writer().commit(&events, Timestamp(1)).expect("a commit");
    }
    // Far too many bytes: the evictor gives the writer work and waits for it, over and over.
    let limits = RetentionLimits { max_bytes: 8 << 20, confirm_removal_percent: 100, ..RetentionLimits::default() };
    let settings = Settings { retention: Retention::new(vec![Rule::default()], limits), ..Settings::default() };
    let client = client(&settings);
    let (pipeline, failures) = start(store, settings);
    let metrics = Arc::clone(&pipeline.serving().metrics);
    let removed = EvictionLabel { rule: 1, cause: EvictionCause::Room };
    while metrics.evicted_events.get_or_create(&removed).get() == 0 {
        std::thread::yield_now();
    }
    // An event that did not enter by the gate is one too many when it leaves: the writer asserts INV-12.
    let event = signed(1, 1, 1_700_000_000, &[], "uncounted");
    pipeline
        .intake()
        .submit(vec![Submission { event, decision: Decision::Accept, from: client, received: Instant::now() }], true);
    assert_eq!(failures.recv_timeout(TIMEOUT).as_deref(), Ok("the thread writer panicked"));
    assert!(ends(move || pipeline.finish()), "a thread waits for ever");
}
