//! Down, up and both; ranges, filters, pages and halves: what a sync transfers, and that the next one has nothing to
//! do.

use serde_json::json;

use super::scene::{Home, Ran, notes, texts};
use crate::support::wire::{Key, Signed};

/// The summary of a sync that found nothing to do, in one round trip and a few hundred bytes.
#[track_caller]
fn is_settled(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.counts(["missing here", "missing there", "round trips to compare"]), [0, 0, 1], "{ran:?}");
    let line = ran.out.lines().find(|line| line.trim_start().starts_with("received ")).expect("a line");
    let bytes = line.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok());
    assert!(line.matches(" B").count() == 2 && bytes.sum::<u64>() <= 1_000, "{line}");
}

#[test]
fn an_empty_store_fetches_everything_and_the_next_sync_has_nothing_to_do() {
    let events = notes("a", 0..1_500);
    let (there, here) = (Home::with(&events), Home::with(&[]));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &[]).good();
    assert_eq!(ran.counts(["missing here", "stored", "missing there", "not delivered"]), [1_500, 1_500, 0, 0]);
    assert_eq!(here.export(), texts(&events));
    here.assert_clean();
    is_settled(&here.sync(&relay.url(), &[]));
}

#[test]
fn events_go_up_down_or_both_ways_and_no_other_way() {
    let (only_here, shared, only_there) = (notes("h", 0..40), notes("s", 0..900), notes("t", 0..50));
    let (here_has, there_has) = ([&only_here[..], &shared].concat(), [&only_there[..], &shared].concat());
    for (dir, here_gets, there_gets) in [("down", true, false), ("up", false, true), ("both", true, true)] {
        let (here, there) = (Home::with(&here_has), Home::with(&there_has));
        let relay = there.serve("");
        let ran = here.sync(&relay.url(), &["--dir", dir]).good();
        let moved = [if here_gets { 50 } else { 0 }, if there_gets { 40 } else { 0 }];
        assert_eq!(ran.counts(["stored", "sent"]), moved, "{dir}: {ran:?}");
        assert_eq!(ran.counts(["missing here", "missing there"]), [50, 40], "{dir}: {ran:?}");
        let union = |own: &[Signed], gets: bool, other: &[Signed]| {
            let gained: &[Signed] = if gets { other } else { &[] };
            texts(own.iter().chain(gained))
        };
        assert_eq!(here.export(), union(&here_has, here_gets, &only_there), "{dir}");
        assert_eq!(there.export(), union(&there_has, there_gets, &only_here), "{dir}");
        if dir != "up" {
            is_settled(&here.sync(&relay.url(), &["--dir", dir]));
        }
    }
}

#[test]
fn twenty_differences_among_thousands_are_found_in_two_round_trips() {
    let events = notes("a", 0..6_000);
    let without = |rest: usize| -> Vec<Signed> {
        let kept = (0..).zip(&events).filter(|(n, _): &(usize, _)| n % 600 != rest);
        kept.map(|(_, event)| event.clone()).collect()
    };
    let (here, there) = (Home::with(&without(7)), Home::with(&without(300)));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!(ran.counts(["missing here", "missing there", "stored", "sent"]), [10; 4]);
    assert!(ran.count("round trips to compare") <= 2, "{ran:?}");
    assert_eq!(here.export(), texts(&events));
    assert_eq!(there.export(), texts(&events));
}

