//! Killed without a warning, again and again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use weir::nostr::EventId;
use weir::store::{Options, Seq, Store};

use super::storm::{Publisher, storm};
use crate::corpus::Random;
use crate::support::relay::Relay;
use crate::support::wire::now;

/// Rounds without `WEIR_CRASH_ROUNDS`.
const ROUNDS: u64 = 5;

/// Rounds on one store before a new one begins: what is compared grows with each.
const LIVES: u64 = 25;

/// A debug build checks signatures ten times faster this way, so more kills fit into an hour.
const CONFIG: &str = "verify.engine = \"libsecp256k1\"\n";

/// What somebody holds who follows the changes of the store, and how far they have come.
#[derive(Default)]
struct Copy {
    held: BTreeMap<Seq, EventId>,
    removed: u64,
}

impl Copy {
    /// Follows what changed since, and compares. A kill loses neither an arrival nor a removal.
    fn follow(&mut self, store: &Store) {
        let snapshot = store.read().expect("a snapshot");
        match snapshot.removals_after(self.removed).expect("the store is whole") {
            Some(removals) => {
                for row in removals {
                    let removal = row.expect("a row");
                    self.held.remove(&removal.seq);
                    self.removed = removal.number;
                }
            }
            // More were removed than the store remembers.
            None => *self = Self { held: BTreeMap::new(), removed: snapshot.last_removal().expect("a number") },
        }
        let last = self.held.last_key_value().map_or(Seq(0), |(seq, _)| *seq);
        let arrivals = |after| snapshot.after(after).expect("a walk").map(|row| row.expect("a row"));
        self.held.extend(arrivals(last).map(|(seq, event)| (seq, event.id())));
        assert!(
            self.held.iter().map(|(seq, id)| (*seq, *id)).eq(arrivals(Seq(0)).map(|(seq, event)| (seq, event.id())))
        );
    }
}

/// The arrival numbers seen so far.
#[derive(Default)]
struct Numbers {
    by_seq: BTreeMap<Seq, EventId>,
    last: u64,
    copy: Copy,
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
        self.copy.follow(&store);
        self.last = store.read().and_then(|snapshot| snapshot.last_seq()).expect("a number").0;
        assert!(self.last >= before, "INV-4: the last number went from {before} to {}", self.last);
    }
}

fn assert_clean(data: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("--data")
        .arg(data)
        .args(["check", "--signatures", "100"])
        .output();
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
    let (mut done, mut kills) = (0, 0);
    while done < rounds {
        let some = LIVES.min(rounds - done);
        kills += kill_often(&mut random, &format!("{seed} {done}"), some, rounds <= ROUNDS);
        done += some;
        println!("{done} rounds: {kills} kills survived");
    }
}

/// Kills relays on one store, this many times in a storm; how many kills there were in all.
fn kill_often(random: &mut Random, name: &str, rounds: u64, checks_each: bool) -> u64 {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let mut numbers = Numbers::default();
    let mut all: Vec<Publisher> = Vec::new();
    let mut relay = Relay::start_in(dir.path(), CONFIG);
    let mut kills = 0;
    for round in 0..rounds {
        let mut publishers: Vec<Publisher> =
            (0..4).map(|one| Publisher::new(&format!("{name} {round} {one}"), random.next())).collect();
        // Most storms are short, so that more kills fit into an hour.
        let accepted = (random.below(1200) >> random.below(6)) as usize;
        let after_us = random.below(4000);
        let kill = |relay| {
            // Not a wait for anything: commits take about as long, so that the kill meets each of their stages.
            std::thread::sleep(Duration::from_micros(after_us));
            drop::<Relay>(relay);
            None
        };
        storm(relay, &mut publishers, accepted, kill);
        kills += 1;
        while random.once_in(3) {
            kill_at_start(dir.path(), Duration::from_micros(random.below(100_000)));
            kills += 1;
        }
        if checks_each || round + 1 == rounds || random.once_in(4) {
            assert_clean(&data);
            numbers.verify(&data);
        }
        relay = Relay::start_in(dir.path(), CONFIG);
        let mut client = relay.connect();
        for publisher in &publishers {
            let held = publisher.held(&mut client);
            let deleted = publisher.verify(&held);
            publisher.try_again(&mut client, &held, &deleted);
        }
        all.append(&mut publishers);
    }
    let mut client = relay.connect();
    for publisher in &all {
        publisher.verify(&publisher.held(&mut client));
    }
    kills
}

/// Starts a relay and kills it after so long, in the middle of what it recovers or just after.
fn kill_at_start(dir: &Path, after: Duration) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(dir.join("weir.toml"));
    command.arg("--data").arg(dir.join("data"));
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the relay starts");
    // Not a wait for anything, as above.
    std::thread::sleep(after);
    child.kill().expect("it runs until it is killed");
    child.wait().expect("it has ended");
}
