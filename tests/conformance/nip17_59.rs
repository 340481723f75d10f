//! NIP-04, NIP-17 and NIP-59: only the people involved get direct messages and gift wraps.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const PRIVATE: &str = "direct messages are visible only to their author and their recipients";
const EOSE: &str = r#"["EOSE","s"]"#;

/// Two friends, a stranger, a message between the friends and a wrap for the second of them.
struct Story {
    alice: Key,
    bob: Key,
    stranger: Key,
    message: Signed,
    wrap: Signed,
    note: Signed,
}

impl Story {
    fn new(name: &str) -> Self {
        let [alice, bob, stranger] = ["alice", "bob", "stranger"].map(|who| Key::named(&format!("{name} {who}")));
        let at = now();
        let to_bob = json!([["p", bob.hex], ["t", name]]);
        let message = alice.event(4, at, to_bob.clone(), "secret");
        let wrap = Key::named(&format!("{name} wrap")).event(1059, at - 100_000, to_bob, "sealed");
        let note = alice.event(1, at - 200_000, json!([["p", bob.hex], ["t", name]]), "open");
        Self { alice, bob, stranger, message, wrap, note }
    }

    fn publish(&self, relay: &Relay) {
        relay.connect().publish_all([&self.message, &self.wrap, &self.note]);
    }
}

#[test]
fn stored_messages_are_given_to_those_involved_and_left_out_for_others() {
    let relay = Relay::shared();
    let story = Story::new("stored");
    story.publish(&relay);
    let filters = [
        json!({"#t": ["stored"]}),
        json!({"#p": [story.bob.hex]}),
        json!({"ids": [story.message.id, story.wrap.id, story.note.id]}),
        json!({"kinds": [1, 4, 1059], "#p": [story.bob.hex]}),
    ];
    let (message, wrap, note) = (&story.message, &story.wrap, &story.note);
    let nobody = relay.connect();
    let [mut alice, mut bob, mut stranger] = [0, 1, 2].map(|_| relay.connect());
    alice.authenticate(&story.alice);
    bob.authenticate(&story.bob);
    stranger.authenticate(&story.stranger);
    let seen =
        [(nobody, vec![note]), (alice, vec![message, note]), (bob, vec![message, wrap, note]), (stranger, vec![note])];
    for (mut client, events) in seen {
        for filter in &filters {
            client.finds(filter.clone(), &events);
            client.counts(filter.clone(), events.len() as u64);
            // Hidden events must not make the relay say that there is more.
            assert_eq!(client.open("s", std::slice::from_ref(filter)).1, EOSE);
        }
    }
}

#[test]
fn a_filter_for_nothing_but_private_kinds_asks_for_a_key_and_then_for_the_right_one() {
    let relay = Relay::shared();
    let story = Story::new("only private");
    story.publish(&relay);
    let (bob, alice) = (&story.bob.hex, &story.alice.hex);
    let ask = |filter: &Value| json!(["REQ", "s", filter]).to_string();
    let count = |filter: &Value| json!(["COUNT", "s", filter]).to_string();
    let closed = |prefix: &str, text: &str| json!(["CLOSED", "s", format!("{prefix}: {text}")]).to_string();
    let filters = [
        json!({"kinds": [4]}),
        json!({"kinds": [4, 1059, 21059], "#p": [bob]}),
        json!({"kinds": [4], "authors": [alice]}),
        json!({"kinds": [1059], "#p": [bob]}),
    ];
    let mut client = relay.connect();
    client.challenge();
    let uncounted = "cannot count other people's direct messages";
    for filter in &filters {
        client.ask(ask(filter), &closed("auth-required", PRIVATE));
        client.ask(count(filter), &closed("auth-required", uncounted));
    }
    client.authenticate(&story.stranger);
    for filter in [json!({"kinds": [1059], "#p": [bob]}), json!({"kinds": [4], "authors": [alice], "#p": [bob]})] {
        client.ask(ask(&filter), &closed("restricted", PRIVATE));
        client.ask(count(&filter), &closed("restricted", uncounted));
    }
    client.finds(json!({"kinds": [4]}), &[]);
    client.authenticate(&story.bob);
    client.finds(json!({"kinds": [1059], "#p": [bob]}), &[&story.wrap]);
    client.finds(json!({"kinds": [4], "authors": [alice], "#p": [bob]}), &[&story.message]);
    client.finds(json!({"kinds": [4, 1059]}), &[&story.message, &story.wrap]);
}

#[test]
fn a_count_by_recipient_without_kinds_tells_a_stranger_nothing() {
    let relay = Relay::shared();
    let story = Story::new("count");
    story.publish(&relay);
    let about_bob = json!({"#p": [story.bob.hex]});
    let mut client = relay.connect();
    client.counts(about_bob.clone(), 1);
    client.authenticate(&story.stranger);
    client.counts(about_bob.clone(), 1);
    client.authenticate(&story.bob);
    client.counts(about_bob, 3);
}

