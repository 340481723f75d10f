//! What a connection keeps until it can be done, and its bounds.

use std::task::Waker;

use super::*;
use crate::nostr::testing::{author, trusted};
use crate::pipeline::testing::{ends, start};
use crate::policy::RateLimiter;
use crate::server::context::IoShared;
use crate::server::management::link::Link;
use crate::store::{Durability, Options, Store};
use crate::ws::oracle::{self, Rules, Seen};
use crate::ws::{Budget, OutboxOptions, Writer};

/// What the client has got: the text of each message.
fn texts(writer: &mut Writer) -> Vec<String> {
    let mut sent = Vec::new();
    let flushed = writer.poll_flush(&mut TaskContext::from_waker(Waker::noop()), Pin::new(&mut sent), usize::MAX);
    assert!(!matches!(flushed, std::task::Poll::Ready(Err(_))), "a vector takes everything");
    let (seen, _) = oracle::read(&sent, &Rules { masked: false, deflate: false, max_message_bytes: 1 << 20 });
    seen.into_iter().filter_map(|one| if let Seen::Text(text) = one { Some(text) } else { None }).collect()
}

/// All queries that the connection may run are taken: none of its COUNTs can begin.
#[test]
fn sixty_four_counts_of_a_connection_wait_and_each_further_one_is_refused_by_its_id() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options { map_bytes: 64 << 20, durability: Durability::None, ..Options::default() };
    let store = Store::open(dir.path(), options).expect("a new store");
    let events: Vec<_> = (0..3).map(|n| trusted(author(1), 1, n, &[], "")).collect();
    store.writer().commit(&events, crate::nostr::Timestamp(9)).expect("a commit");
    let settings = Settings::default();
    let (pipeline, _failures) = start(store, settings.clone());
    let front = Arc::new(IoShared::new(Default::default(), pipeline.serving().clone(), Link::none()));
    let context = Rc::new(IoContext::new(Arc::clone(&front), pipeline.intake()));
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    let memory = front.pipeline.memory.address(address);
    let (outbox, mut writer) = Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(1 << 20)), None);
    let rates = RateLimiter::new(&settings, address, front.address_rates.get(address, 0));
    let client = Arc::new(ClientHandle::new(outbox, false, rates, (address, address), memory));
    let mut engine = Engine::new(&context, &client, Peer::new(address));

    let running = front.pipeline.bounds.scans_per_connection;
    client.scans().fetch_add(running, Ordering::AcqRel);
    let ids: Vec<String> = (0..MAX_WAITING_COUNTS + 3).map(|n| format!("count {n}")).collect();
    let (waiting, refused) = ids.split_at(64);
    for id in &ids {
        engine.begin_turn(Instant::now(), TURN);
        engine.take(Incoming::Text(&format!(r#"["COUNT","{id}",{{"kinds":[1]}}]"#)));
    }
    engine.flush();
    let busy =
        |id: &String| format!(r#"["CLOSED","{id}","rate-limited: too many queries are waiting; try again later"]"#);
    assert_eq!(texts(&mut writer), refused.iter().map(busy).collect::<Vec<_>>());
    let held = |engine: &Engine| (engine.waiting.len(), client.filters.used_bytes() > 0);
    assert_eq!(held(&engine), (64, true), "the refused ones hold nothing, and those that wait are counted");

    client.scans().fetch_sub(running, Ordering::AcqRel);
    let mut counted = Vec::new();
    while counted.len() < waiting.len() {
        engine.start_waiting_scans();
        counted.append(&mut texts(&mut writer));
        std::thread::yield_now();
    }
    counted.sort();
    let mut expected: Vec<String> = waiting.iter().map(|id| format!(r#"["COUNT","{id}",{{"count":3}}]"#)).collect();
    expected.sort();
    assert_eq!((counted, held(&engine)), (expected, (0, false)), "each that waited is answered once");
    engine.end();
    drop((engine, context, front, client));
    assert!(ends(move || pipeline.finish()), "a thread waits for ever");
}
