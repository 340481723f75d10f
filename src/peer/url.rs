//! The address of another relay.

use std::fmt;

use url::Url;

use super::error::PeerError;

/// The longest address.
const MAX_BYTES: usize = 2048;

/// The URL of a relay, normalised as browsers do (WHATWG URL), so that spellings of one address are equal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerUrl {
    text: Box<str>,
    is_secure: bool,
}

impl PeerUrl {
    /// Reads a `ws://` or `wss://` URL. A name without a scheme is taken for `wss://`.
    ///
    /// # Errors
    /// [`PeerError::NotARelay`] for anything else, and for URLs with a user or a password.
    pub fn parse(text: &str) -> Result<Self, PeerError> {
        let refuse = || PeerError::NotARelay(text.chars().take(200).collect());
        let whole = if text.contains("://") { text.to_owned() } else { format!("wss://{text}") };
        let mut url = Url::parse(&whole).map_err(|_| refuse())?;
        let is_relay = matches!(url.scheme(), "ws" | "wss")
            && url.username().is_empty()
            && url.password().is_none()
            && url.host_str().is_some_and(|host| !host.is_empty() && !host.contains(','));
        if !is_relay || whole.len() > MAX_BYTES {
            return Err(refuse());
        }
        url.set_fragment(None);
        Ok(Self { is_secure: url.scheme() == "wss", text: String::from(url).into() })
    }

    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Most relays are at the root of their host.
        f.write_str(self.text.strip_suffix('/').unwrap_or(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_are_equal() {
        let read = |text: &str| PeerUrl::parse(text).map(|url| (url.to_string(), url.is_secure())).ok();
        let secure = Some(("wss://relay.example.com".to_owned(), true));
        for text in [
            "wss://relay.example.com",
            "relay.example.com",
            "WSS://Relay.Example.com:443/",
            "wss://relay.example.com/#x",
        ] {
            assert_eq!(read(text), secure, "{text}");
        }
        assert_eq!(read("ws://127.0.0.1:7777/nostr?a=b"), Some(("ws://127.0.0.1:7777/nostr?a=b".into(), false)));
        assert_eq!(read("ws://[::1]:80/"), Some(("ws://[::1]".into(), false)));
        for text in ["", "https://relay.example.com", "wss://", "wss://me:secret@relay", "wss://a,b", "://"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&format!("wss://relay/{}", "x".repeat(MAX_BYTES))), None);
    }
}
