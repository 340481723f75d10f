//! The syntax, value by value; what each key becomes; and files that want to do harm.

use std::io;

use proptest::prelude::*;

use super::{Node, Outside, SyntaxError, Translation, parse, translate};

fn variable(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/root".into())
}

fn included(name: &str) -> io::Result<String> {
    match name {
        "more" => Ok("b = 2\nc { d = 4 }".into()),
        "itself" => Ok("(include 'itself')".into()),
        "broken" => Ok("\n\n  x = @".into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn read(text: &str) -> Result<Node, SyntaxError> {
    parse("strfry.conf", text, &Outside { variable: &variable, file: &included })
}

/// The whole tree as JSON, or the error as a line.
fn json(text: &str) -> String {
    read(text).map_or_else(|error| error.to_string(), |root| root.value.to_string())
}

#[test]
fn the_syntax_is_that_of_json_with_all_its_liberties() {
    let cases = [
        ("", "{}"),
        (r#"{"a": [1, 2.5, -3, true, null, "x"]}"#, r#"{"a": [1, 2.5, -3, true, null, "x"]}"#),
        ("a = 1 b: 2, c = 3,", r#"{"a": 1, "b": 2, "c": 3}"#),
        ("# one\na = 1 // two\n/* three\n */ b = 2", r#"{"a": 1, "b": 2}"#),
        ("'a b' = 1 \"c\" = 2", r#"{"a b": 1, "c": 2}"#),
        ("a.b.c = 1 a.'x.y' = 2", r#"{"a": {"b": {"c": 1}, "x.y": 2}}"#),
        (
            "a = 0x1F b = 18446744073709551615 c = 1e3 d = .5",
            r#"{"a": 31, "b": 18446744073709551615, "c": 1000, "d": 0.5}"#,
        ),
        ("a [ 1 2, 3, ]", r#"{"a": [1, 2, 3]}"#),
        (r#"a = "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00" b = 'it\'s'"#, r#"{"a": "\"\\/\b\f\n\r\té😀", "b": "it's"}"#),
        ("a = \"\"\"\nraw \\n\n\"x\" \"\"\" b = '''y'''", r#"{"a": "raw \\n\n\"x\" ", "b": "y"}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(json(text), expected, "{text}");
    }
}

#[test]
fn sections_merge_values_add_and_the_last_assignment_wins() {
    let cases = [
        ("a { b = 1 c = 2 } a { b = 3 d = 4 }", r#"{"a": {"b": 3, "c": 2, "d": 4}}"#),
        ("a { b = 1 } a = { c = 2 }", r#"{"a": {"c": 2}}"#),
        ("a { b = 1 } a += { b += 2 }", r#"{"a": {"b": 3}}"#),
        ("a = 1 a = 2 b = 3", r#"{"a": 2, "b": 3}"#),
        ("a = 1 + 2 + 3 a += 4", r#"{"a": 10}"#),
        ("a = 'x' + 'y' a += 'z'", r#"{"a": "xyz"}"#),
        ("a = [1] + [2] a [3] a += [4]", r#"{"a": [1, 2, 3, 4]}"#),
        ("a = {b = 1} + {b = 2 c = 3}", r#"{"a": {"b": 2, "c": 3}}"#),
        ("a = 1 b = 2 a = delete", r#"{"b": 2}"#),
        ("a = delete a += 3", r#"{"a": 3}"#),
        ("a = 1 (include 'more') c.e = 5 (include? 'none')", r#"{"a": 1, "b": 2, "c": {"d": 4, "e": 5}}"#),
        ("a = (env 'HOME') b = (env? 'NONE')", r#"{"a": "/root", "b": null}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(json(text), expected, "{text}");
    }
}

#[test]
fn a_mistake_is_told_with_file_line_and_column() {
    let deep = "a = ".to_string() + &"[".repeat(65);
    let long = format!("a = '{}'", "x".repeat(300_000));
    let cases = [
        ("a", "strfry.conf:1:2: expected = after a"),
        ("a =", "strfry.conf:1:4: expected a value"),
        ("a = yes", "strfry.conf:1:5: yes is no value; quote it if it is a string"),
        ("relay {\n  port = 7777\n", "strfry.conf:3:1: the file ends within { }"),
        ("{ a = 1 } b", "strfry.conf:1:11: text after the closing brace"),
        ("a = 'x\n'", "strfry.conf:1:5: the string has no end on its line"),
        ("a = '\\q'", "strfry.conf:1:8: unknown escape"),
        ("a = '\\ud83d'", "strfry.conf:1:12: the escape is no character"),
        ("a = '\\ud83d\\u0041'", "strfry.conf:1:18: the escape is no character"),
        ("a = \"\"\"x", "strfry.conf:1:5: the string has no end"),
        ("/* a", "strfry.conf:1:1: the comment has no end"),
        ("a = 1 a.b = 2", "strfry.conf:1:10: a is a number, not an object"),
        ("a = 1 a += 'x'", "strfry.conf:1:15: cannot add a string to a number"),
        ("a = 0xg", "strfry.conf:1:5: 0xg is no number"),
        ("a = 18446744073709551616x", "strfry.conf:1:5: 18446744073709551616x is no number"),
        ("a = (b.c)", "strfry.conf:1:5: (b.c …) is not supported; write the value itself"),
        ("a = (shell 'rm')", "strfry.conf:1:5: (shell …) is not supported; write the value itself"),
        ("a = (env 'NONE')", "strfry.conf:1:5: the environment has no variable NONE"),
        ("é = 1", "strfry.conf:1:1: expected a name"),
        ("a.*.b = 1", "strfry.conf:1:3: * is not supported; name each member"),
        ("\n(include 'none')", "strfry.conf:2:1: none: entity not found"),
        ("(include 'broken')", "broken:3:7: expected a value"),
        ("(include 'itself')", "itself:1:1: files include each other more than 64 deep"),
        (&deep, "strfry.conf:1:69: values are nested more than 64 deep"),
        (&long, "strfry.conf:1:1: the files hold more than 262144 bytes"),
    ];
    for (text, expected) in cases {
        assert_eq!(json(text), expected, "{}", text.get(..40).unwrap_or(text));
    }
}

fn translated(text: &str) -> Translation {
    translate("strfry.conf", &read(text).expect("well-formed"))
}

#[test]
fn keys_with_a_counterpart_become_that_under_their_old_name() {
    let text = "relay { bind = '0.0.0.0' port = 7778 maxFilterLimit = 300 maxSubsPerConnection = 20
        auth { serviceUrl = 'wss://relay.example.com' restrictedReadKinds = '4, 1059' }
        info { name = 'A \"relay\"' contact = 'unset' pubkey = '' } }
        events.maxNumTags = 100";
    let expected = r#"# From strfry.conf, by `weir config from-strfry`. Every key that is missing here has weir's default.

[server]
# relay.bind, relay.port
listen = "0.0.0.0:7778"

[limits]
# relay.maxFilterLimit
default_limit = 300
# events.maxNumTags
max_event_tags = 100

[tiers.anonymous]
# relay.maxFilterLimit
max_limit = 300
# relay.maxSubsPerConnection
max_subscriptions = 20

[tiers.authenticated]
# relay.maxFilterLimit
max_limit = 300
# relay.maxSubsPerConnection
max_subscriptions = 20

[tiers.listed]
# relay.maxFilterLimit
max_limit = 300
# relay.maxSubsPerConnection
max_subscriptions = 20

[auth]
# relay.auth.serviceUrl
urls = ["wss://relay.example.com"]
# relay.auth.restrictedReadKinds
involved_kinds = [4, 1059]

[info]
# relay.info.name
name = "A \"relay\""
"#;
    assert_eq!(translated(text), Translation { toml: expected.into(), leftovers: Vec::new() });
}

#[test]
fn keys_without_a_counterpart_are_told_with_their_place_and_reason() {
    let translation = translated("relay {\n  nofiles = 1000000\n  novelty = { x = [1] }\n  port = 'high'\n}");
    let told = |n: usize| {
        let leftover = &translation.leftovers[n];
        (leftover.key.as_str(), leftover.value.as_str(), leftover.place.line, leftover.reason.as_str())
    };
    assert_eq!(translation.leftovers.len(), 3);
    let limits = "set LimitNOFILE in the unit; weir lowers its own limits to what it gets";
    assert_eq!(told(0), ("relay.nofiles", "1000000", 2, limits));
    assert_eq!(told(1), ("relay.novelty.x", "[1]", 3, "weir knows no such key, and strfry may not either"));
    assert_eq!(told(2), ("relay.port", "\"high\"", 4, "not carried over: expected a whole number from 0"));
    assert!(translation.toml.ends_with(&format!(
        "\n# What has no counterpart:\n#\n# line 2: relay.nofiles = 1000000\n#   {limits}\n#\n# line 3: relay.novelty.x = [1]\n\
         #   weir knows no such key, and strfry may not either\n#\n# line 4: relay.port = \"high\"\n\
         #   not carried over: expected a whole number from 0\n"
    )));
}

#[test]
fn a_proxy_is_believed_only_where_it_must_be_on_this_machine() {
    let proxies = |text: &str| {
        let translation = translated(text);
        let line = translation.toml.lines().find(|line| line.starts_with("trusted_proxies")).map(String::from);
        (line, translation.leftovers.len())
    };
    let local = Some("trusted_proxies = [\"127.0.0.0/8\", \"::1/128\"]".to_string());
    assert_eq!(proxies("relay.realIpHeader = 'x-forwarded-for'"), (local.clone(), 0));
    assert_eq!(proxies("relay.realIpHeader = 'x-real-ip'"), (local, 1));
    let nobody = Some("trusted_proxies = []".to_string());
    assert_eq!(proxies("relay { bind = '0.0.0.0' realIpHeader = 'x-forwarded-for' }"), (nobody, 1));
    assert_eq!(proxies("relay.realIpHeader = ''"), (None, 0));
}

#[test]
fn kinds_that_authentication_reveals_stay_behind_it() {
    let translation = translated("relay.auth { restrictedReadKinds = '4' restrictReadToInvolvedPubkey = false }");
    assert!(translation.toml.contains("\ninvolved_kinds = []\n") && translation.toml.contains("\nread_kinds = [4]\n"));
}

#[test]
fn values_that_weir_refuses_are_told_and_what_comes_out_is_always_taken() {
    let cases = [
        ("relay.negentropy.maxSyncEvents = 10000000", 1, "negentropy.max_records_per_address: must be between"),
        ("relay.maxWebsocketPayloadSize = 9000000", 1, "not carried over: "),
        ("relay.maxPendingOutboundBytes = 65536", 1, "server.outbox_bytes: must be at least limits.max_message_length"),
        ("relay.writePolicy { plugin = '/bin/true' timeoutSeconds = 0 }", 1, "plugin.timeout_ms: 0 is not between"),
        ("relay.auth.serviceUrl = 'https://relay.example.com'", 1, "auth.urls"),
        ("relay.maxFilterLimit = 99999999999", 1, "limits.default_limit"),
        ("dbParams.mapsize = 1000", 1, "storage.map_bytes: must be a multiple of 4096 bytes and at least 1 MiB"),
        ("dbParams.mapsize = 10000000001", 0, ""),
        // Each fits beside the other alone.
        ("relay { maxPendingOutboundBytes = 65536 maxWebsocketPayloadSize = 32768 }", 0, ""),
    ];
    for (text, left, why) in cases {
        let translation = translated(text);
        let reasons: Vec<&str> = translation.leftovers.iter().map(|leftover| leftover.reason.as_str()).collect();
        assert_eq!(reasons.len(), left, "{text}: {reasons:?}");
        assert!(reasons.iter().all(|reason| reason.contains(why)), "{text}: {reasons:?}");
        let parsed = crate::config::Config::parse("weir.toml", &translation.toml);
        assert!(parsed.is_ok(), "{text}: {:?}", parsed.err());
    }
}

/// Pieces that a file is made of, and some that it must not be made of.
const PIECES: [&str; 40] = [
    "a", "b", "relay", "port", "=", ":", "+=", "+", "{", "}", "[", "]", "(", ")", ",", ".", "1", "-1", "0x1f", "1e9",
    "'x'", "\"y\"", "\"\"\"", "'''", "\\", "\\u12", "true", "null", "delete", "env", "include", "'more'", "# c\n",
    "//", "/*", "*/", " ", "\n", "é", "\0",
];

proptest! {
    #[test]
    fn whatever_a_file_holds_it_is_read_or_refused_at_a_place_in_it(picks in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = picks.iter().map(|&n| PIECES[n]).collect();
        match read(&text) {
            Ok(root) => {
                // What was read says the same when it is written as JSON and read again.
                let again = read(&root.value.to_string()).map(|root| root.value.to_string());
                prop_assert_eq!(again, Ok(root.value.to_string()));
                let _ = translate("strfry.conf", &root);
            }
            Err(error) if error.file == "strfry.conf" => {
                let line = text.split('\n').nth(error.place.line - 1);
                prop_assert!(line.is_some_and(|line| error.place.column <= line.chars().count() + 1), "{}", error);
            }
            Err(_) => {}
        }
    }

    #[test]
    fn any_bytes_at_all_are_read_or_refused(text in "\\PC{0,80}") {
        let _ = read(&text);
    }
}
