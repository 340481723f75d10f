//! The dashboard over HTTP: who gets in, who does not, and what its methods answer.

use std::process::Command;

use serde_json::{Value, json};

use super::scene::{admin, body, call, header, result};
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

fn config() -> String {
    format!("[dashboard]\non_relay_address = true\non_metrics_address = true\n{}", super::scene::config())
}

fn relay() -> Relay {
    Relay::start(&config())
}

/// A browser at the relay's address: its cookie, and where it says that its requests come from.
struct Browser<'r> {
    relay: &'r Relay,
    cookie: String,
    origin: String,
}

impl<'r> Browser<'r> {
    fn new(relay: &'r Relay) -> Self {
        Self { relay, cookie: String::new(), origin: format!("http://{}", relay.address) }
    }

    /// Status, head and body.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let (host, cookie, origin) = (self.relay.address, &self.cookie, &self.origin);
        let length = body.len();
        let (head, answer) = self.relay.http(&format!(
            "{method} /dashboard{path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nCookie: a=b; {cookie}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
        ));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head, answer)
    }

    fn session(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/session", "", "").2).expect("JSON")
    }

    fn login(&self, key: &Key, url: &str, challenge: &str) -> String {
        let tags = json!([["u", url], ["method", "POST"], ["challenge", challenge]]);
        header(&key.event(27235, now(), tags, "").text)
    }

    /// Logs in with an Authorization header or a link; status and error.
    fn log_in(&mut self, authorization: &str, link: &str) -> (u16, String) {
        let headers = if authorization.is_empty() { "".into() } else { format!("Authorization: {authorization}\r\n") };
        let (status, head, body) = self.ask("POST", "/login", &headers, link);
        if let Some(cookie) = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")) {
            assert!(cookie.contains("; path=/dashboard; max-age=28800; httponly; samesite=strict"), "{cookie}");
            self.cookie = cookie.split(';').next().expect("a pair").into();
        }
        let error =
            serde_json::from_str::<Value>(&body).expect("JSON")["error"].as_str().unwrap_or_default().to_owned();
        (status, error)
    }

    fn enter(&mut self, key: &Key) -> (u16, String) {
        let challenge = self.session()["challenge"].as_str().expect("a challenge").to_owned();
        let login = self.login(key, &format!("{}/dashboard/login", self.origin), &challenge);
        self.log_in(&login, "")
    }

    fn call(&self, method: &str, params: Value) -> (u16, Value) {
        let (status, _, answer) = self.ask("POST", "/call", "", &body(method, params));
        (status, serde_json::from_str(&answer).expect("JSON"))
    }

    #[track_caller]
    fn result(&self, method: &str, params: Value) -> Value {
        let (status, mut answer) = self.call(method, params);
        assert_eq!(status, 200, "{answer}");
        assert!(answer.get("result").is_some(), "{answer}");
        answer["result"].take()
    }
}

fn entered(relay: &Relay) -> Browser<'_> {
    let mut browser = Browser::new(relay);
    assert_eq!(browser.enter(&admin()), (200, String::new()));
    browser
}

#[test]
fn an_admin_logs_in_with_a_signature_acts_and_logs_out_and_the_audit_names_the_key() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let browser = entered(&relay);
    let who = browser.session()["who"].as_str().map(str::to_owned);
    assert!(who.is_some_and(|who| who.starts_with("npub1")));
    assert_eq!(browser.result("banpubkey", json!([bob.hex, "spam"])), json!(true));
    let mut client = relay.connect();
    let note = bob.note("refused");
    client.ask(note.message(), &note.refused("blocked: the author is not welcome here"));
    let acts = result(&relay, "audit", json!([1]));
    assert_eq!((&acts[0]["by"], &acts[0]["method"]), (&json!(admin().hex), &json!("banpubkey")));
    assert_eq!(browser.result("undo", json!([acts[0]["number"]])), json!(true));
    client.ask(note.message(), &note.ok());
    assert_eq!(browser.ask("POST", "/logout", "", "").0, 200);
    assert_eq!(browser.call("audit", json!([])), (401, json!({ "error": "log in first" })));
}

