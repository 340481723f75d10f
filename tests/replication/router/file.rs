//! The file of strfry's router: what is understood, and how mistakes are told.

use crate::replication::scene::{Home, Ran};

/// Checks a file with this text.
fn check(text: &str) -> Ran {
    let home = Home::with(&[]);
    std::fs::write(home.path("router.conf"), text).expect("the disk is good");
    let ran = home.command(&["router", "--check"]).arg("router.conf").current_dir(home.path("")).output();
    ran.expect("it runs").into()
}

#[test]
fn a_file_of_strfrys_is_understood() {
    let ran = check(
        r#"
        connectionTimeout = 20   # seconds
        verbose = true
        streams {
            profiles {
                dir = "down"
                filter = { "kinds": [0, 3] }
                urls = [
                    "wss://relay.example.com",
                    "ws://127.0.0.1:7777"   // another
                ]
                pluginDown = ""
            }
            all { dir: "both", urls: [ "relay.example.net" ], retries = 5, filter { limit: 10 } }
        }
        "#,
    );
    let said = "\
warning: router.conf:14:63: streams.all.retries: unknown key, ignored
warning: router.conf:14:76: streams.all.filter.limit: ignored: a stream has no end
profiles: down wss://relay.example.com {\"kinds\":[0,3]}
profiles: down ws://127.0.0.1:7777 {\"kinds\":[0,3]}
all: both relay.example.net {}
a relay has 20 s for an answer
the streams are valid
";
    assert_eq!(ran.good().out, said);
}

#[test]
fn every_mistake_is_told_with_its_place_and_key() {
    let ran = check(
        r#"connectionTimeout = 0
streams {
  a { dir = "sideways" urls = [] }
  b { urls = [ "https://relay.example.com" ] dir = up filter = {} }
}"#,
    );
    ran.failed("router.conf:4:52: up is no value; quote it if it is a string");
    let ran = check(
        r#"connectionTimeout = 0
streams {
  a { dir = "sideways" urls = [] }
  b { urls = [ "https://relay.example.com", 5 ] dir = "up" filter = [] }
  c { }
  "d e" { dir = "up" urls = [ "wss://relay" "wss://relay/" "https://x" ] filter = { kinds: "all" } }
  e = 5
  f { dir = "up" urls = [ "wss://relay" ] pluginUp = "/bin/up" pluginDown = "/bin/down" }
}"#,
    );
    let lines = [
        "router.conf:1:1: connectionTimeout: 0 is not between 1 and 3600",
        "router.conf:3:7: streams.a.dir: \"sideways\" is not down, up or both",
        "router.conf:4:45: streams.b.urls: holds a number, not a string",
        "router.conf:4:60: streams.b.filter: is an array, not an object",
        "router.conf:5:3: streams.c.dir: is missing",
        "router.conf:5:3: streams.c.urls: is missing",
        "router.conf:6:3: streams.d e: \"d e\" is no name: up to 64 letters, digits, _, - and .",
        "router.conf:6:22: streams.d e.urls: wss://relay is there twice",
        "router.conf:6:22: streams.d e.urls: \"https://x\" is not the URL of a relay",
        "router.conf:6:74: streams.d e.filter: ",
        "router.conf:7:3: streams.e: is a number, not an object",
        "router.conf:8:43: streams.f.pluginUp: nothing judges what is sent",
        "router.conf:8:64: streams.f.pluginDown: streams have no plugins of their own",
    ];
    for line in lines {
        assert!(ran.err.contains(line), "{line:?} in {}", ran.err);
    }
    assert_eq!((ran.code, ran.err.lines().count()), (Some(1), lines.len()), "{}", ran.err);
}

#[test]
fn a_name_that_two_streams_have_is_told_with_both_places() {
    let stream = "{ dir = \"down\" urls = [ \"wss://relay\" ] }";
    for text in [
        format!("streams {{\n  a {stream}\n  b {stream}\n  a {stream}\n}}"),
        format!("streams {{\n  a {stream}\n}}\nstreams {{\n  a {stream}\n}}"),
        format!("streams {{\n  a = {stream}\n  b {stream}\n  a = {stream}\n}}"),
    ] {
        check(&text).failed("streams.a: another stream of this name begins in line 2");
    }
    check(&format!("streams {{\n  a {stream}\n  b {stream}\n  a {stream}\n}}")).failed("router.conf:4:3: streams.a: ");
}

#[test]
fn numbers_that_are_too_large_are_told_with_their_key() {
    let of =
        |filter: &str| format!("streams {{ a {{ dir = \"down\" urls = [\"wss://r\"] filter = {{ {filter} }} }} }}");
    let huge = "99999999999999999999";
    for (text, why) in [
        (
            format!("connectionTimeout = {huge}"),
            "1:1: connectionTimeout: 100000000000000000000 is no whole number between",
        ),
        ("connectionTimeout = 1.5".into(), "1:1: connectionTimeout: 1.5 is no whole number between 1 and 3600"),
        (of(&format!("since: {huge}")), "1:58: streams.a.filter.since: 100000000000000000000 is no whole number"),
        (of("until: -5"), "1:58: streams.a.filter.until: -5 is no whole number between 0 and 18446744073709551615"),
        (of("kinds: [1, 70000]"), "1:58: streams.a.filter.kinds: 70000 is no whole number between 0 and 65535"),
    ] {
        check(&text).failed(&format!("router.conf:{why}"));
    }
}

#[test]
fn hostile_files_are_refused_soon() {
    let deep = format!("streams {{ a {{ filter = {} }} }}", "{ a: ".repeat(1_000));
    let wide = format!("streams {{ a {{ dir = \"down\" urls = [ {} ] }} }}", "\"wss://relay\" ".repeat(30_000));
    let many: String = (0..300).map(|n| format!("\"wss://relay{n}.example\" ")).collect();
    for (text, why) in [
        (deep.as_str(), "nested more than 64 deep"),
        (&wide, "the files hold more than 262144 bytes"),
        (&format!("streams {{ a {{ dir = \"down\" urls = [ {many} ] }} }}"), "300 URLs together; 256 is the most"),
        ("(include 'router.conf')", "include each other more than 64 deep"),
        (
            "streams { a { dir = \"down\" urls = [\"wss://relay\"] filter = { \"limit\": null, \"since\": 1e999 } } }",
            "",
        ),
        ("streams = 5", "streams: is a number, not an object"),
        ("streams { a", "expected = after a"),
    ] {
        check(text).failed(why);
    }
}

#[test]
fn a_file_without_end_is_refused_and_a_negative_time_named() {
    let home = Home::with(&[]);
    let ran = home.command(&["router", "--check", "/dev/zero"]).output().expect("it runs");
    Ran::from(ran).failed("the files hold more than 262144 bytes");
    check("connectionTimeout = -5").failed("router.conf:1:1: connectionTimeout: -5 is not between 1 and 3600");
}

#[test]
fn a_key_that_others_may_read_is_refused_before_anything_runs() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::with(&[]);
    let file = home.path("router.conf");
    std::fs::write(&file, "streams { a { dir = \"down\" urls = [\"ws://127.0.0.1:1\"] } }").expect("the disk is good");
    let key = crate::replication::scene::key_file(&home, &"07".repeat(32));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    let ran = home.command(&["router", "--key", &key]).arg(&file).output().expect("it runs");
    Ran::from(ran).failed("others may read the key in ");
}
