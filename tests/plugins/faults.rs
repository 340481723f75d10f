//! What a plugin that hangs, dies, floods or cannot be started costs: its own events a verdict, and nobody else
//! anything.

use serde_json::json;

use crate::scene::{
    FAILED, answered, asked, command, config, failures, messages, notes, noting_relay, relay, verdicts,
};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

#[test]
fn while_a_plugin_hangs_queries_and_subscriptions_of_others_are_served() {
    let relay = relay("judge", "timeout_ms = 3600000");
    let (mut publisher, mut other) = (relay.connect(), relay.connect());
    let [stored, hangs, behind] = &notes("hangs", &["stored", "hang", "behind"])[..] else { unreachable!("three") };
    publisher.publish(stored);
    publisher.send_all(&messages(&[hangs.clone(), behind.clone()]));
    relay.until(|| relay.metric("weir_queue_entries{queue=\"plugin\"}") == 2);
    for _ in 0..50 {
        other.finds(json!({"authors": [Key::named("hangs").hex]}), &[stored]);
    }
    let (_, eose) = other.open("open", &[json!({"kinds": [1]})]);
    assert_eq!(eose, r#"["EOSE","open"]"#);
    assert_eq!(relay.watch("/readyz").0, 200);
    // Nothing was said about the two.
    publisher.send_message(tokio_tungstenite::tungstenite::Message::Ping(b"still?".as_slice().into()));
    assert_eq!(publisher.next_pong(), b"still?");
}

#[test]
fn a_plugin_that_hangs_is_killed_in_time_and_only_the_event_that_it_hung_over_fails() {
    let relay = relay("judge", "timeout_ms = 1500");
    let mut client = relay.connect();
    client.publish(&Key::named("opener").note("first"));
    let contents = ["one", "hang", "three", "reject blocked: four", "five"];
    let [one, hangs, three, four, five] = &notes("hung", &contents)[..] else { unreachable!("five") };
    client.send_all(&messages(&[one.clone(), hangs.clone(), three.clone(), four.clone(), five.clone()]));
    client.expect_all([one.ok(), hangs.refused(FAILED), three.ok(), four.refused("blocked: four"), five.ok()]);
    // It may hang because it was asked about several at a time, so it is asked about that one again, alone.
    assert_eq!((failures(&relay, "timeout"), verdicts(&relay, "failed")), (2, 1));
}

#[test]
fn a_plugin_that_hangs_over_everything_fails_all_that_waits_and_is_tried_again() {
    let relay = relay("judge", "timeout_ms = 200\nin_flight = 1");
    let mut client = relay.connect();
    let hanging = notes("hanging", &["hang", "hang", "hang", "fine", "fine"]);
    client.send_all(&messages(&hanging));
    client.expect_all(hanging.iter().map(|note| note.refused(FAILED)));
    assert_eq!(failures(&relay, "timeout"), 2);
    // During the pause before the next process, events fail at once.
    let (mut number, mut answer) = (0, String::new());
    let afterwards = loop {
        let note = Key::named("hanging").note(&format!("afterwards {number}"));
        client.send(note.message());
        answer.clone_from(&client.next());
        if answer != note.refused(FAILED) {
            break note;
        }
        number += 1;
    };
    assert_eq!(answer, afterwards.ok());
}

#[test]
fn a_plugin_that_cannot_be_started_refuses_or_lets_pass_as_configured() {
    for (failure, program) in [("reject", "exit 3"), ("accept", "exec /nonexistent/plugin --judge")] {
        let relay = Relay::start(&config(program, &format!("on_failure = \"{failure}\"")));
        relay.wait_for_log("the plugin failed; it is started again");
        let mut client = relay.connect();
        for note in notes("unstartable", &["one", "two", "three"]) {
            let answer = if failure == "accept" { note.ok() } else { note.refused(FAILED) };
            client.ask(note.message(), &answer);
        }
        assert!(failures(&relay, "died") >= 3);
    }
}

#[test]
fn an_event_that_kills_the_plugin_costs_no_other_event_its_verdict() {
    let relay = relay("judge", "");
    let mut client = relay.connect();
    client.publish(&Key::named("opener").note("first"));
    let six = ["one", "reject blocked: two", "die", "four", "reject blocked: five", "six"];
    answered(&mut client, "killed", &six);
    assert_eq!((failures(&relay, "died"), verdicts(&relay, "failed")), (2, 1));
}

#[test]
fn a_plugin_that_floods_its_output_is_ended_and_the_others_are_served_meanwhile() {
    let relay = relay("judge", "");
    let (mut client, mut other) = (relay.connect(), relay.connect());
    for word in ["flood", "endless"] {
        let mut fails = 0;
        // The event over which it floods fails; it is asked about once more first.
        let event = Key::named(word).note(word);
        client.send(event.message());
        while fails < 2 {
            other.is_silent();
            fails = failures(&relay, "rubbish");
        }
        client.expect(&event.refused(FAILED));
        client.publish(&Key::named(word).note("afterwards"));
        if word == "flood" {
            assert_eq!(fails, 2);
        }
    }
    assert_eq!(failures(&relay, "rubbish"), 4);
}

#[test]
fn a_plugin_that_prints_a_line_that_is_too_long_is_ended_at_once_though_the_line_has_an_end() {
    // The line is followed by the answer, which is not taken, and nothing waits for the timeout.
    let relay = relay("judge", "timeout_ms = 3600000");
    let mut client = relay.connect();
    client.publish(&Key::named("opener").note("first"));
    answered(&mut client, "long-winded", &["one"]);
    let event = Key::named("long-winded").note("long");
    client.send(event.message());
    client.expect(&event.refused(FAILED));
    client.publish(&Key::named("long-winded").note("afterwards"));
    assert_eq!((failures(&relay, "rubbish"), failures(&relay, "timeout")), (2, 0));
}

#[test]
fn a_plugin_that_takes_one_request_at_a_time_is_asked_about_one_after_it_has_shown_that() {
    let relay = relay("one-only", "in_flight = 20");
    let mut client = relay.connect();
    client.publish(&Key::named("opener").note("first"));
    for author in ["once", "again"] {
        let contents: Vec<String> = (0..30).map(|number| format!("note {number}")).collect();
        let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
        client.publish_all(&notes(author, &contents));
    }
    assert_eq!((failures(&relay, "died"), verdicts(&relay, "failed")), (1, 0));
    relay.wait_for_log("from now on it gets one");
}

#[test]
fn an_event_that_a_plugin_skips_fails_and_holds_up_no_other_client() {
    let relay = relay("judge", "timeout_ms = 1500");
    let (mut client, mut other) = (relay.connect(), relay.connect());
    client.publish(&Key::named("opener").note("first"));
    let skipped = Key::named("skipped").note("ignore");
    client.send(skipped.message());
    let mut number = 0;
    while verdicts(&relay, "failed") == 0 {
        other.publish(&Key::named("steady").note(&format!("note {number}")));
        number += 1;
    }
    client.expect(&skipped.refused(FAILED));
    assert_eq!(failures(&relay, "timeout"), 0, "the process goes on");
}

#[test]
fn a_stranger_is_judged_before_the_many_events_of_another_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let (relay, file) = noting_relay(dir.path(), "judge", "in_flight = 1");
    let (mut greedy, mut stranger) =
        (Client::connect_from(&relay, [127, 0, 0, 2]), Client::connect_from(&relay, [127, 0, 0, 3]));
    let contents: Vec<String> = (0..200).map(|number| format!("note {number}")).collect();
    let contents: Vec<&str> = ["wait"].into_iter().chain(contents.iter().map(String::as_str)).collect();
    let (many, one) = (notes("greedy", &contents), Key::named("stranger").note("one"));
    let waiting = || relay.metric("weir_queue_entries{queue=\"plugin\"}");
    greedy.send_all(&messages(&many));
    relay.until(|| waiting() == 201);
    stranger.send(one.message());
    relay.until(|| waiting() == 202);
    // The address of the first event pays for all the time that the plugin takes over it.
    std::fs::write(file.with_extension("go"), "").expect("written");
    stranger.expect(&one.ok());
    greedy.expect_all(many.iter().map(Signed::ok));
    assert!(asked(&file)[1].contains(&one.id), "it was asked about second");
}

