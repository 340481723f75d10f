//! A ban or a changed list takes effect at once: on open connections, and on events that are on their way.

use serde_json::json;

use super::methods::SLOW;
use super::scene::{config, relay, result};
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

const DENIED: &str = "blocked: the author is not welcome here";

/// The configuration with this list of denied keys.
fn denying(keys: &[&Key]) -> String {
    let keys: Vec<&str> = keys.iter().map(|key| key.hex.as_str()).collect();
    format!("[access]\ndeny_pubkeys = {}\n{}", json!(keys), config())
}

#[test]
fn events_of_a_key_that_was_banned_or_denied_while_they_were_on_their_way_are_refused() {
    let plugin = format!("[plugin]\ncommand = {}\ntimeout_ms = 9000\n", json!(SLOW));
    let [bob, carol, dave] = ["bob", "carol", "dave"].map(Key::named);
    let relay = Relay::start(&(plugin.clone() + &config()));
    let mut client = relay.connect();
    let events = [bob.note("stored kind"), bob.event(20_001, now(), json!([]), "ephemeral"), dave.note("fine")];
    client.send_all(&events.each_ref().map(|event| event.message()));
    relay.until(|| relay.metric("weir_queue_entries{queue=\"plugin\"}") == 3);
    assert_eq!(result(&relay, "banpubkey", json!([bob.hex])), json!(true));
    client.expect_all([events[0].refused(DENIED), events[1].refused(DENIED), events[2].ok()]);
    let denied = carol.note("denied");
    client.send(denied.message());
    relay.until(|| relay.metric("weir_queue_entries{queue=\"plugin\"}") == 1);
    relay.reload(&(plugin + &denying(&[&carol])));
    relay.wait_for_log("the configuration was reloaded");
    client.expect(&denied.refused(DENIED));
    let (stored, _) = client.open("s", &[json!({"kinds": [1]})]);
    assert_eq!(stored, [events[2].text.clone()]);
    assert_eq!(relay.metric("weir_refused_events_total{rule=\"author\"}"), 3);
}

#[test]
fn a_connection_that_has_proven_a_banned_or_denied_key_is_closed_and_others_stay() {
    let (relay, [bob, carol]) = (relay(), ["bob", "carol"].map(Key::named));
    let mut clients = [&bob, &carol].map(|key| {
        let mut client = relay.connect();
        client.authenticate(key);
        client
    });
    let mut stranger = relay.connect();
    assert_eq!(result(&relay, "banpubkey", json!([bob.hex])), json!(true));
    let [of_bob, of_carol] = &mut clients;
    assert_eq!(of_bob.closing_code(), 1008);
    of_carol.publish(&carol.note("still here"));
    relay.reload(&denying(&[&carol]));
    assert_eq!(of_carol.closing_code(), 1008);
    stranger.refused(&carol.note("denied"), DENIED);
    stranger.publish(&Key::named("dave").note("nobody minds"));
}

#[test]
fn a_denied_address_loses_its_connections_when_the_list_changes() {
    let relay = relay();
    let lines = "[access]\ndeny_addresses = [\"127.0.0.3\"]\n";
    let mut goes = crate::support::client::Client::connect_from(&relay, [127, 0, 0, 3]);
    let mut stays = relay.connect();
    relay.reload(&(lines.to_owned() + &config()));
    assert_eq!(goes.closing_code(), 1008);
    stays.publish(&Key::named("bob").note("still here"));
}
