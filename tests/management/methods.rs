//! What each method does.

use serde_json::json;

use super::scene::{call, call_as, config, post, relay, result};
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

#[test]
fn a_banned_key_is_refused_until_the_ban_is_taken_back_and_keeps_what_is_stored() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let mut client = relay.connect();
    let [before, refused, after] = ["before", "refused", "after"].map(|text| bob.note(text));
    client.send(before.message());
    client.expect(&before.ok());
    assert_eq!(result(&relay, "banpubkey", json!([bob.hex, "spam"])), json!(true));
    client.send(refused.message());
    client.expect(&refused.refused("blocked: the author is not welcome here"));
    assert_eq!(result(&relay, "listbannedpubkeys", json!([])), json!([{ "pubkey": bob.hex, "reason": "spam" }]));
    client.send(format!(r#"["REQ","s",{{"authors":["{}"]}}]"#, bob.hex));
    client.expect(&before.frame("s"));
    client.expect(r#"["EOSE","s"]"#);
    client.send(r#"["CLOSE","s"]"#);
    assert_eq!(result(&relay, "unbanpubkey", json!([bob.hex])), json!(true));
    assert_eq!(result(&relay, "listbannedpubkeys", json!([])), json!([]));
    client.send(after.message());
    client.expect(&after.ok());
}

#[test]
fn a_banned_event_is_removed_and_stays_out_until_the_ban_is_taken_back() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let mut client = relay.connect();
    let (bad, never) = (bob.note("bad"), bob.note("never stored"));
    client.send(bad.message());
    client.expect(&bad.ok());
    for event in [&bad, &never] {
        assert_eq!(result(&relay, "banevent", json!([event.id, "doxing"])), json!(true));
        client.send(format!(r#"["REQ","s",{{"ids":["{}"]}}]"#, event.id));
        client.expect(r#"["EOSE","s"]"#);
        client.send(r#"["CLOSE","s"]"#);
        client.send(event.message());
        client.expect(&event.refused("blocked: this event is not welcome here"));
    }
    let listed = [&never, &bad].map(|event| json!({ "id": event.id, "reason": "doxing" }));
    assert_eq!(result(&relay, "listbannedevents", json!([])), json!(listed));
    assert_eq!(result(&relay, "listbannedevents", json!([1, 1])), json!([listed[1]]), "the second page of one");
    assert_eq!(result(&relay, "allowevent", json!([bad.id])), json!(true));
    client.send(bad.message());
    client.expect(&bad.ok());
}

/// A plugin that takes a second for each event.
pub const SLOW: &str = concat!(
    r#"while read -r asked; do sleep 1; printf '%s\n' "$asked" | "#,
    r#"sed -E 's/.*"id":"([0-9a-f]{64})".*/{"id":"\1","action":"accept"}/'; done"#
);

#[test]
fn an_event_that_was_on_its_way_when_it_was_banned_is_refused_and_stays_out() {
    let plugin = format!("[plugin]\ncommand = {}\ntimeout_ms = 9000\n", json!(SLOW));
    let relay = Relay::start(&(plugin + &config()));
    let mut client = relay.connect();
    let note = Key::named("bob").note("on its way");
    client.send(note.message());
    relay.until(|| relay.metric("weir_queue_entries{queue=\"plugin\"}") == 1);
    assert_eq!(result(&relay, "banevent", json!([note.id])), json!(true));
    client.expect(&note.refused("blocked: this event is not welcome here"));
    let count = format!(r#"["COUNT","c",{{"ids":["{}"]}}]"#, note.id);
    relay.until(|| {
        client.send(count.as_str());
        client.next() == r#"["COUNT","c",{"count":0}]"#
    });
}

#[test]
fn an_allowed_key_passes_a_list_of_keys_and_an_allowed_kind_a_list_of_kinds() {
    let [bob, carol] = ["bob", "carol"].map(Key::named);
    let lists = format!("[access]\nallow_pubkeys = [\"{}\"]\nallow_kinds = [1]\n", bob.hex);
    let relay = Relay::start(&(lists + &config()));
    let mut client = relay.connect();
    let (note, reaction) = (carol.note("hello"), bob.event(7, now(), json!([]), "+"));
    client.send_all(&[note.message(), reaction.message()]);
    client.expect(&note.refused("blocked: the author is not on this relay's list"));
    client.expect(&reaction.refused("blocked: kind 7 is not accepted here"));
    assert_eq!(result(&relay, "allowpubkey", json!([carol.hex, null])), json!(true));
    assert_eq!(result(&relay, "allowkind", json!(["7"])), json!(true));
    assert_eq!(result(&relay, "listallowedpubkeys", json!([])), json!([{ "pubkey": carol.hex, "reason": "" }]));
    assert_eq!(result(&relay, "listallowedkinds", json!([])), json!([1, 7]));
    client.send_all(&[note.message(), reaction.message()]);
    client.expect_all([note.ok(), reaction.ok()]);
    assert_eq!(result(&relay, "unallowpubkey", json!([carol.hex])), json!(true));
    assert_eq!(result(&relay, "disallowkind", json!([1])), json!(true));
    assert_eq!(result(&relay, "listallowedkinds", json!([])), json!([7]));
    assert_eq!(result(&relay, "listdisallowedkinds", json!([])), json!([1]));
    let (note, other) = (carol.event(7, now(), json!([]), "-"), bob.note("no more"));
    client.send_all(&[note.message(), other.message()]);
    client.expect(&note.refused("blocked: the author is not on this relay's list"));
    client.expect(&other.refused("blocked: kind 1 is not accepted here"));
}

#[test]
fn a_blocked_address_loses_its_connections_and_gets_no_new_ones() {
    let relay = relay();
    let upgrade = "GET / HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let open = |address| {
        use std::io::{Read as _, Write as _};
        let mut stream = relay.stream_from(address);
        stream.write_all(upgrade.as_bytes()).expect("sent");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("a status line");
        (String::from_utf8_lossy(&head).into_owned(), stream)
    };
    let (status, mut stays) = open([127, 0, 0, 2]);
    assert_eq!(status, "HTTP/1.1 101");
    let (_, mut goes) = open([127, 0, 0, 3]);
    assert_eq!(result(&relay, "blockip", json!(["127.0.0.3", "flood"])), json!(true));
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut goes, &mut rest).expect("closed");
    assert!(rest.ends_with(b"blocked: this address is not welcome here"), "{}", String::from_utf8_lossy(&rest));
    drop(goes);
    relay.until(|| relay.metric("weir_connections_closed_total{reason=\"operator\"}") == 1);
    assert_eq!(open([127, 0, 0, 3]).0, "HTTP/1.1 403");
    assert_eq!(open([127, 0, 0, 4]).0, "HTTP/1.1 101");
    std::io::Write::write_all(&mut stays, &[0x89, 0x80, 0, 0, 0, 0]).expect("still open");
    assert_eq!(result(&relay, "listblockedips", json!([])), json!([{ "ip": "127.0.0.3", "reason": "flood" }]));
    assert_eq!(result(&relay, "unblockip", json!(["127.0.0.3"])), json!(true));
    assert_eq!(open([127, 0, 0, 3]).0, "HTTP/1.1 101");
    assert_eq!(result(&relay, "blockip", json!(["127.0.0.0/29"])), json!(true));
    assert_eq!([open([127, 0, 0, 4]).0, open([127, 0, 0, 9]).0], ["HTTP/1.1 403", "HTTP/1.1 101"]);
}

#[test]
fn the_document_shows_the_name_that_an_admin_gave_the_relay() {
    let relay = relay();
    let document = || {
        let (_, body) =
            relay.http("GET / HTTP/1.1\r\nHost: r\r\nAccept: application/nostr+json\r\nConnection: close\r\n\r\n");
        let document: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert!(document["supported_nips"].as_array().expect("a list").contains(&json!(86)));
        [document["name"].clone(), document["description"].clone(), document["icon"].clone()]
    };
    let configured = document();
    for (method, text) in [
        ("changerelayname", "Möwe"),
        ("changerelaydescription", "a \"quiet\" place\nby the sea"),
        ("changerelayicon", "https://example.com/icon.png"),
    ] {
        assert_eq!(result(&relay, method, json!([text])), json!(true));
    }
    let changed = ["Möwe", "a \"quiet\" place\nby the sea", "https://example.com/icon.png"].map(|text| json!(text));
    assert_eq!(document(), changed);
    for method in ["changerelayname", "changerelaydescription", "changerelayicon"] {
        assert_eq!(result(&relay, method, json!([""])), json!(true));
    }
    assert_eq!(document(), configured);
}

#[test]
fn every_method_is_named_and_unknown_ones_and_wrong_parameters_are_errors() {
    let relay = relay();
    let named = result(&relay, "supportedmethods", json!([]));
    let named: Vec<&str> = named.as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
    for method in &named {
        let answer = call(&relay, method, json!([]));
        assert_ne!(answer, json!({ "error": format!("unknown method {method:?}") }));
    }
    assert!(!named.contains(&"supportedmethods"), "the others are listed");
    for (method, params, error) in [
        ("shutdown", json!([]), "unknown method \"shutdown\""),
        ("banpubkey", json!(["npub"]), "params[0]: is not a public key of 64 hex digits"),
        ("allowkind", json!([70000]), "params[0]: is not a kind from 0 to 65535"),
        ("blockip", json!(["localhost"]), "params[0]: is not an address or a prefix"),
    ] {
        assert_eq!(call(&relay, method, params), json!({ "error": error }));
    }
    assert_eq!(relay.metric("weir_management_requests_total{outcome=\"unauthorized\"}"), 0);
}

#[test]
fn reported_events_are_listed_until_an_admin_decides() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let mut client = relay.connect();
    let [bad, fine, unreported] = ["bad", "fine", "unreported"].map(|text| bob.note(text));
    let report = |reporter: &str, event: &str, kind: &str| {
        Key::named(reporter).event(1984, now(), json!([["e", event, kind], ["p", bob.hex]]), "")
    };
    let unknown = "ab".repeat(32);
    let reports = [
        report("carol", &bad.id, "spam"),
        report("dave", &bad.id, "spam"),
        report("carol", &fine.id, "\u{202e}"),
        report("carol", &unknown, "spam"),
    ];
    for event in [&bad, &fine, &unreported].into_iter().chain(&reports) {
        client.send(event.message());
        client.expect(&event.ok());
    }
    // The newest 5,000 reports are looked at once they are committed.
    client.send(r#"["REQ","s",{"kinds":[1984],"limit":1}]"#);
    relay.until(|| result(&relay, "listeventsneedingmoderation", json!([])).as_array().expect("a list").len() == 2);
    let listed = result(&relay, "listeventsneedingmoderation", json!([]));
    let listed: Vec<_> = listed.as_array().expect("a list").iter().map(|one| one["reason"].clone()).collect();
    assert!(listed.contains(&json!("spam (2 reports)")) && listed.contains(&json!("other (1 reports)")), "{listed:?}");
    result(&relay, "banevent", json!([bad.id, "spam"]));
    result(&relay, "allowevent", json!([fine.id]));
    assert_eq!(result(&relay, "listeventsneedingmoderation", json!([])), json!([]));
}

#[test]
fn a_browser_is_allowed_to_post_with_an_authorization() {
    let relay = relay();
    let (head, _) = relay.http(
        "OPTIONS / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nOrigin: https://admin.example\r\n\
         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n\r\n",
    );
    assert!(head.starts_with("http/1.1 204"), "{head}");
    for line in [
        "access-control-allow-origin: *",
        "access-control-allow-headers: *, authorization",
        "access-control-allow-methods: get, head, options, post",
    ] {
        assert!(head.lines().any(|header| header == line), "{line} in {head}");
    }
    let (_, answer) = call_as(&relay, &Key::named("stranger"), "supportedmethods", json!([]));
    assert_eq!(answer, json!({ "error": "this key is not an admin of this relay" }));
}

#[test]
fn nobody_manages_a_relay_without_admins() {
    let relay = Relay::start("");
    let (status, head, _) = post(&relay, &[("Content-Type", "application/nostr+json+rpc")], "{}");
    assert_eq!(status, 405, "{head}");
    assert!(head.lines().any(|header| header == "allow: get, head, options"), "{head}");
}
