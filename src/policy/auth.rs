//! Whether an event answers the challenge of this connection (NIP-42).
//!
//! The signature is not checked here but afterwards; only then has the client authenticated. Cheap checks go first, so
//! a flood of bogus answers costs little.

use super::settings::Settings;
use crate::nostr::{EventView, Kind, Prefix, Reason, TagElement, Timestamp};

/// Whether `event` answers `challenge`, for this relay and at about `now`.
///
/// Answering again with the same key is fine: the challenge is valid as long as the connection. An empty challenge
/// stands for one that was never sent, which no event answers.
///
/// # Errors
/// `invalid:` with the reason: kind, time, expiration, challenge or relay.
pub fn check_auth(settings: &Settings, challenge: &str, event: EventView<'_>, now: Timestamp) -> Result<(), Reason> {
    if event.kind() != Kind::CLIENT_AUTH {
        return Err(invalid("an AUTH event must be of kind 22242"));
    }
    if event.created_at().0.abs_diff(now.0) > settings.auth.window {
        return Err(invalid("created_at of the AUTH event is too far from the current time"));
    }
    if event.is_expired(now) {
        return Err(invalid("the AUTH event has expired"));
    }
    // A challenge of 64 hex digits is stored as bytes, so compare the text.
    let answers = |value: TagElement<'_>| !challenge.is_empty() && value.to_text() == challenge;
    if !event.tags().values("challenge").any(answers) {
        return Err(invalid("the challenge is not the one that this connection was sent"));
    }
    let names_us = |value: &[u8]| settings.auth.urls.name_host(value);
    if !event.tags().values("relay").filter_map(TagElement::as_text).any(names_us) {
        let text = format!("the relay tag does not name this relay, which is {}", settings.auth.urls);
        return Err(Reason::new(Prefix::Invalid, text));
    }
    Ok(())
}

fn invalid(text: &'static str) -> Reason {
    Reason::new(Prefix::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, event_at, said};
    use super::super::urls::RelayUrl;
    use super::*;

    const CHALLENGE: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

    fn check(created_at: u64, kind: u16, tags: &str) -> String {
        let mut settings = Settings::default();
        settings.auth.urls = RelayUrl::parse("wss://relay.example.com").into_iter().collect();
        let event = event_at(created_at, kind, tags, r#""""#);
        let unsent = check_auth(&settings, "", event.view(), Timestamp(NOW));
        assert!(unsent.is_err(), "no event answers a challenge that was never sent");
        said(check_auth(&settings, CHALLENGE, event.view(), Timestamp(NOW)))
    }

    #[test]
    fn an_auth_event_is_checked_for_kind_time_challenge_and_relay() {
        let good = format!(r#"[["relay","wss://Relay.example.com/x"],["challenge","{CHALLENGE}"]]"#);
        assert_eq!([check(NOW, 22242, &good), check(NOW, 22242, &good)], ["", ""]);
        assert_eq!([check(NOW - 600, 22242, &good), check(NOW + 600, 22242, &good)], ["", ""]);
        let late = "invalid: created_at of the AUTH event is too far from the current time";
        assert_eq!([check(NOW - 601, 22242, &good), check(NOW + 601, 22242, &good)], [late, late]);
        assert_eq!(check(NOW, 22243, &good), "invalid: an AUTH event must be of kind 22242");
        let expired = good.replace("]]", &format!(r#"],["expiration","{NOW}"]]"#));
        assert_eq!(check(NOW, 22242, &expired), "invalid: the AUTH event has expired");
        for tags in [good.replace("0f0f", "0f0e"), good.replace("challenge", "challenges"), "[]".into()] {
            let wrong = "invalid: the challenge is not the one that this connection was sent";
            assert_eq!(check(NOW, 22242, &tags), wrong, "{tags}");
        }
        for tags in [good.replace("example.com", "example.org"), good.replace("relay\"", "relays\"")] {
            let wrong = "invalid: the relay tag does not name this relay, which is wss://relay.example.com";
            assert_eq!(check(NOW, 22242, &tags), wrong, "{tags}");
        }
    }
}
