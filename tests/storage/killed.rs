//! A relay that is killed while it removes, under each key of the rules: once it is left alone, there is what the rules
//! keep and nothing else.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use weir::nostr::json::Parser;
use weir::nostr::{Event, Timestamp, VerifiedEvent};
use weir::store::{Options, Store, keys};

use super::scene::{assert_clean, eventually, held, storm};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// Events of a test: some seconds of a debug build.
const COUNT: u64 = 1200;

const HOUR: u64 = 3600;

fn verified(event: &Signed) -> VerifiedEvent {
    VerifiedEvent::trust(Event::parse(&mut Parser::default(), event.text.as_bytes()).expect("an event"))
}

/// Numbers below [`COUNT`] in another order, so that arrivals have no order of age.
const fn shuffled(n: u64) -> u64 {
    (n * 7919) % COUNT
}

/// A store in which `count` events arrived at each of these times, and upkeep a minute later.
fn fill(dir: &Path, events: &[Signed], times: &[u64]) {
    let store = Store::open(&dir.join("data"), Options::default()).expect("a new store");
    let mut writer = store.writer();
    for (some, time) in events.chunks(events.len().div_ceil(times.len())).zip(times) {
        let batch: Vec<_> = some.iter().map(verified).collect();
        writer.commit(&batch, Timestamp(*time)).expect("a commit");
        writer.reap_expired(Timestamp(time + 60), 1).expect("upkeep");
    }
}

/// Kills relays with these rules again and again, and looks at what the last one leaves.
#[track_caller]
fn leaves(dir: &Path, rules: &str, all: &[Signed], is_kept: impl Fn(u64) -> bool) {
    let config = format!("storage.confirm_removal_percent = 100\n{rules}");
    for round in 0..5_u64 {
        let relay = Relay::start_in(dir, &config);
        // Not a wait for anything: the kill is to meet the removals at different places.
        std::thread::sleep(Duration::from_micros(400 * round * round));
        drop(relay);
    }
    let relay = Relay::start_in(dir, &config);
    let mut client = relay.connect();
    let other = Key::named("other");
    let new: Vec<Signed> = (0..50).map(|n| other.event(30, now(), json!([]), &format!("new {n}"))).collect();
    storm(&mut client, new.clone());
    let expected: Vec<Signed> = (0..).zip(all).filter(|(n, _)| is_kept(*n)).map(|(_, event)| event.clone()).collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    eventually("the rules are executed", || held(&mut client, all).len() <= expected.len());
    assert!(held(&mut client, all) == expected && held(&mut client, &new) == new);
    assert_clean(&relay);
}

/// Reactions that are older than an hour, a second apart, in any order of arrival.
fn reactions(by: impl Fn(u64) -> Key, to: impl Fn(u64) -> Key) -> Vec<Signed> {
    let begin = now() - 2 * HOUR;
    let one = |n| by(n).event(7, begin - shuffled(n), json!([["p", to(n).hex]]), &n.to_string());
    (0..COUNT).map(one).collect()
}

const OLD_GO: &str = "[[storage.retention]]\nkinds = [7]\nmax_age = \"1h\"\n";

#[test]
fn killed_under_addressed_to_it_keeps_what_is_addressed_to_the_key() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [member, guest] = ["member", "guest"].map(|name| move || Key::named(name));
    let all = reactions(|_| guest(), |n| if n.is_multiple_of(3) { member() } else { guest() });
    fill(dir.path(), &all, &[now()]);
    let to = member().hex;
    let rules = format!("[[storage.retention]]\nkinds = [7]\naddressed_to = [\"{to}\"]\nkeep = \"forever\"\n{OLD_GO}");
    leaves(dir.path(), &rules, &all, |n| n.is_multiple_of(3));
}

