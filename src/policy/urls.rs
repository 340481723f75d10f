//! The relay's own URLs, and whether a URL in an event names this relay (NIP-42, NIP-62).
//!
//! URLs are normalised as browsers do (WHATWG URL) and compared by host, port and path, so an international name equals
//! its punycode. `ws` and `wss` name the same relay: the proxy in front decides which of them a client sees.

use std::fmt;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use url::Url;

use super::sets::from_text;

/// The maximum length of a URL, which every browser supports.
const MAX_URL_BYTES: usize = 2048;

/// The maximum number of URLs that a refusal lists.
const MAX_NAMED: usize = 4;

/// A relay URL, split into parts and normalised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayUrl {
    /// As the operator wrote it.
    text: Box<str>,
    /// In lower case and punycode, without a trailing dot; IPv6 addresses in brackets.
    host: Box<str>,
    /// `None` for the scheme's default port: 80 for `ws`, 443 for `wss`.
    port: Option<u16>,
    /// Path and query, without trailing slashes and without the fragment.
    path: Box<str>,
}

impl RelayUrl {
    /// Parses a `ws://` or `wss://` URL; `None` for anything else and for URLs with credentials.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_URL_BYTES {
            return None;
        }
        let url = Url::parse(text).ok()?;
        let host = url.host_str()?;
        let host = host.strip_suffix('.').unwrap_or(host);
        // A comma indicates a list of URLs.
        let is_ours = matches!(url.scheme(), "ws" | "wss") && url.username().is_empty() && url.password().is_none();
        if !is_ours || host.is_empty() || host.contains(',') {
            return None;
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(Self {
            text: text.into(),
            host: host.into(),
            port: url.port(),
            path: format!("{}{query}", url.path().trim_end_matches('/')).trim_end_matches('/').into(),
        })
    }

    /// The URL as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn is(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port && self.path == other.path
    }

    /// Whether clients reach it by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("wss:"))
    }

    /// Whether the host is a name of the local machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        matches!(&*self.host, "localhost" | "127.0.0.1" | "[::1]")
    }
}

/// The relay's own URLs, written as a list of strings. If it is empty, the names of the local machine are used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RelayUrls(Vec<RelayUrl>);

impl RelayUrls {
    /// Whether the operator configured none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URLs in the operator's order.
    pub fn iter(&self) -> impl Iterator<Item = &RelayUrl> {
        self.0.iter()
    }

    /// Whether `text` is one of the URLs. The comparison is strict, because a vanish request cannot be undone (NIP-62).
    #[must_use]
    pub fn name(&self, text: &[u8]) -> bool {
        let Some(url) = parse_bytes(text) else { return false };
        if self.0.is_empty() { url.is_loopback() } else { self.0.iter().any(|own| own.is(&url)) }
    }

    /// Whether `text` is one of the URLs, as HTTP clients write them too: `http` for `ws`, and `https` for `wss`
    /// (NIP-98).
    #[must_use]
    pub fn name_http(&self, text: &[u8]) -> bool {
        let starts =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()));
        match ["https://", "http://"].into_iter().find(|scheme| starts(scheme)) {
            Some(scheme) => self.name(&[scheme.replace("http", "ws").as_bytes(), &text[scheme.len()..]].concat()),
            None => self.name(text),
        }
    }

    /// Whether `text` is the page at `path`, as browsers write its URL, on the host of one of the URLs or one of
    /// `also`. The port does not count: behind a proxy or a tunnel, browsers see another one.
    #[must_use]
    pub fn name_page(&self, text: &[u8], path: &str, also: &[String]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let Some(rest) = text.strip_prefix("http") else { return false };
        let Some(url) = RelayUrl::parse(&format!("ws{rest}")) else { return false };
        let is_local = self.0.is_empty() && url.is_loopback();
        let is_ours = is_local || self.0.iter().any(|own| own.host == url.host);
        *url.path == *path && (is_ours || also.iter().any(|host| **host == *url.host))
    }

    /// Whether `text` has the host of one of the URLs. That suffices for AUTH (NIP-42): behind a proxy, clients may see
    /// a different port or path than the operator configured.
    #[must_use]
    pub fn name_host(&self, text: &[u8]) -> bool {
        let Some(url) = parse_bytes(text) else { return false };
        if self.0.is_empty() { url.is_loopback() } else { self.0.iter().any(|own| own.host == url.host) }
    }
}

/// The accepted URLs, for the text of a refusal.
impl fmt::Display for RelayUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("known as ws://localhost, ws://127.0.0.1 and ws://[::1] only");
        }
        for (place, url) in self.0.iter().take(MAX_NAMED).enumerate() {
            write!(f, "{}{}", if place > 0 { " or " } else { "" }, url.text)?;
        }
        Ok(())
    }
}

fn parse_bytes(text: &[u8]) -> Option<RelayUrl> {
    RelayUrl::parse(std::str::from_utf8(text).ok()?)
}

impl FromIterator<RelayUrl> for RelayUrls {
    fn from_iter<I: IntoIterator<Item = RelayUrl>>(urls: I) -> Self {
        Self(urls.into_iter().collect())
    }
}

impl Serialize for RelayUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(RelayUrl::as_str))
    }
}

