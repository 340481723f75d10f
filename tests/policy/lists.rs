//! Allow, deny and mute lists, in the configuration and in files.

use serde_json::json;

use crate::scene::{DENIED, config, outcome, refused_by, replace};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

#[test]
fn a_list_file_that_is_replaced_while_clients_publish_holds_from_then_on_and_no_event_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("denied.txt");
    std::fs::write(&file, "# nobody yet\n").expect("written");
    let relay = Relay::start_in(dir.path(), &config("access.deny_pubkeys_file = \"denied.txt\""));
    let (key, other) = (Key::named("denied"), Key::named("other"));
    let mut client = relay.connect();
    client.publish(&key.note("before"));
    replace(&file, format!("{}  # a spammer\n", key.hex));
    let mut number = 0;
    loop {
        number += 1;
        let note = key.note(&format!("note {number}"));
        client.send(note.message());
        let answer = client.next();
        if answer == note.refused(DENIED) {
            break;
        }
        assert_eq!(answer, note.ok());
    }
    relay.wait_for_log("list files were read again");
    client.publish(&other.note("another author"));
    assert_eq!(refused_by(&relay, "author"), 1);
    replace(&file, "");
    relay.wait_for_log("list files were read again");
    client.publish(&key.note("welcome again"));
    client.counts(json!({"authors": [key.hex]}), number + 1);
    assert_eq!(relay.metric("weir_config_reloads_total{result=\"applied\"}"), 2);
}

#[test]
fn a_list_file_with_a_mistake_leaves_the_former_list_in_force_and_is_named_with_key_and_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let (denied, muted) = (dir.path().join("denied.txt"), dir.path().join("muted.txt"));
    let [first, second] = ["first", "second"].map(Key::named);
    std::fs::write(&denied, &first.hex).expect("written");
    std::fs::write(&muted, "").expect("written");
    let lists = "access.deny_pubkeys_file = \"denied.txt\"\naccess.mute_pubkeys_file = \"muted.txt\"";
    let relay = Relay::start_in(dir.path(), &config(lists));
    let mut client = relay.connect();
    client.refused(&first.note("one"), DENIED);
    replace(&denied, format!("{}\nalice\n", second.hex));
    let line = relay.wait_for_log("access.deny_pubkeys_file: ");
    assert!(line.contains("denied.txt:2: a public key is npub1"), "{line}");
    client.refused(&first.note("two"), DENIED);
    client.publish(&second.note("three"));
    // The other file is taken all the same.
    replace(&muted, &second.hex);
    relay.wait_for_log("list files were read again");
    let four = second.note("four");
    client.ask(four.message(), &four.ok());
    client.counts(json!({"authors": [second.hex]}), 1);
    replace(&denied, &second.hex);
    relay.wait_for_log("list files were read again");
    client.refused(&second.note("five"), DENIED);
    assert_eq!(relay.metric("weir_config_reloads_total{result=\"failed\"}"), 1, "a mistake is told once");
}

#[test]
fn a_configuration_with_a_mistake_leaves_the_former_lists_in_force() {
    let dir = tempfile::tempdir().expect("a directory");
    let [first, second] = ["former", "newer"].map(Key::named);
    std::fs::write(dir.path().join("denied.txt"), &first.hex).expect("written");
    std::fs::write(dir.path().join("bad.txt"), "nsec1xyz\n").expect("written");
    let relay = Relay::start_in(dir.path(), &config("access.deny_pubkeys_file = \"denied.txt\""));
    let mut client = relay.connect();
    client.refused(&first.note("one"), DENIED);
    relay.reload(&config(&format!(
        "access.deny_pubkeys = [\"{}\"]\naccess.allow_pubkeys_file = \"bad.txt\"",
        second.hex
    )));
    let line = relay.wait_for_log("bad.txt:1: this is a private key");
    assert!(line.contains("weir.toml:2:8: access.allow_pubkeys_file: "), "{line}");
    client.refused(&first.note("two"), DENIED);
    client.publish(&second.note("three"));
    relay.reload(&config(&format!("access.deny_pubkeys = [\"{}\"]", second.hex)));
    relay.wait_for_log("the configuration was reloaded");
    client.publish(&first.note("four"));
    client.refused(&second.note("five"), DENIED);
}