#[test]
fn killed_under_authors_file_it_keeps_the_authors_of_the_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let by = |n: u64| Key::named(if n.is_multiple_of(3) { "member" } else { "guest" });
    let all = reactions(by, |_| Key::named("guest"));
    fill(dir.path(), &all, &[now()]);
    std::fs::write(dir.path().join("members.txt"), format!("{}\n", by(0).hex)).expect("a file");
    let rules = format!("[[storage.retention]]\nauthors_file = \"members.txt\"\nkeep = \"forever\"\n{OLD_GO}");
    leaves(dir.path(), &rules, &all, |n| n.is_multiple_of(3));
}

#[test]
fn killed_under_follows_of_it_keeps_who_is_followed_and_the_list() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let by = |n: u64| Key::named(if n.is_multiple_of(3) { "friend" } else { "stranger" });
    let owner = Key::named("owner");
    let mut all = reactions(by, |_| Key::named("owner"));
    all.push(owner.event(3, now() - 9 * HOUR, json!([["p", by(0).hex]]), ""));
    fill(dir.path(), &all, &[now()]);
    let rules = format!(
        "[[storage.retention]]\nfollows_of = \"{}\"\nkeep = \"forever\"\n[[storage.retention]]\nkinds = [3, 7]\n\
         max_age = \"1h\"\n",
        owner.hex
    );
    leaves(dir.path(), &rules, &all, |n| n.is_multiple_of(3) || n == COUNT);
}

#[test]
fn killed_under_max_events_it_keeps_the_newest_of_all_authors() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let by = |n: u64| Key::named(if n.is_multiple_of(2) { "one" } else { "two" });
    let all = reactions(by, |_| Key::named("one"));
    fill(dir.path(), &all, &[now()]);
    let rules = "[[storage.retention]]\nkinds = [7]\nmax_events = 150\n";
    leaves(dir.path(), rules, &all, |n| shuffled(n) < 150);
}

#[test]
fn killed_under_grace_it_keeps_what_has_its_grace_and_none_of_the_rest() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // As many seconds old as there are numbers, and two hours more, or a minute.
    let (author, begin) = (Key::named("graced"), now());
    let is_young = |n: u64| n.is_multiple_of(4);
    let age = |n: u64| shuffled(n) + if is_young(n) { 60 } else { 2 * HOUR };
    let all: Vec<Signed> = (0..COUNT).map(|n| author.event(7, begin - age(n), json!([]), &n.to_string())).collect();
    fill(dir.path(), &all, &[now()]);
    let rules = "[[storage.retention]]\nkinds = [7]\nmax_events = 100\ngrace = \"1h\"\n";
    leaves(dir.path(), rules, &all, is_young);
}

#[test]
fn killed_under_max_bytes_per_author_it_keeps_the_best_of_each() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let by = |n: u64| Key::named(if n.is_multiple_of(4) { "few" } else { "many" });
    let all = reactions(by, |_| Key::named("few"));
    fill(dir.path(), &all, &[now()]);
    let bytes = |n: u64| keys::footprint(verified(&all[n as usize]).view());
    let mut many: Vec<u64> = (0..COUNT).filter(|n| n % 4 != 0).collect();
    many.sort_by_key(|n| shuffled(*n));
    let limit = 150_000;
    let mut sum = 0;
    many.retain(|n| {
        sum += bytes(*n);
        sum <= limit
    });
    let few: u64 = (0..COUNT).step_by(4).map(bytes).sum();
    assert!(few < limit, "{few} bytes of the other author");
    let rules = format!("storage.max_bytes_per_author = {limit}\n[[storage.retention]]\nkinds = [7]\n");
    leaves(dir.path(), &rules, &all, |n| n.is_multiple_of(4) || many.contains(&n));
}

#[test]
fn killed_under_age_by_arrival_it_keeps_what_arrived_lately() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let all = reactions(|_| Key::named("late"), |_| Key::named("late"));
    // Six batches, an hour apart.
    let times: Vec<u64> = (1..=6).rev().map(|hours| now() - hours * HOUR - 600).collect();
    fill(dir.path(), &all, &times);
    let rules = "[[storage.retention]]\nkinds = [7]\nmax_age = \"210m\"\nage_by = \"arrival\"\n";
    leaves(dir.path(), rules, &all, |n| n >= COUNT / 2);
}
