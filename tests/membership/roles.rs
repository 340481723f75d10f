//! Roles: the methods of NIP-86, and what is published of them.

use serde_json::{Value, json};

use super::scene::{Asks as _, Scene, expect_list, made, member};
use crate::support::wire::Key;

/// Calls a method through the local socket; its result as text, or its error.
fn call(scene: &Scene, method: &str, params: &[&str]) -> Result<String, String> {
    let (code, out, err) = scene.run(&[&["manage", method], params].concat());
    if code == Some(0) { Ok(out.trim_end().into()) } else { Err(err.trim_end().replacen("weir: ", "", 1)) }
}

/// The roles that are stored, once there are `count` of them, by id; each must be whole.
fn roles(scene: &Scene, count: usize) -> Vec<Value> {
    let mut client = scene.relay.connect();
    let mut stored = Vec::new();
    scene.relay.until(|| {
        stored = client.stored(json!({"kinds": [33534]}));
        stored.len() == count
    });
    for event in &stored {
        assert_eq!(*event, made(33534, event["created_at"].as_u64().expect("a date"), event["tags"].clone()));
    }
    let mut tags: Vec<Value> = stored.iter().map(|event| event["tags"].clone()).collect();
    tags.sort_by_key(ToString::to_string);
    tags
}

#[test]
fn roles_are_made_given_shown_and_taken() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    drop(scene.member(&bob));
    let done = Ok("true".to_owned());
    assert_eq!(call(&scene, "createrole", &["28b7e50f", "king", "ruler of the relay", "37", "1"]), done);
    assert_eq!(call(&scene, "createrole", &["guest"]), done);
    let king = json!([
        ["-"],
        ["d", "28b7e50f"],
        ["label", "king"],
        ["description", "ruler of the relay"],
        ["color", "37"],
        ["order", "1"],
    ]);
    assert_eq!(roles(&scene, 2), [king, json!([["-"], ["d", "guest"]])]);
    assert_eq!(call(&scene, "assignrole", &[&bob.hex, "guest"]), done);
    assert_eq!(call(&scene, "assignrole", &[&bob.hex, "28b7e50f"]), done);
    expect_list(&scene, &[json!(["member", bob.hex, "28b7e50f", "guest"])]);
    assert_eq!(call(&scene, "editrole", &["28b7e50f", "queen", "", "300", "\"-2\""]), done);
    scene.relay.until(|| {
        roles(&scene, 2)[0] == json!([["-"], ["d", "28b7e50f"], ["label", "queen"], ["color", "300"], ["order", "-2"]])
    });
    assert_eq!(call(&scene, "unassignrole", &[&bob.hex, "guest"]), done);
    expect_list(&scene, &[json!(["member", bob.hex, "28b7e50f"])]);
    assert_eq!(call(&scene, "deleterole", &["28b7e50f"]), done);
    expect_list(&scene, &[member(&bob)]);
    assert_eq!(roles(&scene, 1), [json!([["-"], ["d", "guest"]])]);
    assert_eq!(call(&scene, "createrole", &["28b7e50f"]), done);
    roles(&scene, 2);
    expect_list(&scene, &[member(&bob)]);
    let scene = scene.restart_killed("");
    roles(&scene, 2);
    expect_list(&scene, &[member(&bob)]);
}

#[test]
fn wrong_parameters_change_no_role() {
    let (scene, bob) = (Scene::start(), Key::named("bob"));
    assert_eq!(call(&scene, "createrole", &["king"]), Ok("true".into()));
    for (method, params, why) in [
        ("createrole", vec!["king", "other"], "params[0]: there is such a role; use editrole"),
        ("createrole", vec!["a b"], "params[0]: is not a role's id: 1 to 32 letters, digits, -, _ or ."),
        ("createrole", vec!["x", "l", "d", "361"], "params[3]: is not a hue from 0 to 360"),
        ("createrole", vec!["x", "l", "d", "\"-1\""], "params[3]: is not a hue from 0 to 360"),
        ("createrole", vec!["x", "l", "d", "1", "1.5"], "params[4]: is not a whole number"),
        ("editrole", vec!["queen"], "params[0]: there is no such role"),
        ("deleterole", vec!["queen"], "params[0]: there is no such role"),
        ("assignrole", vec![&bob.hex, "queen"], "params[1]: there is no such role"),
        ("assignrole", vec!["bob", "king"], "params[0]: is not a public key of 64 hex digits"),
    ] {
        assert_eq!(call(&scene, method, &params), Err(why.to_owned()), "{method} {params:?}");
    }
    assert_eq!(roles(&scene, 1), [json!([["-"], ["d", "king"]])]);
}

#[test]
fn the_methods_are_named_only_where_there_are_members() {
    let scene = Scene::start();
    let named = |scene: &Scene| call(scene, "supportedmethods", &[]).expect("a list");
    let methods = ["createrole", "editrole", "deleterole", "assignrole", "unassignrole", "invite"];
    assert!(methods.iter().all(|method| named(&scene).contains(&format!("\"{method}\""))));
    scene.relay.reload("");
    scene.relay.wait_for_log("the configuration was reloaded");
    assert!(methods.iter().all(|method| !named(&scene).contains(&format!("\"{method}\""))));
    let why = "createrole needs membership.key_file in the configuration";
    assert_eq!(call(&scene, "createrole", &["king"]), Err(why.into()));
}

#[test]
fn members_invites_roles_and_bans_are_counted_by_what_they_are_about_and_after_a_restart_too() {
    let (scene, [bob, carol, eve]) = (Scene::start(), ["bob", "carol", "eve"].map(Key::named));
    let counted = |scene: &Scene| {
        let (_, page) = scene.relay.watch("/metrics");
        let lines = page.lines().filter_map(|line| line.strip_prefix("weir_decisions{about=\""));
        let mut counted: Vec<String> = lines.map(|line| line.replace("\"}", "")).collect();
        counted.sort();
        counted
    };
    let expected = |numbers: [u8; 8]| {
        let subjects =
            ["address", "allowed-key", "banned-key", "event", "invite", "kind", "role", "role-holder"].into_iter();
        subjects.zip(numbers).map(|(about, number)| format!("{about} {number}")).collect::<Vec<_>>()
    };
    assert_eq!(counted(&scene), expected([0; 8]));
    drop(scene.member(&bob));
    scene.good(&["allow", &carol.hex]);
    let event = format!("event:{}", bob.note("bad").id);
    scene.good(&["ban", &eve.hex, "192.0.2.7", "198.51.100.0/24", "kind:1984", "kind:7", &event]);
    let unused = scene.good(&["invite"]);
    scene.good(&["invite", "--uses", "3"]);
    for (method, params) in [("createrole", &["guest"][..]), ("assignrole", &[&bob.hex, "guest"])] {
        assert_eq!(call(&scene, method, params).as_deref(), Ok("true"));
    }
    assert_eq!(counted(&scene), expected([2, 2, 1, 1, 2, 2, 1, 1]));
    scene.good(&["invite", "--revoke", &unused]);
    scene.good(&["unban", "192.0.2.7"]);
    scene.good(&["allow", &eve.hex]);
    let after = expected([1, 3, 0, 1, 1, 2, 1, 1]);
    assert_eq!(counted(&scene), after);
    let scene = scene.restart_killed("");
    assert_eq!(counted(&scene), after);
}