#[test]
fn a_muted_author_is_told_ok_and_nobody_gets_the_event_and_a_forged_one_is_still_refused() {
    let (muted, other) = (Key::named("muted"), Key::named("heard"));
    let relay = Relay::start(&config(&format!("access.mute_pubkeys = [\"{}\"]", muted.hex)));
    let (mut client, mut follower) = (relay.connect(), relay.connect());
    follower.open("all", &[json!({})]);
    let notes = [muted.note("one"), muted.event(20_001, now(), json!([]), "two")];
    for note in &notes {
        client.ask(note.message(), &note.ok());
    }
    let forged = muted.note("three").with("three", "four");
    client.send(forged.message());
    assert!(client.next().contains("false,\"invalid: "));
    let heard = other.note("five");
    client.publish(&heard);
    follower.expect(&heard.frame("all"));
    follower.is_silent();
    client.finds(json!({}), &[&heard]);
    assert_eq!((outcome(&relay, "shadowed"), outcome(&relay, "stored")), (2, 1));
    // A request to vanish is obeyed (NIP-62).
    client.publish(&muted.event(62, now(), json!([["relay", "ALL_RELAYS"]]), ""));
    assert_eq!(outcome(&relay, "stored"), 2);
}

#[test]
fn wallets_reach_members_of_a_relay_that_only_they_may_write_to() {
    let (member, wallet) = (Key::named("member"), Key::named("wallet"));
    let lines = format!("auth.write = \"listed\"\naccess.listed_pubkeys = [\"{}\"]", member.hex);
    let relay = Relay::start(&config(&lines));
    let (mut client, mut signer) = (relay.connect(), relay.connect());
    signer.open("own", &[json!({"kinds": [23195, 24133]})]);
    for kind in [1059, 9735, 23195, 24133] {
        let event = wallet.event(kind, now(), json!([["p", member.hex]]), "for a member");
        client.ask(event.message(), &event.ok());
        if kind > 20_000 {
            signer.expect(&event.frame("own"));
        }
        let stranger = wallet.event(kind, now(), json!([["p", wallet.hex]]), "for a stranger");
        client.refused(&stranger, "auth-required: only authenticated clients may publish");
    }
    assert_eq!(refused_by(&relay, "auth"), 4);
}

#[test]
fn an_address_in_a_file_may_not_connect_and_seals_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("addresses.txt");
    std::fs::write(&file, "127.0.0.8\n10.0.0.0/8 # a prefix\n").expect("written");
    let relay = Relay::start_in(dir.path(), &config("access.deny_addresses_file = \"addresses.txt\""));
    let status = |last: u8| {
        use std::io::{Read as _, Write as _};
        let mut stream = relay.stream_from([127, 0, 0, last]);
        stream.write_all(UPGRADE.as_bytes()).expect("sent");
        let mut line = [0; 12];
        stream.read_exact(&mut line).expect("an answer");
        String::from_utf8_lossy(&line).into_owned()
    };
    assert_eq!([8, 9].map(status), ["HTTP/1.1 403", "HTTP/1.1 101"]);
    replace(&file, "127.0.0.9\n");
    relay.wait_for_log("list files were read again");
    assert_eq!([8, 9].map(status), ["HTTP/1.1 101", "HTTP/1.1 403"]);
    let mut client = Client::connect_from(&relay, [127, 0, 0, 8]);
    let seal = Key::named("sealed").event(13, now(), json!([]), "x");
    client.refused(&seal, "invalid: kind 13 is a seal, which is sent inside a gift wrap and never published");
    assert_eq!(refused_by(&relay, "private-kind"), 1);
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
