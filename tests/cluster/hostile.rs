//! A node that answers comparisons with whatever it likes.

use serde_json::{Value, json};

use super::nats::{Nats, NatsClient};
use super::scene::{config, holds, joined};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

/// A message of negentropy about everything, in a mode, with these bytes.
fn frame(mode: u8, body: &[u8]) -> Vec<u8> {
    [&[0x61, 0, 0, mode], body].concat()
}

/// The answer that holds a message.
fn compared(message: &[u8]) -> Vec<u8> {
    let text: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"answer": "compared", "session": 1, "message": text}).to_string().into_bytes()
}

fn id(event: &Signed) -> Vec<u8> {
    (0..64).step_by(2).map(|at| u8::from_str_radix(&event.id[at..at + 2], 16).expect("hex")).collect()
}

/// Says that it holds these events, so that a node asks for them.
fn has(events: &[&Signed]) -> Vec<u8> {
    let ids: Vec<u8> = events.iter().flat_map(|event| id(event)).collect();
    compared(&frame(2, &[&[events.len() as u8], &ids[..]].concat()))
}

/// The hostile node, the node that compares with it, and a message that goes wherever that says.
struct Scene {
    nats: Nats,
    client: NatsClient,
    relay: Option<Relay>,
}

impl Scene {
    fn start() -> Option<Self> {
        let nats = Nats::start()?;
        let relay = Relay::start(&Self::config(&nats));
        joined(&relay);
        let mut client = nats.client();
        let consumer = json!({"stream_name": "weir-main", "config": {"durable_name": "z", "ack_policy": "explicit"}});
        let made = client.call("CONSUMER.DURABLE.CREATE.weir-main.z", &consumer);
        assert_eq!(made["name"], json!("z"), "{made}");
        Some(Self { nats, client, relay: Some(relay) })
    }

    fn config(nats: &Nats) -> String {
        config(&[nats.url()], "a", "[log]\nlevel = \"debug\"")
    }

    /// Has the node compare with one that answers so many questions like this. Returns what the log says of it.
    fn compare(&mut self, count: usize, answer: impl FnMut(&Value) -> Option<Vec<u8>>) -> String {
        let relay = self.relay.take().expect("it is there").restart_killed(&Self::config(&self.nats));
        self.client.serve("weir.main.ask.z", count, answer);
        let line = relay.wait_for_log("compared");
        assert_eq!(relay.metric("weir_cluster_connected"), 1);
        self.relay = Some(relay);
        line
    }
}

#[test]
fn answers_to_a_comparison_that_are_none_end_it_and_nothing_else() {
    let Some(mut scene) = Scene::start() else { return };
    let many = |count: usize| [&[0xff, 0x7f][..], &vec![7; count]].concat();
    let answers: [(Vec<u8>, &str); 11] = [
        (b"\0\xff".to_vec(), "not compared: a comparison: expected value"),
        (vec![b' '; 900_000], "not compared: a comparison: EOF while parsing"),
        (b"{\"answer\":\"compared\"}".to_vec(), "not compared: a comparison: missing field"),
        (b"{\"answer\":\"busy\"}".to_vec(), "not compared: a comparison: it is serving another node"),
        (b"{\"answer\":\"failed\",\"why\":\"so\"}".to_vec(), "not compared: a comparison: so"),
        (b"{\"answer\":\"compared\",\"session\":1,\"message\":\"zz\"}".to_vec(), "its message is not hex"),
        (compared(&vec![0x61; 60_001]), "its message is not hex"),
        (compared(b""), "not compared: a comparison: "),
        (compared(&[0x62]), "not compared: a comparison: "),
        (compared(&frame(2, &many(32))), "not compared: a comparison: "),
        (compared(&frame(9, &[])), "not compared: a comparison: "),
    ];
    for (answer, why) in answers {
        let line = scene.compare(1, |_| Some(answer.clone()));
        assert!(line.contains(why), "{why:?} in {line}");
    }
}

#[test]
fn a_comparison_without_an_end_is_left() {
    let Some(mut scene) = Scene::start() else { return };
    // It has a fingerprint of everything that nobody else has, however often it is asked.
    let mut n = 0_u8;
    let line = scene.compare(64, |_| {
        n += 1;
        Some(compared(&frame(1, &[n; 16])))
    });
    assert!(line.contains("not compared: a comparison: the comparison has no end"), "{line}");
}

#[test]
fn events_that_were_not_asked_for_forged_or_repeated_are_not_stored() {
    let Some(mut scene) = Scene::start() else { return };
    let key = Key::named("author");
    let [wanted, other] = ["wanted", "other"].map(|text| key.note(text));
    let lines = |events: &[&Signed]| -> Vec<u8> {
        events.iter().flat_map(|event| format!("{}\n", event.text).into_bytes()).collect()
    };
    let of = |events: Vec<u8>| {
        let mine = has(&[&wanted]);
        move |question: &Value| Some(if question["ask"] == json!("open") { mine.clone() } else { events.clone() })
    };
    let line = scene.compare(2, of(lines(&[&other])));
    assert!(line.contains("it sends what it was not asked for"), "{line}");
    let line = scene.compare(2, of(lines(&[&wanted, &wanted])));
    assert!(line.contains("it sends an event twice"), "{line}");
    let signature = wanted.text.find("\"sig\":\"").expect("a signature");
    let unsigned = wanted.with(&wanted.text[signature..][..20], "\"sig\":\"0000000000000");
    let poison = "weir_cluster_received_total{outcome=\"poison\"}";
    for events in [lines(&[&unsigned]), lines(&[&wanted.with("wanted", "forged")]), vec![b'x'; 900_000], vec![0; 9]] {
        let line = scene.compare(2, of(events));
        assert!(line.contains("compared with another node") && line.contains("fetched=0"), "{line}");
        assert_eq!(scene.relay.as_ref().map(|relay| relay.metric(poison)), Some(1));
    }
    let line = scene.compare(2, of(lines(&[&wanted])));
    assert!(line.contains("fetched=1"), "{line}");
    assert_eq!(scene.relay.as_ref().map(holds), Some([wanted.id].into()));
}
