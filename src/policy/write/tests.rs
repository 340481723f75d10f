//! Tests of the checks on published events.

use std::sync::Arc;

use super::super::list_file::KeyFile;
use super::super::moderation::{Moderation, Ruling};
use super::super::retention::{Limits as RetentionLimits, Retention};
use super::super::sets::KindSet;
use super::super::settings::Audience;
use super::super::testing::{AUTHOR, NOW, event, event_at, said};
use super::super::urls::RelayUrl;
use super::*;
use crate::nostr::{Event, Pubkey, hex};
use crate::schnorr::SigningKey;

fn nobody() -> Peer {
    Peer::new([192, 0, 2, 7].into())
}

fn with_key(key: [u8; 32]) -> Peer {
    let mut peer = nobody();
    peer.authenticate(Pubkey(key)).expect("room for a key");
    peer
}

fn check(settings: &Settings, peer: &Peer, event: &Event) -> String {
    let checked = check_event(settings, peer, event.view(), Timestamp(NOW));
    said(checked.map(drop).map_err(|refusal| refusal.reason))
}

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

/// Another relay stores and broadcasts kind 22242.
#[test]
fn seals_and_events_for_authentication_are_refused_unless_the_operator_says_otherwise_and_auth_always() {
    let with = |settings: &Settings, kind| check(settings, &with_key(AUTHOR), &event(kind, "[]", r#""""#));
    let open = settings(|s| s.policy.private_kinds = KindSet::default());
    for kind in [22242, 24242, 27235] {
        let text = format!("invalid: kind {kind} is for authentication and must not be published");
        assert_eq!(with(&Settings::default(), kind), text);
        assert_eq!(with(&open, kind), if kind == 22242 { text } else { String::new() });
    }
    let seal = "invalid: kind 13 is a seal, which is sent inside a gift wrap and never published";
    assert_eq!([with(&Settings::default(), 13), with(&open, 13)], [seal, ""]);
}

#[test]
fn refusals_of_size_state_the_limit_and_content_counts_characters() {
    let note = event(1, r#"[["t","a"],["t","b"]]"#, r#""ééé""#);
    let with = |change: fn(&mut Settings)| check(&settings(change), &nobody(), &note);
    assert_eq!(with(|s| s.limits.max_event_tags = 2), "");
    assert_eq!(with(|s| s.limits.max_event_tags = 1), "invalid: too many tags: 2, the limit is 1");
    assert_eq!(with(|s| s.limits.max_content_length = 3), "");
    let text = "invalid: content is too long: 3 characters, the limit is 2";
    assert_eq!(with(|s| s.limits.max_content_length = 2), text);
    let len = note.view().record().len();
    let text = format!("invalid: the event is too large: {len} bytes, the limit is 99");
    assert_eq!(with(|s| s.tiers.anonymous.max_event_bytes = 99), text);
}

#[test]
fn a_follow_list_of_ten_thousand_and_a_note_of_200_kb_are_accepted() {
    let tags: Vec<String> = (0..10_000).map(|n| format!(r#"["p","{n:064x}"]"#)).collect();
    let list = event(3, &format!("[{}]", tags.join(",")), r#""""#);
    assert_eq!(check(&Settings::default(), &nobody(), &list), "");
    let note = event(30023, "[]", &format!("\"{}\"", "x".repeat(203_000)));
    assert_eq!(check(&Settings::default(), &nobody(), &note), "");
}

#[test]
fn created_at_lies_in_its_window() {
    let settings = settings(|s| s.limits.created_at_lower_limit = 1_000);
    let at = |created_at, kind| check(&settings, &nobody(), &event_at(created_at, kind, "[]", r#""""#));
    assert_eq!([at(NOW + 900, 1), at(NOW - 1_000, 1)], [String::new(), String::new()]);
    assert_eq!(at(NOW + 901, 1), "invalid: created_at is more than 900 s in the future");
    assert_eq!(at(NOW - 1_001, 1), "invalid: created_at is more than 1000 s ago");
    assert_eq!(at(NOW - 300, 20_001), "");
    assert_eq!(at(NOW - 301, 20_001), "invalid: created_at of an ephemeral event is more than 300 s ago");
    assert_eq!(at(NOW - 172_800, 21059), "", "NIP-59 dates gift wraps up to two days back");
    let default = check(&Settings::default(), &nobody(), &event_at(1, 1, "[]", r#""""#));
    assert_eq!(default, "", "without a lower limit any age is accepted");
}

#[test]
fn an_expired_event_is_refused_unless_it_is_ephemeral() {
    let at = |kind, expiration: u64| {
        check(&Settings::default(), &nobody(), &event(kind, &format!(r#"[["expiration","{expiration}"]]"#), r#""""#))
    };
    assert_eq!(at(1, NOW), "invalid: the event is expired");
    assert_eq!([at(1, NOW + 1), at(20_001, NOW)], [String::new(), String::new()]);
}

#[test]
fn kinds_and_authors_are_refused_by_the_operators_lists() {
    let note = event(1, "[]", r#""""#);
    let with = |change: fn(&mut Settings)| check(&settings(change), &nobody(), &note);
    let kind = "blocked: kind 1 is not accepted here";
    assert_eq!(with(|s| s.access.deny_kinds = KindSet::of(&[1])), kind);
    assert_eq!(with(|s| s.access.allow_kinds = KindSet::of(&[7])), kind);
    assert_eq!(with(|s| s.access.allow_kinds = KindSet::of(&[1])), "");
    let deny = |s: &mut Settings| s.access.deny_pubkeys = [Pubkey(AUTHOR)].into_iter().collect();
    assert_eq!(check(&settings(deny), &nobody(), &note), "blocked: the author is not welcome here");
    let other = |s: &mut Settings| s.access.allow_pubkeys = [Pubkey([1; 32])].into_iter().collect();
    assert_eq!(check(&settings(other), &nobody(), &note), "blocked: the author is not on this relay's list");
}

#[test]
fn wraps_and_what_wallets_and_signers_send_to_a_member_pass_from_anyone_and_a_denied_author_does_not() {
    let member = [1; 32];
    let to_member = |kind| event(kind, &format!(r#"[["p","{}"]]"#, "01".repeat(32)), r#""""#);
    let by_list = settings(|s| s.access.allow_pubkeys = [Pubkey(member)].into_iter().collect());
    let by_proof = settings(|s| {
        s.auth.write = Audience::Listed;
        s.access.listed_pubkeys = [Pubkey(member)].into_iter().collect();
    });
    for kind in [1059, 21059, 9735, 23194, 23195, 24133] {
        for closed in [&by_list, &by_proof] {
            assert_eq!(check(closed, &nobody(), &to_member(kind)), "", "{kind}");
            let to_other = event(kind, &format!(r#"[["p","{}"]]"#, "02".repeat(32)), r#""""#);
            assert_ne!(check(closed, &nobody(), &to_other), "", "{kind}");
        }
    }
    assert_eq!(check(&by_list, &nobody(), &to_member(1)), "blocked: the author is not on this relay's list");
    let mut without = by_list.clone();
    without.access.addressed_kinds = KindSet::default();
    assert_ne!(check(&without, &nobody(), &to_member(1059)), "");
    let mut denied = by_list;
    denied.access.deny_pubkeys = [Pubkey(AUTHOR)].into_iter().collect();
    assert_eq!(check(&denied, &nobody(), &to_member(1059)), "blocked: the author is not welcome here");
}

#[test]
fn lists_in_files_add_to_those_in_the_configuration() {
    let file = |key| KeyFile { held: [Pubkey(key)].into_iter().collect(), ..from_path("keys.txt") };
    let note = event(1, "[]", r#""""#);
    let with = |change: &dyn Fn(&mut Settings)| check(&settings(change), &nobody(), &note);
    assert_eq!(with(&|s| s.access.deny_pubkeys_file = file(AUTHOR)), "blocked: the author is not welcome here");
    assert_eq!(with(&|s| s.access.allow_pubkeys_file = file(AUTHOR)), "");
    let stranger = "blocked: the author is not on this relay's list";
    assert_eq!(with(&|s| s.access.allow_pubkeys_file = file([1; 32])), stranger);
    assert_eq!(
        with(&|s| s.access.allow_pubkeys_file = from_path("empty.txt")),
        stranger,
        "an empty file allows nobody"
    );
}

#[test]
fn the_lists_are_about_the_configured_sources_and_a_muted_author_is_not_refused() {
    let note = event(1, "[]", r#""""#);
    let with = |sources: &[Source]| {
        let denied = settings(|s| {
            s.policy.sources = sources.to_vec();
            s.access.deny_kinds = KindSet::of(&[1]);
        });
        let client = check_event(&denied, &nobody(), note.view(), Timestamp(NOW));
        [client, check_import(&denied, note.view(), Source::Import, Timestamp(NOW))].map(|checked| checked.is_err())
    };
    assert_eq!(with(&[Source::Ws, Source::Sync]), [true, false]);
    assert_eq!(with(&[Source::Import]), [false, true]);
    let muted = settings(|s| s.access.mute_pubkeys = [Pubkey(AUTHOR)].into_iter().collect());
    assert_eq!(check_event(&muted, &nobody(), note.view(), Timestamp(NOW)), Ok(Decision::Mute));
    assert_eq!(check_import(&muted, note.view(), Source::Import, Timestamp(NOW)), Ok(Decision::Accept));
}

#[test]
fn another_relay_may_not_send_what_no_client_could_and_a_file_may() {
    let with = |settings: &Settings, event: &Event| {
        [Source::Import, Source::Sync].map(|source| {
            let checked = check_import(settings, event.view(), source, Timestamp(NOW));
            said(checked.map(drop).map_err(|refusal| refusal.reason))
        })
    };
    let default = Settings::default();
    let passes = |text: &str| [String::new(), text.to_owned()];
    assert_eq!(with(&default, &event(1, "[]", r#""old or new""#)), passes(""));
    let protected = event(1, r#"[["-"]]"#, r#""""#);
    assert_eq!(with(&default, &protected), passes("blocked: only its author may publish this event"));
    let late = event_at(NOW + 901, 1, "[]", r#""""#);
    assert_eq!(with(&default, &late), passes("invalid: created_at is more than 900 s in the future"));
    let repost = event(6, "[]", r#""{\"tags\":[[\"-\"]]}""#);
    assert_eq!(with(&default, &repost), passes("invalid: a repost must not embed a protected event"));
    let large = event(1, "[]", &format!("\"{}\"", "x".repeat(600_000)));
    let len = large.view().record().len();
    assert_eq!(with(&default, &large), passes("invalid: content is too long: 600000 characters, the limit is 524288"));
    let small = settings(|s| {
        s.tiers.listed.max_event_bytes = 300_000;
        s.tiers.authenticated.max_event_bytes = 300_000;
    });
    let limit = small.tiers.anonymous.max_event_bytes;
    let text = format!("invalid: the event is too large: {len} bytes, the limit is {limit}");
    assert_eq!(with(&small, &large), passes(&text));
}

fn from_path(path: &str) -> KeyFile {
    serde_json::from_value(path.into()).expect("a path")
}

#[test]
fn work_must_reach_the_minimum_and_be_committed_to() {
    let mined = |tags: fn(u32) -> String, bits: u16| {
        let mut tries = (0..).map(|nonce| event(1, &tags(nonce), r#""""#));
        tries.find(|event| difficulty(&event.view().id()) == bits).expect("work is found")
    };
    let committed = |nonce: u32| format!(r#"[["nonce","{nonce}","6"]]"#);
    let bare = |nonce: u32| format!(r#"[["nonce","{nonce}"]]"#);
    let low = |nonce: u32| format!(r#"[["nonce","{nonce}","5"]]"#);
    let required = settings(|s| s.limits.min_pow_difficulty = 6);
    let peer = nobody();
    assert_eq!(check(&required, &peer, &mined(committed, 6)), "");
    assert_eq!(check(&required, &peer, &mined(committed, 5)), "pow: difficulty 5 is below 6");
    assert_eq!(check(&required, &peer, &mined(low, 6)), "pow: the committed target 5 is below 6");
    assert_eq!(check(&required, &peer, &mined(bare, 6)), "pow: the nonce tag commits to no target; 6 is required");
    let lucky = settings(|s| {
        s.limits.min_pow_difficulty = 6;
        s.limits.require_committed_target = false;
    });
    assert_eq!(check(&lucky, &peer, &mined(bare, 6)), "");
}

#[test]
fn a_client_is_asked_to_authenticate_before_it_is_refused() {
    let note = event(1, "[]", r#""""#);
    let closed = settings(|s| {
        s.auth.write = Audience::Listed;
        s.access.listed_pubkeys = [Pubkey([1; 32])].into_iter().collect();
    });
    assert_eq!(check(&closed, &nobody(), &note), "auth-required: only authenticated clients may publish");
    assert_eq!(check(&closed, &with_key([2; 32]), &note), "restricted: your key may not publish here");
    assert_eq!(check(&closed, &with_key([1; 32]), &note), "");
    let wraps = settings(|s| s.auth.write_kinds = KindSet::of(&[1059]));
    let wrap = event(1059, "[]", r#""""#);
    assert_eq!(check(&wraps, &nobody(), &wrap), "auth-required: only authenticated clients may publish kind 1059");
    assert_eq!([check(&wraps, &with_key([2; 32]), &wrap), check(&wraps, &nobody(), &note)], ["", ""]);
}

/// Another relay lets authorised users publish other people's protected events.
#[test]
fn a_protected_event_is_accepted_from_its_author_only() {
    let own = event(1, r#"[["-"]]"#, r#""""#);
    let settings_with_list = settings(|s| s.access.listed_pubkeys = [Pubkey([2; 32])].into_iter().collect());
    let text = "this event may only be published by its author";
    assert_eq!(check(&settings_with_list, &nobody(), &own), format!("auth-required: {text}"));
    assert_eq!(check(&settings_with_list, &with_key([2; 32]), &own), format!("restricted: {text}"));
    assert_eq!(check(&settings_with_list, &with_key(AUTHOR), &own), "");
    let none = settings(|s| s.access.protected_events = false);
    assert_eq!(check(&none, &with_key(AUTHOR), &own), "blocked: protected events are not accepted here");
}

#[test]
fn a_repost_may_not_embed_a_protected_event_however_it_is_written() {
    let refused = "invalid: a repost must not embed a protected event";
    let embeds = [
        (r#"{"tags":[["-"]]}"#, refused),
        (r#"{"tags": [ ["e","x"], [ "-" ] ]}"#, refused),
        (r#"{"tags":[["\u002D","x"]]}"#, refused),
        (r#"{"tags":[],"tags":[["-"]]}"#, refused),
        (r#"{"tags":[["t","-"]],"content":"[\"-\"]"}"#, ""),
        (r#"{"content":"\"-\""}"#, ""),
        (r#"see ["-"]"#, ""),
        ("", ""),
    ];
    for (embedded, expected) in embeds {
        let content = serde_json::to_string(embedded).expect("JSON");
        for kind in [6, 16] {
            assert_eq!(check(&Settings::default(), &nobody(), &event(kind, "[]", &content)), expected, "{embedded}");
        }
        assert_eq!(check(&Settings::default(), &nobody(), &event(1, "[]", &content)), "");
    }
}

/// Another relay refuses a request that names other relays too.
#[test]
fn a_request_to_vanish_names_this_relay_among_any_others() {
    let settings = settings(|s| {
        s.auth.urls = RelayUrl::parse("wss://relay.example.com").into_iter().collect();
        s.auth.write = Audience::Listed;
        s.access.deny_pubkeys = [Pubkey(AUTHOR)].into_iter().collect();
        s.access.allow_kinds = KindSet::of(&[1]);
        s.limits.min_pow_difficulty = 200;
        s.limits.created_at_lower_limit = 10;
    });
    let vanish = |tags| check(&settings, &nobody(), &event_at(NOW - 100, 62, tags, r#""""#));
    for tags in [
        r#"[["relay","ALL_RELAYS"]]"#,
        r#"[["relay","wss://other.example.com"],["relay","wss://Relay.Example.com:443/"]]"#,
    ] {
        assert_eq!(vanish(tags), "", "NIP-62 binds a relay that is closed to the author: {tags}");
    }
    for tags in ["[]", r#"[["relay","wss://other.example.com"]]"#, r#"[["relay","all_relays"]]"#, r#"[["relay"]]"#] {
        assert_eq!(
            vanish(tags),
            "invalid: the request does not name this relay, which is wss://relay.example.com",
            "{tags}"
        );
    }
    let hexed = format!(r#"[["relay","{}"]]"#, hex::encode(&[1; 32]));
    assert_eq!(vanish(&hexed), "invalid: the request does not name this relay, which is wss://relay.example.com");
}

#[test]
fn what_admins_banned_is_refused_from_every_source_whatever_the_lists_apply_to() {
    let (note, reaction) = (event(1, "[]", r#""""#), event(7, "[]", r#""""#));
    let (id, author) = (note.view().id(), note.view().pubkey());
    for sources in ["[]", r#"["ws"]"#, r#"["import"]"#, r#"["ws","import"]"#] {
        let said = |ruling: Ruling<'_>, event: &Event| {
            let mut moderation = Moderation::default();
            moderation.put(ruling);
            let settings = settings(|s| {
                s.policy.sources = serde_json::from_str(sources).expect("sources");
                s.moderation = Arc::new(moderation);
            });
            let imported = check_import(&settings, event.view(), Source::Import, Timestamp(NOW))
                .map(drop)
                .map_err(|refusal| refusal.reason);
            [check(&settings, &nobody(), event), said(imported)]
        };
        let twice = |text: &str| [text, text].map(String::from);
        let kind = Ruling::Kind(Kind(7), Some(false));
        assert_eq!(said(kind, &reaction), twice("blocked: kind 7 is not accepted here"), "{sources}");
        assert_eq!(said(kind, &note), twice(""), "{sources}");
        let key = Ruling::Key(author, Some(false));
        assert_eq!(said(key, &note), twice("blocked: the author is not welcome here"), "{sources}");
        let event = Ruling::Event(id, Some(false));
        assert_eq!(said(event, &note), twice("blocked: this event is not welcome here"), "{sources}");
        assert_eq!(said(event, &reaction), twice(""), "{sources}");
    }
}

#[test]
fn what_files_and_admins_allow_counts_as_what_the_configuration_allows() {
    let note = event(1, "[]", r#""""#);
    let file = |key| KeyFile { held: [Pubkey(key)].into_iter().collect(), ..from_path("keys.txt") };
    let with = |change: &dyn Fn(&mut Settings)| check(&settings(change), &with_key(AUTHOR), &note);
    let mut allowed = Moderation::default();
    allowed.put(Ruling::Kind(Kind(1), Some(true)));
    let allowed = Arc::new(allowed);
    assert_eq!(with(&|s| s.access.allow_kinds = KindSet::of(&[7])), "blocked: kind 1 is not accepted here");
    let by_admin = |s: &mut Settings| {
        s.access.allow_kinds = KindSet::of(&[7]);
        s.moderation = Arc::clone(&allowed);
    };
    assert_eq!(with(&by_admin), "");
    let web = |s: &mut Settings| s.trusted = Some([Pubkey([1; 32])].into_iter().collect());
    assert_eq!(with(&web), "blocked: the author is not in this relay's web of trust");
    let known = |s: &mut Settings| {
        web(s);
        s.access.listed_pubkeys = [Pubkey(AUTHOR)].into_iter().collect();
    };
    assert_eq!(with(&known), "");
    let listed = |key| {
        with(&|s: &mut Settings| {
            s.auth.write = Audience::Listed;
            s.access.listed_pubkeys_file = file(key);
        })
    };
    assert_eq!([listed(AUTHOR), listed([1; 32])], ["", "restricted: your key may not publish here"]);
    let admits = |path: &str| {
        let access = settings(|s| s.access.allow_addresses_file.path = path.into()).access;
        access.admits([192, 0, 2, 7].into())
    };
    assert_eq!([admits(""), admits("addresses.txt")], [true, false], "an empty file admits nobody");
}

#[test]
fn an_import_stores_nothing_that_is_not_meant_for_the_public() {
    let imported = |kind, source| {
        let checked = check_import(&Settings::default(), event(kind, "[]", r#""""#).view(), source, Timestamp(NOW));
        said(checked.map(drop).map_err(|refusal| refusal.reason))
    };
    for source in [Source::Import, Source::Sync] {
        for kind in [22242, 24242, 27235] {
            let text = format!("invalid: kind {kind} is for authentication and must not be published");
            assert_eq!(imported(kind, source), text);
        }
        assert_eq!(imported(1, source), "");
    }
}

#[test]
fn a_request_to_join_is_passed_on_unless_its_author_is_denied_or_banned() {
    let request = event(28934, r#"[["-"],["claim","open sesame"]]"#, r#""""#);
    let on = |change: &dyn Fn(&mut Settings)| {
        settings(|s| {
            s.membership.key_file.signer = SigningKey::new([7; 32]).map(Arc::new);
            change(s);
        })
    };
    let passed = check_event(&on(&|_| {}), &with_key(AUTHOR), request.view(), Timestamp(NOW));
    assert_eq!(passed, Ok(Decision::Request), "although its author is no member");
    let with = |change: &dyn Fn(&mut Settings)| check(&on(change), &with_key(AUTHOR), &request);
    let unwelcome = "blocked: the author is not welcome here";
    assert_eq!(with(&|s| s.access.deny_pubkeys = [Pubkey(AUTHOR)].into_iter().collect()), unwelcome);
    let mut banned = Moderation::default();
    banned.put(Ruling::Key(Pubkey(AUTHOR), Some(false)));
    let banned = Arc::new(banned);
    assert_eq!(with(&|s| s.moderation = Arc::clone(&banned)), unwelcome);
}

#[test]
fn what_its_retention_rule_would_remove_for_its_age_is_refused_whatever_the_lists_apply_to() {
    let rules = serde_json::from_str(r#"[{"kinds":[7],"keep":"forever"},{"max_age":"10d"}]"#).expect("rules");
    let rules = Retention::new(rules, RetentionLimits::default());
    for sources in ["[]", r#"["ws","import","sync"]"#] {
        let settings = settings(|s| {
            s.retention = rules.clone();
            s.policy.sources = serde_json::from_str(sources).expect("sources");
        });
        let days = |kind, days: u64| {
            let old = event_at(NOW - days * 86_400 - 1, kind, "[]", r#""""#);
            let checked = check_event(&settings, &nobody(), old.view(), Timestamp(NOW));
            checked.map_err(|refusal| (refusal.rule, refusal.reason.to_string()))
        };
        let refused = (PolicyRule::Retention, "blocked: events of kind 1 are kept for 10d here (rule 2)".into());
        assert_eq!([days(1, 10), days(1, 9)], [Err(refused), Ok(Decision::Accept)], "{sources}");
        assert_eq!(days(7, 5000), Ok(Decision::Accept), "{sources}");
    }
}