#[test]
fn what_a_plugin_complains_of_is_in_the_log_and_bounded() {
    let relay = relay("judge", "");
    let mut client = relay.connect();
    client.publish(&Key::named("complains").note("complain"));
    let lines = relay.log_until("plugin: complaint 50");
    assert!(lines.iter().any(|line| line.contains("plugin: complaint 0")));
}

#[test]
fn nothing_is_acknowledged_or_stored_that_a_plugin_rejected_however_often_it_dies() {
    let relay = Relay::start(&config(&command("judge"), "workers = 2\nin_flight = 64"));
    let mut client = relay.connect();
    let contents: Vec<String> = (0..300)
        .map(|number| match number % 50 {
            17 => "die".into(),
            n if n % 3 == 0 => format!("reject blocked: {number}"),
            n if n % 7 == 0 => format!("shadowReject {number}"),
            _ => format!("good {number}"),
        })
        .collect();
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let all = notes("storm", &contents);
    client.send_all(&messages(&all));
    let answers: Vec<String> = all.iter().map(|_| client.next()).collect();
    let mut good = Vec::new();
    for (event, content) in all.iter().zip(&contents) {
        let answer = answers.iter().find(|answer| answer.contains(&event.id)).expect("an answer");
        let accepted = *answer == event.ok();
        assert!(accepted || answer.contains(",false,"), "{answer}");
        assert!(!(accepted && (content.starts_with("reject") || *content == "die")), "{content}: {answer}");
        if content.starts_with("good") && accepted {
            good.push(event);
        }
    }
    assert!(!good.is_empty());
    client.finds(json!({"authors": [Key::named("storm").hex], "limit": 500}), &good);
}
