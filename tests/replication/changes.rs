//! `/changes`: the feed of what arrived and what was removed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::scene::{Home, notes};
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed, now};

/// The feed on the address of the metrics. With this interval, whatever has its OK is committed.
const OPEN: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n[changes]\non_metrics_address = true\n\
    [pipeline]\ncommit_interval_ms = 0\n";

const AT: u64 = 1_700_000_000;

/// The lines that follow a cursor, or `0`.
#[track_caller]
fn read(relay: &Relay, since: &str, more: &str) -> Vec<String> {
    let (status, body) = relay.watch(&format!("/changes?since={since}{more}"));
    assert_eq!(status, 200, "{body}");
    assert!(body.ends_with("}\n"), "the last line is whole: {body}");
    body.lines().map(str::to_owned).collect()
}

fn cursor(line: &str) -> String {
    let line: Value = serde_json::from_str(line).expect("JSON");
    line["cursor"].as_str().expect("every line has a cursor").into()
}

/// The digits that tell this store from others.
fn store_of(lines: &[String]) -> String {
    cursor(&lines[0]).split('.').next().expect("a part").into()
}

fn arrived(store: &str, seq: u64, removed: u64, event: &Signed) -> String {
    format!(r#"{{"cursor":"{store}.{seq}.{removed}","arrived":{seq},"event":{}}}"#, event.text)
}

fn removed(store: &str, at: u64, number: u64, (seq, event): (u64, &Signed)) -> String {
    format!(r#"{{"cursor":"{store}.{at}.{number}","removed":{seq},"id":"{}"}}"#, event.id)
}

fn end(store: &str, seq: u64, number: u64, more: bool) -> String {
    format!(r#"{{"cursor":"{store}.{seq}.{number}","more":{more}}}"#)
}

/// What a tool holds that follows the feed.
struct Copy {
    since: String,
    held: BTreeMap<String, u64>,
}

impl Copy {
    fn new() -> Self {
        Self { since: "0".into(), held: BTreeMap::new() }
    }

    /// Reads one answer; whether there is more.
    fn read(&mut self, relay: &Relay, limit: u64) -> bool {
        let lines = read(relay, &self.since, &format!("&limit={limit}"));
        for line in &lines {
            let change: Value = serde_json::from_str(line).expect("JSON");
            if let Some(seq) = change["arrived"].as_u64() {
                let id = change["event"]["id"].as_str().expect("an id");
                assert_eq!(self.held.insert(id.into(), seq), None, "it is there already: {line}");
            } else if change["removed"].is_u64() {
                self.held.remove(change["id"].as_str().expect("an id"));
            }
            self.since = cursor(line);
        }
        serde_json::from_str::<Value>(&lines[lines.len() - 1]).expect("JSON")["more"].as_bool().expect("a last line")
    }
}

#[test]
fn each_line_tells_one_change_and_any_of_them_can_be_gone_on_from() {
    let relay = Relay::start(OPEN);
    let (alice, mut client) = (Key::named("alice"), relay.connect());
    let profile = |n: u64| alice.event(0, AT + n, json!([]), &format!("version {n}"));
    let (note, wrap) = (alice.event(1, AT, json!([["-"]]), "protected \"text\""), Key::named("wrap"));
    let wrap = wrap.event(1059, AT, json!([["p", alice.hex]]), "sealed");
    let lines = read(&relay, "0", "");
    let store = store_of(&lines);
    assert_eq!(lines, [end(&store, 0, 0, false)]);
    relay.metric("weir_changes_told_total{change=\"arrived\"}");
    // A protected event is its author's to publish.
    let challenge = client.challenge();
    let auth = alice.answer(&challenge, &relay.url());
    client.ask(format!(r#"["AUTH",{}]"#, auth.text), &auth.ok());
    for event in [&note, &profile(1), &wrap] {
        client.publish(event);
    }
    let first = [
        arrived(&store, 1, 0, &note),
        arrived(&store, 2, 0, &profile(1)),
        arrived(&store, 3, 0, &wrap),
        end(&store, 3, 0, false),
    ];
    assert_eq!(read(&relay, "0", ""), first);
    client.publish(&profile(2));
    client.publish(&alice.delete(AT + 9, json!([["e", note.id]])));
    client.publish(&profile(3));
    let second = [
        removed(&store, 3, 1, (2, &profile(1))),
        removed(&store, 3, 2, (1, &note)),
        removed(&store, 3, 3, (4, &profile(2))),
        arrived(&store, 5, 3, &alice.delete(AT + 9, json!([["e", note.id]]))),
        arrived(&store, 6, 3, &profile(3)),
        end(&store, 6, 3, false),
    ];
    for place in 0..second.len() {
        let since = if place == 0 { cursor(&first[3]) } else { cursor(&second[place - 1]) };
        assert_eq!(read(&relay, &since, ""), second[place..], "after line {place}");
        let mut one = vec![second[place].clone()];
        if place + 1 < second.len() {
            one.push(format!(r#"{{"cursor":"{}","more":true}}"#, cursor(&one[0])));
        }
        assert_eq!(read(&relay, &since, "&limit=1"), one, "the line after line {place}");
    }
    // Who begins now is told nothing of what is gone.
    let held = [arrived(&store, 3, 3, &wrap), second[3].clone(), second[4].clone(), second[5].clone()];
    assert_eq!(read(&relay, "0", ""), held);
    let told = |change: &str| relay.metric(&format!("weir_changes_told_total{{change={change:?}}}"));
    assert!(told("arrived") > 10 && told("removed") > 5);
}

#[test]
fn a_reader_that_waits_is_told_of_the_next_change_and_does_not_keep_the_relay_from_ending() {
    let relay = Relay::start(OPEN);
    let (alice, mut client) = (Key::named("alice"), relay.connect());
    let store = store_of(&read(&relay, "0", ""));
    let note = alice.note("at last");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| read(&relay, "0", "&wait=60"));
        client.publish(&note);
        assert_eq!(waiting.join().expect("no panic"), [arrived(&store, 1, 0, &note), end(&store, 1, 0, false)]);
    });
    drop(client);
    let since = format!("{store}.1.0");
    let mut stream = waits(&relay, &since);
    relay.signal("TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the end");
    // It goes on from the same place when the relay is back, answered or not.
    assert!(answer.is_empty() || answer.ends_with(&format!("\r\n\r\n{}\n", end(&store, 1, 0, false))), "{answer}");
    relay.wait_for_exit();
}

/// A request that waits for a change.
fn waits(relay: &Relay, since: &str) -> TcpStream {
    let mut stream = TcpStream::connect(relay.monitor.expect("metrics")).expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let request = format!("GET /changes?since={since}&wait=60 HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    stream
}

#[test]
fn one_reader_too_many_is_told_to_come_again() {
    let relay = Relay::start(OPEN);
    let since = cursor(&read(&relay, "0", "")[0]);
    let busy = "{\"error\":\"busy\",\"message\":\"others read the feed already\"}\n";
    let mut waiting: Vec<_> = (0..8).map(|_| waits(&relay, &since)).collect();
    // The last of them may still be on their way.
    relay.until(|| relay.watch(&format!("/changes?since={since}")) == (503, busy.into()));
    let (head, _) = relay.watch_by("GET", "/changes");
    assert!(head.starts_with("http/1.1 503") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
    // One that is told of a change, and one that leaves.
    relay.connect().publish(&Key::named("alice").note("a change"));
    for stream in &mut waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("\"arrived\":1,"), "{answer}");
    }
    relay.until(|| relay.watch("/changes").0 == 200);
}

#[test]
fn whatever_else_is_asked_is_refused_in_json() {
    let relay = Relay::start(OPEN);
    let store = store_of(&read(&relay, "0", ""));
    let error = |name: &str, why: &str| json!({ "error": name, "message": why }).to_string() + "\n";
    let since = error("query", "since is neither 0 nor the cursor of a line");
    let limit = error("query", "limit is not a number from 1 to 10000");
    let lost = "not everything since this cursor is known: forget what you hold and begin with since=0";
    let other = format!("{:08x}", u32::from_str_radix(&store, 16).expect("digits") ^ 1);
    for (query, status, body) in [
        ("since=".to_owned(), 400, since.clone()),
        ("since=7".into(), 400, since.clone()),
        ("since=%00%ff".into(), 400, since.clone()),
        (format!("since={store}.1"), 400, since.clone()),
        (format!("since={store}.-1.0"), 400, since.clone()),
        (format!("since={store}.0.{}", "9".repeat(10_000)), 400, since),
        ("limit=0".into(), 400, limit.clone()),
        (format!("limit={}", "9".repeat(100)), 400, limit),
        ("wait=3600".into(), 400, error("query", "wait is not a number from 0 to 60")),
        ("limit=1&limit=1".into(), 400, error("query", "limit is given twice")),
        ("follow".into(), 400, error("query", "the parameters are since, limit and wait")),
        ("&".repeat(10_000) + "a", 400, error("query", "the parameters are since, limit and wait")),
        (format!("since={store}.1.0"), 410, error("lost", lost)),
        (format!("since={store}.0.1"), 410, error("lost", lost)),
        (format!("since={other}.0.0"), 410, error("lost", lost)),
        (format!("since={store}.1099511627775.281474976710655"), 410, error("lost", lost)),
    ] {
        assert_eq!(relay.watch(&format!("/changes?{query}")), (status, body), "{query:.80}");
    }
    assert_eq!(read(&relay, "0", "&&limit=10000&wait=0"), [end(&store, 0, 0, false)]);
    let (head, body) = relay.watch_by("HEAD", "/changes?since=0");
    let is_lines =
        head.contains("\r\ncontent-type: application/x-ndjson\r\n") && head.contains("cache-control: no-store");
    assert!(head.starts_with("http/1.1 200") && is_lines && body.is_empty(), "{head}");
    let (head, body) = relay.watch_by("HEAD", &format!("/changes?since={other}.0.0"));
    assert!(head.starts_with("http/1.1 410") && body.is_empty(), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (head, _) = relay.watch_by(method, "/changes");
        assert!(head.starts_with("http/1.1 405") && head.contains("\r\nallow: get, head\r\n"), "{method}: {head}");
    }
}

#[test]
fn the_feed_is_off_until_it_is_turned_on_and_the_public_one_asks_for_the_token() {
    let token = "3f786850e387550fdab836ed7e6dc881de23001b";
    let home = Home::with(&notes("alice", 0..1));
    std::fs::write(home.path("changes.token"), format!("{token}\n")).expect("the disk is good");
    let ask = |relay: &Relay, head: &str, more: &str| {
        let (head, body) = relay.http(&format!("{head} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{more}\r\n"));
        (head.split("\r\n").next().expect("a line").to_owned(), head, body)
    };
    let with = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let closed = home.serve("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    assert_eq!(closed.watch("/changes").0, 404);
    assert_eq!(ask(&closed, "GET /changes", &with(token)).0, "http/1.1 404 not found");
    drop(closed);
    // The one on the address of the metrics is not the public one, and the other way round.
    let relay = home.serve(OPEN);
    assert_eq!(ask(&relay, "GET /changes", &with(token)).0, "http/1.1 404 not found");
    drop(relay);
    let relay = home.serve("[metrics]\nlisten = \"127.0.0.1:0\"\n[changes]\ntoken_file = \"changes.token\"\n");
    assert_eq!(relay.watch("/changes").0, 404);
    for wrong in [String::new(), with(&token[1..]), with(&token.to_uppercase()), format!("Authorization: {token}\r\n")]
    {
        for method in ["GET", "HEAD", "POST"] {
            let (status, head, _) = ask(&relay, &format!("{method} /changes"), &wrong);
            assert_eq!(status, "http/1.1 401 unauthorized", "{wrong}");
            assert!(head.contains("\r\nwww-authenticate: bearer\r\n"), "{head}");
        }
    }
    let (status, head, body) = ask(&relay, "GET /changes?limit=5", &with(token));
    assert_eq!(status, "http/1.1 200 ok");
    assert!(head.contains("\r\ncontent-type: application/x-ndjson"), "{head}");
    assert!(!head.contains("access-control"), "no web page may read it: {head}");
    let lines: Vec<String> = body.lines().map(str::to_owned).collect();
    let store = store_of(&lines);
    assert_eq!(lines, [arrived(&store, 1, 0, &notes("alice", 0..1)[0]), end(&store, 1, 0, false)]);
    assert_eq!(ask(&relay, "POST /changes", &with(token)).0, "http/1.1 405 method not allowed");
    // Clients are served as before.
    assert_eq!(ask(&relay, "GET /", "").0, "http/1.1 200 ok");
}

#[test]
fn a_restored_store_is_another_one_to_readers() {
    let home = Home::with(&notes("alice", 0..3));
    let relay = home.serve(OPEN);
    let lines = read(&relay, "0", "");
    drop(relay);
    let backup = home.path("backup").display().to_string();
    assert!(home.command(&["backup", &backup]).status().expect("it runs").success());
    std::fs::remove_dir_all(home.path("data")).expect("the disk is good");
    assert!(home.command(&["restore", &backup]).status().expect("it runs").success());
    let relay = home.serve(OPEN);
    for line in &lines {
        assert_eq!(relay.watch(&format!("/changes?since={}", cursor(line))).0, 410);
    }
    let again = read(&relay, "0", "");
    assert_ne!(store_of(&again), store_of(&lines));
    assert_eq!(again.len(), 4);
}

#[test]
fn whoever_follows_the_feed_holds_what_the_store_holds_whatever_removes_events() {
    let rule = "[[storage.retention]]\nkinds = [7]\nmax_events = 20\n[storage]\nconfirm_removal_percent = 100\n";
    let home = Home::with(&notes("before", 0..50));
    let relay = home.serve(&format!("{OPEN}{rule}"));
    let (mut often, mut seldom) = (Copy::new(), Copy::new());
    let keys: Vec<Key> = ["a", "b", "c"].map(Key::named).into();
    let mut client = relay.connect();
    let mut published: Vec<String> = Vec::new();
    for n in 0..400_u64 {
        let key = &keys[(n % 3) as usize];
        let event = match n * 7 % 10 {
            0 | 1 => key.event(0, AT + n, json!([]), &n.to_string()),
            2 => key.event(30_000, AT + n, json!([["d", (n % 4).to_string()]]), &n.to_string()),
            3 => key.event(1, AT + n, json!([["expiration", (now() + 2 + n % 2).to_string()]]), "soon gone"),
            4 if n > 60 => key.delete(AT + n, json!([["e", published[(n - 60) as usize / 3 * 3 + (n % 3) as usize]]])),
            5 | 6 => key.event(7, AT + n, json!([["e", "ab".repeat(32)]]), "+"),
            _ => key.event(1, AT + n, json!([]), &n.to_string()),
        };
        published.push(event.id.clone());
        client.publish(&event);
        if n % 10 == 3 {
            often.read(&relay, 1 + n % 7);
        }
        if n == 200 {
            while seldom.read(&relay, 10_000) {}
            let filter = json!({ "until": AT + 60 * 20 }).to_string();
            assert!(home.command(&["delete", "--filter", &filter]).status().expect("it runs").success());
            let vanish = keys[2].event(62, AT + n, json!([["relay", "ALL_RELAYS"]]), "");
            client.publish(&vanish);
            assert!(home.command(&["compact"]).status().expect("it runs").success());
        }
    }
    // What is to expire or to be evicted goes within seconds.
    let ids = |home: &Home| -> Vec<String> {
        let lines = home.export().into_iter();
        let mut ids: Vec<_> =
            lines.map(|line| super::scene::field(&line, "id").as_str().expect("an id").into()).collect();
        ids.sort();
        ids
    };
    relay.until(|| {
        while often.read(&relay, 7) {}
        while seldom.read(&relay, 10_000) {}
        often.held == seldom.held && often.held.keys().cloned().collect::<Vec<_>>() == ids(&home)
    });
    let mut whole = Copy::new();
    while whole.read(&relay, 10_000) {}
    assert_eq!(whole.held, often.held);
    assert!(relay.metric("weir_changes_told_total{change=\"removed\"}") > 100);
    drop(client);
    drop(relay);
    home.assert_clean();
}
