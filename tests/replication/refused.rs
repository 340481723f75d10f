//! What either side does not take: told, remembered, and not asked for or sent again.

use serde_json::{Value, json};

use super::peer::{Honest, Peer};
use super::scene::{Home, Ran, field, notes, texts};
use crate::support::wire::{Key, Signed};

const AT: u64 = 1_700_000_000;

/// The numbers of a sync, in the order of the questions of most tests.
fn numbers(ran: &Ran) -> [u64; 4] {
    ran.counts(["missing here", "missing there", "stored", "sent"])
}

#[test]
fn what_our_rules_refuse_is_fetched_once_and_again_only_on_request() {
    let events = [notes("good", 0..20), vec![Key::named("bad").event(7, AT, json!([]), "+")]].concat();
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let relay = there.serve("");
    let config = "[access]\ndeny_kinds = [7]\n";
    let ran = here.sync_under(config, &relay.url(), &[]).good();
    assert_eq!(ran.counts(["missing here", "stored", "refused"]), [21, 20, 1], "{ran:?}");
    let reason = format!("{} is refused: kind 7 is not accepted here", events[20].id);
    assert!(ran.out.contains(&reason), "{ran:?}");
    let ran = here.sync_under(config, &relay.url(), &[]).good();
    assert_eq!(ran.counts(["missing here", "missing there", "round trips to compare"]), [0, 0, 1], "{ran:?}");
    // The operator changes his mind, and says so.
    let ran = here.sync(&relay.url(), &["--forget"]).good();
    assert_eq!(ran.counts(["missing here", "stored"]), [1, 1], "{ran:?}");
    assert_eq!(here.export(), texts(&events));
}

#[test]
fn rules_that_are_not_about_other_relays_do_not_apply() {
    let events = vec![Key::named("k").event(7, AT, json!([]), "+")];
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let relay = there.serve("");
    let config = "[access]\ndeny_kinds = [7]\n[policy]\nsources = [\"ws\"]\n";
    let ran = here.sync_under(config, &relay.url(), &[]).good();
    assert_eq!(ran.count("stored"), 1, "{ran:?}");
}

#[test]
fn a_newer_version_is_sent_up_and_both_sides_are_level_at_once() {
    let key = Key::named("k");
    let (old, new) = (key.event(0, AT, json!([]), "old"), key.event(0, AT + 1, json!([]), "new"));
    let (here, there) = (Home::with(std::slice::from_ref(&new)), Home::with(&[old]));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!((numbers(&ran), ran.count("replaced")), ([1, 1, 0, 1], 1), "{ran:?}");
    assert_eq!((here.export(), there.export()), (texts([&new]), texts([&new])));
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!((numbers(&ran), ran.count("round trips to compare")), ([0; 4], 1), "{ran:?}");
}

#[test]
fn a_newer_version_is_sent_up_even_where_it_is_outside_of_the_range_or_the_filter() {
    let key = Key::named("k");
    let profile = |n: u64| key.event(0, AT + n, json!([]), &n.to_string());
    let article = |n: u64, topic: &str| key.event(30_023, AT + n, json!([["d", "a"], ["t", topic]]), &n.to_string());
    let cases = [
        ("--range", format!("..{}", AT + 10), profile(0), profile(1_000)),
        ("--filter", r##"{"#t":["draft"]}"##.to_owned(), article(0, "draft"), article(1, "done")),
    ];
    for (option, value, old, new) in cases {
        let (here, there) = (Home::with(std::slice::from_ref(&new)), Home::with(std::slice::from_ref(&old)));
        let relay = there.serve("");
        let ran = here.sync(&relay.url(), &["--dir", "both", option, &value]).good();
        assert_eq!((numbers(&ran), ran.count("replaced")), ([1, 1, 0, 1], 1), "{ran:?}");
        assert_eq!((here.export(), there.export()), (texts([&new]), texts([&new])));
        let ran = here.sync(&relay.url(), &["--dir", "both", option, &value]).good();
        assert_eq!((numbers(&ran), ran.count("round trips to compare")), ([0; 4], 1), "{ran:?}");
        // Nobody gets it by making up an older version.
        let sig = field(&old.text, "sig").as_str().expect("a signature").to_owned();
        let forged = old.with(&sig, &"ab".repeat(64));
        let mut honest = Honest::with(&[forged]);
        let peer = Peer::answering(move |message, line| {
            assert_ne!(Honest::verb(message), "EVENT");
            honest.answer(message, line);
        });
        let ran = here.sync(&peer.url, &["--dir", "both", option, &value]).good();
        peer.end();
        assert_eq!(ran.counts(["missing here", "missing there", "sent"]), [1, 0, 0], "{ran:?}");
    }
}

#[test]
fn what_was_deleted_here_is_not_fetched_again_by_a_sync_down() {
    let key = Key::named("k");
    let note = key.event(1, AT, json!([]), "regretted");
    let request = key.delete(AT + 1, json!([["e", note.id]]));
    let (here, there) = (Home::with(std::slice::from_ref(&request)), Home::with(&[note]));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &[]).good();
    assert_eq!(ran.counts(["missing here", "missing there", "deleted"]), [1, 1, 1], "{ran:?}");
    let ran = here.sync(&relay.url(), &[]).good();
    assert_eq!((numbers(&ran), ran.count("round trips to compare")), ([0; 4], 1), "{ran:?}");
    // Sent up, the request deletes the note there.
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!(ran.count("sent"), 1, "{ran:?}");
    assert_eq!(there.export(), texts([&request]));
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!(numbers(&ran), [0; 4], "{ran:?}");
}

