//! No client costs another its answers: whom the relay serves, and whom it refuses, when clients ask for more than it
//! has.

use serde_json::json;

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const STORED: u64 = 200;

/// A relay whose queue holds two queries, both of them slow.
fn crowded() -> (Relay, Vec<Signed>) {
    let relay = Relay::start(
        "[queues]\nscans = 2\nscans_per_connection = 4\n[pipeline]\nread_threads = 1\ninline_us = 0\nslice_rows = 1\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n",
    );
    let key = Key::named("crowded");
    let events: Vec<Signed> = (0..STORED).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    relay.connect().publish_all(&events);
    (relay, events)
}

#[test]
fn a_full_queue_refuses_queries_of_the_greediest_address_and_no_others() {
    let (relay, events) = crowded();
    let mut greedy: Vec<_> = (0..4).map(|_| Client::connect_from(&relay, [127, 0, 0, 2])).collect();
    let mut light = Client::connect_from(&relay, [127, 0, 0, 3]);
    for client in &mut greedy {
        (0..8).for_each(|n| client.send(format!(r#"["COUNT","c{n}",{{}}]"#)));
    }
    for _ in 0..20 {
        light.finds(json!({"limit": 3}), &[&events[199], &events[198], &events[197]]);
    }
    let mut refused = 0;
    for client in &mut greedy {
        let mut answers: Vec<String> = (0..8).map(|_| client.next()).collect();
        answers.sort();
        let mut named: Vec<String> = Vec::new();
        for n in 0..8 {
            let counted = format!(r#"["COUNT","c{n}",{{"count":{STORED}}}]"#);
            let busy = format!(r#"["CLOSED","c{n}","rate-limited: too many queries are waiting; try again later"]"#);
            let is_refused = answers.contains(&busy);
            refused += u32::from(is_refused);
            named.push(if is_refused { busy } else { counted });
        }
        named.sort();
        assert_eq!(answers, named, "each query is answered once");
    }
    assert!(refused > 0);
    let (_, metrics) = relay.watch("/metrics");
    let counted = format!("weir_refusals_total{{prefix=\"rate-limited\"}} {refused}\n");
    assert!(metrics.contains(&counted), "{counted}{metrics}");
}

#[test]
fn an_id_whose_query_was_refused_is_free_again() {
    let relay = Relay::start(
        "[queues]\nscans = 1\n[pipeline]\nread_threads = 1\ninline_us = 0\nslice_rows = 1\n\
         [tiers.anonymous]\nmax_subscriptions = 5\n",
    );
    let key = Key::named("refused");
    let events: Vec<Signed> = (0..STORED).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    relay.connect().publish_all(&events);
    let mut client = relay.connect();
    let mut open = 0;
    for n in 0..40 {
        (0..3).for_each(|m| client.send(format!(r#"["REQ","{n} {m}",{{"limit":30}}]"#)));
        let mut over = 0;
        while over < 3 {
            let frame = client.next();
            if frame.starts_with(r#"["EVENT""#) {
                continue;
            }
            over += 1;
            if frame.starts_with(r#"["EOSE""#) {
                open += 1;
                let sub = frame.split('"').nth(3).expect("an id");
                client.send(format!(r#"["CLOSE","{sub}"]"#));
            } else {
                assert!(frame.ends_with(r#"rate-limited: too many queries are waiting; try again later"]"#), "{frame}");
            }
        }
    }
    assert!(open < 120, "some were refused");
}

/// An io thread that must not read from the store leaves the look to the writer (`inline_us = 0` does without any).
#[test]
fn what_is_known_already_is_answered_alike_by_an_io_thread_and_by_the_writer() {
    let (one, other) = (Key::named("known already"), Key::named("known and vanished"));
    let note = one.event(1, now() - 9, json!([]), "kept");
    let [older, newer] = [20, 10].map(|ago| one.event(0, now() - ago, json!([]), "{}"));
    let deleted = one.event(1, now() - 8, json!([]), "deleted");
    let deletion = one.delete(now() - 7, json!([["e", deleted.id]]));
    let vanished = other.event(1, now() - 9, json!([]), "gone");
    let vanish = other.event(62, now() - 5, json!([["relay", "ALL_RELAYS"]]), "");
    let ephemeral = one.event(20_001, now(), json!([]), "nobody listens");
    let answers = ["", "[pipeline]\ninline_us = 0\n"].map(|config| {
        let relay = Relay::start(config);
        let mut client = relay.connect();
        client.publish_all(&[note.clone(), newer.clone(), deleted.clone(), vanished.clone()]);
        client.publish_all(&[deletion.clone(), vanish.clone()]);
        // Commits all of it: what is in the log alone is known without a look at the store.
        client.finds(json!({"ids": [note.id]}), &[&note]);
        let again = [&note, &older, &deleted, &vanished, &ephemeral];
        again.map(|event| {
            client.send(event.message());
            client.next()
        })
    });
    let expected = [
        note.duplicate(),
        older.refused("duplicate: a newer version is already stored"),
        deleted.refused("blocked: the author deleted this event"),
        vanished.refused("blocked: the author asked to vanish"),
        ephemeral.refused("mute: no one listens for this ephemeral event"),
    ];
    assert_eq!(answers, [expected.clone(), expected]);
}

#[test]
fn a_client_whose_socket_is_full_is_read_for_more_than_one_turn() {
    let relay = Relay::start(
        "[server]\noutbox_bytes = \"32 MiB\"\noutbox_high_water_bytes = \"30 MiB\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n",
    );
    let key = Key::named("a full socket");
    let events: Vec<Signed> = (0..40).map(|n| key.event(1, 1000 + n, json!([]), &"x".repeat(400_000))).collect();
    relay.connect().publish_all(&events);
    let mut client = relay.connect();
    // More than the system holds for a client that does not read.
    client.send(r#"["REQ","rows",{}]"#);
    relay.until(|| relay.metric("weir_rows_sent_total") == 40);
    // They take many turns, and none of them has an answer.
    let closes: Vec<String> = (0..10_000).map(|n| format!(r#"["CLOSE","c{n}"]"#)).collect();
    client.send_all(&closes);
    relay.until(|| relay.metric("weir_messages_total{verb=\"close\"}") == 10_000);
    assert_eq!(client.rest("rows").0.len(), 40);
}
