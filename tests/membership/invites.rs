//! Invites: made by a command or for a member who asks, used up, expired, revoked.

use serde_json::{Value, json};

use super::scene::{Asks as _, CLAIM, STRANGER, Scene, expect_list, join, leave, made, member};
use crate::support::client::Client;
use crate::support::wire::{Key, now, wait_until};

const INVALID: &str = "restricted: that is an invalid invite code";

#[test]
fn an_invite_of_a_command_is_used_up_and_its_acts_can_be_undone() {
    let (scene, [bob, carol, dave]) = (Scene::start(), ["bob", "carol", "dave"].map(Key::named));
    let code = scene.good(&["invite", "--uses", "2", "--reason", "the meetup"]);
    assert_eq!(code.len(), 32, "{code}");
    let mut clients = [&bob, &carol, &dave].map(|key| scene.client(key));
    clients[0].accepted(&join(&bob, &code), "info: welcome to weir");
    let uid = rustix::process::getuid().as_raw();
    let listed = scene.good(&["invite", "--list"]);
    assert!(listed.starts_with(&format!("{code}  1 uses until ")), "{listed}");
    assert!(listed.ends_with(&format!(" by uid:{uid}")), "{listed}");
    clients[1].accepted(&join(&carol, &code), "info: welcome to weir");
    clients[2].refused(&join(&dave, &code), INVALID);
    assert_eq!(scene.good(&["invite", "--list"]), "");
    expect_list(&scene, &[member(&bob), member(&carol)]);
    let allowed = scene.good(&["allow"]);
    for key in [&bob, &carol] {
        assert!(allowed.contains(&format!("key:{}  joined, invited by uid:{uid}", key.hex)), "{allowed}");
    }
    // The acts: the invite, and for each who joined a use of it and a membership.
    let acts = scene.good(&["audit", "--json"]);
    let methods: Vec<(String, Value)> = acts
        .lines()
        .rev()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|act| (act["method"].as_str().expect("a word").into(), act["by"].clone()))
        .collect();
    let by = |who: &str, method: &str| (method.to_owned(), json!(who));
    let operator = format!("uid:{uid}");
    let joined = [by(&bob.hex, "join"), by(&bob.hex, "join"), by(&carol.hex, "join"), by(&carol.hex, "join")];
    assert_eq!(methods, [[by(&operator, "invite")].as_slice(), &joined].concat());
    assert_eq!(scene.good(&["audit", "--undo", "3"]), "");
    clients[0].refused(&bob.note("no member"), STRANGER);
    expect_list(&scene, &[member(&carol)]);
    assert_eq!(scene.good(&["audit", "--undo", "4"]), "", "the last use of the invite is back");
    clients[2].accepted(&join(&dave, &code), "info: welcome to weir");
}

#[test]
fn an_invite_that_expired_or_was_revoked_lets_nobody_in() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    let mut client = scene.client(&bob);
    let (short, revoked) = (scene.good(&["invite", "--expires", "1s"]), scene.good(&["invite"]));
    scene.good(&["invite", "--revoke", &revoked]);
    client.refused(&join(&bob, &revoked), INVALID);
    wait_until(now() + 3);
    client.refused(&join(&bob, &short), "restricted: that invite code is expired");
    assert_eq!(scene.good(&["invite", "--list"]), "");
    for (arguments, why) in [
        (["invite", "--uses", "0"], "params[0]: is not a number of uses from 1 to 100000"),
        (["invite", "--expires", "11000w"], "params[1]: is not a number of seconds up to ten years"),
        (["invite", "--revoke", "abc"], "params[0]: is not a code of 32 hex digits"),
    ] {
        let (code, _, said) = scene.run(&arguments);
        assert_eq!((code, said.trim_end()), (Some(1), &*format!("weir: {why}")));
    }
}

