//! Requests to join and to leave, good and bad.

use serde_json::json;

use super::scene::{Asks as _, CLAIM, STRANGER, Scene, expect_list, join, leave, member, own};
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

#[test]
fn a_key_joins_with_a_claim_publishes_and_leaves() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    let mut client = scene.client(&bob);
    client.refused(&bob.note("before"), STRANGER);
    client.accepted(&join(&bob, CLAIM), "info: welcome to weir");
    client.publish(&bob.note("a member"));
    expect_list(&scene, &[member(&bob)]);
    let again = bob.event(28934, now() - 60, json!([["-"], ["claim", "whatever"]]), "");
    client.accepted(&again, "duplicate: you are already a member of this relay");
    client.accepted(&leave(&bob), "info: you are no longer a member of this relay");
    client.refused(&bob.note("after"), STRANGER);
    expect_list(&scene, &[]);
    let again = bob.event(28936, now() - 60, json!([["-"]]), "");
    client.accepted(&again, "duplicate: you are not a member of this relay");
    assert_eq!(scene.relay.metric("weir_events_total{outcome=\"request\"}"), 4);
}

#[test]
fn a_request_that_is_wrong_in_one_thing_is_refused_and_changes_nothing() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    let mut client = scene.client(&bob);
    let claim = json!([["-"], ["claim", CLAIM]]);
    let (early, late) = (now() - 400, now() + 400);
    let window = "restricted: created_at of the request is more than 300 s from now";
    let invalid_code = "restricted: that is an invalid invite code";
    for (request, why) in [
        (join(&bob, "open sesam"), invalid_code),
        (join(&bob, ""), invalid_code),
        (join(&bob, &"ab".repeat(16)), invalid_code),
        (join(&bob, &"x".repeat(5000)), invalid_code),
        (bob.event(28934, early, claim.clone(), ""), window),
        (bob.event(28934, late, claim.clone(), ""), window),
        (bob.event(28934, now(), json!([["-"]]), ""), "invalid: a request to join must have a claim tag"),
        (bob.event(28934, now(), json!([["-"], ["claim"]]), ""), "invalid: a request to join must have a claim tag"),
        (bob.event(28936, now(), json!([]), ""), "invalid: a request to leave must have a \"-\" tag"),
        (join(&Key::named("carol"), CLAIM), "restricted: this event may only be published by its author"),
    ] {
        client.refused(&request, why);
    }
    let good = join(&bob, CLAIM);
    let sig = good.text.split("\"sig\":\"").nth(1).and_then(|rest| rest.get(..128)).expect("a signature").to_owned();
    let unsigned = good.with(&sig, &"0".repeat(128));
    client.refused(&unsigned, "invalid: the signature is wrong");
    client.refused(&bob.note("still a stranger"), STRANGER);
    expect_list(&scene, &[]);
    client.accepted(&good, "info: welcome to weir");
}

#[test]
fn a_protected_request_is_taken_from_its_author_alone() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    let mut client = scene.relay.connect_unchallenged();
    let request = join(&bob, CLAIM);
    client.send(request.message());
    client.take_challenge();
    client.expect(&request.refused("auth-required: this event may only be published by its author"));
    client.authenticate(&bob);
    client.accepted(&request, "info: welcome to weir");
    client.publish(&bob.note("a member"));
}

#[test]
fn a_request_that_was_carried_out_is_not_taken_again_even_after_a_restart() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    // Without the tag that protects it, anybody may send it.
    let request = bob.event(28934, now(), json!([["claim", CLAIM]]), "");
    let mut stranger = scene.relay.connect();
    stranger.accepted(&request, "info: welcome to weir");
    scene.client(&bob).accepted(&leave(&bob), "info: you are no longer a member of this relay");
    let why = "restricted: this request was used before; sign a new one";
    stranger.refused(&request, why);
    drop(stranger);
    let scene = scene.restart_killed("");
    scene.relay.connect().refused(&request, why);
    scene.client(&bob).refused(&bob.note("no member"), STRANGER);
    expect_list(&scene, &[]);
}

#[test]
fn a_banned_key_does_not_join_and_a_ban_ends_a_membership() {
    let (scene, bob, carol) = (Scene::start(), Key::named("bob"), Key::named("carol"));
    let mut client = scene.member(&carol);
    expect_list(&scene, &[member(&carol)]);
    scene.good(&["ban", &bob.hex, &carol.hex]);
    assert_eq!(client.closing_code(), 1008);
    expect_list(&scene, &[]);
    for key in [&bob, &carol] {
        let mut client = scene.client(key);
        client.refused(&join(key, CLAIM), "blocked: the author is not welcome here");
        client.refused(&key.note("hello"), "blocked: the author is not welcome here");
    }
}

#[test]
fn nobody_sees_a_request() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    let mut watcher = scene.relay.connect();
    watcher.send(r#"["REQ","all",{"kinds":[1,28934,28936]}]"#);
    watcher.expect(r#"["EOSE","all"]"#);
    let mut client = scene.member(&bob);
    let note = bob.note("hello");
    client.publish(&note);
    watcher.expect(&note.frame("all"));
}

#[test]
fn wallets_and_remote_signers_reach_members_and_nobody_else() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    let mut member = scene.member(&bob);
    let (wallet, stranger) = (Key::named("wallet"), Key::named("stranger"));
    member.send(json!(["REQ", "w", {"#p": [bob.hex]}]).to_string());
    member.expect(r#"["EOSE","w"]"#);
    let mut client = scene.relay.connect();
    for kind in [23194, 23195, 24133, 9735, 1059] {
        let event = wallet.event(kind, now(), json!([["p", bob.hex]]), "");
        client.publish(&event);
        member.expect(&event.frame("w"));
        let lost = wallet.event(kind, now(), json!([["p", stranger.hex]]), "");
        client.refused(&lost, STRANGER);
    }
}

#[test]
fn a_key_of_the_configuration_is_a_member_that_does_not_leave_by_request() {
    let (bob, dir) = (Key::named("bob"), tempfile::tempdir().expect("a directory"));
    std::fs::write(dir.path().join("relay.key"), "07".repeat(32)).expect("a key");
    let lines = format!("[membership]\nkey_file = \"relay.key\"\n[access]\nallow_pubkeys = [\"{}\"]\n", bob.hex);
    let relay = Relay::start_in(dir.path(), &lines);
    let mut client = relay.connect();
    client.authenticate(&bob);
    client.publish(&bob.note("hello"));
    client.accepted(&join(&bob, "whatever"), "duplicate: you are already a member of this relay");
    client.refused(&leave(&bob), "restricted: your key is in the relay's configuration; ask its operator");
}

#[test]
fn members_outlive_a_kill_and_the_document_says_what_is_served() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    drop(scene.member(&bob));
    let scene = scene.restart_killed("");
    scene.client(&bob).publish(&bob.note("still a member"));
    expect_list(&scene, &[member(&bob)]);
    let document = scene.document();
    assert_eq!(document["self"], own().hex);
    assert!(document["supported_nips"].as_array().expect("a list").contains(&json!(43)));
    assert_eq!(document["limitation"]["restricted_writes"], true);
    scene.relay.reload("");
    scene.relay.wait_for_log("the configuration was reloaded");
    let document = scene.document();
    assert_eq!(document["self"], json!(null));
    assert!(!document["supported_nips"].as_array().expect("a list").contains(&json!(43)));
    let stranger = Key::named("stranger");
    scene.client(&stranger).publish(&stranger.note("everybody may publish"));
}
