//! The page that a browser gets at the relay's address.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::Key;

fn ask(relay: &Relay, method: &str, headers: &str) -> (String, String) {
    relay.http(&format!(
        "{method} / HTTP/1.1\r\nHost: relay.example.com\r\nConnection: close\r\nAccept: text/html,*/*;q=0.8\r\n\
         {headers}\r\n"
    ))
}

fn page(relay: &Relay) -> String {
    ask(relay, "GET", "").1
}

/// A header of an answer's head, which is in lower case.
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[test]
fn a_browser_gets_a_page_under_a_strict_policy_and_only_once() {
    let relay = Relay::start("[info]\nname = \"<b>By the sea</b>\"\nicon = \"https://pictures.example/i.png\"\n");
    let (head, body) = ask(&relay, "GET", "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(header(&head, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&head, "vary"), "accept");
    assert_eq!(header(&head, "x-content-type-options"), "nosniff");
    assert_eq!(header(&head, "referrer-policy"), "no-referrer");
    let policy = header(&head, "content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert!(policy.contains("img-src data: https://pictures.example;"), "{policy}");
    assert!(body.contains("<h1 dir=\"auto\">&lt;b&gt;By the sea&lt;/b&gt;</h1>"), "{body}");
    assert!(body.contains(">ws://relay.example.com/</code>"), "{body}");

    let tag = header(&head, "etag").to_owned();
    for asked in [tag.clone(), format!("\"x\", W/{tag}")] {
        let (head, body) = ask(&relay, "GET", &format!("If-None-Match: {asked}\r\n"));
        assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}{body}");
        assert_eq!(header(&head, "etag"), tag);
    }
    let (head, body) = ask(&relay, "HEAD", "");
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}{body}");
    let (head, _) = ask(&relay, "GET", "Accept: application/nostr+json\r\n");
    assert_eq!(header(&head, "content-type"), "application/nostr+json", "who can read the document gets it");
    assert_eq!(header(&head, "vary"), "accept");
}

#[test]
fn a_browser_that_keeps_its_socket_after_an_answer_was_not_turned_away() {
    let relay = Relay::start("[metrics]\nlisten = \"127.0.0.1:0\"\n[server]\nheader_timeout_s = 1\n");
    let connect = || {
        let socket = TcpStream::connect(relay.address).expect("a socket");
        socket.set_read_timeout(Some(TIMEOUT)).expect("it is set");
        socket
    };
    let turned_away = || {
        let (_, metrics) = relay.watch("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("weir_connections_turned_away_total{reason=\"slow\"}"));
        line.and_then(|line| line.split(' ').nth(1)).unwrap_or("0").to_owned()
    };
    let (mut socket, mut answer) = (connect(), String::new());
    socket.write_all(b"GET / HTTP/1.1\r\nHost: relay.example.com\r\n\r\n").expect("it is sent");
    // Until the relay closes it.
    socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(turned_away(), "0");
    let (mut silent, mut nothing) = (connect(), String::new());
    silent.write_all(b"GET / HTTP/1.1\r\n").expect("it is sent");
    silent.read_to_string(&mut nothing).expect("the end");
    assert_eq!((&*nothing, &*turned_away()), ("", "1"));
}

#[test]
fn a_page_shows_figures_if_the_operator_allows_it_and_changes_with_a_reload() {
    let relay = Relay::start("[info]\nname = \"one\"\n");
    assert!(!page(&relay).contains("Events held"));
    relay.reload("[info]\nname = \"two\"\npublic_stats = true\n");
    relay.until(|| page(&relay).contains(">two</h1>"));
    let empty = page(&relay);
    assert!(empty.contains("<dt>Events held</dt><dd>0</dd>"), "{empty}");
    assert!(empty.contains("<dt>Newest event</dt><dd>none yet</dd>"), "{empty}");
    let mut client = relay.connect();
    client.publish(&Key::named("alice").note("counted"));
    relay.until(|| page(&relay).contains("<dt>Events held</dt><dd>1</dd>"));
    let one = page(&relay);
    assert!(one.contains("<dt>Clients connected</dt><dd>1</dd>") && !one.contains("none yet"), "{one}");
}

#[test]
fn an_operator_puts_a_page_in_place_and_a_fault_in_it_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("page.html");
    let write = |text: &str| std::fs::write(&file, text).expect("the page is written");
    write("<!doctype html><style>h1{color:teal}</style><h1>{{name}}</h1>");
    let config = format!("[info]\nname = \"<i>\"\ntemplate_file = \"{}\"\n", file.display());
    let relay = Relay::start(&config);
    let expected = "<!doctype html><style>h1{color:teal}</style><h1>&lt;i&gt;</h1>";
    assert_eq!(page(&relay), expected);
    write("<h1>{{name}}</h1>\n{{nmae}}");
    relay.signal("HUP");
    relay.wait_for_log("page.html:2: {{nmae}} is not a placeholder");
    assert_eq!(page(&relay), expected);
    write("<h2>{{name}}</h2>");
    relay.signal("HUP");
    relay.until(|| page(&relay) == "<h2>&lt;i&gt;</h2>");
}
