//! Streams inside `weir serve`: configured, reloaded and watched there.

use super::scene::{fresh, until};
use crate::replication::scene::{Home, texts};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// The configuration of a relay with these streams.
fn config(streams: &[String]) -> String {
    format!("[metrics]\nlisten = \"127.0.0.1:0\"\n[replication]\ntimeout_s = 5\n{}", streams.concat())
}

fn stream(name: &str, dir: &str, relay: &Relay) -> String {
    let url = relay.url();
    format!("[[replication.streams]]\nname = \"{name}\"\ndir = \"{dir}\"\nurls = [\"{url}\"]\n")
}

#[track_caller]
fn until_holds<'a>(home: &Home, events: impl IntoIterator<Item = &'a Signed>) {
    let expected = texts(events);
    until(|| home.export() == expected, || format!("{} events, not {}", home.export().len(), expected.len()));
}

#[test]
fn a_relay_runs_streams_delivers_what_they_bring_and_counts_it() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let theirs = there.serve("[access]\ndeny_kinds = [7]\n");
    let ours = here.serve(&config(&[stream("peer", "both", &theirs)]));
    ours.wait_for_log("level");
    let mut subscriber = ours.connect();
    subscriber.open("s", &[serde_json::json!({})]);
    let note = Key::named("theirs").note("live");
    theirs.connect().publish(&note);
    subscriber.expect(&note.frame("s"));
    let refused = Key::named("ours").event(7, now(), serde_json::json!([]), "+");
    let mine = Key::named("ours").note("mine");
    ours.connect().publish_all([&refused, &mine]);
    until_holds(&there, [&note, &mine]);
    let labels = format!("stream=\"peer\",url=\"{}\"", theirs.url());
    let sent = |result: &str| ours.metric(&format!("weir_replication_sent_total{{{labels},result=\"{result}\"}}"));
    until(|| sent("accepted") == 1 && sent("blocked") == 1, || "the answers are counted".into());
    let received =
        |outcome: &str| ours.metric(&format!("weir_replication_received_total{{{labels},outcome=\"{outcome}\"}}"));
    assert_eq!((received("stored"), sent("echo")), (1, 1));
    assert_eq!(ours.metric(&format!("weir_replication_connected{{{labels}}}")), 1);
    let behind = |what: &str| ours.metric(&format!("weir_replication_behind_{what}{{{labels}}}"));
    until(|| behind("events") == 0, || "nothing is left to send".into());
    drop(theirs);
    until(|| ours.metric(&format!("weir_replication_connected{{{labels}}}")) == 0, || "it is gone".into());
}

#[test]
fn a_reload_starts_and_stops_streams_and_a_mistake_changes_nothing() {
    let (here, one, two) = (Home::with(&[]), Home::with(&[]), Home::with(&[]));
    let (first, second) = (one.serve(""), two.serve(""));
    let ours = here.serve(&config(&[]));
    ours.reload(&config(&[stream("a", "down", &first)]));
    ours.wait_for_log("level stream=\"a\"");
    ours.reload(&config(&[stream("a", "down", &first), stream("b", "down", &second)]));
    ours.wait_for_log("level stream=\"b\"");
    ours.reload(&config(&[stream("a", "down", &first), "[[replication.streams]]\nname = \"c\"\n".into()]));
    ours.wait_for_log("the configuration was not reloaded");
    let events = fresh("x", 0..2);
    first.connect().publish(&events[0]);
    second.connect().publish(&events[1]);
    until_holds(&here, &events);
    ours.reload(&config(&[stream("b", "down", &second)]));
    let said = ours.log_until("stopped stream=\"a\"");
    assert!(said.iter().all(|line| !line.contains("started")), "{said:#?}");
    // What a reload changes in the rules holds for what streams bring.
    ours.reload(&(config(&[stream("b", "down", &second)]) + "[access]\ndeny_kinds = [7]\n"));
    ours.wait_for_log("the configuration was reloaded");
    let key = Key::named("y");
    let (denied, note) = (key.event(7, now(), serde_json::json!([]), "+"), key.note("after"));
    second.connect().publish_all([&denied, &note]);
    until_holds(&here, events.iter().chain([&note]));
}

#[test]
fn a_relay_that_is_killed_goes_on_with_its_streams() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let theirs = there.serve("");
    let config = config(&[stream("peer", "both", &theirs)]);
    let ours = here.serve(&config);
    ours.wait_for_log("level");
    let (mine, yours) = (fresh("mine", 0..200), fresh("yours", 0..200));
    ours.connect().publish_all(&mine);
    theirs.connect().publish_all(&yours[..100]);
    // Killed without warning.
    drop(ours);
    theirs.connect().publish_all(&yours[100..]);
    let ours = here.serve(&config);
    until_holds(&there, mine.iter().chain(&yours));
    until_holds(&here, mine.iter().chain(&yours));
    ours.signal("TERM");
    ours.wait_for_exit();
    here.assert_clean();
    there.assert_clean();
}
