//! What the relay publishes of its members: the list, and who was added or removed.

use serde_json::{Value, json};

use super::scene::{Asks as _, CLAIM, Scene, expect_list, join, leave, made, member};
use crate::support::wire::{Key, now};

#[test]
fn whoever_watches_is_told_who_was_added_and_who_was_removed() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    expect_list(&scene, &[]);
    let mut watcher = scene.relay.connect();
    watcher.send(json!(["REQ", "w", {"kinds": [8000, 8001, 13534], "limit": 0}]).to_string());
    watcher.expect(r#"["EOSE","w"]"#);
    let told = |watcher: &mut crate::support::client::Client<'_>, kind: u64, tags: Value| {
        let mut got: Vec<Value> = (0..2).map(|_| serde_json::from_str(&watcher.next()).expect("JSON")).collect();
        got.sort_by_key(|frame| frame[2]["kind"].as_u64());
        let event = |at: usize, kind, tags| {
            let created_at = got[at][2]["created_at"].as_u64().expect("a date");
            json!(["EVENT", "w", made(kind, created_at, tags)])
        };
        assert_eq!(got, [event(0, kind, json!([["-"], ["p", bob.hex]])), event(1, 13534, tags)]);
    };
    let mut client = scene.member(&bob);
    told(&mut watcher, 8000, json!([["-"], ["member", bob.hex]]));
    client.accepted(&leave(&bob), "info: you are no longer a member of this relay");
    told(&mut watcher, 8001, json!([["-"]]));
}

#[test]
fn an_admins_acts_are_published_too_and_what_changed_while_the_relay_was_down() {
    let (scene, [bob, carol]) = (Scene::start(), ["bob", "carol"].map(Key::named));
    expect_list(&scene, &[]);
    scene.good(&["allow", &bob.hex]);
    expect_list(&scene, &[member(&bob)]);
    scene.relay.signal("TERM");
    scene.relay.wait_for_log("the pipeline is empty");
    scene.good(&["allow", &carol.hex]);
    scene.good(&["unallow", &bob.hex]);
    let scene = scene.restart_killed("");
    expect_list(&scene, &[member(&carol)]);
    let mut client = scene.relay.connect();
    let told = |client: &mut crate::support::client::Client<'_>, kind: u64| -> Vec<Value> {
        client.stored(json!({"kinds": [kind]})).iter().map(|event| event["tags"][1][1].clone()).collect()
    };
    scene.relay.until(|| told(&mut client, 8001) == [json!(bob.hex)]);
    let mut added = told(&mut client, 8000);
    added.sort_by_key(ToString::to_string);
    let mut expected = [json!(bob.hex), json!(carol.hex)];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(added, expected);
}

#[test]
fn a_storm_of_requests_ends_in_one_list_of_all_who_joined() {
    let scene = Scene::start();
    let keys: Vec<Key> = (0..40).map(|number| Key::named(&format!("member {number}"))).collect();
    std::thread::scope(|scope| {
        for some in keys.chunks(10) {
            let scene = &scene;
            scope.spawn(move || {
                let mut client = scene.relay.connect();
                for key in some {
                    let request = key.event(28934, now(), json!([["claim", CLAIM]]), "");
                    client.accepted(&request, "info: welcome to weir");
                    client.publish(&key.note("a member at once"));
                }
            });
        }
    });
    let members: Vec<Value> = keys.iter().map(member).collect();
    expect_list(&scene, &members);
    let scene = scene.restart_killed("");
    expect_list(&scene, &members);
}

#[test]
fn a_relay_that_is_killed_in_a_storm_of_requests_keeps_each_member_that_it_welcomed_and_lists_them() {
    let scene = Scene::start();
    let welcomed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (scene, welcomed) = (&scene, &welcomed);
            scope.spawn(move || {
                let mut client = scene.relay.connect();
                for number in 0.. {
                    let key = Key::named(&format!("{thread} {number}"));
                    let request = key.event(28934, now(), json!([["claim", CLAIM]]), "");
                    let Some(answer) = client.try_ask(request.message()) else { return };
                    assert_eq!(answer, format!(r#"["OK","{}",true,"info: welcome to weir"]"#, request.id));
                    welcomed.lock().expect("no panic").push(key);
                }
            });
        }
        scene.relay.until(|| welcomed.lock().expect("no panic").len() >= 30);
        scene.relay.signal("KILL");
    });
    let scene = scene.restart_killed("");
    let allowed = scene.good(&["allow"]);
    let kept: Vec<&str> = allowed.lines().filter_map(|line| line.strip_prefix("key:")?.get(..64)).collect();
    for key in welcomed.lock().expect("no panic").iter() {
        assert!(kept.contains(&key.hex.as_str()), "{} was welcomed", key.hex);
    }
    let members: Vec<Value> = kept.iter().map(|key| json!(["member", key])).collect();
    expect_list(&scene, &members);
}

#[test]
fn a_list_that_could_not_be_stored_is_published_once_there_is_room() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    expect_list(&scene, &[]);
    let full = "members_invite = false\n[storage]\nmax_bytes = 1";
    scene.relay.reload(&super::scene::config(full));
    scene.relay.wait_for_log("the configuration was reloaded");
    scene.client(&bob).accepted(&join(&bob, CLAIM), "info: welcome to weir");
    scene.relay.wait_for_log("the list of members could not be published");
    scene.relay.reload(&super::scene::config(""));
    expect_list(&scene, &[member(&bob)]);
}