impl<'de> Deserialize<'de> for RelayUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let urls: Vec<Written> = Vec::deserialize(deserializer)?;
        Ok(urls.into_iter().map(|url| url.0).collect())
    }
}

struct Written(RelayUrl);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| {
            RelayUrl::parse(text).map(Self).ok_or_else(|| format!("{text:?} is not a ws:// or wss:// URL"))
        };
        from_text(deserializer, "a ws:// or wss:// URL", parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> RelayUrls {
        texts.iter().map(|text| RelayUrl::parse(text).expect("a URL")).collect()
    }

    #[test]
    fn a_url_is_compared_after_normalising() {
        let own = urls(&["wss://Relay.Example.com/", "ws://[2001:DB8::1]:7777/nostr"]);
        let same = [
            "wss://relay.example.com",
            "ws://relay.example.com",
            "WSS://RELAY.example.com:443/",
            "ws://relay.example.com:80//",
            "wss://relay.example.com./#x",
            " wss://relay.example.com ",
            "ws://[2001:db8::1]:7777/nostr/",
        ];
        for text in same {
            assert!(own.name(text.as_bytes()), "{text}");
        }
        let other = [
            "wss://relay.example.com:7777",
            "wss://relay.example.com:80",
            "wss://relay.example.com/other",
            "wss://relay.example.com?x",
            "wss://example.com",
            "wss://relay.example.com.evil.org",
            "ws://[2001:db8::1]/nostr",
            "ws://[2001:db8::1]x:7777/nostr",
            "relay.example.com",
            "https://relay.example.com",
            "wss://",
            "",
        ];
        for text in other {
            assert!(!own.name(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn an_international_name_is_known_by_its_punycode_and_the_other_way_round() {
        for own in ["wss://bücher.example", "wss://xn--bcher-kva.example", "wss://BÜCHER.example/"] {
            let own = urls(&[own]);
            for text in ["wss://xn--bcher-kva.example/", "wss://bücher.example", "wss://XN--BCHER-KVA.example"] {
                assert!(own.name(text.as_bytes()) && own.name_host(text.as_bytes()), "{text}");
            }
            assert!(!own.name("wss://bucher.example".as_bytes()) && !own.name_host("wss://bucher.example".as_bytes()));
        }
    }

    #[test]
    fn a_string_longer_than_the_limit_is_not_a_url() {
        let long = format!("wss://relay.example.com/?{}", "x".repeat(MAX_URL_BYTES));
        assert_eq!(RelayUrl::parse(&long), None);
        assert!(RelayUrl::parse(&long[..MAX_URL_BYTES]).is_some());
    }

    #[test]
    fn a_refusal_lists_the_urls_that_would_be_accepted() {
        assert_eq!(urls(&["wss://a.example", "ws://b.onion:81/x"]).to_string(), "wss://a.example or ws://b.onion:81/x");
        assert_eq!(urls(&["ws://a"; 5]).to_string(), "ws://a or ws://a or ws://a or ws://a");
        let local = "known as ws://localhost, ws://127.0.0.1 and ws://[::1] only";
        assert_eq!(RelayUrls::default().to_string(), local);
    }

    #[test]
    fn the_host_alone_is_enough_for_auth() {
        let own = urls(&["wss://relay.example.com/nostr"]);
        assert!(own.name_host(b"ws://Relay.example.com:7777"));
        assert!(!own.name_host(b"wss://relay.example.org/nostr"));
        assert!(!own.name_host(b"wss://relay.example.com@evil.org"));
    }

    #[test]
    fn a_relay_without_urls_accepts_the_names_of_the_local_machine() {
        let own = RelayUrls::default();
        for text in ["ws://localhost:1234", "ws://127.0.0.1:7777/", "ws://[::1]:1"] {
            assert!(own.name(text.as_bytes()) && own.name_host(text.as_bytes()), "{text}");
        }
        assert!(!own.name(b"wss://relay.example.com") && !own.name_host(b"wss://relay.example.com"));
    }

    #[test]
    fn a_page_is_named_by_host_and_path_and_never_by_its_port() {
        let none = RelayUrls::default();
        let own = urls(&["wss://relay.example.com"]);
        let names = |urls: &RelayUrls, text: &str, also: &[String]| urls.name_page(text.as_bytes(), "/d/login", also);
        for text in ["http://localhost:9090/d/login", "https://127.0.0.1/d/login", "http://[::1]:1/d/login"] {
            assert!(names(&none, text, &[]), "{text}");
            assert!(!names(&own, text, &[]), "{text}");
        }
        assert!(names(&own, "https://RELAY.example.com:8443/d/login", &[]));
        assert!(names(&own, "http://10.0.0.1:9090/d/login", &["10.0.0.1".into()]));
        for text in [
            "https://relay.example.com/d",
            "https://relay.example.com/d/login?x",
            "wss://relay.example.com/d/login",
            "https://relay.example.com.evil.example/d/login",
            "https://evil.example/d/login",
            "https://relay.example.com@evil.example/d/login",
            "relay.example.com/d/login",
            "http",
            "",
        ] {
            assert!(!names(&own, text, &[]), "{text}");
        }
    }
}
