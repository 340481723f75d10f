//! Whether an event authorizes an HTTP request (NIP-98) to the management of the relay (NIP-86).
//!
//! The signature is not checked here but before the body is read, and whether the event was used before afterwards.

use super::settings::Settings;
use crate::nostr::{EventView, Kind, TagElement, Timestamp, hex};

/// How many seconds the `created_at` of an authorization may differ from the current time: NIP-98 suggests 60.
pub const WINDOW_S: u64 = 60;

/// Why a request is not authorized.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAuthorized {
    /// It is another kind of event.
    #[error("the authorization must be an event of kind 27235")]
    Kind,
    /// The event is too old, or from the future.
    #[error("created_at of the authorization differs from the relay's time by more than {WINDOW_S} s")]
    Time,
    /// It names another URL.
    #[error("the u tag does not name this relay, which is {0}")]
    Url(String),
    /// It is for another method.
    #[error("the method tag is not POST")]
    Method,
    /// It does not answer the relay's question.
    #[error("the challenge tag is not the relay's challenge")]
    Challenge,
    /// The body is not the one that was signed.
    #[error("the payload tag is not the SHA-256 of the body")]
    Payload,
    /// The key is none of `management.admins`.
    #[error("this key is not an admin of this relay")]
    NotAdmin,
}

/// Whether `event` authorizes a POST at about `now`, but for the body: see [`check_payload`].
///
/// A missing `method` tag is accepted, because some clients send none and nothing but POST is served; a wrong one is
/// not.
///
/// # Errors
/// The first thing that is wrong, cheap checks first.
pub fn check_http_auth(settings: &Settings, event: EventView<'_>, now: Timestamp) -> Result<(), NotAuthorized> {
    if event.kind() != Kind::HTTP_AUTH {
        return Err(NotAuthorized::Kind);
    }
    if event.created_at().0.abs_diff(now.0) > WINDOW_S || event.is_expired(now) {
        return Err(NotAuthorized::Time);
    }
    let mut urls = event.tags().values("u").filter_map(TagElement::as_text);
    if !urls.next().is_some_and(|url| settings.auth.urls.name_http(url)) {
        return Err(NotAuthorized::Url(settings.auth.urls.to_string()));
    }
    if event.tags().values("method").any(|method| !method.to_text().eq_ignore_ascii_case("POST")) {
        return Err(NotAuthorized::Method);
    }
    if !settings.admins.contains(&event.pubkey()) {
        return Err(NotAuthorized::NotAdmin);
    }
    Ok(())
}

/// What a key that logs in to the dashboard must name.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The path that is asked.
    pub path: &'a str,
    /// Hosts besides those of `auth.urls`.
    pub also: &'a [String],
    /// What the relay gave to be signed.
    pub challenge: &'a str,
}

/// Whether the author of `event` may log in at about `now`. The host keeps another site from having an admin sign what
/// opens this relay.
///
/// # Errors
/// The first thing that is wrong, cheap checks first.
pub fn check_login(
    settings: &Settings,
    event: EventView<'_>,
    now: Timestamp,
    login: Login<'_>,
) -> Result<(), NotAuthorized> {
    if event.kind() != Kind::HTTP_AUTH {
        return Err(NotAuthorized::Kind);
    }
    if event.created_at().0.abs_diff(now.0) > WINDOW_S || event.is_expired(now) {
        return Err(NotAuthorized::Time);
    }
    let url = event.tags().values("u").next().map(TagElement::to_text).unwrap_or_default();
    if !settings.auth.urls.name_page(url.as_bytes(), login.path, login.also) {
        return Err(NotAuthorized::Url(settings.auth.urls.to_string()));
    }
    if !event.tags().values("method").next().is_some_and(|method| method.to_text().eq_ignore_ascii_case("POST")) {
        return Err(NotAuthorized::Method);
    }
    if event.tags().values("challenge").next().is_none_or(|value| value.to_text() != login.challenge) {
        return Err(NotAuthorized::Challenge);
    }
    if !settings.admins.contains(&event.pubkey()) {
        return Err(NotAuthorized::NotAdmin);
    }
    Ok(())
}

