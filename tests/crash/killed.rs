//! Killed without a warning, again and again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use weir::nostr::EventId;
use weir::store::{Options, Seq, Store};

use super::storm::{Publisher, storm};
use crate::corpus::Random;
use crate::support::relay::Relay;
use crate::support::wire::now;

/// Rounds without `WEIR_CRASH_ROUNDS`.
const ROUNDS: u64 = 5;

/// The arrival numbers seen so far.
#[derive(Default)]
struct Numbers {
    by_seq: BTreeMap<Seq, EventId>,
    last: u64,
}

impl Numbers {
    /// INV-4: a number that was given once is given to nothing else, not even when its event is gone.
    fn verify(&mut self, data: &Path) {
        let store = Store::open(data, Options::default()).expect("the store opens");
        let before = self.last;
        let report = store
            .check(|seq, event| match self.by_seq.get(&seq) {
                Some(id) => assert_eq!(*id, event.id(), "INV-4: {seq:?} was given twice"),
                None => {
                    assert!(seq.0 > before, "INV-4: {seq:?} was given again, {before} was the last");
                    self.by_seq.insert(seq, event.id());
                }
            })
            .expect("the store is read");
        assert!(report.is_clean(), "{report:?}");
        self.last = store.read().and_then(|snapshot| snapshot.last_seq()).expect("a number").0;
        assert!(self.last >= before, "INV-4: the last number went from {before} to {}", self.last);
    }
}

fn assert_clean(data: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).arg("--data").arg(data).arg("check").output();
    let output = output.expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.ends_with("no problems found\n"), "{said}{output:?}");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn whatever_was_accepted_is_there_after_a_kill() {
    let (rounds, seed) = (number("WEIR_CRASH_ROUNDS", ROUNDS), number("WEIR_CRASH_SEED", now()));
    println!("WEIR_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let mut numbers = Numbers::default();
    let mut all: Vec<Publisher> = Vec::new();
    for round in 0..rounds {
        let mut publishers: Vec<Publisher> =
            (0..4).map(|one| Publisher::new(&format!("{seed} {round} {one}"), random.next())).collect();
        let accepted = random.below(1200) as usize;
        let relay = Relay::start_in(dir.path(), "");
        let after_us = random.below(4000);
        let kill = |relay| {
            // Not a wait for anything: commits take about as long, so that the kill meets each of their stages.
            std::thread::sleep(Duration::from_micros(after_us));
            drop::<Relay>(relay);
            None
        };
        storm(relay, &mut publishers, accepted, kill);
        assert_clean(&data);
        numbers.verify(&data);
        let relay = Relay::start_in(dir.path(), "");
        let mut client = relay.connect();
        for publisher in &publishers {
            let held = publisher.held(&mut client);
            let deleted = publisher.verify(&held);
            publisher.try_again(&mut client, &held, &deleted);
        }
        drop(client);
        drop(relay);
        let counted = |is: fn(&super::storm::Published) -> bool| -> usize {
            publishers.iter().map(|publisher| publisher.published.iter().filter(|one| is(one)).count()).sum()
        };
        println!(
            "round {round}: {} sent, {} accepted before the kill",
            counted(|_| true),
            counted(|one| one.is_accepted())
        );
        all.append(&mut publishers);
    }
    let relay = Relay::start_in(dir.path(), "");
    let mut client = relay.connect();
    for publisher in &all {
        publisher.verify(&publisher.held(&mut client));
    }
}