#[test]
fn a_filter_and_a_range_bound_what_is_compared() {
    let key = Key::named("k");
    let event = |kind, at| key.event(kind, at, json!([]), "x");
    let events: Vec<Signed> = (0..40).map(|n| event(1 + 6 * (n % 2), 1_000 + n)).collect();
    let (here, there) = (Home::with(&[event(1, 1_015)]), Home::with(&events));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &["--filter", r#"{"kinds":[7],"until":1030}"#, "--range", "1010.."]).good();
    // Of the odd seconds 1011 to 1029.
    assert_eq!(ran.counts(["missing here", "stored", "missing there"]), [10, 10, 0], "{ran:?}");
    let ran = here.sync(&relay.url(), &["--range", "..1004"]).good();
    assert_eq!(ran.counts(["missing here", "stored"]), [5, 5], "{ran:?}");
}

#[test]
fn a_relay_without_negentropy_is_read_page_by_page_ties_included() {
    let key = Key::named("k");
    // 1,300 events in seconds of one, 30 and 700.
    let times = (0..300).chain(std::iter::repeat_n(400, 300)).chain((0..700).map(|n| 1_000 + n / 30));
    let events: Vec<Signed> =
        (0u64..).zip(times).map(|(n, at)| key.event(1, 5_000 + at, json!([]), &n.to_string())).collect();
    let own = notes("h", 0..25);
    let (here, there) = (Home::with(&[&own[..], &events[..100]].concat()), Home::with(&events));
    let relay = there.serve("[negentropy]\nenabled = false\n");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert!(ran.err.contains("it is read page by page"), "{ran:?}");
    assert_eq!(ran.counts(["stored", "missing there", "sent"]), [1_200, 25, 25], "{ran:?}");
    let all = texts(own.iter().chain(&events));
    assert_eq!((here.export(), there.export()), (all.clone(), all));
    assert!(!ran.out.contains("seconds have more events"), "{ran:?}");
}

#[test]
fn a_second_with_more_events_than_a_page_is_told() {
    let key = Key::named("k");
    let events: Vec<Signed> = (0..1_200).map(|n| key.event(1, 5_000, json!([]), &n.to_string())).collect();
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let relay = there.serve("[negentropy]\nenabled = false\n");
    let ran = here.sync(&relay.url(), &[]).good();
    assert_eq!(ran.count("stored"), 500, "{ran:?}");
    assert!(ran.out.contains("1 seconds have more events than the relay returns at once"), "{ran:?}");
}

#[test]
fn a_range_that_is_too_big_for_the_relay_is_compared_in_halves() {
    let events = notes("a", 0..3_000);
    let (here, there) = (Home::with(&events[..1_000]), Home::with(&events));
    let relay = there.serve("[negentropy]\nmax_records = 200\n");
    let ran = here.sync(&relay.url(), &[]).good();
    assert_eq!(ran.counts(["missing here", "stored"]), [2_000, 2_000], "{ran:?}");
    assert!(ran.count("round trips to compare") >= 15 && ran.err.is_empty(), "{ran:?}");
    assert_eq!(here.export(), texts(&events));
}

#[test]
fn a_store_of_our_own_that_is_too_big_is_compared_in_parts() {
    let events = notes("a", 0..3_000);
    let (here, there) = (Home::with(&events[..2_000]), Home::with(&events[500..]));
    let relay = there.serve("");
    let config = "[negentropy]\nmax_records = 300\n";
    let ran = here.sync_under(config, &relay.url(), &["--dir", "both"]).good();
    assert_eq!(ran.counts(["stored", "sent"]), [1_000, 500], "{ran:?}");
    assert_eq!(here.export(), there.export());
}

#[test]
fn missing_events_are_printed_and_nothing_is_transferred_or_remembered() {
    let (only_here, only_there) = (notes("h", 0..3), notes("t", 0..4));
    let (here, there) = (Home::with(&only_here), Home::with(&only_there));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &["--print-missing"]).good();
    let mut told: Vec<&str> = ran.out.lines().collect();
    told.sort_unstable();
    let line = |side: &str, event: &Signed| format!("{side} {}", event.id);
    let mut expected: Vec<String> = only_there.iter().map(|event| line("here", event)).collect();
    expected.extend(only_here.iter().map(|event| line("there", event)));
    expected.sort();
    assert_eq!(told, expected);
    assert_eq!((here.export(), there.export()), (texts(&only_here), texts(&only_there)));
    assert_eq!(here.memories(), [""; 0].map(std::path::PathBuf::from));
}

#[test]
fn missing_events_are_printed_where_the_relay_is_read_by_pages() {
    let (only_here, shared, only_there) = (notes("h", 0..3), notes("s", 0..700), notes("t", 0..4));
    let here = Home::with(&[&only_here[..], &shared].concat());
    let there = Home::with(&[&only_there[..], &shared].concat());
    let relay = there.serve("[negentropy]\nenabled = false\n");
    let ran = here.sync(&relay.url(), &["--print-missing"]).good();
    let mut told: Vec<&str> = ran.out.lines().collect();
    told.sort_unstable();
    let mut expected: Vec<String> = only_there.iter().map(|event| format!("here {}", event.id)).collect();
    expected.extend(only_here.iter().map(|event| format!("there {}", event.id)));
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn a_sync_works_beside_a_relay_on_the_same_store_which_delivers_what_arrives() {
    let events = notes("a", 0..30);
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let (ours, theirs) = (here.serve(""), there.serve(""));
    let mut client = ours.connect();
    assert_eq!(client.open("live", &[json!({"kinds": [1]})]).0, [""; 0]);
    here.sync(&theirs.url(), &[]).good();
    let mut got: Vec<String> = (0..30).map(|_| client.next()).collect();
    got.sort();
    let mut frames: Vec<String> = events.iter().map(|event| event.frame("live")).collect();
    frames.sort();
    assert_eq!(got, frames);
}

#[test]
fn the_command_line_of_strfry_goes_both_ways_and_none_prints() {
    let (only_here, only_there) = (notes("h", 0..3), notes("t", 0..4));
    let (here, there) = (Home::with(&only_here), Home::with(&only_there));
    let relay = there.serve("");
    let strfry = |arguments: &[&str]| -> Ran {
        let mut command = here.command(&["strfry", "sync", &relay.url(), "--frame-size-limit=60000"]);
        Ran::from(command.args(arguments).output().expect("it runs")).good()
    };
    let told = strfry(&["--dir=none", "--filter", r#"{"kinds":[1]}"#]);
    assert_eq!(told.out.lines().filter(|line| line.starts_with("here ")).count(), 4, "{told:?}");
    assert_eq!(told.out.lines().count(), 7);
    assert_eq!(strfry(&[]).counts(["stored", "sent"]), [4, 3]);
    assert_eq!(here.export(), there.export());
}
