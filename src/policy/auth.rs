//! Who is it? Whether a signed event answers the challenge of this connection (NIP-42).

use super::settings::Settings;
use crate::nostr::{Kind, Prefix, Pubkey, Reason, Timestamp, VerifiedEvent};

/// The key that `event` proves, when it answers `challenge` to this relay at about `now`.
///
/// Answering again with the same key is fine: the challenge holds as long as the connection.
///
/// # Errors
/// `invalid:` with what is wrong: kind, time, expiration, challenge or relay.
pub fn check_auth(
    settings: &Settings,
    event: &VerifiedEvent,
    challenge: &str,
    now: Timestamp,
) -> Result<Pubkey, Reason> {
    let event = event.view();
    if event.kind() != Kind::CLIENT_AUTH {
        return Err(invalid("an AUTH event is of kind 22242"));
    }
    if event.created_at().0.abs_diff(now.0) > settings.auth.window {
        return Err(invalid("created_at of the AUTH event is too far from now"));
    }
    if event.is_expired(now) {
        return Err(invalid("the AUTH event is expired"));
    }
    // A challenge of 64 hex digits would be held as bytes, so compare the text.
    if !event.tags().values("challenge").any(|value| value.is(challenge) || value.to_text() == challenge) {
        return Err(invalid("the challenge is not the one of this connection"));
    }
    let names_us = |value: &[u8]| settings.auth.urls.name_host(value);
    if !event.tags().values("relay").filter_map(crate::nostr::TagValue::as_text).any(names_us) {
        return Err(invalid("the relay tag does not name this relay"));
    }
    Ok(event.pubkey())
}

fn invalid(text: &'static str) -> Reason {
    Reason::new(Prefix::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AUTHOR, NOW, event_at};
    use super::super::urls::RelayUrl;
    use super::*;

    const CHALLENGE: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

    fn check(created_at: u64, kind: u16, tags: &str) -> Result<Pubkey, String> {
        let mut settings = Settings::default();
        settings.auth.urls = RelayUrl::parse("wss://relay.example.com").into_iter().collect();
        let event = VerifiedEvent::trust(event_at(created_at, kind, tags, r#""""#));
        check_auth(&settings, &event, CHALLENGE, Timestamp(NOW)).map_err(|reason| reason.to_string())
    }

    #[test]
    fn an_auth_event_is_checked_for_kind_time_challenge_and_relay() {
        let good = format!(r#"[["relay","wss://Relay.example.com/x"],["challenge","{CHALLENGE}"]]"#);
        let key = Ok(Pubkey(AUTHOR));
        assert_eq!([check(NOW, 22242, &good), check(NOW, 22242, &good)], [key.clone(), key.clone()]);
        assert_eq!([check(NOW - 600, 22242, &good), check(NOW + 600, 22242, &good)], [key.clone(), key]);
        let late = Err("invalid: created_at of the AUTH event is too far from now".to_string());
        assert_eq!([check(NOW - 601, 22242, &good), check(NOW + 601, 22242, &good)], [late.clone(), late]);
        assert_eq!(check(NOW, 22243, &good), Err("invalid: an AUTH event is of kind 22242".into()));
        let expired = good.replace("]]", &format!(r#"],["expiration","{NOW}"]]"#));
        assert_eq!(check(NOW, 22242, &expired), Err("invalid: the AUTH event is expired".into()));
        for tags in [good.replace("0f0f", "0f0e"), good.replace("challenge", "challenges"), "[]".into()] {
            let wrong = Err("invalid: the challenge is not the one of this connection".into());
            assert_eq!(check(NOW, 22242, &tags), wrong, "{tags}");
        }
        for tags in [good.replace("example.com", "example.org"), good.replace("relay\"", "relays\"")] {
            let wrong = Err("invalid: the relay tag does not name this relay".into());
            assert_eq!(check(NOW, 22242, &tags), wrong, "{tags}");
        }
    }
}