#[test]
fn a_login_is_good_once_and_for_an_admin_of_this_relay_alone() {
    let relay = relay();
    let mut browser = Browser::new(&relay);
    let challenge = || Browser::new(&relay).session()["challenge"].as_str().expect("a challenge").to_owned();
    let url = format!("http://{}/dashboard/login", relay.address);
    let good = browser.login(&admin(), &url, &challenge());
    assert_eq!(browser.log_in(&good, ""), (200, String::new()));
    browser.cookie.clear();
    assert_eq!(browser.log_in(&good, ""), (401, "this login was used before; sign a new one".into()));
    let stranger = browser.login(&Key::named("stranger"), &url, &challenge());
    assert_eq!(browser.log_in(&stranger, ""), (401, "this key is not an admin of this relay".into()));
    let elsewhere = browser.login(&admin(), "https://evil.example/dashboard/login", &challenge());
    assert!(browser.log_in(&elsewhere, "").1.starts_with("the u tag does not name this relay"));
    let invented = browser.login(&admin(), &url, &"0".repeat(64));
    assert_eq!(browser.log_in(&invented, ""), (401, "the challenge is too old; try again".into()));
    let forged = good.replace("Nostr ", "Nostr AAAA");
    assert_eq!(browser.log_in(&forged, "").0, 401);
    assert_eq!(browser.call("figures", json!([])).0, 401);
}

#[test]
fn a_link_opens_the_dashboard_once() {
    let relay = relay();
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).arg("dashboard").arg("--data").arg(relay.data()).output();
    let printed = String::from_utf8(output.expect("the binary runs").stdout).expect("text");
    let urls: Vec<&str> = printed.lines().collect();
    assert_eq!(urls.len(), 2, "{printed}");
    let (url, token) = urls[1].split_once('#').expect("a fragment");
    assert_eq!(url, format!("http://{}/dashboard", relay.address));
    let mut browser = Browser::new(&relay);
    assert_eq!(browser.log_in("", token), (200, String::new()));
    assert!(browser.session()["who"].as_str().is_some_and(|who| who.starts_with("uid:")));
    let mut second = Browser::new(&relay);
    let used = "this link was used before, or is too old: `weir dashboard` prints another one";
    assert_eq!(second.log_in("", token), (401, used.into()));
    assert_eq!(second.log_in("", &"x".repeat(64)), (401, used.into()));
    assert_eq!(second.log_in("", &"x".repeat(65)), (413, "this is no link".into()), "no more is read");
}

#[test]
fn a_request_from_another_site_is_refused_even_with_the_cookie() {
    let relay = relay();
    let mut browser = entered(&relay);
    for origin in ["https://evil.example", "null", &format!("http://{}.evil.example", relay.address)] {
        browser.origin = origin.into();
        for path in ["/call", "/login", "/logout"] {
            let (status, _, answer) = browser.ask("POST", path, "", &body("banpubkey", json!([admin().hex])));
            let refused = json!({ "error": "this request comes from another site" }).to_string();
            assert_eq!((status, answer), (403, refused), "{origin} {path}");
        }
    }
    browser.origin = format!("http://{}", relay.address);
    assert_eq!(browser.result("listbannedpubkeys", json!([])), json!([]), "nothing happened, and the session is open");
}

#[test]
fn a_key_that_is_an_admin_no_longer_is_out_with_the_reload() {
    let relay = relay();
    let browser = entered(&relay);
    relay.reload(&config().replace(&admin().hex, &Key::named("other").hex));
    relay.until(|| browser.call("figures", json!([])).0 == 401);
}

