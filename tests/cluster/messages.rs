//! What NATS delivers may be anything, twice, late or in another order.

use serde_json::json;

use super::nats::Nats;
use super::scene::{holds, node};
use crate::support::wire::{Key, now};

const POISON: &str = "weir_cluster_received_total{outcome=\"poison\"}";

#[test]
fn messages_that_are_none_of_ours_are_counted_and_stop_nothing() {
    let Some(nats) = Nats::start() else { return };
    let a = node(&nats, "a");
    let mut client = nats.client();
    let key = Key::named("author");
    let (note, typing) = (key.note("good"), key.event(20_001, now(), json!([]), "x"));
    let forged = note.with("good", "evil");
    let unsigned =
        note.with(&note.text[note.text.find("\"sig\":\"").expect("a signature")..][..20], "\"sig\":\"0000000000000");
    let huge = vec![b'x'; 900_000];
    let poison: [(&str, &[u8]); 9] = [
        ("weir.main.ev.1", b""),
        ("weir.main.ev.1", b"{}"),
        ("weir.main.ev.1", &[0xff, 0, 0x80]),
        ("weir.main.ev.1", &huge),
        ("weir.main.ev.1", forged.text.as_bytes()),
        ("weir.main.ev.1", unsigned.text.as_bytes()),
        ("weir.main.ev.2", note.text.as_bytes()),
        ("weir.main.ev.x", note.text.as_bytes()),
        ("weir.main.ev.20001", typing.text.as_bytes()),
    ];
    for (subject, payload) in poison {
        client.publish(subject, "b", payload, true);
    }
    client.publish("weir.main.act.x", "b", b"[]", true);
    client.publish("weir.main.eph.1", "b", note.text.as_bytes(), false);
    client.publish("weir.main.eph.20001", "b", b"\0", false);
    client.publish("weir.main.ev.1", "b", note.text.as_bytes(), true);
    a.until(|| holds(&a).len() == 1);
    a.until(|| a.metric(POISON) == poison.len() as u64 + 3);
    a.until(|| a.metric("weir_cluster_waiting_messages") == 0);
    assert_eq!(a.metric("weir_cluster_connected"), 1);
    a.wait_for_log("a message of the cluster is passed over");
}

#[test]
fn the_good_events_of_a_message_are_stored_whatever_else_it_holds() {
    let Some(nats) = Nats::start() else { return };
    let a = node(&nats, "a");
    let mut client = nats.client();
    let key = Key::named("author");
    let [first, second] = ["first", "second"].map(|text| key.note(text));
    let unsigned =
        first.with(&first.text[first.text.find("\"sig\":\"").expect("a signature")..][..20], "\"sig\":\"0000000000000");
    let other = key.event(7, now(), json!([]), "+");
    let lines = [first.text.as_str(), "", "{}", &unsigned.text, &other.text, &second.text, &first.text].join("\n");
    client.publish("weir.main.ev.1", "b", lines.as_bytes(), true);
    // What this node has published itself comes back to it.
    client.publish("weir.main.ev.1", "a", format!("{}\n{}", first.text, second.text).as_bytes(), true);
    let received = |outcome| a.metric(&format!("weir_cluster_received_total{{outcome=\"{outcome}\"}}"));
    let outcomes = || ["own", "stored", "duplicate", "poison"].map(received);
    a.until(|| outcomes().iter().sum::<u64>() == 9);
    assert_eq!(outcomes(), [2, 2, 1, 4]);
    assert_eq!(holds(&a), [&first.id, &second.id].into_iter().cloned().collect());
}

#[test]
fn a_message_that_comes_twice_late_or_in_another_order_changes_nothing() {
    let Some(nats) = Nats::start() else { return };
    let a = node(&nats, "a");
    let mut client = nats.client();
    let key = Key::named("author");
    let note = key.event(1, now() - 20, json!([]), "to be deleted");
    let deletion = key.delete(now(), json!([["e", note.id]]));
    let [old, new] = [10, 1].map(|ago| key.event(0, now() - ago, json!([]), &format!("{{\"ago\":{ago}}}")));
    for _ in 0..2 {
        for (kind, event) in [(5, &deletion), (1, &note), (0, &new), (0, &old)] {
            client.publish(&format!("weir.main.ev.{kind}"), "b", event.text.as_bytes(), true);
        }
    }
    a.until(|| a.metric("weir_cluster_received_total{outcome=\"duplicate\"}") >= 3);
    a.until(|| a.metric("weir_cluster_waiting_messages") == 0);
    let expected = [&deletion.id, &new.id].into_iter().cloned().collect();
    a.until(|| holds(&a) == expected);
    // Nor does it publish what others have published.
    assert_eq!(a.metric("weir_cluster_sent_total{result=\"published\"}"), 0);
}