/// Whether `event` authorizes a body of this SHA-256.
///
/// # Errors
/// [`NotAuthorized::Payload`].
pub fn check_payload(event: EventView<'_>, payload: &[u8; 32]) -> Result<(), NotAuthorized> {
    // 64 lower-case hex digits are stored as bytes; a client may write them in upper case.
    let is_payload = |value: TagElement<'_>| value.to_text().eq_ignore_ascii_case(&hex::encode(payload));
    event.tags().values("payload").next().is_some_and(is_payload).then_some(()).ok_or(NotAuthorized::Payload)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, event_at};
    use super::super::urls::RelayUrl;
    use super::*;

    const PAYLOAD: [u8; 32] = [0xab; 32];

    fn tags(url: &str, method: &str, payload: &str) -> String {
        format!(r#"[["u","{url}"],["method","{method}"],["payload","{payload}"]]"#)
    }

    fn check(created_at: u64, kind: u16, tags: &str) -> Result<(), NotAuthorized> {
        let event = event_at(created_at, kind, tags, r#""""#);
        let mut settings = Settings::default();
        settings.auth.urls = RelayUrl::parse("wss://relay.example.com").into_iter().collect();
        let stranger = check_http_auth(&settings, event.view(), Timestamp(NOW));
        assert!(stranger.is_err(), "nobody is an admin by default");
        settings.admins = [event.view().pubkey()].into_iter().collect();
        let admin = check_http_auth(&settings, event.view(), Timestamp(NOW));
        assert_eq!(admin.is_ok(), stranger == Err(NotAuthorized::NotAdmin));
        admin.and_then(|()| check_payload(event.view(), &PAYLOAD))
    }

    #[test]
    fn an_authorization_is_checked_for_kind_time_url_method_payload_and_key() {
        let payload = "ab".repeat(32);
        let good = tags("https://relay.example.com/", "POST", &payload);
        for at in [NOW - 60, NOW, NOW + 60] {
            assert_eq!(check(at, 27235, &good), Ok(()));
        }
        for at in [0, NOW - 61, NOW + 61] {
            assert_eq!(check(at, 27235, &good), Err(NotAuthorized::Time));
        }
        assert_eq!(check(NOW, 22242, &good), Err(NotAuthorized::Kind));
        let url = Err(NotAuthorized::Url("wss://relay.example.com".into()));
        for wrong in ["https://relay.example.com.evil.org", "https://relay.example.com/x", "relay.example.com", ""] {
            assert_eq!(check(NOW, 27235, &tags(wrong, "POST", &payload)), url, "{wrong}");
        }
        for method in ["GET", "", "POST "] {
            let tags = tags("wss://relay.example.com", method, &payload);
            assert_eq!(check(NOW, 27235, &tags), Err(NotAuthorized::Method), "{method}");
        }
        for wrong in ["", "ab", &"ac".repeat(32), &format!("{payload}ab")] {
            assert_eq!(check(NOW, 27235, &tags("wss://relay.example.com", "POST", wrong)), Err(NotAuthorized::Payload));
        }
        for (missing, error) in [("u", url), ("payload", Err(NotAuthorized::Payload)), ("method", Ok(()))] {
            let without = good.replace(&format!(r#"["{missing}","#), r#"["x","#);
            assert_eq!(check(NOW, 27235, &without), error, "{missing}");
        }
    }

    #[test]
    fn clients_write_the_url_and_the_hash_in_several_ways() {
        let payload = "ab".repeat(32);
        let urls = [
            "https://relay.example.com",
            "https://relay.example.com/",
            "http://RELAY.example.com:80/",
            "wss://relay.example.com",
            "ws://relay.example.com/",
            "https://relay.example.com:443",
        ];
        for url in urls {
            assert_eq!(check(NOW, 27235, &tags(url, "post", &payload.to_uppercase())), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_login_is_for_one_page_one_challenge_and_an_admin() {
        let try_login = |url: &str, method: &str, challenge: &str, at: u64, kind: u16| {
            let tags = format!(r#"[["u","{url}"],["method","{method}"],["challenge","{challenge}"]]"#);
            let event = event_at(at, kind, &tags, r#""""#);
            let mut settings = Settings::default();
            settings.auth.urls = RelayUrl::parse("wss://relay.example.com").into_iter().collect();
            let login = Login { path: "/d/login", also: &["10.0.0.1".to_owned()], challenge: "c1" };
            let stranger = check_login(&settings, event.view(), Timestamp(NOW), login);
            settings.admins = [event.view().pubkey()].into_iter().collect();
            let admin = check_login(&settings, event.view(), Timestamp(NOW), login);
            assert_eq!(admin.is_ok(), stranger == Err(NotAuthorized::NotAdmin));
            admin
        };
        let good = "https://relay.example.com/d/login";
        assert_eq!(try_login(good, "POST", "c1", NOW, 27235), Ok(()));
        assert_eq!(try_login("http://10.0.0.1:9/d/login", "POST", "c1", NOW, 27235), Ok(()));
        assert_eq!(try_login(good, "POST", "c1", NOW, 22242), Err(NotAuthorized::Kind));
        assert_eq!(try_login(good, "POST", "c1", NOW - 61, 27235), Err(NotAuthorized::Time));
        assert_eq!(try_login(good, "GET", "c1", NOW, 27235), Err(NotAuthorized::Method));
        assert_eq!(try_login(good, "POST", "c2", NOW, 27235), Err(NotAuthorized::Challenge));
        for url in ["https://evil.example/d/login", "https://relay.example.com/", "wss://relay.example.com/d/login", ""]
        {
            let wrong = NotAuthorized::Url("wss://relay.example.com".into());
            assert_eq!(try_login(url, "POST", "c1", NOW, 27235), Err(wrong), "{url}");
        }
    }
}