#[test]
fn invites_are_made_while_the_relay_does_not_run_and_not_without_a_key() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    scene.relay.signal("TERM");
    scene.relay.wait_for_log("the pipeline is empty");
    let code = scene.good(&["invite"]);
    let scene = scene.restart_killed("");
    let mut client = scene.client(&bob);
    client.accepted(&join(&bob, &code), "info: welcome to weir");
    drop(client);
    scene.relay.reload("");
    scene.relay.wait_for_log("the configuration was reloaded");
    let (exit, _, said) = scene.run(&["invite"]);
    assert_eq!((exit, said.trim_end()), (Some(1), "weir: invite needs membership.key_file in the configuration"));
}

/// Asks for an invite; its code.
#[track_caller]
fn ask(client: &mut Client<'_>) -> String {
    client.send(r#"["REQ","i",{"kinds":[28935]}]"#);
    let frame: Value = serde_json::from_str(&client.next()).expect("JSON");
    client.expect(r#"["EOSE","i"]"#);
    client.send(r#"["CLOSE","i"]"#);
    let code = frame[2]["tags"][1][1].as_str().unwrap_or_else(|| panic!("a code in {frame}")).to_owned();
    let created_at = frame[2]["created_at"].as_u64().expect("a date");
    assert!(created_at.abs_diff(now()) <= 5, "{frame}");
    assert_eq!(frame, json!(["EVENT", "i", made(28935, created_at, json!([["-"], ["claim", code]]))]));
    code
}

#[test]
fn a_member_who_asks_gets_an_invite_before_its_query_ends_and_others_get_none() {
    let (scene, [bob, carol]) = (Scene::start_with("members_invite = true"), ["bob", "carol"].map(Key::named));
    let mut stranger = scene.relay.connect_unchallenged();
    stranger.send(r#"["REQ","i",{"kinds":[28935]}]"#);
    stranger.take_challenge();
    stranger.expect(r#"["CLOSED","i","auth-required: only members of this relay get invites"]"#);
    let mut client = scene.client(&carol);
    client.ask(
        r#"["REQ","i",{"kinds":[28935]}]"#,
        r#"["CLOSED","i","restricted: only members of this relay get invites"]"#,
    );
    client.ask(r#"["REQ","i",{"kinds":[1,28935]}]"#, r#"["EOSE","i"]"#);
    let mut inviter = scene.member(&bob);
    let code = ask(&mut inviter);
    assert_eq!(ask(&mut inviter), code, "one is good at a time");
    client.accepted(&join(&carol, &code), "info: welcome to weir");
    let next = ask(&mut inviter);
    assert_ne!(next, code);
    assert!(scene.good(&["allow"]).contains(&format!("joined, invited by {}", bob.hex)));
    inviter.accepted(&leave(&bob), "info: you are no longer a member of this relay");
    inviter.ask(
        r#"["REQ","i",{"kinds":[28935]}]"#,
        r#"["CLOSED","i","restricted: only members of this relay get invites"]"#,
    );
}

#[test]
fn members_invite_nobody_unless_the_operator_says_so() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    let mut client = scene.member(&bob);
    client.ask(r#"["REQ","i",{"kinds":[28935]}]"#, r#"["EOSE","i"]"#);
    assert_eq!(scene.good(&["invite", "--list"]), "");
}

#[test]
fn whoever_tries_codes_is_closed_like_others_who_are_refused_over_and_over() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("relay.key"), "07".repeat(32)).expect("a key");
    let config = "[membership]\nkey_file = \"relay.key\"\n[rates]\nexempt_addresses = []\n\
                  [policy.offenders]\noffences = 5\n";
    let relay = crate::support::relay::Relay::start_in(dir.path(), config);
    let mallory = Key::named("mallory");
    let mut client = relay.connect();
    client.authenticate(&mallory);
    let mut refused = 0;
    while let Some(answer) = client.try_ask(join(&mallory, &format!("guess {refused} {CLAIM}")).message()) {
        assert!(answer.ends_with(&format!("{INVALID}\"]")), "{answer}");
        refused += 1;
        assert!(refused < 100, "nobody stops it");
    }
}