#[test]
fn the_page_and_its_files_are_served_under_a_strict_policy_and_nothing_else_is() {
    let relay = Relay::start(&format!("[info]\nname = \"<b>\"\n{}", config()));
    let browser = Browser::new(&relay);
    let (status, head, page) = browser.ask("GET", "", "", "");
    assert_eq!(status, 200);
    assert!(page.contains("<span dir=\"auto\">&lt;b&gt;</span> dashboard"), "{page}");
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).expect("a policy");
    assert_eq!(
        policy,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("<script>"), "{page}");
    for file in
        page.split("\"/dashboard").skip(1).filter_map(|rest| rest.split('"').next()).filter(|file| !file.is_empty())
    {
        let (status, head, _) = browser.ask("GET", file, "", "");
        assert_eq!(status, 200, "{file}");
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
        let again = browser.ask("GET", file, &format!("If-None-Match: {tag}\r\n"), "");
        assert_eq!((again.0, again.2.as_str()), (304, ""));
    }
    for path in ["/x", "/../metrics", "/main.js/", "/call", "/login"] {
        assert_eq!(browser.ask("GET", path, "", "").0, 404, "{path}");
    }
    for (method, path) in [("PUT", ""), ("POST", ""), ("DELETE", "/session"), ("POST", "/main.js")] {
        assert_eq!(browser.ask(method, path, "", "").0, 405, "{method} {path}");
    }
    let off = Relay::start(&super::scene::config());
    assert_eq!(Browser::new(&off).ask("GET", "", "", "").0, 404, "it is off by default");
}

#[test]
fn a_purge_is_counted_begun_and_followed_to_its_end() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let mut client = relay.connect();
    (0..30).for_each(|number| client.publish(&bob.note(&format!("note {number}"))));
    let browser = entered(&relay);
    let counted = browser.result("countevents", json!([bob.hex]));
    assert_eq!((&counted["events"], &counted["is_whole"]), (&json!(30), &json!(true)));
    assert_eq!(browser.result("startpurge", json!([format!("nostr:{} ", bob.hex), 30, "spam"])), json!({ "purge": 1 }));
    relay.until(|| browser.result("purges", json!([]))[0]["state"] == "done");
    let purge = &browser.result("purges", json!([]))[0];
    assert_eq!((&purge["removed"], &purge["events"], &purge["by"]), (&json!(30), &json!(30), &json!(admin().hex)));
    assert_eq!(browser.result("countevents", json!([bob.hex]))["events"], json!(0));
    assert_eq!(result(&relay, "audit", json!([1]))[0]["method"], "purge");
    assert_eq!(browser.result("stoppurge", json!([])), json!(false), "none runs");
    for wrong in [json!(["192.0.2.7"]), json!(["nobody"]), json!([])] {
        assert!(call(&relay, "startpurge", wrong.clone()).get("error").is_some(), "{wrong}");
    }
}

#[test]
fn a_key_an_event_and_an_address_are_looked_up() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let mut client = relay.connect();
    let profile = bob.event(0, now(), json!([]), r#"{"name":"<b>bob</b>","about":7}"#);
    client.publish(&profile);
    let found = result(&relay, "lookup", json!([format!("nostr:{}", bob.hex)]));
    assert_eq!((&found["what"], &found["events"], &found["decision"]), (&json!("key"), &json!(1), &Value::Null));
    let texts = json!({ "name": "<b>bob</b>", "display_name": "", "about": "", "nip05": "" });
    assert_eq!((&found["profile"], &found["kinds"]), (&texts, &json!([[0, 1]])));
    let found = result(&relay, "lookup", json!([profile.id]));
    assert_eq!((&found["what"], &found["stored"]), (&json!("event"), &json!(true)));
    assert_eq!(found["event"]["id"], json!(profile.id));
    call(&relay, "blockip", json!(["192.0.2.0/24", "flood"]));
    let found = result(&relay, "lookup", json!(["192.0.2.7"]));
    assert_eq!((&found["blocked"], &found["connections"]), (&json!(true), &json!([])));
    let here = result(&relay, "lookup", json!(["127.0.0.1"]));
    assert_eq!(here["connections"].as_array().map(Vec::len), Some(1));
    assert_eq!(result(&relay, "lookup", json!(["kind:0"]))["events"], json!(1));
    let explained = result(&relay, "explain", json!([{ "kinds": [0], "authors": [bob.hex] }]));
    assert_eq!(explained["events"], json!(1));
    assert!(explained["plans"][0].as_str().is_some_and(|plan| plan.contains("author index")), "{explained}");
    for (method, wrong) in [("lookup", json!(["?"])), ("lookup", json!([])), ("explain", json!([{ "x": 1 }]))] {
        assert!(call(&relay, method, wrong.clone()).get("error").is_some(), "{method} {wrong}");
    }
}

