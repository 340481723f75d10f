//! The end of the relay, at any point of its work: everything that was taken is answered and stored, and every thread
//! ends.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::explore;
use super::relay::{Made, Next, Relay, Setup, made};
use crate::sync::thread;

static EVENTS: LazyLock<Vec<Made>> = LazyLock::new(|| made(&[1, 1, 20_001, 1]));

fn stopped_at_any_point(schedules: usize, setup: Setup) {
    explore(schedules, move || {
        let relay = Relay::start(setup.clone());
        let publishers = [0, 2].map(|first| {
            let mut left: Vec<String> = EVENTS[first..first + 2].iter().map(|one| one.message.clone()).collect();
            relay.connect(move |_| left.pop().map_or(Next::Wait, Next::Send))
        });
        let mut queries = vec![json!(["COUNT", "c", {}]).to_string(), json!(["REQ", "s", {}]).to_string()];
        let subscriber = relay.connect(move |_| queries.pop().map_or(Next::Wait, Next::Send));
        thread::yield_now();
        relay.stop();
        let mut stored = HashSet::new();
        for publisher in publishers {
            let got = publisher.join().expect("no panic");
            assert!(got.was_closed);
            let oks = got.messages.iter().filter(|one| one[0] == "OK" && one[2] == true);
            stored.extend(oks.filter_map(|one| one[1].as_str().map(str::to_owned)));
        }
        let got = subscriber.join().expect("no panic");
        let events: Vec<&Value> =
            got.messages.iter().filter(|one| one[0] == "EVENT").map(|one| &one[2]["id"]).collect();
        assert_eq!(events.iter().collect::<HashSet<_>>().len(), events.len(), "INV-3: {:?}", got.messages);
        let ephemeral = &EVENTS[2].id;
        let mut left = relay.finish().ids;
        left.extend(stored.contains(ephemeral).then(|| ephemeral.clone()));
        assert_eq!(left.into_iter().collect::<HashSet<_>>(), stored, "INV-1: what is stored is what was answered");
    });
}

#[test]
fn a_relay_that_is_stopped_at_any_point_answers_and_keeps_what_it_took_and_ends_every_thread() {
    stopped_at_any_point(120, Setup::default());
}

#[test]
fn a_relay_that_is_stopped_between_the_slices_of_a_scan_ends_every_thread() {
    stopped_at_any_point(80, Setup::default().in_slices().gathering());
}

#[test]
fn a_relay_without_the_log_that_is_stopped_at_any_point_ends_every_thread() {
    stopped_at_any_point(80, Setup::default().without_log());
}