#[test]
fn protected_events_are_neither_sent_nor_accepted() {
    let note = |name: &str| Key::named(name).event(1, AT, json!([["-"]]), "for my relays");
    let (ours, theirs) = (note("a"), note("b"));
    let (here, there) = (Home::with(std::slice::from_ref(&ours)), Home::with(std::slice::from_ref(&theirs)));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!(ran.counts(["stored", "refused", "sent", "protected"]), [0, 1, 0, 1], "{ran:?}");
    assert_eq!((here.export(), there.export()), (texts([&ours]), texts([&theirs])));
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!((numbers(&ran), ran.count("round trips to compare")), ([0; 4], 1), "{ran:?}");
}

#[test]
fn what_the_other_relay_refuses_is_sent_once() {
    let events = [notes("good", 0..5), vec![Key::named("bad").event(7, AT, json!([]), "+")]].concat();
    let (here, there) = (Home::with(&events), Home::with(&[]));
    let relay = there.serve("[access]\ndeny_kinds = [7]\n");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!(ran.counts(["sent", "refused there"]), [5, 1], "{ran:?}");
    let reason = format!("{} was refused there: blocked: kind 7 is not accepted here", events[5].id);
    assert!(ran.out.contains(&reason), "{ran:?}");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!((numbers(&ran), ran.count("round trips to compare")), ([0; 4], 1), "{ran:?}");
}

#[test]
fn direct_messages_that_the_other_relay_shows_to_nobody_are_sent_once() {
    let message = Key::named("k").event(4, AT, json!([["p", Key::named("friend").hex]]), "secret");
    let (here, there) = (Home::with(std::slice::from_ref(&message)), Home::with(&[message]));
    let relay = there.serve("");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!(ran.counts(["missing there", "there already"]), [1, 1], "{ran:?}");
    let ran = here.sync(&relay.url(), &["--dir", "both"]).good();
    assert_eq!((numbers(&ran), ran.count("round trips to compare")), ([0; 4], 1), "{ran:?}");
}

#[test]
fn a_second_sync_takes_one_round_trip_also_where_the_other_relay_hides_thousands_of_events() {
    let (key, friend) = (Key::named("k"), Key::named("friend").hex);
    let message = |n: u64| key.event([4, 1059][n as usize % 2], AT + n, json!([["p", friend]]), "secret");
    let [both, ours]: [Vec<Signed>; 2] = [0..2_000, 2_000..2_300].map(|range| range.map(message).collect());
    let (notes, more) = (notes("a", 0..40), notes("b", 0..4));
    for (config, dir, expected) in [
        ("", "both", [4, 2_300, 300, 2_000]),
        ("", "up", [4, 2_300, 300, 2_000]),
        ("", "down", [4, 2_300, 0, 0]),
        ("[auth]\ninvolved_kinds = []\n", "both", [4, 300, 300, 0]),
    ] {
        let here = Home::with(&[notes.clone(), both.clone(), ours.clone()].concat());
        let there = Home::with(&[notes.clone(), both.clone(), more.clone()].concat());
        let relay = there.serve(config);
        let ran = here.sync(&relay.url(), &["--dir", dir]).good();
        let told = ran.counts(["missing here", "missing there", "sent", "there already"]);
        assert_eq!(told, expected, "{config} {dir} {ran:?}");
        if dir == "up" {
            here.hold(&more);
            here.sync(&relay.url(), &["--dir", dir]).good();
        }
        let ran = here.sync(&relay.url(), &["--dir", dir]).good();
        assert_eq!((numbers(&ran), ran.count("round trips to compare")), ([0; 4], 1), "{config} {dir} {ran:?}");
        assert!(ran.out.ends_with("  received 21 B, sent 81 B\n"), "{config} {dir} {ran:?}");
    }
}

#[test]
fn a_damaged_file_of_what_is_remembered_is_ignored_with_a_warning() {
    let events: Vec<Signed> = notes("a", 0..5);
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let relay = there.serve("");
    here.sync(&relay.url(), &[]).good();
    let memories = here.memories();
    assert_eq!(memories.len(), 1);
    for bytes in [&b""[..], b"weirpeer", &[0xff; 1_000], &[b'w'; 30 << 20]] {
        std::fs::write(&memories[0], bytes).expect("the disk is good");
        let ran = here.sync(&relay.url(), &[]).good();
        assert!(ran.err.contains("is ignored: it "), "{ran:?}");
        assert_eq!(numbers(&ran), [0; 4], "{ran:?}");
    }
    // Another filter and another relay have files of their own.
    here.sync(&relay.url(), &["--filter", r#"{"kinds":[1]}"#]).good();
    assert_eq!(here.memories().len(), 2);
}

#[test]
fn a_plugin_judges_what_arrives_and_is_told_the_relay() {
    let events = notes("a", 0..3);
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let relay = there.serve("");
    let asked = here.path("asked");
    let program = format!("{}/tests/plugins/plugin.py", env!("CARGO_MANIFEST_DIR"));
    let command = Value::from(format!("python3 {program} judge {}", asked.display()));
    let ran = here.sync_under(&format!("[plugin]\ncommand = {command}\n"), &relay.url(), &[]).good();
    assert_eq!(ran.count("stored"), 3, "{ran:?}");
    let asked = std::fs::read_to_string(asked).expect("it was asked");
    let told: Vec<_> = asked.lines().map(|line| (field(line, "sourceType"), field(line, "sourceInfo"))).collect();
    assert_eq!(told, vec![(json!("Sync"), json!(format!("{}/", relay.url()))); 3]);
}