#[test]
fn live_messages_go_to_those_involved_only() {
    let relay = Relay::shared();
    let story = Story::new("live");
    let mut clients = [0; 4].map(|_| relay.connect());
    for (client, key) in clients.iter_mut().zip([&story.alice, &story.bob, &story.stranger]) {
        client.authenticate(key);
    }
    for client in &mut clients {
        client.open("s", &[json!({"#t": ["live"]})]);
    }
    let mut publisher = relay.connect();
    for event in [&story.message, &story.wrap, &story.note] {
        publisher.publish(event);
    }
    let [mut alice, mut bob, stranger, nobody] = clients;
    alice.expect(&story.message.frame("s"));
    bob.expect(&story.message.frame("s"));
    bob.expect(&story.wrap.frame("s"));
    for mut client in [alice, bob, stranger, nobody] {
        client.expect(&story.note.frame("s"));
        client.is_silent();
    }
}

#[test]
fn a_subscription_that_was_open_before_auth_brings_private_events_after_it() {
    let relay = Relay::shared();
    let story = Story::new("later auth");
    let mut client = relay.connect();
    client.open("s", &[json!({"#p": [story.bob.hex]})]);
    client.authenticate(&story.bob);
    relay.connect().publish(&story.message);
    client.expect(&story.message.frame("s"));
}

#[test]
fn an_ephemeral_wrap_is_delivered_to_its_recipient_and_never_stored() {
    let relay = Relay::shared();
    let (bob, stranger) = (Key::named("21059 bob"), Key::named("21059 stranger"));
    let (mut for_bob, mut for_stranger) = (relay.connect(), relay.connect());
    for_bob.authenticate(&bob);
    for_stranger.authenticate(&stranger);
    for client in [&mut for_bob, &mut for_stranger] {
        client.open("s", &[json!({"#p": [bob.hex]})]);
    }
    // Backdated by two days, as NIP-59 recommends.
    let wrap =
        |content: &str| Key::named("21059 wrap").event(21_059, now() - 172_800, json!([["p", bob.hex]]), content);
    let mut publisher = relay.connect();
    publisher.publish(&wrap("first"));
    for_bob.expect(&wrap("first").frame("s"));
    for_bob.counts(json!({"#p": [bob.hex]}), 0);
    drop(for_bob);
    let marker = Key::named("21059 marker").event(1, now(), json!([["p", bob.hex]]), "");
    publisher.publish(&marker);
    for_stranger.expect(&marker.frame("s"));
    for_stranger.is_silent();
}

#[test]
fn an_ephemeral_wrap_that_only_strangers_listen_for_is_muted() {
    let relay = Relay::shared();
    let bob = Key::named("muted wrap bob");
    let mut stranger = relay.connect();
    stranger.open("s", &[json!({"#p": [bob.hex]})]);
    let wrap = Key::named("muted wrap").event(21_059, now(), json!([["p", bob.hex]]), "");
    relay.connect().refused(&wrap, "mute: no one listens for this ephemeral event");
    stranger.is_silent();
}

#[test]
fn the_recipient_of_a_wrap_may_have_it_deleted_and_nobody_else() {
    let relay = Relay::shared();
    let story = Story::new("delete wrap");
    story.publish(&relay);
    let mut client = relay.connect();
    client.authenticate(&story.bob);
    let request = |key: &Key| key.delete(now(), json!([["e", story.wrap.id], ["k", "1059"]]));
    client.refused(&request(&story.stranger), "invalid: the deletion names nothing that its author may delete");
    client.finds(json!({"ids": [story.wrap.id]}), &[&story.wrap]);
    client.publish(&request(&story.bob));
    client.finds(json!({"ids": [story.wrap.id]}), &[]);
    client.refused(&story.wrap, "blocked: the author deleted this event");
    // A plain message belongs to its author, whoever it is for.
    let of_message = story.bob.delete(now(), json!([["e", story.message.id]]));
    client.refused(&of_message, "invalid: the deletion names nothing that its author may delete");
}

#[test]
fn the_operator_chooses_which_kinds_are_private_and_which_are_for_their_author() {
    let relay = Relay::start(
        "[auth]\nchallenge = \"connect\"\ninvolved_kinds = [14]\nauthor_only_kinds = [31234]\nread_kinds = [7]",
    );
    let [alice, bob] = ["kinds alice", "kinds bob"].map(Key::named);
    let at = now();
    let event = |kind: u64, at: u64| alice.event(kind, at, json!([["p", bob.hex], ["d", "x"]]), "");
    let (four, fourteen, draft, reaction) = (event(4, at), event(14, at - 1), event(31_234, at - 2), event(7, at - 3));
    let mut nobody = relay.connect();
    nobody.publish_all([&four, &fourteen, &draft, &reaction]);
    let [mut author, mut recipient] = [relay.connect(), relay.connect()];
    author.authenticate(&alice);
    recipient.authenticate(&bob);
    nobody.finds(json!({}), &[&four]);
    recipient.finds(json!({}), &[&four, &fourteen, &reaction]);
    author.finds(json!({}), &[&four, &fourteen, &draft, &reaction]);
    let closed = r#"["CLOSED","s","auth-required: these events are visible only to authenticated clients"]"#;
    nobody.ask(r#"["REQ","s",{"kinds":[31234]}]"#, closed);
    nobody.ask(r#"["REQ","s",{"kinds":[7]}]"#, closed);
    let of_alice = json!(["REQ", "s", {"kinds": [31_234], "authors": [alice.hex]}]).to_string();
    recipient.ask(of_alice, r#"["CLOSED","s","restricted: these events are visible only to their author"]"#);
}