#[test]
fn the_configuration_is_shown_with_what_differs_and_read_again_on_demand() {
    let relay = relay();
    let browser = entered(&relay);
    let value = |key: &str| {
        let all = browser.result("configuration", json!([]));
        all.as_array().expect("a list").iter().find(|one| one["key"] == key).cloned().expect("a key")
    };
    assert_eq!(value("limits.max_filters"), json!({ "key": "limits.max_filters", "value": "100" }));
    let file = relay.data().parent().expect("a directory").join("weir.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{text}\n[limits]\nmax_filters = 7\n")).expect("it is written");
    assert_eq!(browser.result("reload", json!([])), json!(true));
    relay.until(|| {
        value("limits.max_filters") == json!({ "key": "limits.max_filters", "value": "7", "default": "100" })
    });
    std::fs::write(&file, format!("{text}\n[limits]\nmax_filters = 0\n")).expect("it is written");
    let (_, refused) = browser.call("reload", json!([]));
    assert!(
        refused["error"].as_str().is_some_and(|error| error.contains("the former one stays in force")),
        "{refused}"
    );
}

#[test]
fn figures_tell_what_the_relay_does_and_what_takes_the_room() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let browser = entered(&relay);
    relay.connect().publish(&bob.note("counted"));
    relay.until(|| {
        let figures = browser.result("figures", json!(["recent", 0]));
        figures["series"]["points"].as_str().is_some_and(|points| points.contains(';'))
    });
    let figures = browser.result("figures", json!(["recent", 0]));
    assert_eq!((&figures["writable"], &figures["trouble"]), (&json!(true), &Value::Null));
    assert_eq!(figures["latencies"]["event_ok"]["count"], json!(1.0));
    let names = figures["series"]["names"].as_array().map(Vec::len);
    let first = figures["series"]["points"].as_str().and_then(|points| points.split(';').next()).expect("a point");
    assert_eq!(Some(first.split(',').count()), names);
    relay.until(|| browser.result("figures", json!([]))["events"] == json!(1.0));
    let storage = browser.result("storage", json!([]));
    assert_eq!((storage["kinds"][0][0].clone(), storage["kinds"][0][1].clone()), (json!(1), json!(1)));
}

#[test]
fn a_forecast_reads_a_few_events_for_each_request_until_it_has_read_enough() {
    let (relay, bob) = (relay(), Key::named("bob"));
    // One of six is of the last week: 50 of 300.
    let age = |number: u64| if number.is_multiple_of(6) { 3600 } else { 30 * 86_400 };
    let events = (0..300).map(|number| bob.event(1, now() - age(number), json!([]), &number.to_string()));
    relay.connect().publish_all(&events.collect::<Vec<_>>());
    let browser = entered(&relay);
    relay.until(|| browser.result("figures", json!([]))["events"] == json!(300.0));
    let told = [(); 6].map(|()| browser.result("storage", json!([]))["forecast"].clone());
    let read = told.each_ref().map(|told| (told["read"].as_u64(), told["to_read"].as_u64()));
    assert_eq!(read, [64, 128, 192, 256, 300, 300].map(|read| (Some(read), Some(300))));
    assert_eq!([&told[0]["is_sure"], &told[4]["is_sure"]], [&json!(false), &json!(true)]);
    assert_eq!(told[4], told[5], "one that is complete is kept");
    assert_eq!(told[4]["added"]["events"], json!(7.0), "50 in a week");
}
